"""The guard before every route: sessions, tokens, roles, origins, hosts and proxies."""

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
CLOSED = [(method, path) for method, path in EVERY if not is_open(path) and path != "/metrics"]
CHANGING = [(method, path) for method, path in EVERY if method not in READING]
CLOSED_CHANGING = [route for route in CHANGING if route in CLOSED]
THREADS = 40  # anyio limits the threads of Starlette
FOREIGN = ("https://evil.example", "null", "http://127.0.0.1", "http://localhost:1", "")


APP = Starlette(routes=list(ROUTES))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console with an operator and a viewer."""
    with console(tmp_path_factory.mktemp("console")) as opened:
        opened.add_user("anna")
        opened.add_user("victor", Role.VIEWER)
        yield opened


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
    """Send a request with these headers, and follow no redirect."""
    sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
    return (browser or requests.Session()).request(
        method, served.url + path, data=data, headers=sent, allow_redirects=False, timeout=20
    )


# --- every route


def test_paths_open_without_a_login() -> None:
    """Among pages, only login and welcome are open."""
    open_routes = {path for _, path in EVERY if is_open(path)}

    assert ("/login", "/welcome/", "/healthz", "/static/") == OPEN
    assert {"/login", "/welcome/x", "/static/x/x"} <= open_routes
    assert open_routes <= {"/login", "/welcome/x", "/static/x/x", "/healthz"}
    assert ("/logout", "/account/") == FOR_VIEWERS


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_route_without_a_session(method: str, path: str, served: Console) -> None:
    """A person is sent to the login, and a program is refused. A wrong cookie counts as no
    session.
    """
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
    """A request with a foreign origin, or without an origin, is refused despite the session and the
    form's token.
    """
    form = {"csrf": served.csrf(anna), "name": "anna", "password": PASSWORD}

    assert 403 == ask(served, method, path, anna, form, Origin=origin).status_code


@pytest.mark.parametrize(("method", "path"), CLOSED_CHANGING)
def test_change_without_the_token_of_forms(
    method: str, path: str, served: Console, anna: requests.Session, victor: requests.Session
) -> None:
    """The console refuses a form without a token, with the token of another session, or with
    another content type. The session stays.
    """
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


@pytest.mark.parametrize(("method", "path"), CLOSED_CHANGING)
def test_change_by_a_viewer(
    method: str, path: str, served: Console, victor: requests.Session
) -> None:
    """The console refuses a viewer's changes, except changes of the viewer's own account."""
    form = {"csrf": served.csrf(victor)}
    is_own = any(path.startswith(own_path) for own_path in FOR_VIEWERS)
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
    """Every answer has the headers, even a refusal."""
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


def test_static_files_are_stored_under_their_digest(served: Console) -> None:
    """Browsers may store a file under the digest of the current files for a year. Under another
    digest, the file must not be stored.
    """
    page = ask(served, "GET", "/login").text
    paths = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)

    assert {"console.css", "console.js", "htmx.min.js", "icon.svg"} <= {
        asset.rpartition("/")[2] for asset in paths
    }
    for path in paths:
        reply = ask(served, "GET", path)
        assert (200, "public, max-age=31536000, immutable") == (
            reply.status_code,
            reply.headers["Cache-Control"],
        )
        old = re.sub(r"/static/\w+/", "/static/old/", path)
        assert "no-store" == ask(served, "GET", old).headers["Cache-Control"]
    for path in ("/static/x/app.py", "/static/x/..%2Fapp.py", "/static/x/../../app.py"):
        assert ask(served, "GET", path).status_code in {404, 303}


# --- sessions


def test_changed_role_and_removed_user_count_at_once(served: Console) -> None:
    """A changed role counts at the next request, and a removed user is logged out."""
    served.add_user("otto")
    browser = served.logged_in("otto")
    assert "can view everything and start runs" in ask(served, "GET", "/account", browser).text

    served.state.change_role("otto", Role.VIEWER)
    assert "viewer: can view everything" in ask(served, "GET", "/account", browser).text
    assert "otto" in served.post(browser, "/runs").text

    served.state.remove_user("otto")
    assert 303 == ask(served, "GET", "/account", browser).status_code


def test_session_ends_when_idle_or_old(served: Console) -> None:
    """A session ends after a long idle time, and at the longest age."""
    now = served.site.now()
    for idle, age in ((13, 14), (1, 8 * 24)):
        began, seen = now - timedelta(hours=age), now - timedelta(hours=idle)
        served.state.save_session(Session(digest_of_secret("old"), "anna", began, seen, ""))

        assert 303 == ask(served, "GET", "/", Cookie=f"{cookie_name(served.site)}=old").status_code


def test_cookie_of_a_session(served: Console, anna: requests.Session) -> None:
    """Scripts cannot read the cookie, foreign forms are sent without the cookie, and the state has
    only the digest.
    """
    reply = served.post(requests.Session(), "/login", name="anna", password=PASSWORD).headers[
        "Set-Cookie"
    ]
    name = cookie_name(served.site)
    secret = anna.cookies[name]

    assert re.search(name + r"=[\w-]{43}; HttpOnly; Max-Age=604800; Path=/; SameSite=lax", reply)
    assert served.state.session(digest_of_secret(secret), served.site.now()) is not None
    assert served.state.session(secret, served.site.now()) is None


def test_cookie_over_https_is_bound_to_the_host(tmp_path: Path) -> None:
    """The cookie is `__Host-` and `Secure`, and the answer has HSTS. The name has the prefix, so
    two consoles at a host have different cookies.
    """
    settings = ConsoleSettings(url="https://ops.example.com/certs")
    with console(tmp_path, settings) as served:
        served.state.add_user(User("anna", Role.OPERATOR, served.site.now()))
        link, word = served.link("anna"), PASSWORD
        reply = served.post(requests.Session(), link, password=word, again=word)

        cookie = reply.headers["Set-Cookie"]
        assert "/certs/" == reply.headers["Location"]
        assert cookie.startswith("__Host-certferry-certs=")
        assert "; Path=/; " in cookie
        assert "; Secure" in cookie
        assert "max-age=31536000" == reply.headers["Strict-Transport-Security"]


def test_two_consoles_at_a_host_have_separate_sessions(served: Console, tmp_path: Path) -> None:
    """Browsers send a cookie to every port of a host. A login at a console leaves the other
    console's session unchanged.
    """
    with console(tmp_path) as other:
        other.add_user("anna")
        browser = served.logged_in("anna")
        reply = other.post(browser, "/login", name="anna", password=PASSWORD)

        assert 303 == reply.status_code
        assert [200, 200] == [site.get(browser, "/account").status_code for site in (served, other)]


# --- tokens


@pytest.fixture(scope="module")
def tokens(served: Console) -> Mapping[str, str]:
    """A token of each role, an expired token, and an unknown token."""
    now = served.site.now()
    for name, role, end in (
        ("operator", Role.OPERATOR, None),
        ("viewer", Role.VIEWER, now + timedelta(days=1)),
        ("over", Role.OPERATOR, now - timedelta(seconds=1)),
    ):
        secret = f"cf_{name}"
        served.state.add_token(Token(name, digest_of_secret(secret), secret[:6], role, now, end))
    return {name: f"Bearer cf_{name}" for name in ("operator", "viewer", "over", "unknown")}


def test_token_opens_only_the_api(served: Console, tokens: Mapping[str, str]) -> None:
    """With a token, an unknown path of the API is answered with 404, and a page leads to the login.
    Expired and unknown tokens are refused.
    """
    for name in ("operator", "viewer"):
        assert 404 == ask(served, "GET", "/api/none", Authorization=tokens[name]).status_code
        assert 303 == ask(served, "GET", "/", Authorization=tokens[name]).status_code
    for name in ("over", "unknown"):
        reply = ask(served, "GET", "/api/none", Authorization=tokens[name])
        assert 401 == reply.status_code
        assert "unauthorized" == reply.json()["error"]["code"]
        assert "send `Bearer cf_…`" in reply.json()["error"]["hint"]


def test_change_by_a_token(served: Console, tokens: Mapping[str, str]) -> None:
    """A request with a token needs no origin. A viewer's token may not make changes."""
    as_operator = ask(served, "POST", "/api/none", Authorization=tokens["operator"])
    as_viewer = ask(served, "POST", "/api/none", Authorization=tokens["viewer"])

    assert (404, 403) == (as_operator.status_code, as_viewer.status_code)
    assert "forbidden" == as_viewer.json()["error"]["code"]
    assert "an operator's token" in as_viewer.json()["error"]["hint"]


def test_api_for_a_session(served: Console, anna: requests.Session) -> None:
    """The session's cookie is enough to read. A change needs the console's origin, and the form's
    token in a header.
    """
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
    """The console refuses foreign host names, because an attacker may resolve a foreign name to
    this machine.
    """
    port = served.url.rpartition(":")[2]
    reply = ask(served, "GET", "/account", anna, Host=host.format(port=port) or "-")

    assert reply.status_code in {400, 421}
    assert "anna" not in reply.text


def test_names_of_the_listening_address(served: Console) -> None:
    """The console answers to the address and to `localhost`, and accepts forms from both."""
    port = served.url.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        assert 200 == ask(served, "GET", "/login", Host=host).status_code
        form = {"name": "x", "password": "y"}
        origin = f"http://{host.lower()}"
        reply = ask(served, "POST", "/login", None, form, Host=host, Origin=origin)
        assert "wrong user name or password" in reply.text


def test_prefix_that_the_proxy_strips_or_leaves(tmp_path: Path) -> None:
    """Both kinds of proxies work, and each link begins with the prefix."""
    with console(tmp_path, ConsoleSettings(url="http://127.0.0.1:{port}/x/y")) as served:
        served.add_user()
        anna = served.logged_in()
        bare = served.url.removesuffix("/x/y")
        for base in (served.url, bare):
            reply = anna.get(f"{base}/account", allow_redirects=False, timeout=20)
            assert 200 == reply.status_code
            links = re.findall(r'(?:href|src|action)="(/[^"]*)"', reply.text)
            assert links
            assert [] == [link for link in links if not link.startswith("/x/y/")]
            out = requests.get(f"{base}/account?done=x", allow_redirects=False, timeout=20)
            assert "/x/y/login?next=%2Faccount%3Fdone%3Dx" == out.headers["Location"]
        assert 200 == anna.get(served.url, allow_redirects=False, timeout=20).status_code


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
    """Only a whole prefix is removed."""
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
    """After the login, a target outside the console's pages is replaced by the first page."""
    sent = {"name": "anna", "password": PASSWORD, "next": target}
    reply = served.post(requests.Session(), "/login", **sent)

    assert (303, "/") == (reply.status_code, reply.headers["Location"])
    assert own_page(APP, target) is None


@given(st.text() | st.text("/\\\\%2Ff5Cc:@?#.;[]\r\n\t account", max_size=20))
def test_redirect_stays_on_the_console(target: str) -> None:
    """Any accepted target is a path of the console, in printable ASCII."""
    address = own_page(APP, target)

    if address is not None:
        assert re.fullmatch(r"/(?![/\\\\])[!-~]*", address)
        assert urlsplit(address).netloc == ""


def test_login_leads_back(served: Console, anna: requests.Session) -> None:
    """The login leads to the page asked for, with the query. A logged-in user skips the login."""
    asked = ask(served, "GET", "/account?a=1&b=%E5%9B%BE").headers["Location"]
    assert "/login?next=" + quote("/account?a=1&b=%E5%9B%BE", safe="") == asked

    page = ask(served, "GET", asked)
    assert 'name="next" value="/account?a=1&amp;b=%E5%9B%BE"' in page.text
    assert "/account?a=1&b=%E5%9B%BE" == ask(served, "GET", asked, anna).headers["Location"]


def test_partial_refresh_after_the_session(served: Console) -> None:
    """The answer makes htmx load the login as a whole page, and the login leads back to the open
    page.
    """
    for url, back in (
        (f"{served.url}/account?a=1#main", "?next=%2Faccount%3Fa%3D1"),
        (f"{served.url}/", ""),
        ("http://[", ""),
        ("https://evil.example//evil.example", ""),
    ):
        reply = ask(served, "GET", "/", HX_Request="true", HX_Current_URL=url)

        assert (401, f"/login{back}") == (reply.status_code, reply.headers["HX-Redirect"])


@given(st.text())
def test_language_preferred_by_the_browser(accepted: str) -> None:
    """Any header gives a supported language, and English if the browser prefers others."""
    assert preferred(accepted) in LANGUAGES
    for chinese in ("zh", "ZH-hant-TW", "en;q=0.1,zh;q=0.2", "fr, zh-CN;q=0.9, en;q=0.8", "zh;q=1"):
        assert "zh" == preferred(chinese)
    for english in ("", "fr", "zh;q=0", "en, zh", "zh;q=x"):
        assert "en" == preferred(english)


def test_language(served: Console, anna: requests.Session) -> None:
    """The language is the choice at the top of a page, else the user's, else the browser's. The
    choice works before the login, too.
    """
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


def test_health_is_answered_beside_slow_pages(served: Console, anna: requests.Session) -> None:
    """`/healthz` is answered while slow pages hold every thread."""
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


def test_form_above_the_limit(served: Console, anna: requests.Session) -> None:
    """A form above the limit is refused with 413."""
    form = {"csrf": served.csrf(anna), "x": "x" * 300_000}

    reply = ask(served, "POST", "/account/language", anna, form, Origin=served.origin)

    assert 413 == reply.status_code


def test_state_that_is_gone(tmp_path: Path) -> None:
    """Pages and the API answer with 503 and the time of the next try. The error page has the
    stylesheet.
    """
    with console(tmp_path) as served:
        (tmp_path / "state.db").write_bytes(b"no database" * 100)
        page = ask(served, "GET", "/account", Cookie=f"{cookie_name(served.site)}=x")
        document = ask(served, "GET", "/api/v1/status", Authorization="Bearer cf_x")

        assert (503, 503) == (page.status_code, document.status_code)
        assert "30" == page.headers["Retry-After"]
        assert "Traceback" not in page.text
        assert "console.css" in page.text
        assert document.json()["error"]["code"].startswith("state")


def test_state_that_comes_back(tmp_path: Path) -> None:
    """While the state is away, pages answer with 503, and no other state is created. Afterwards,
    the session goes on.
    """
    with console(tmp_path) as served:
        served.add_user()
        browser, state = served.logged_in(), tmp_path / "state.db"
        assert 200 == ask(served, "GET", "/account", browser).status_code

        state.rename(tmp_path / "away")
        closed = [ask(served, "GET", path, browser) for path in ("/account", "/", "/healthz")]
        assert 3 * [503] == [reply.status_code for reply in closed]
        assert "state.db is gone" in closed[0].text
        assert not state.exists()

        (tmp_path / "away").rename(state)
        assert 200 == ask(served, "GET", "/account", browser).status_code


@pytest.mark.parametrize(
    ("raised", "status", "words"),
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
    words: str,
    served: Console,
    anna: requests.Session,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The page has the reason within the frame of all pages, and the API has a document. Only a bug
    of certferry is logged.
    """

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
    assert words in page["body"]
    assert "<nav" in page["body"]
    assert {"code", "message", "hint"} == json.loads(document["body"])["error"].keys()
    assert "planted" not in page["body"] + document["body"]
    assert ("planted" in caplog.text) == isinstance(raised, ValueError)
