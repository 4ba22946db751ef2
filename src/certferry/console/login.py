"""Login, logout, the link for choosing a password, and a user's own account.

Every password that is sent for verification is counted first, as a guess: by the client's address
and by the user's name. So an attacker who tries passwords for anna also blocks anna's own logins.
Anna's sessions go on, and the link of `certferry console user reset` still works.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from certferry.console.guard import cookie_name, own_page, set_cookie, start_session
from certferry.console.refusals import PageRefused
from certferry.console.site import LANGUAGE_NAMES, link, render, site_of, visitor_of, with_form
from certferry.core import access
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.passwords import hashed, is_password, keep_access

_log = logging.getLogger(__name__)

PER_ADDRESS, PER_NAME = 20, 10
"""The most guesses within `WAIT` from an address, and for a name. More are allowed from an address,
because an office may share one address.
"""

WAIT = timedelta(minutes=15)
REFUSED_FOR = timedelta(seconds=30)
"""How long further guesses are refused without asking the state, after a guess above the maximum:
many guesses must not slow down the runs, which need the state too.
"""

AT_ONCE, MOST_WAITING = 2, 20
"""The most passwords verified at once, because each takes memory and a core; and the most requests
that wait for a turn or have one, about a second's work. Requests wait in the event loop, so other
pages keep their threads.
"""


# --- guesses


class Guesses:
    """Counts guesses in the state, and refuses guesses above the maximum. Safe to use from any
    thread.
    """

    def __init__(self) -> None:
        self._refused: dict[str, datetime] = {}
        self._guard = threading.Lock()

    def count(self, request: Request, whose: dict[str, int]) -> datetime:
        """Count a guess under each key of `whose`, and return the time of the guess. The values of
        `whose` are the maximum counts.

        Raises `PageRefused` if a count is above its maximum. For `REFUSED_FOR` after such a
        refusal, guesses under the key are refused without counting.
        """
        now = site_of(request).now()
        state = site_of(request).workspace().state
        if not any(self._is_refused(key, now) for key in whose):
            # A list, so that every key is counted, also after a key above the maximum.
            over = [key for key, most in whose.items() if state.count_guess(key, now) > most]
            with self._guard:
                self._refused |= dict.fromkeys(over, now + REFUSED_FOR)
            if not over:
                return now
        raise PageRefused(
            429,
            Text("too many login attempts"),
            Text(
                "wait {duration}, or use the link that `certferry console user reset NAME` prints"
                " on the server",
                duration=WAIT,
            ),
            {"Retry-After": str(int(WAIT.total_seconds()))},
        )

    def _is_refused(self, whose: str, now: datetime) -> bool:
        with self._guard:
            self._refused = {key: until for key, until in self._refused.items() if until > now}
            return whose in self._refused


class Turns:
    """Limits how many passwords are verified at once. Only the event loop's thread may use this
    class.
    """

    def __init__(self) -> None:
        self._verifying = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold the turn for a `with` block. Raises `PageRefused` if too many
        requests wait.
        """
        if self._waiting >= MOST_WAITING:
            message = Text("too many people are logging in right now")
            hint = Text("try again in a few seconds")
            raise PageRefused(503, message, hint, {"Retry-After": "2"})
        self._waiting += 1
        try:
            async with self._verifying:
                yield
        finally:
            self._waiting -= 1


def with_password(
    page: Callable[[Request, FormData], Response],
) -> Callable[[Request], Awaitable[Response]]:
    """Make a route of a function that verifies or stores a password. The function gets the request
    and its form, and runs in a thread when its turn comes (`Turns`).
    """

    async def route(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=1000) as form:
            turns: Turns = request.app.state.turns
            async with turns.turn():
                return await run_in_threadpool(page, request, form)

    return route


def counted_as(address: str | None) -> str:
    """Return the key under which the guesses from an address are counted. An IPv6 address counts as
    its /64 network, because a single host may use every address of the network. `None` stands for
    the unix socket.
    """
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return f"address {(address or 'unix')[:64]}"
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    if parsed.version == 6:  # noqa: PLR2004 - IP's versions
        return f"address {ipaddress.ip_network((parsed, 64), strict=False)}"
    return f"address {parsed}"


def _is_right(request: Request, name: str, password: str, user: access.User | None) -> bool:
    """Count a guess, and return whether the password is the user's. If so, take the guess back from
    the address, and forget all guesses for the name. Raises `PageRefused` above a maximum.
    """
    address = counted_as(request.state.address)
    named = f"name {name.lower() if access.is_name(name) else ''}"
    guesses: Guesses = request.app.state.guesses
    counted_at = guesses.count(request, {address: PER_ADDRESS, named: PER_NAME})
    stored = None if user is None else user.password
    is_right = len(password) <= access.LONGEST_PASSWORD and is_password(password, stored)
    if is_right:
        state = site_of(request).workspace().state
        state.forget_guesses(named)
        state.take_back_guess(address, counted_at)
    return is_right


# --- login and logout


def login(request: Request) -> Response:
    """Show the login form. A logged-in user is redirected to the page named in the query's `next`,
    or else to the first page.
    """
    back = own_page(request.app, request.query_params.get("next", "")) or "/"
    if request.state.visitor is not None:
        return RedirectResponse(link(request, back), 303)
    return _login_form(request, back)


def _login_form(
    request: Request, back: str, name: str = "", problem: Text | None = None
) -> Response:
    status = 200 if problem is None else 403
    return render(
        request,
        "login.html",
        status=status,
        back=back,
        name=name,
        problem=problem,
        has_users=bool(site_of(request).workspace().state.users()),
    )


def _user_in(request: Request, form: FormData) -> access.User | None:
    name = _words(form, "name").strip()
    return site_of(request).workspace().state.user(name) if access.is_name(name) else None


def log_in(request: Request, form: FormData) -> Response:
    """Begin a session if the name and the password match, and redirect; otherwise show the form
    again. Raises `PageRefused` after too many guesses.
    """
    name, password = _words(form, "name").strip(), _words(form, "password")
    back = own_page(request.app, _words(form, "next")) or "/"
    user = _user_in(request, form)
    if not _is_right(request, name, password, user) or user is None:
        # The log omits the name, because users sometimes type the password into the name's field.
        _log.warning(Text("login refused from {address}", address=request.state.address or "unix"))
        return _login_form(request, back, name, Text("wrong user name or password"))
    return _begun(request, user, back)


def _words(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _begun(request: Request, user: access.User, back: str) -> Response:
    """Begin a session in place of the browser's earlier session, and redirect to `back`."""
    site, secret = site_of(request), secrets.token_urlsafe(32)
    now, state = site.now(), site.workspace().state
    earlier = request.cookies.get(cookie_name(site))
    if earlier:
        state.end_session(access.digest_of_secret(earlier))
    address = request.state.address or ""
    browser = request.headers.get("user-agent", "")[:200]
    state.save_session(
        access.Session(access.digest_of_secret(secret), user.name, now, now, address, browser),
        verified=user.password,
    )
    response = RedirectResponse(link(request, back), 303)
    start_session(response, request, secret)
    if user.language is not None:
        set_cookie(response, site, "language", "", 0)
    return response


def log_out(request: Request) -> Response:
    """End the session, and redirect to the login."""
    site, visitor = site_of(request), visitor_of(request)
    if visitor.session is not None:
        site.workspace().state.end_session(visitor.session)
    response = RedirectResponse(link(request, "/login"), 303)
    set_cookie(response, site, "", "", 0)
    return response


# --- the link where a password is chosen


def welcome(request: Request) -> Response:
    """Show the form for choosing a password. The link still works afterwards. Raises `PageRefused`
    if the link no longer works.
    """
    return _welcome_form(request, _user_of_link(request))


def _user_of_link(request: Request) -> str:
    site = site_of(request)
    digest = access.digest_of_secret(request.path_params["token"])
    password_link = site.workspace().state.link(digest, site.now())
    if password_link is None:
        raise _link_is_over()
    return password_link.user


def _link_is_over() -> PageRefused:
    return PageRefused(
        410,
        Text(
            "this link no longer works: it was used, replaced by a newer link, or is more than an"
            " hour old"
        ),
        Text("`certferry console user reset NAME` prints a new link"),
    )


def _welcome_form(request: Request, name: str, problem: Text | None = None) -> Response:
    status = 200 if problem is None else 422
    return render(request, "welcome.html", status=status, name=name, problem=problem)


def choose_password(request: Request, form: FormData) -> Response:
    """Store the chosen password, after which the link no longer works, and log the user in. For a
    password that cannot be chosen, show the form again. Raises `PageRefused` if the link no longer
    works.
    """
    name, chosen = _user_of_link(request), _words(form, "password")
    problem = _why_not(chosen, _words(form, "again"), name)
    if problem is not None:
        return _welcome_form(request, name, problem)
    site = site_of(request)
    digest = access.digest_of_secret(request.path_params["token"])
    kept = hashed(chosen)
    user = site.workspace().state.choose_password(digest, kept, site.now())
    if user is None:
        raise _link_is_over()
    _keep(request, user, "password chosen")
    return _begun(request, user, "/")


def _keep(request: Request, user: access.User, event: str) -> None:
    state, address = site_of(request).workspace().state, request.state.address or "unix"
    keep_access(state, user.name, event, address=address)


def _why_not(chosen: str, again: str, name: str) -> Text | None:
    """Return the reason why a password cannot be chosen; `None` if the password is fine."""
    if chosen != again:
        return Text("the two passwords do not match")
    return access.password_mistake(chosen, name)


# --- a user's own account


_DONE = {
    "password": Text("password changed; all other browsers have been logged out"),
    "language": Text("language saved"),
}


def account(request: Request) -> Response:
    """Show the account of the user."""
    done = _DONE.get(request.query_params.get("done", ""))
    return _account_page(request, done=done)


def _account_page(
    request: Request, problem: Text | None = None, done: Text | None = None
) -> Response:
    status = 200 if problem is None else 422
    return render(request, "account.html", status=status, problem=problem, done=done)


def change_password(request: Request, form: FormData) -> Response:
    """Store another password of the user, end all sessions of the user, because a cookie may have
    been copied, and begin a new session in this browser.

    If the current password is wrong, or the new password cannot be chosen, change nothing and say
    so on the page. Raises `PageRefused` for a user named by the proxy, and after too many guesses.
    """
    visitor, site = visitor_of(request), site_of(request)
    if visitor.session is None:
        raise PageRefused(403, Text("the proxy logs you in, so there is no password to change"))
    user, chosen = visitor.user, _words(form, "password")
    if not _is_right(request, user.name, _words(form, "current"), user):
        return _account_page(request, Text("the current password is wrong"))
    problem = _why_not(chosen, _words(form, "again"), user.name)
    if problem is not None:
        return _account_page(request, problem)
    kept = hashed(chosen)
    state = site.workspace().state
    state.change_password(user.name, kept, site.now(), visitor.session)
    _keep(request, user, "password changed")
    return _begun(request, replace(user, password=kept), "/account?done=password")


def change_language(request: Request, form: FormData) -> Response:
    """Store the language chosen for the user. With an empty choice, store none: then the browser's
    language counts.
    """
    chosen = _words(form, "language")
    stored = chosen if chosen in dict(LANGUAGE_NAMES) else None
    site = site_of(request)
    site.workspace().state.change_language(visitor_of(request).user.name, stored)
    response = RedirectResponse(link(request, "/account?done=language"), 303)
    set_cookie(response, site, "language", "", 0)
    return response


def log_out_everywhere(request: Request) -> Response:
    """End every session of the user, this session included, and redirect to the login."""
    site = site_of(request)
    site.workspace().state.end_sessions(visitor_of(request).user.name)
    response = RedirectResponse(link(request, "/login"), 303)
    set_cookie(response, site, "", "", 0)
    return response


ROUTES = (
    Route("/login", login, name="login"),
    Route("/login", with_password(log_in), methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
    Route("/welcome/{token}", welcome, name="welcome"),
    Route("/welcome/{token}", with_password(choose_password), methods=["POST"]),
    Route("/account", account, name="account"),
    Route("/account/password", with_password(change_password), methods=["POST"]),
    Route("/account/language", with_form(change_language), methods=["POST"]),
    Route("/account/sessions", log_out_everywhere, methods=["POST"]),
)
