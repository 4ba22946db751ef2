"""Login, logout, the link for choosing a password, and the user's own account."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from certferry.config.model import ConsoleSettings
from certferry.console.login import (
    AT_ONCE,
    MOST_WAITING,
    PER_ADDRESS,
    PER_NAME,
    Turns,
    counted_as,
)
from certferry.console.refusals import PageRefused
from certferry.core.access import Role, User
from certferry.core.observed.records import ACCESS
from tests.console.serving import PASSWORD, Console, console

ANOTHER, WRONG = "battery-staple-8", "wrong"
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Console]:
    """A console with a user, behind a trusted proxy."""
    with console(tmp_path, ConsoleSettings(trusted_proxies=("127.0.0.1",))) as opened:
        opened.add_user("anna")
        yield opened


def guess(
    served: Console,
    name: str = "anna",
    password: str = WRONG,
    browser: requests.Session | None = None,
    address: str = "192.0.2.7",
) -> requests.Response:
    """Send the form of the login from an address."""
    return (browser or requests.Session()).post(
        f"{served.url}/login",
        {"name": name, "password": password},
        headers={"Origin": served.origin, "X-Forwarded-For": f"203.0.113.9, {address}"},
        allow_redirects=False,
        timeout=20,
    )


def is_in(served: Console, browser: requests.Session) -> bool:
    """Return whether a browser is logged in."""
    return served.get(browser, "/account").status_code == 200


# --- login and logout


def test_login_and_logout(served: Console) -> None:
    """The session ends on the server, so a copy of the old cookie opens no page."""
    browser = served.logged_in("ANNA")
    before = browser.cookies.get_dict()
    assert is_in(served, browser)

    reply = served.post(browser, "/logout")

    assert (303, "/login") == (reply.status_code, reply.headers["Location"])
    again = requests.Session()
    again.cookies.update(before)
    assert not is_in(served, again)


def test_wrong_name_and_wrong_password_have_the_same_answer(served: Console) -> None:
    """The answers hide from an attacker whether a user exists, and whether the user has a
    password.
    """
    served.state.add_user(User("new", Role.VIEWER, served.site.now()))
    answers = {
        guess(served, name, password).text.replace(f'value="{name}"', "")
        for name, password in (("anna", "wrong"), ("nobody", PASSWORD), ("new", ""), ("new", "x"))
    }

    assert 1 == len(answers)
    assert "wrong user name or password" in answers.pop()


@pytest.mark.parametrize("name", [HOSTILE, "a\x00b", "图" * 500, " ", "%s{name}{{ 7*7 }}"])
def test_hostile_name(name: str, served: Console) -> None:
    """The page shows the name as words, and the login is refused."""
    reply = guess(served, name, PASSWORD)

    assert 403 == reply.status_code
    assert "<script>alert" not in reply.text
    assert "49" not in reply.text.partition("<main")[2].partition("</main")[0]


def test_refused_login_is_logged(served: Console, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the address, for programs that block addresses. The log omits the name, because a
    user may type the password there.
    """
    guess(served, name="my-password-7", address="192.0.2.9")

    assert "login refused from 192.0.2.9" in caplog.text
    assert "my-password-7" not in caplog.text


# --- guesses


def test_guesses_at_a_name_from_many_addresses(served: Console) -> None:
    """After several guesses at a name, the console refuses even the right password. Another user
    logs in meanwhile.
    """
    served.add_user("bob")
    replies = [guess(served, address=f"192.0.2.{place}") for place in range(PER_NAME + 1)]
    assert {403} == {reply.status_code for reply in replies[:-1]}
    assert (429, "900") == (replies[-1].status_code, replies[-1].headers["Retry-After"])

    assert 429 == guess(served, "ANNA", PASSWORD, address="192.0.2.99").status_code
    assert 303 == guess(served, "bob", PASSWORD, address="192.0.2.99").status_code


def test_guesses_from_an_address_at_many_names(served: Console) -> None:
    """After several guesses from an address, the console refuses even the right password from
    there. A forged address before the proxy's changes nothing.
    """
    replies = [guess(served, f"user-{place}") for place in range(PER_ADDRESS + 1)]
    assert {403} == {reply.status_code for reply in replies[:-1]}
    assert 429 == replies[-1].status_code

    assert 429 == guess(served, "anna", PASSWORD).status_code
    assert 303 == guess(served, "anna", PASSWORD, address="192.0.2.8").status_code


def test_link_logs_in_during_an_attack(served: Console) -> None:
    """A session continues, and a link from the command line logs the user in. The guesses at the
    name still count.
    """
    hers = served.logged_in("anna")
    for place in range(PER_NAME + 5):
        guess(served, address=f"192.0.2.{place}")
    assert 429 == guess(served, "anna", PASSWORD, address="198.51.100.1").status_code
    assert is_in(served, hers)

    new = requests.Session()
    reply = served.post(new, served.link("anna"), password=ANOTHER, again=ANOTHER)
    assert 303 == reply.status_code
    assert is_in(served, new)
    assert 429 == guess(served, "anna", ANOTHER, hers, "198.51.100.1").status_code


def test_login_clears_earlier_guesses(served: Console) -> None:
    """A user with typing errors logs in each time, and many logins from the same address are
    allowed.
    """
    for _ in range(2):
        for _ in range(PER_NAME - 1):
            guess(served)
        for _ in range(2):
            assert 303 == guess(served, password=PASSWORD).status_code
    for _ in range(PER_ADDRESS):
        assert 303 == guess(served, password=PASSWORD).status_code


def test_own_account_clears_no_guesses_at_others(served: Console) -> None:
    """Logins under the attacker's own name leave the count of the address unchanged."""
    served.add_user("mallory")
    statuses = []
    for place in range(PER_ADDRESS + 1):
        statuses.append(guess(served, f"user-{place}").status_code)
        if place < PER_ADDRESS - 1:
            assert 303 == guess(served, "mallory", PASSWORD).status_code

    assert [403] * PER_ADDRESS + [429] == statuses


def test_flood_of_guesses_waits_in_a_short_queue() -> None:
    """Few passwords are verified at once, few logins wait, and the next login is refused."""

    async def flood() -> tuple[int, int, int]:
        turns, release = Turns(), asyncio.Event()
        begun, done = list[None](), list[None]()

        async def log_in() -> None:
            async with turns.turn():
                begun.append(None)
                await release.wait()
                done.append(None)

        waiting = [asyncio.create_task(log_in()) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(PageRefused) as refused:
            await log_in()
        at_once = len(begun)
        release.set()
        await asyncio.gather(*waiting)
        await log_in()
        return at_once, len(done), refused.value.status

    assert (AT_ONCE, MOST_WAITING + 1, 503) == asyncio.run(flood())


@pytest.mark.parametrize(
    ("address", "other", "is_same"),
    [
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        (None, "", True),
    ],
)
def test_addresses_counted_as_the_same(address: str | None, other: str, *, is_same: bool) -> None:
    """A network /64 of IPv6 counts as a single address, because a host may use all its
    addresses.
    """
    assert is_same == (counted_as(address) == counted_as(other))


# --- the link


def test_link_is_opened_often_and_used_once(served: Console) -> None:
    """Opening leaves the link valid, because mail filters open links. Choosing a password ends the
    link, and logs the user in.
    """
    served.state.add_user(User("new", Role.VIEWER, served.site.now()))
    link, browser = served.link("new"), requests.Session()
    for _ in range(3):
        assert "Choose a password for new" in served.get(requests.Session(), link).text

    reply = served.post(browser, link, password=PASSWORD, again=PASSWORD)

    assert (303, "/") == (reply.status_code, reply.headers["Location"])
    assert "new" in served.get(browser, "/account").text
    for reply in (served.get(browser, link), served.post(browser, link, password=PASSWORD)):
        assert 410 == reply.status_code
        assert "this link no longer works" in reply.text


def test_reset_ends_the_old_password_at_once(served: Console) -> None:
    """The old password is refused before and after the use of the new link, and the sessions
    end.
    """
    browser = served.logged_in("anna")
    served.state.forget_password("anna")

    assert not is_in(served, browser)
    assert 403 == guess(served, "anna", PASSWORD).status_code
    assert (
        303
        == served.post(browser, served.link("anna"), password=ANOTHER, again=ANOTHER).status_code
    )
    assert 403 == guess(served, "anna", PASSWORD, address="192.0.2.9").status_code
    assert 303 == guess(served, "anna", ANOTHER, address="192.0.2.9").status_code


@pytest.mark.parametrize("path", ["/welcome/none", "/welcome/<script>", "/welcome/%00"])
def test_unknown_link(path: str, served: Console) -> None:
    """The page has the reason and the command for another link, in the browser's language."""
    reply = served.get(requests.Session(), path, Accept_Language="zh")

    assert 410 == reply.status_code
    assert "链接" in reply.text
    assert "certferry console user reset NAME" in reply.text


def test_expired_link(served: Console) -> None:
    """The form of an expired link is refused, and the old password stays valid."""
    link = served.link("anna", within=timedelta(seconds=-1))

    reply = served.post(requests.Session(), link, password=ANOTHER, again=ANOTHER)

    assert 410 == reply.status_code
    assert 303 == guess(served, password=PASSWORD).status_code


@pytest.mark.parametrize(
    ("password", "again"),
    [("short", "short"), ("", ""), (PASSWORD, ANOTHER), ("x" * 1001, "x" * 1001),
     ("anna-anna-anna", "anna-anna-anna"), ("password1234", "password1234")],
)  # fmt: skip
def test_refused_password(password: str, again: str, served: Console) -> None:
    """The page has the reason, and the link stays valid."""
    link = served.link("anna")

    reply = served.post(requests.Session(), link, password=password, again=again)

    assert 422 == reply.status_code
    assert 'role="alert"' in reply.text
    assert f'value="{password}"' not in reply.text
    assert 200 == served.get(requests.Session(), link).status_code


# --- the account


def test_changed_password(served: Console) -> None:
    """Every other browser is logged out, and the old password is refused."""
    here, there = served.logged_in(), served.logged_in()
    form = {"current": PASSWORD, "password": ANOTHER, "again": ANOTHER}

    reply = served.post(here, "/account/password", **form)

    assert 303 == reply.status_code
    assert (
        "all other browsers have been logged out"
        in served.get(here, reply.headers["Location"]).text
    )
    assert (True, False) == (is_in(served, here), is_in(served, there))
    assert 403 == guess(served, password=PASSWORD).status_code
    assert 303 == guess(served, password=ANOTHER).status_code


def test_chosen_passwords_are_in_the_history(served: Console) -> None:
    """An entry has the user and the address."""
    chosen, browser = {"password": ANOTHER, "again": ANOTHER}, requests.Session()
    assert 303 == served.post(browser, served.link("anna"), **chosen).status_code
    form = {"current": ANOTHER, "password": PASSWORD, "again": PASSWORD}
    assert 303 == served.post(browser, "/account/password", **form).status_code

    entries = [(entry.event, entry.who, entry.facts) for entry in served.state.history(ACCESS, 5)]
    where = {"address": "127.0.0.1"}
    assert [("password changed", "anna", where), ("password chosen", "anna", where)] == entries
    page = served.get(browser, f"/history?name={ACCESS}&who=anna").text
    assert "password chosen" in page
    assert "address: 127.0.0.1" in page


def test_copied_cookie_after_a_changed_password(served: Console) -> None:
    """The copied cookie opens no page, and the user's browser has a new cookie."""
    browser, copied = served.logged_in(), requests.Session()
    copied.cookies.update(browser.cookies)
    form = {"current": PASSWORD, "password": ANOTHER, "again": ANOTHER}

    assert 303 == served.post(browser, "/account/password", **form).status_code

    assert (True, False) == (is_in(served, browser), is_in(served, copied))
    assert 303 == served.post(browser, "/account/language", language="en").status_code


def test_change_of_a_password_needs_the_current_password(served: Console) -> None:
    """A change needs the current password, and wrong passwords count as guesses."""
    browser = served.logged_in()
    form = {"current": "wrong", "password": ANOTHER, "again": ANOTHER}
    replies = [served.post(browser, "/account/password", **form) for _ in range(PER_NAME + 1)]

    assert [422] * PER_NAME + [429] == [reply.status_code for reply in replies]
    assert "the current password is wrong" in replies[0].text


def test_logout_everywhere(served: Console) -> None:
    """Each session of the user ends. Sessions of other users continue."""
    served.add_user("bob")
    here, there, bob = served.logged_in(), served.logged_in(), served.logged_in("bob")

    assert 303 == served.post(here, "/account/sessions").status_code

    assert [False, False, True] == [is_in(served, browser) for browser in (here, there, bob)]


def test_no_page_makes_a_user(served: Console) -> None:
    """A console without users shows the command for adding users."""
    served.state.remove_user("anna")

    page = served.get(requests.Session(), "/login").text
    assert "<code>certferry console user add NAME</code>" in page
    assert "Password lost?" not in page
    assert 403 == guess(served, password=PASSWORD).status_code
    assert () == served.state.users()
