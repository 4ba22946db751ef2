"""Login, logout, the link where a user chooses a password, and a user's own account.

A guess is counted before anything is verified: for its address, and for the name. An attacker who
goes on guessing at anna's password blocks logins under her name, and yet does not lock her out: a
browser in which she was logged in since she chose that password is counted apart, and the link of
`certferry console user reset` is not counted at all.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256

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
from certferry.wiring.passwords import hashed, is_password, keep_access

_log = logging.getLogger(__name__)

PER_ADDRESS, PER_NAME = 20, 10
"""Guesses in a quarter of an hour. An office may be one address."""

WAIT = timedelta(minutes=15)
REFUSED_FOR = timedelta(seconds=30)
"""For how long a guess too many is refused without a word to the state, which runs need as well."""

AT_ONCE, MOST_WAITING = 2, 20
"""Passwords that are verified at one time: each takes memory and a core. So many logins wait in the
event loop, where they hold no thread that pages need: a second's worth, so that a flood of guesses
cannot make anyone wait for longer.
"""

_KNOWN = "known"
_KNOWN_FOR = 365 * 24 * 3600  # seconds


# --- guesses


class Guesses:
    """Counts guesses, and refuses one too many. Safe to use from any thread."""

    def __init__(self) -> None:
        self._refused: dict[str, datetime] = {}
        self._guard = threading.Lock()

    def count(self, request: Request, whose: dict[str, int]) -> datetime:
        """Count a guess of each, and return when; raise `PageRefused` if one of them has made too
        many.
        """
        now = site_of(request).now()
        state = site_of(request).workspace().state
        if not any(self._is_refused(one, now) for one in whose):
            # Each is counted, also when an earlier one is over.
            over = [one for one, most in whose.items() if state.count_guess(one, now) > most]
            with self._guard:
                self._refused |= dict.fromkeys(over, now + REFUSED_FOR)
            if not over:
                return now
        raise PageRefused(
            429,
            Text("too many tries to log in"),
            Text(
                "wait {duration}; or use the link of `certferry console user reset NAME`",
                duration=WAIT,
            ),
            {"Retry-After": str(int(WAIT.total_seconds()))},
        )

    def _is_refused(self, whose: str, now: datetime) -> bool:
        with self._guard:
            self._refused = {one: until for one, until in self._refused.items() if until > now}
            return whose in self._refused


class Turns:
    """Who verifies a password next. Belongs to the event loop."""

    def __init__(self) -> None:
        self._all, self._strangers = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self, *, is_known: bool) -> AsyncIterator[None]:
        """Wait for a turn, and hold it for a `with` block. Those who are known wait for `AT_ONCE`
        strangers at most. Raises `PageRefused` where too many strangers wait.
        """
        if is_known:
            async with self._all:
                yield
            return
        if self._waiting >= MOST_WAITING:
            said = Text("too many tries to log in come at this moment")
            hint = Text("try again in a few seconds")
            raise PageRefused(503, said, hint, {"Retry-After": "2"})
        self._waiting += 1
        try:
            async with self._strangers, self._all:
                yield
        finally:
            self._waiting -= 1


def with_password(
    page: Callable[[Request, FormData], Response], is_known: Callable[[Request, FormData], bool]
) -> Callable[[Request], Awaitable[Response]]:
    """Make a route of a function that verifies or stores a password, in its turn."""

    async def route(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=1000) as form:
            known = await run_in_threadpool(is_known, request, form)
            turns: Turns = request.app.state.turns
            async with turns.turn(is_known=known):
                return await run_in_threadpool(page, request, form)

    return route


def counted_as(address: str | None) -> str:
    """Return as what an address is counted: IPv6 by its network, of which a host has all."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return f"address {(address or 'unix')[:64]}"
    found = getattr(found, "ipv4_mapped", None) or found
    if found.version == 6:  # noqa: PLR2004 - IP's versions
        return f"address {ipaddress.ip_network((found, 64), strict=False)}"
    return f"address {found}"


def known_mark(user: access.User) -> str:
    """Return what a browser keeps in which a user was logged in: it is good until they choose
    another password, and proves nothing but that.
    """
    key = (user.password or "").encode()
    return hmac.new(key, f"known {user.name.lower()}".encode(), sha256).hexdigest()


def _mark_of(request: Request, user: access.User | None) -> str | None:
    """Return the mark of a browser in which this user was logged in, `None` of any other."""
    mark = request.cookies.get(cookie_name(site_of(request), _KNOWN), "")
    if user is None or user.password is None:
        return None
    return mark if hmac.compare_digest(mark.encode(), known_mark(user).encode()) else None


def _is_right(request: Request, name: str, password: str, user: access.User | None) -> bool:
    """Verify a password, after the guess was counted. Raises `PageRefused`."""
    mark = _mark_of(request, user)
    is_known = mark is not None
    address, named = counted_as(request.state.address), name.lower() if access.is_name(name) else ""
    own = f"name {named}" if mark is None else f"browser {access.digest_of_secret(mark)}"
    guesses: Guesses = request.app.state.guesses
    whose = {own: PER_NAME} if is_known else {address: PER_ADDRESS, own: PER_NAME}
    counted_at = guesses.count(request, whose)
    stored = None if user is None else user.password
    is_right = len(password) <= access.LONGEST_PASSWORD and is_password(password, stored)
    if is_right:
        state = site_of(request).workspace().state
        state.forget_guesses(own)
        if not is_known:
            state.take_back_guess(address, counted_at)
    return is_right


# --- login and logout


def login(request: Request) -> Response:
    """Show the form; a user who is logged in gets on."""
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


def _is_known_browser(request: Request, form: FormData) -> bool:
    return _mark_of(request, _user_in(request, form)) is not None


def log_in(request: Request, form: FormData) -> Response:
    """Begin a session, if name and password are a user's. Raises `PageRefused`."""
    name, password = _words(form, "name").strip(), _words(form, "password")
    back = own_page(request.app, _words(form, "next")) or "/"
    user = _user_in(request, form)
    if not _is_right(request, name, password, user) or user is None:
        # Not the name: it may be a password, in the wrong field.
        _log.warning(Text("login refused from {address}", address=request.state.address or "unix"))
        return _login_form(request, back, name, Text("the name or the password is wrong"))
    return _begun(request, user, back)


def _words(form: FormData, name: str) -> str:
    found = form.get(name)
    return found if isinstance(found, str) else ""


def _begun(request: Request, user: access.User, back: str) -> Response:
    """Begin a session of a user, in place of the one that the browser has."""
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
    set_cookie(response, site, _KNOWN, known_mark(user), _KNOWN_FOR)
    if user.language is not None:
        set_cookie(response, site, "language", "", 0)
    return response


def log_out(request: Request) -> Response:
    """End the session."""
    site, visitor = site_of(request), visitor_of(request)
    if visitor.session is not None:
        site.workspace().state.end_session(visitor.session)
    response = RedirectResponse(link(request, "/login"), 303)
    set_cookie(response, site, "", "", 0)
    return response


# --- the link where a password is chosen


def welcome(request: Request) -> Response:
    """Show the form of a link that is good; to open it does not spend it."""
    return _welcome_form(request, _user_of_link(request))


def _user_of_link(request: Request) -> str:
    site = site_of(request)
    digest = access.digest_of_secret(request.path_params["token"])
    found = site.workspace().state.link(digest, site.now())
    if found is None:
        raise _link_is_over()
    return found.user


def _has_link(request: Request, form: FormData) -> bool:
    del form
    return bool(_user_of_link(request))


def _link_is_over() -> PageRefused:
    return PageRefused(
        410,
        Text("this link is not good any more: it was used, replaced, or is older than an hour"),
        Text("`certferry console user reset NAME` prints another one"),
    )


def _welcome_form(request: Request, name: str, problem: Text | None = None) -> Response:
    status = 200 if problem is None else 422
    return render(request, "welcome.html", status=status, name=name, problem=problem)


def choose_password(request: Request, form: FormData) -> Response:
    """Store the chosen password, which spends the link, and log in. Raises `PageRefused`."""
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
    """Return why a password cannot be chosen, if it cannot."""
    if chosen != again:
        return Text("the two passwords are not the same")
    return access.password_mistake(chosen, name)


# --- a user's own account


_DONE = {
    "password": Text("the password is changed; every other browser is logged out"),
    "language": Text("the language is stored"),
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


def _has_session(request: Request, form: FormData) -> bool:
    del form
    return visitor_of(request).session is not None


def change_password(request: Request, form: FormData) -> Response:
    """Store another password, which ends the user's sessions: also this one, whose cookie may have
    been copied, in favour of a new one. Raises `PageRefused`.
    """
    visitor, site = visitor_of(request), site_of(request)
    if visitor.session is None:
        raise PageRefused(403, Text("the proxy logs you in, without a password"))
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
    """Store which language the user reads; none: what their browsers ask for."""
    chosen = _words(form, "language")
    known = chosen if chosen in dict(LANGUAGE_NAMES) else None
    site = site_of(request)
    site.workspace().state.change_language(visitor_of(request).user.name, known)
    response = RedirectResponse(link(request, "/account?done=language"), 303)
    set_cookie(response, site, "language", "", 0)
    return response


def log_out_everywhere(request: Request) -> Response:
    """End every session of the user, this one as well."""
    site = site_of(request)
    site.workspace().state.end_sessions(visitor_of(request).user.name)
    response = RedirectResponse(link(request, "/login"), 303)
    set_cookie(response, site, "", "", 0)
    return response


ROUTES = (
    Route("/login", login, name="login"),
    Route("/login", with_password(log_in, _is_known_browser), methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
    Route("/welcome/{token}", welcome, name="welcome"),
    Route("/welcome/{token}", with_password(choose_password, _has_link), methods=["POST"]),
    Route("/account", account, name="account"),
    Route("/account/password", with_password(change_password, _has_session), methods=["POST"]),
    Route("/account/language", with_form(change_language), methods=["POST"]),
    Route("/account/sessions", log_out_everywhere, methods=["POST"]),
)
