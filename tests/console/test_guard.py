"""Every route is closed, and what opens it: sessions, tokens, roles, origins, hosts, proxies."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from certferry.config.model import ConsoleSettings
from certferry.console.app import ROUTES, console_app
from certferry.console.guard import (
    FOR_VIEWERS,
    OPEN,
    READING,
    cookie_name,
    is_open,
    own_page,
    preferred,
    within,
)
from certferry.console.refusals import PageRefused, is_for_programs
from certferry.core.access import Role, Session, Token, User, digest_of_secret
from certferry.errors import ConfigError, StateUnavailable
from certferry.present.language import LANGUAGES
from certferry.text import Text
from tests.console.serving import PASSWORD, Console, answer, asgi, console

EVERY = sorted(
    (method, re.sub(r"\{\w+(:\w+)?\}", "x", route.path))
    for route in ROUTES
    if isinstance(route, Route)
    for method in route.methods or ()
)
CLOSED = [one for one in EVERY if not is_open(one[1]) and one[1] != "/metrics"]
CHANGING = [one for one in EVERY if one[0] not in READING]
THREADS = 40  # of Starlette's pool, which anyio limits
FOREIGN = ("https://evil.example", "null", "http://127.0.0.1", "http://localhost:1", "")


APP = Starlette(routes=list(ROUTES))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console with an operator and a viewer."""
    with console(tmp_path_factory.mktemp("console")) as found:
        found.add_user("anna")
        found.add_user("victor", Role.VIEWER)
        yield found


@pytest.fixture(scope="module")
def anna(served: Console) -> requests.Session:
    """The browser of an operator."""
    return served.logged_in("anna")


@pytest.fixture(scope="module")
def victor(served: Console) -> requests.Session:
    """The browser of a viewer."""
    return served.logged_in("victor")


def ask(
    served: Console,
    method: str,
    path: str,
    browser: requests.Session | None = None,
    data: Mapping[str, str] | None = None,
    **headers: str,
) -> requests.Response:
    """Send a request as it is, and follow no redirect."""
    sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
    return (browser or requests.Session()).request(
        method, served.url + path, data=data, headers=sent, allow_redirects=False, timeout=20
    )


# --- every route


def test_five_kinds_of_paths_are_open() -> None:
    """The list is short, and no route of a page is on it but login and welcome."""
    open_routes = {path for _, path in EVERY if is_open(path)}

    assert ("/login", "/welcome/", "/healthz", "/static/") == OPEN
    assert {"/login", "/welcome/x", "/static/x/x"} <= open_routes
    assert open_routes <= {"/login", "/welcome/x", "/static/x/x", "/healthz"}
    assert ("/logout", "/account/") == FOR_VIEWERS


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_route_without_a_session(method: str, path: str, served: Console) -> None:
    """A person is sent to the login, a program is refused; also with a cookie that is none."""
    name = cookie_name(served.site)
    for cookie in ("", f"{name}=x", f"{name}="):
        reply = ask(served, method, path, Origin=served.origin, Cookie=cookie)

        if is_for_programs(path):
            assert 401 == reply.status_code
            assert "Bearer" == reply.headers["WWW-Authenticate"]
        else:
            assert 303 == reply.status_code
            assert re.match(r"/login(\?next=|$)", reply.headers["Location"])


@pytest.mark.parametrize(("method", "path"), CHANGING)
@pytest.mark.parametrize("origin", FOREIGN)
def test_change_from_a_foreign_page(
    method: str, path: str, origin: str, served: Console, anna: requests.Session
) -> None:
    """Is refused, whatever else it has; a request without an origin as well."""
    form = {"csrf": served.csrf(anna), "name": "anna", "password": PASSWORD}

    assert 403 == ask(served, method, path, anna, form, Origin=origin).status_code


@pytest.mark.parametrize(("method", "path"), [one for one in CHANGING if one in CLOSED])
def test_change_without_the_token_of_forms(
    method: str, path: str, served: Console, anna: requests.Session, victor: requests.Session
) -> None:
    """Is refused, also with the token of another session, and in a form of another kind."""
    for form in ({}, {"csrf": ""}, {"csrf": served.csrf(victor)}, {"csrf": "ü"}):
        assert 403 == ask(served, method, path, anna, form, Origin=served.origin).status_code
    reply = anna.request(
        method,
        served.url + path,
        files={"csrf": (None, served.csrf(anna))},
        headers={"Origin": served.origin},
        timeout=20,
    )
    assert 403 == reply.status_code
    assert 200 == ask(served, "GET", "/account", anna).status_code


@pytest.mark.parametrize(("method", "path"), [one for one in CHANGING if one in CLOSED])
def test_change_by_a_viewer(
    method: str, path: str, served: Console, victor: requests.Session
) -> None:
    """Is refused, but for what is their own."""
    form = {"csrf": served.csrf(victor)}
    is_own = any(path.startswith(one) for one in FOR_VIEWERS)
    if is_own:
        return
    reply = ask(served, method, path, victor, form, Origin=served.origin)

    assert 403 == reply.status_code
    assert "victor" in reply.text or is_for_programs(path)


@pytest.mark.parametrize(
    ("method", "path"),
    [*EVERY, ("GET", "/nowhere"), ("GET", "//evil.example"), ("PUT", "/"), ("OPTIONS", "/login")],
)
def test_headers_of_every_answer(
    method: str, path: str, served: Console, anna: requests.Session
) -> None:
    """No answer is without them, refusals included."""
    for browser in (anna, None):
        headers = ask(served, method, path, browser).headers

        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "nosniff" == headers["X-Content-Type-Options"]
        assert "same-origin" == headers["Referrer-Policy"]
        assert "same-origin" == headers["Cross-Origin-Opener-Policy"]
        assert "no-store" == headers["Cache-Control"]
        assert "Strict-Transport-Security" not in headers


def test_static_files_are_kept_for_ever(served: Console) -> None:
    """Under the digest of what they are; under another one they are not stored."""
    page = ask(served, "GET", "/login").text
    found = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)

    assert {"console.css", "console.js", "htmx.min.js", "icon.svg"} <= {
        one.rpartition("/")[2] for one in found
    }
    for path in found:
        reply = ask(served, "GET", path)
        assert (200, "public, max-age=31536000, immutable") == (
            reply.status_code,
            reply.headers["Cache-Control"],
        )
        old = re.sub(r"/static/\w+/", "/static/old/", path)
        assert "no-store" == ask(served, "GET", old).headers["Cache-Control"]
    for path in ("/static/x/app.py", "/static/x/..%2Fapp.py", "/static/x/../../app.py"):
        assert ask(served, "GET", path).status_code in {404, 303}


# --- what a session is


def test_session_is_what_the_state_knows_now(served: Console) -> None:
    """A role that is changed counts at the next request, and a user that is removed is out."""
    served.add_user("otto")
    browser = served.logged_in("otto")
    assert "can view everything and start runs" in ask(served, "GET", "/account", browser).text

    served.state.change_role("otto", Role.VIEWER)
    assert "viewer: can view everything" in ask(served, "GET", "/account", browser).text
    assert "otto" in served.post(browser, "/runs").text

    served.state.remove_user("otto")
    assert 303 == ask(served, "GET", "/account", browser).status_code


def test_session_that_was_idle_or_long(served: Console) -> None:
    """Is over, whatever the browser still has."""
    now = served.site.now()
    for idle, age in ((13, 14), (1, 8 * 24)):
        began, seen = now - timedelta(hours=age), now - timedelta(hours=idle)
        served.state.save_session(Session(digest_of_secret("old"), "anna", began, seen, ""))

        assert 303 == ask(served, "GET", "/", Cookie=f"{cookie_name(served.site)}=old").status_code


def test_cookie_of_a_session(served: Console, anna: requests.Session) -> None:
    """Scripts do not see it, foreign forms do not send it, and the state has only its digest."""
    reply = served.post(requests.Session(), "/login", name="anna", password=PASSWORD).headers[
        "Set-Cookie"
    ]
    name = cookie_name(served.site)
    secret = anna.cookies[name]

    assert re.search(name + r"=[\w-]{43}; HttpOnly; Max-Age=604800; Path=/; SameSite=lax", reply)
    assert served.state.session(digest_of_secret(secret), served.site.now()) is not None
    assert served.state.session(secret, served.site.now()) is None


def test_https_has_cookies_of_this_host_alone(tmp_path: Path) -> None:
    """`__Host-`, Secure, HSTS; two consoles below one host have cookies of their own."""
    settings = ConsoleSettings(url="https://ops.example.com/certs")
    with console(tmp_path, settings) as found:
        found.state.add_user(User("anna", Role.OPERATOR, found.site.now()))
        link, word = found.link("anna"), PASSWORD
        reply = found.post(requests.Session(), link, password=word, again=word)

        cookie = reply.headers["Set-Cookie"]
        assert "/certs/" == reply.headers["Location"]
        assert cookie.startswith("__Host-certferry-certs=")
        assert "; Path=/; " in cookie
        assert "; Secure" in cookie
        assert "max-age=31536000" == reply.headers["Strict-Transport-Security"]


def test_two_consoles_at_one_host_keep_apart(served: Console, tmp_path: Path) -> None:
    """Browsers send a cookie to every port of its host: a login at one is none at the other."""
    with console(tmp_path) as other:
        other.add_user("anna")
        browser = served.logged_in("anna")
        reply = other.post(browser, "/login", name="anna", password=PASSWORD)

        assert 303 == reply.status_code
        assert [200, 200] == [one.get(browser, "/account").status_code for one in (served, other)]


# --- tokens


@pytest.fixture(scope="module")
def tokens(served: Console) -> Mapping[str, str]:
    """A token of each role, and one that is over."""
    now = served.site.now()
    for name, role, end in (
        ("operator", Role.OPERATOR, None),
        ("viewer", Role.VIEWER, now + timedelta(days=1)),
        ("over", Role.OPERATOR, now - timedelta(seconds=1)),
    ):
        secret = f"cf_{name}"
        served.state.add_token(Token(name, digest_of_secret(secret), secret[:6], role, now, end))
    return {name: f"Bearer cf_{name}" for name in ("operator", "viewer", "over", "unknown")}


def test_token_opens_the_api_and_nothing_else(served: Console, tokens: Mapping[str, str]) -> None:
    """A page is for sessions. What is no path of the API is not there for a token either."""
    for name in ("operator", "viewer"):
        assert 404 == ask(served, "GET", "/api/none", Authorization=tokens[name]).status_code
        assert 303 == ask(served, "GET", "/", Authorization=tokens[name]).status_code
    for name in ("over", "unknown"):
        reply = ask(served, "GET", "/api/none", Authorization=tokens[name])
        assert 401 == reply.status_code
        assert "unauthorized" == reply.json()["error"]["code"]
        assert "send `Bearer cf_…`" in reply.json()["error"]["hint"]


def test_token_needs_no_origin_and_a_viewer_changes_nothing(
    served: Console, tokens: Mapping[str, str]
) -> None:
    """A program has no pages; a viewer's token starts no run."""
    as_operator = ask(served, "POST", "/api/none", Authorization=tokens["operator"])
    as_viewer = ask(served, "POST", "/api/none", Authorization=tokens["viewer"])

    assert (404, 403) == (as_operator.status_code, as_viewer.status_code)
    assert "forbidden" == as_viewer.json()["error"]["code"]
    assert "an operator's token" in as_viewer.json()["error"]["hint"]


def test_api_for_a_session(served: Console, anna: requests.Session) -> None:
    """Reads with the cookie; a change needs our origin, and the token of forms in a header."""
    assert 404 == ask(served, "GET", "/api/none", anna).status_code
    csrf = served.csrf(anna)
    sent = {"Origin": served.origin, "X_CSRF_Token": csrf}
    assert 404 == ask(served, "POST", "/api/none", anna, None, **sent).status_code
    for name in sent:
        less = sent | {name: ""}
        assert 403 == ask(served, "POST", "/api/none", anna, None, **less).status_code


# --- hosts, origins, prefixes


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", "x@127.0.0.1",
     "127.0.0.1:{port}/login?", "localhost", ""],
)  # fmt: skip
def test_foreign_host(host: str, served: Console, anna: requests.Session) -> None:
    """Is not answered: a foreign name may have been made to resolve to us."""
    port = served.url.rpartition(":")[2]
    reply = ask(served, "GET", "/account", anna, Host=host.format(port=port) or "-")

    assert reply.status_code in {400, 421}
    assert "anna" not in reply.text


def test_names_of_what_is_listened_at(served: Console) -> None:
    """The machine itself may call it by the port's usual names, and send forms from there."""
    port = served.url.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        assert 200 == ask(served, "GET", "/login", Host=host).status_code
        form = {"name": "x", "password": "y"}
        origin = f"http://{host.lower()}"
        reply = ask(served, "POST", "/login", None, form, Host=host, Origin=origin)
        assert "wrong user name or password" in reply.text


def test_prefix_that_the_proxy_strips_or_leaves(tmp_path: Path) -> None:
    """Both work, and each link has it."""
    with console(tmp_path, ConsoleSettings(url="http://127.0.0.1:{port}/x/y")) as found:
        found.add_user()
        anna = found.logged_in()
        bare = found.url.removesuffix("/x/y")
        for base in (found.url, bare):
            reply = anna.get(f"{base}/account", allow_redirects=False, timeout=20)
            assert 200 == reply.status_code
            links = re.findall(r'(?:href|src|action)="(/[^"]*)"', reply.text)
            assert links
            assert [] == [one for one in links if not one.startswith("/x/y/")]
            out = requests.get(f"{base}/account?done=x", allow_redirects=False, timeout=20)
            assert "/x/y/login?next=%2Faccount%3Fdone%3Dx" == out.headers["Location"]
        assert 200 == anna.get(found.url, allow_redirects=False, timeout=20).status_code


@pytest.mark.parametrize(
    ("path", "prefix", "expected"),
    [
        ("/x/y/runs", "/x/y", "/runs"),
        ("/runs", "/x/y", "/runs"),
        ("/x/y", "/x/y", "/"),
        ("/x/y/", "/x/y", "/"),
        ("/x/yz", "/x/y", "/x/yz"),
        ("/runs", "", "/runs"),
    ],
)
def test_path_within_a_prefix(path: str, prefix: str, expected: str) -> None:
    """The prefix goes where it stands, and only whole."""
    assert expected == within(path, prefix)


# --- redirects


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/%5Cevil",
     "/%2F%2Fevil.example", "javascript:alert(1)", "evil", "/nowhere", "/login", "/logout",
     "/api/v1/status", "/static/x/y", "/account\r\nX: y", "/%0d%0aX:y", "http:///account", "",
     "//[", "http://["],
)  # fmt: skip
def test_login_leads_to_no_foreign_page(target: str, served: Console) -> None:
    """What is not a page of ours is as if it had not been asked for."""
    sent = {"name": "anna", "password": PASSWORD, "next": target}
    reply = served.post(requests.Session(), "/login", **sent)

    assert (303, "/") == (reply.status_code, reply.headers["Location"])
    assert own_page(APP, target) is None


@given(st.text() | st.text("/\\\\%2Ff5Cc:@?#.;[]\r\n\t account", max_size=20))
def test_no_redirect_leads_away(written: str) -> None:
    """Whatever is asked for, it is a path of ours, in letters that a header may hold."""
    found = own_page(APP, written)

    if found is not None:
        assert re.fullmatch(r"/(?![/\\\\])[!-~]*", found)
        assert urlsplit(found).netloc == ""


def test_login_leads_back(served: Console, anna: requests.Session) -> None:
    """To the page that was asked for, with its query; a user who is logged in is not asked."""
    asked = ask(served, "GET", "/account?a=1&b=%E5%9B%BE").headers["Location"]
    assert "/login?next=" + quote("/account?a=1&b=%E5%9B%BE", safe="") == asked

    page = ask(served, "GET", asked)
    assert 'name="next" value="/account?a=1&amp;b=%E5%9B%BE"' in page.text
    assert "/account?a=1&b=%E5%9B%BE" == ask(served, "GET", asked, anna).headers["Location"]


def test_partial_refresh_after_the_session(served: Console) -> None:
    """Htmx is sent to the login as a whole page, and back to the page that was open."""
    for url, back in (
        (f"{served.url}/account?a=1#main", "?next=%2Faccount%3Fa%3D1"),
        (f"{served.url}/", ""),
        ("http://[", ""),
        ("https://evil.example//evil.example", ""),
    ):
        reply = ask(served, "GET", "/", HX_Request="true", HX_Current_URL=url)

        assert (401, f"/login{back}") == (reply.status_code, reply.headers["HX-Redirect"])


@given(st.text())
def test_whatever_a_browser_prefers(accepted: str) -> None:
    """It gets a language of ours; English, where it prefers none of them."""
    assert preferred(accepted) in LANGUAGES
    for chinese in ("zh", "ZH-hant-TW", "en;q=0.1,zh;q=0.2", "fr, zh-CN;q=0.9, en;q=0.8", "zh;q=1"):
        assert "zh" == preferred(chinese)
    for english in ("", "fr", "zh;q=0", "en, zh", "zh;q=x"):
        assert "en" == preferred(english)


def test_language(served: Console, anna: requests.Session) -> None:
    """The browser's, then the user's, then the choice at the top of a page, without a login too."""
    chinese = {"Accept-Language": "fr, zh-CN;q=0.9, en;q=0.8"}
    browser = requests.Session()
    assert "登录" in browser.get(f"{served.url}/login", headers=chinese, timeout=20).text
    assert "Log in" in browser.get(f"{served.url}/login", timeout=20).text
    assert "登录" in browser.get(f"{served.url}/login?lang=zh", timeout=20).text
    assert "登录" in browser.get(f"{served.url}/login", timeout=20).text
    assert "不存在" in browser.get(f"{served.url}/static/x/none", timeout=20).text

    served.post(anna, "/account/language", language="zh")
    assert 'lang="zh-Hans"' in ask(served, "GET", "/account", anna).text
    served.post(anna, "/account/language", language="")
    assert 'lang="en"' in ask(served, "GET", "/account", anna).text
    redirect = ask(served, "GET", "//evil.example/?lang=zh", anna)
    assert "/" == redirect.headers["Location"]


def test_slow_pages_keep_no_monitor_waiting(served: Console, anna: requests.Session) -> None:
    """They may hold every thread that pages have: `/healthz` needs none of these."""
    is_over, waiting = threading.Event(), threading.Semaphore(0)

    def waits(_: Request) -> Response:
        waiting.release()
        is_over.wait(30)
        return Response()

    guard = console_app(served.site)
    guard.app.router.routes.append(Route("/waits", waits))
    host, name = served.url.removeprefix("http://"), cookie_name(served.site)
    peer = {"server": ("127.0.0.1", int(host.rpartition(":")[2])), "client": ("127.0.0.1", 5000)}
    cookie = f"{name}={anna.cookies[name]}"

    async def both() -> Message:
        slow = [
            asyncio.create_task(answer(guard, "/waits", peer, Host=host, Cookie=cookie))
            for _ in range(THREADS + 1)
        ]
        try:
            for _ in range(THREADS):
                await asyncio.get_running_loop().run_in_executor(None, waiting.acquire)
            async with asyncio.timeout(10):
                return await answer(guard, "/healthz", peer, Host=host)
        finally:
            is_over.set()
            await asyncio.gather(*slow)

    assert "ok" in asyncio.run(both())["body"]


def test_what_is_sent_is_too_large(served: Console, anna: requests.Session) -> None:
    """It is not read to its end, and refused before anything is done with it."""
    form = {"csrf": served.csrf(anna), "x": "x" * 300_000}

    reply = ask(served, "POST", "/account/language", anna, form, Origin=served.origin)

    assert 413 == reply.status_code


def test_state_that_is_gone(tmp_path: Path) -> None:
    """Pages say so, and what to do; static files and the look are there."""
    with console(tmp_path) as found:
        (tmp_path / "state.db").write_bytes(b"no database" * 100)
        page = ask(found, "GET", "/account", Cookie=f"{cookie_name(found.site)}=x")
        document = ask(found, "GET", "/api/v1/status", Authorization="Bearer cf_x")

        assert (503, 503) == (page.status_code, document.status_code)
        assert "30" == page.headers["Retry-After"]
        assert "Traceback" not in page.text
        assert "console.css" in page.text
        assert document.json()["error"]["code"].startswith("state")


def test_state_that_comes_back(tmp_path: Path) -> None:
    """While its disk is away no page is shown, and no other state made; then all is as it was."""
    with console(tmp_path) as found:
        found.add_user()
        browser, state = found.logged_in(), tmp_path / "state.db"
        assert 200 == ask(found, "GET", "/account", browser).status_code

        state.rename(tmp_path / "away")
        closed = [ask(found, "GET", path, browser) for path in ("/account", "/", "/healthz")]
        assert 3 * [503] == [reply.status_code for reply in closed]
        assert "state.db is gone" in closed[0].text
        assert not state.exists()

        (tmp_path / "away").rename(state)
        assert 200 == ask(found, "GET", "/account", browser).status_code


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (ValueError("planted"), 500, "a bug in certferry"),
        (StateUnavailable(Text("the disk is full"), hint=Text("make room")), 503, "make room"),
        (ConfigError(Text("the variable {n} is not set", n="<X>")), 500, "&lt;X&gt; is not set"),
        (PageRefused(404, Text("no certificate {n}", n="<b>")), 404, "no certificate &lt;b&gt;"),
        (PageRefused(409), 409, "the request is malformed"),
        (HTTPException(405), 405, "does not support this kind of request"),
    ],
)
def test_page_that_fails(
    raised: Exception,
    status: int,
    said: str,
    served: Console,
    anna: requests.Session,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Says what is wrong and what to do, in the frame of all pages; a mistake of ours is logged."""

    def fails(_: Request) -> Response:
        raise raised

    guard = console_app(served.site)
    guard.app.router.routes += [Route("/fails", fails), Route("/api/v1/fails", fails)]
    host, name = served.url.removeprefix("http://"), cookie_name(served.site)
    cookie = f"{name}={anna.cookies[name]}"
    peer = {"server": ("127.0.0.1", int(host.rpartition(":")[2])), "client": ("127.0.0.1", 5000)}

    page = asgi(guard, "/fails", peer, Host=host, Cookie=cookie)
    document = asgi(guard, "/api/v1/fails", peer, Host=host, Cookie=cookie)

    assert status == page["status"] == document["status"]
    assert said in page["body"]
    assert "<nav" in page["body"]
    assert {"code", "message", "hint"} == json.loads(document["body"])["error"].keys()
    assert "planted" not in page["body"] + document["body"]
    assert ("planted" in caplog.text) == isinstance(raised, ValueError)
