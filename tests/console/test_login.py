"""Login, logout, the link where a password is chosen, and a user's own account."""

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
    """A console with one user, behind a proxy that is trusted."""
    with console(tmp_path, ConsoleSettings(trusted_proxies=("127.0.0.1",))) as found:
        found.add_user("anna")
        yield found


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
    """Whether a browser is logged in."""
    return served.get(browser, "/account").status_code == 200


# --- login and logout


def test_login_and_logout(served: Console) -> None:
    """A session begins and ends on the server: the cookie of before opens nothing."""
    browser = served.logged_in("ANNA")
    before = browser.cookies.get_dict()
    assert is_in(served, browser)

    reply = served.post(browser, "/logout")

    assert (303, "/login") == (reply.status_code, reply.headers["Location"])
    again = requests.Session()
    again.cookies.update(before)
    assert not is_in(served, again)


def test_wrong_name_and_wrong_password_read_the_same(served: Console) -> None:
    """Who guesses does not learn which names there are, nor who has no password yet."""
    served.state.add_user(User("new", Role.VIEWER, served.site.now()))
    said = {
        guess(served, name, password).text.replace(f'value="{name}"', "")
        for name, password in (("anna", "wrong"), ("nobody", PASSWORD), ("new", ""), ("new", "x"))
    }

    assert 1 == len(said)
    assert "wrong user name or password" in said.pop()


@pytest.mark.parametrize("name", [HOSTILE, "a\x00b", "图" * 500, " ", "%s{name}{{ 7*7 }}"])
def test_hostile_name(name: str, served: Console) -> None:
    """Is shown as what it is, and opens nothing."""
    reply = guess(served, name, PASSWORD)

    assert 403 == reply.status_code
    assert "<script>alert" not in reply.text
    assert "49" not in reply.text.partition("<main")[2].partition("</main")[0]


def test_login_that_is_refused_is_logged(served: Console, caplog: pytest.LogCaptureFixture) -> None:
    """By its address, for programs that lock such out; not by the name: it may be a password."""
    guess(served, name="my-password-7", address="192.0.2.9")

    assert "login refused from 192.0.2.9" in caplog.text
    assert "my-password-7" not in caplog.text


# --- guesses


def test_guesses_at_one_name_from_many_addresses(served: Console) -> None:
    """Are slowed by the name, right or wrong; another user logs in meanwhile."""
    served.add_user("bob")
    replies = [guess(served, address=f"192.0.2.{place}") for place in range(PER_NAME + 1)]
    assert {403} == {one.status_code for one in replies[:-1]}
    assert (429, "900") == (replies[-1].status_code, replies[-1].headers["Retry-After"])

    assert 429 == guess(served, "ANNA", PASSWORD, address="192.0.2.99").status_code
    assert 303 == guess(served, "bob", PASSWORD, address="192.0.2.99").status_code


def test_guesses_from_one_address_at_many_names(served: Console) -> None:
    """Are slowed by the address, whatever the client says of itself; others are served."""
    replies = [guess(served, f"user-{place}") for place in range(PER_ADDRESS + 1)]
    assert {403} == {one.status_code for one in replies[:-1]}
    assert 429 == replies[-1].status_code

    assert 429 == guess(served, "anna", PASSWORD).status_code
    assert 303 == guess(served, "anna", PASSWORD, address="192.0.2.8").status_code


def test_link_leads_in_during_an_attack(served: Console) -> None:
    """A session goes on, and a link from the command line leads in from anywhere; the guesses at
    the name count on.
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


def test_login_forgets_the_guesses_before_it(served: Console) -> None:
    """Who mistypes now and then is not slowed, and an office may log in from one address."""
    for _ in range(2):
        for _ in range(PER_NAME - 1):
            guess(served)
        for _ in range(2):
            assert 303 == guess(served, password=PASSWORD).status_code
    for _ in range(PER_ADDRESS):
        assert 303 == guess(served, password=PASSWORD).status_code


def test_own_account_clears_no_guesses_at_others(served: Console) -> None:
    """An attacker who logs in under his own name goes on being slowed by his address."""
    served.add_user("mallory")
    found = []
    for place in range(PER_ADDRESS + 1):
        found.append(guess(served, f"user-{place}").status_code)
        if place < PER_ADDRESS - 1:
            assert 303 == guess(served, "mallory", PASSWORD).status_code

    assert [403] * PER_ADDRESS + [429] == found


def test_flood_of_guesses_waits_in_a_short_queue() -> None:
    """Two are verified at once, as many wait as a second has time for, and one more is refused."""

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
def test_as_what_an_address_is_counted(address: str | None, other: str, *, is_same: bool) -> None:
    """A host has a whole network of IPv6: it is one."""
    assert is_same == (counted_as(address) == counted_as(other))


# --- the link


def test_link_is_opened_often_and_used_once(served: Console) -> None:
    """To open it does not spend it: mail filters do. To choose a password does, and logs in."""
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


def test_reset_makes_the_old_password_useless_at_once(served: Console) -> None:
    """Before the new link is used, as after it: a thief of the password is out."""
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
def test_link_that_never_was(path: str, served: Console) -> None:
    """One sentence, in the browser's language, and what to do."""
    reply = served.get(requests.Session(), path, Accept_Language="zh")

    assert 410 == reply.status_code
    assert "链接" in reply.text
    assert "certferry console user reset NAME" in reply.text


def test_link_that_has_expired(served: Console) -> None:
    """Is no link, even where its page was open."""
    link = served.link("anna", within=timedelta(seconds=-1))

    reply = served.post(requests.Session(), link, password=ANOTHER, again=ANOTHER)

    assert 410 == reply.status_code
    assert 303 == guess(served, password=PASSWORD).status_code


@pytest.mark.parametrize(
    ("password", "again"),
    [("short", "short"), ("", ""), (PASSWORD, ANOTHER), ("x" * 1001, "x" * 1001),
     ("anna-anna-anna", "anna-anna-anna"), ("password1234", "password1234")],
)  # fmt: skip
def test_password_that_cannot_be_chosen(password: str, again: str, served: Console) -> None:
    """Says why; the link stays good."""
    link = served.link("anna")

    reply = served.post(requests.Session(), link, password=password, again=again)

    assert 422 == reply.status_code
    assert 'role="alert"' in reply.text
    assert f'value="{password}"' not in reply.text
    assert 200 == served.get(requests.Session(), link).status_code


# --- the account


def test_password_that_is_changed(served: Console) -> None:
    """Every other browser is logged out; the old password opens nothing."""
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


def test_passwords_that_were_chosen_are_in_the_history(served: Console) -> None:
    """Under the name of their user, with the address, and never the password."""
    chosen, browser = {"password": ANOTHER, "again": ANOTHER}, requests.Session()
    assert 303 == served.post(browser, served.link("anna"), **chosen).status_code
    form = {"current": ANOTHER, "password": PASSWORD, "again": PASSWORD}
    assert 303 == served.post(browser, "/account/password", **form).status_code

    found = [(one.event, one.who, one.facts) for one in served.state.history(ACCESS, 5)]
    where = {"address": "127.0.0.1"}
    assert [("password changed", "anna", where), ("password chosen", "anna", where)] == found
    page = served.get(browser, f"/history?name={ACCESS}&who=anna").text
    assert "password chosen" in page
    assert "address: 127.0.0.1" in page


def test_cookie_that_was_copied_before_the_password_is_changed(served: Console) -> None:
    """It opens nothing afterwards; the browser in which it is changed has another one."""
    browser, copied = served.logged_in(), requests.Session()
    copied.cookies.update(browser.cookies)
    form = {"current": PASSWORD, "password": ANOTHER, "again": ANOTHER}

    assert 303 == served.post(browser, "/account/password", **form).status_code

    assert (True, False) == (is_in(served, browser), is_in(served, copied))
    assert 303 == served.post(browser, "/account/language", language="en").status_code


def test_password_is_changed_by_its_owner_alone(served: Console) -> None:
    """An open browser is not enough: the current password is asked for, and guesses are counted."""
    browser = served.logged_in()
    form = {"current": "wrong", "password": ANOTHER, "again": ANOTHER}
    replies = [served.post(browser, "/account/password", **form) for _ in range(PER_NAME + 1)]

    assert [422] * PER_NAME + [429] == [one.status_code for one in replies]
    assert "the current password is wrong" in replies[0].text


def test_logout_everywhere(served: Console) -> None:
    """Ends each session of the user, and of no other."""
    served.add_user("bob")
    here, there, bob = served.logged_in(), served.logged_in(), served.logged_in("bob")

    assert 303 == served.post(here, "/account/sessions").status_code

    assert [False, False, True] == [is_in(served, one) for one in (here, there, bob)]


def test_no_page_makes_a_user(served: Console) -> None:
    """A console without users says which command does, and has nothing that makes the first one."""
    served.state.remove_user("anna")

    said = served.get(requests.Session(), "/login").text
    assert "<code>certferry console user add NAME</code>" in said
    assert "Password lost?" not in said
    assert 403 == guess(served, password=PASSWORD).status_code
    assert () == served.state.users()
