"""Login, logout, the link where a user chooses a password, and a user's own account.

A guess is counted before anything is verified: for its address, and for the name. An attacker who
goes on guessing at anna's password blocks logins under her name, and yet does not lock her out: a
browser in which she was logged in since she chose that password is counted apart, and the link of
`certferry console user reset` is not counted at all.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from hashlib import sha256

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from certferry.console.guard import cookie_name, own_page, set_cookie, start_session
from certferry.console.refusals import PageRefused
from certferry.console.site import LANGUAGE_NAMES, link, render, site_of, visitor_of, with_form
from certferry.core import access
from certferry.text import Text
from certferry.wiring.passwords import hashed, is_password

_log = logging.getLogger(__name__)

PER_ADDRESS, PER_NAME = 20, 10
"""Guesses in a quarter of an hour. An office may be one address."""

WAIT = timedelta(minutes=15)
REFUSED_FOR = timedelta(seconds=30)
"""For how long a guess too many is refused without a word to the state, which runs need as well."""

AT_ONCE = 2
"""Forms with a password that are read at one time: each takes memory and a core. The others wait in
the event loop, so that a flood of them holds no thread that pages need.
"""

_KNOWN = "known"
_KNOWN_FOR = 365 * 24 * 3600  # seconds


# --- guesses


class Guesses:
    """Counts guesses, and refuses one too many. Safe to use from any thread."""

    def __init__(self) -> None:
        self._refused: dict[str, datetime] = {}
        self._guard = threading.Lock()

    def count(self, request: Request, whose: dict[str, int]) -> None:
        """Count a guess of each; raise `PageRefused` if one of them has made too many."""
        now = site_of(request).now()
        state = site_of(request).workspace().state
        if not any(self._is_refused(one, now) for one in whose):
            # Each is counted, also when an earlier one is over.
            over = [one for one, most in whose.items() if state.count_guess(one, now) > most]
            with self._guard:
                self._refused |= dict.fromkeys(over, now + REFUSED_FOR)
            if not over:
                return
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


def with_password(
    page: Callable[[Request, FormData], Response],
) -> Callable[[Request], Awaitable[Response]]:
    """Make a route of a function that verifies or stores a password."""
    route = with_form(page)

    async def in_turn(request: Request) -> Response:
        async with request.app.state.passwords:
            return await route(request)

    return in_turn


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


def _is_right(request: Request, name: str, password: str, user: access.User | None) -> bool:
    """Verify a password, after the guess was counted. Raises `PageRefused`."""
    mark = request.cookies.get(cookie_name(site_of(request), _KNOWN), "")
    is_known = (
        user is not None
        and user.password is not None
        and hmac.compare_digest(mark.encode(), known_mark(user).encode())
    )
    named = name.lower() if access.is_name(name) else ""
    whose = {counted_as(request.state.address): PER_ADDRESS, f"name {named}": PER_NAME}
    if is_known:
        whose = {f"browser {access.digest_of_secret(mark)}": PER_NAME}
    guesses: Guesses = request.app.state.guesses
    guesses.count(request, whose)
    stored = None if user is None else user.password
    is_right = len(password) <= access.LONGEST_PASSWORD and is_password(password, stored)
    if is_right:
        for one in whose:
            site_of(request).workspace().state.forget_guesses(one)
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
    return render(request, "login.html", status=status, back=back, name=name, problem=problem)


def log_in(request: Request, form: FormData) -> Response:
    """Begin a session, if name and password are a user's. Raises `PageRefused`."""
    name, password = _words(form, "name").strip(), _words(form, "password")
    back = own_page(request.app, _words(form, "next")) or "/"
    state = site_of(request).workspace().state
    user = state.user(name) if access.is_name(name) else None
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
        access.Session(access.digest_of_secret(secret), user.name, now, now, address, browser)
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
    return _begun(request, user, "/")


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
    return _begun(request, state.user(user.name) or user, "/account?done=password")


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
    Route("/login", with_password(log_in), methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
    Route("/welcome/{token}", welcome, name="welcome"),
    Route("/welcome/{token}", with_password(choose_password), methods=["POST"]),
    Route("/account", account, name="account"),
    Route("/account/password", with_password(change_password), methods=["POST"]),
    Route("/account/language", with_form(change_language), methods=["POST"]),
    Route("/account/sessions", log_out_everywhere, methods=["POST"]),
)
