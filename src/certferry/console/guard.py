"""The guard before every route: it identifies the user, refuses requests sent from foreign pages,
and adds headers to every answer.

Routes need a login, except `OPEN`, and `/metrics` in the case of `_may_read_metrics`. A login is a
session, a user named by the proxy at the unix socket, or a token for the API. The user and the role
are read from the state at each request.

A change by a browser needs the console's own `Origin`, and after the login also the form token of
the session. After the login a change needs the role of an operator, unless it concerns only the
visitor's account (`FOR_VIEWERS`). A proxy's headers count only from a trusted proxy.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from functools import cache
from hashlib import sha256
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from msgspec import Struct
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from certferry.config.model import ConsoleSettings
from certferry.console.refusals import PageRefused, is_for_programs, refusal
from certferry.console.site import Site, Visitor, path_of, site_of
from certferry.core.access import SESSION_LONGEST, TOKEN, User, digest_of_secret
from certferry.core.network import is_loopback
from certferry.present.language import ENGLISH, LANGUAGES
from certferry.text import Text

OPEN = ("/login", "/welcome/", "/healthz", "/static/")
"""Paths that need no login. A path that ends with `/` stands for all paths below. `/metrics` has a
rule of its own (`_may_read_metrics`).
"""

FOR_VIEWERS = ("/logout", "/account/")
"""Paths where a viewer may make changes, because they concern only the viewer's own account."""

READING = frozenset({"GET", "HEAD"})
LARGEST_BODY = 256 * 1024  # bytes; enough for a run naming 5,000 certificates
_YEAR = 365 * 24 * 3600

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    # With `no-referrer` Chromium sends `Origin: null` with forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}


# --- cookies


def cookie_name(site: Site, purpose: str = "") -> str:
    """Return the name of a cookie of the console. The cookie without a `purpose` has the session.

    The name contains the console's port and prefix: all ports of a host share cookies (RFC 6265
    §8.5), and two consoles on a host need different cookies. With HTTPS the name begins with
    `__Host-`: browsers accept such a cookie only by HTTPS and from exactly this host
    (draft-ietf-httpbis-rfc6265bis).
    """
    port = urlsplit(site.workspace().settings.console.base).port
    parts = ("certferry", purpose, str(port or ""), *site.prefix.split("/"))
    return ("__Host-" if site.is_https else "") + "-".join(filter(None, parts))


def set_cookie(response: Response, site: Site, purpose: str, value: str, seconds: int) -> None:
    """Make the browser store a cookie for `seconds`, or delete the cookie if `seconds` is 0.

    The cookie is `Lax`, so a link in a message opens the page without a new login. From a foreign
    page the browser sends a `Lax` cookie only when the user follows a link (GET), which changes
    nothing.
    """
    name = cookie_name(site, purpose)
    response.set_cookie(name, value, seconds, secure=site.is_https, httponly=True, samesite="lax")


def start_session(response: Response, request: Request, secret: str) -> None:
    """Make the browser store the session's secret."""
    set_cookie(response, site_of(request), "", secret, int(SESSION_LONGEST.total_seconds()))


def form_token(secret: str) -> str:
    """Return the token for a browser's forms, made from the secret in the browser's cookie. A
    foreign page does not know the secret, and so not the token.
    """
    return hmac.new(secret.encode(), b"forms", sha256).hexdigest()


# --- origin of the request


class Peer(Struct, frozen=True):
    """The client that sent a request, as far as the connection and trusted headers show."""

    #: The client's address; `None` if the connection uses the unix socket and no header names an
    #: address.
    address: str | None
    #: Whether a trusted proxy passes the request on.
    is_trusted: bool
    #: Whether the connection uses the unix socket.
    is_unix: bool


@cache
def _networks(
    networks: tuple[str, ...],
) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(network, strict=False) for network in networks)


_WITH_PORT = re.compile(r"^(?:([\d.]+):\d+|\[([^\]]*)\](?::\d+)?)$")
"""Matches an address with a port, as some proxies write addresses. The port is dropped, because
each connection of a client has another port.
"""


def _is_proxy(address: str, console: ConsoleSettings) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(parsed in network for network in _networks(tuple(console.trusted_proxies)))


def peer_of(request: Request, console: ConsoleSettings) -> Peer:
    """Return the peer of a request. Behind trusted proxies, the peer's address is the last address
    in `X-Forwarded-For` that belongs to no trusted proxy.

    A proxy is trusted if its address is in `trusted_proxies`, or if it uses the unix socket: the
    socket's permissions decide who connects.
    """
    server = request.scope.get("server")
    is_unix = server is not None and server[1] is None
    connected = None if is_unix or request.client is None else request.client.host
    if not is_unix and not (connected and _is_proxy(connected, console)):
        return Peer(connected, is_trusted=False, is_unix=False)
    passed = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    hops = [_WITH_PORT.sub(r"\1\2", hop.strip()) for hop in passed if hop.strip()]
    while hops and _is_proxy(hops[-1], console):
        hops.pop()
    return Peer(hops[-1] if hops else connected, is_trusted=True, is_unix=is_unix)


def _origin(scheme: str, host: str) -> str:
    """Return an origin in the form that browsers send, without the scheme's default port (RFC 6454
    §6.2).
    """
    usual = {"https": ":443", "http": ":80"}.get(scheme, "")
    return f"{scheme}://{host.lower().removesuffix(usual)}"


def _must_be_our_host(request: Request, console: ConsoleSettings, peer: Peer) -> None:
    """Raise `PageRefused` for a request whose `Host` is neither the host in `url` nor an address at
    which the console listens. From a trusted proxy, `X-Forwarded-Host` counts too. Without this
    check, a foreign page could make its own name resolve to this machine (DNS rebinding).
    """
    ours = urlsplit(console.base)
    names = {_origin(ours.scheme, ours.netloc), *_listened_at(request, ours.scheme)}
    asked = request.headers.getlist("host")
    if peer.is_trusted:
        asked += request.headers.getlist("x-forwarded-host")
    if not any(_origin(ours.scheme, host.strip()) in names for host in asked):
        raise PageRefused(421)


def _listened_at(request: Request, scheme: str) -> frozenset[str]:
    host, port = request.scope.get("server") or ("localhost", None)
    if port is None:
        return frozenset({_origin(scheme, "localhost")})
    named = {f"[{host}]" if ":" in host else host}
    if is_loopback(host):
        named.add("localhost")
    return frozenset(_origin(scheme, f"{name}:{port}") for name in named)


def _must_be_our_origin(request: Request, console: ConsoleSettings) -> None:
    """Raise `PageRefused` for a change sent from a foreign page: a change whose `Origin` is not the
    console's URL. If the file has no `url`, the address at which the console listens counts as
    well, also under the name localhost.
    """
    ours = urlsplit(console.base)
    origins = {_origin(ours.scheme, ours.netloc)}
    if console.url is None:
        origins |= _listened_at(request, ours.scheme)
    sent = request.headers.getlist("origin")
    if len(sent) != 1 or sent[0] not in origins:
        raise PageRefused(
            403,
            Text("the request was not sent from this console"),
            Text(
                "open {url}; if browsers use another address, write that as `url` under [console]",
                url=console.base,
            ),
        )


# --- user of the request


def _user_of_proxy(request: Request, console: ConsoleSettings, peer: Peer) -> User | None:
    """Return the user that the proxy at the unix socket names in `user_header`. Return `None` for
    another connection, without this setting, and without a name. Raises `PageRefused` for an
    unknown user, and for several names.
    """
    if console.user_header is None or not peer.is_unix:
        return None
    named = [name.strip() for name in request.headers.getlist(console.user_header)]
    if not any(named):
        return None
    user = site_of(request).workspace().state.user(named[0]) if len(named) == 1 else None
    if user is None:
        raise PageRefused(
            403,
            Text("the proxy passed a user name that does not exist in certferry"),
            Text("add the user on the server: `certferry console user add NAME`"),
        )
    return user


def _by_browser(request: Request, console: ConsoleSettings, peer: Peer) -> Visitor | None:
    """Return the user named by the proxy, or else the user of the browser's session, or `None`.

    A browser whose user the proxy names needs no session. Such a browser gets a cookie with a
    secret, from which the token of its forms is made.
    """
    site = site_of(request)
    secret = request.cookies.get(cookie_name(site), "")
    user = _user_of_proxy(request, console, peer)
    if user is not None:
        if not secret:
            secret = request.state.new_secret = secrets.token_urlsafe(32)
        return Visitor(user, form_token(secret))
    if not secret:
        return None
    session = site.workspace().state.session(digest_of_secret(secret), site.now())
    return None if session is None else Visitor(session[1], form_token(secret), session[0].digest)


def _bearer(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    is_ours = scheme.lower() == "bearer" and value.strip().startswith(TOKEN)
    return value.strip() if is_ours else None


def _by_token(request: Request, secret: str) -> Visitor | None:
    site = site_of(request)
    token = site.workspace().state.token(digest_of_secret(secret), site.now())
    if token is None:
        return None
    return Visitor(User(f"token {token.name}", token.role, token.made_at), csrf="")


def _may_read_metrics(request: Request, console: ConsoleSettings, peer: Peer) -> bool:
    """Return whether `/metrics` may be read without a token: by a program of this machine that
    sends the request itself. A request that a proxy may have passed on is refused, because a proxy
    on this machine may pass on requests from anywhere.
    """
    passes_on = {"forwarded", "via", "x-forwarded-for", "x-real-ip"} & {*request.headers}
    is_local = peer.address is not None and is_loopback(peer.address)
    return is_local and not console.trusted_proxies and not passes_on


def who_asks(request: Request) -> Visitor | None:
    """Return the visitor of a request, with the role now in the state; `None` without a login.
    Raises `StateError`, and `PageRefused` if the proxy names an unknown user.
    """
    console = site_of(request).workspace().settings.console
    peer = peer_of(request, console)
    secret = _bearer(request) if is_for_programs(path_of(request)) else None
    if secret is not None:
        return _by_token(request, secret)
    if path_of(request) == "/metrics":
        return None
    return _by_browser(request, console, peer)


def is_still_in(request: Request) -> bool:
    """Return whether the visitor of a stream may still read: the visitor is still logged in, and
    has the role that the visitor had at the beginning of the stream.
    """
    before, now = request.state.visitor, who_asks(request)
    return now is not None and (now.user.name, now.user.role) == (
        before.user.name,
        before.user.role,
    )


def is_open(path: str) -> bool:
    """Return whether a path is answered without a login (`OPEN`)."""
    return any(
        path.startswith(open_path) if open_path.endswith("/") else path == open_path
        for open_path in OPEN
    )


# --- languages


def language_of(request: Request, user: User | None) -> str:
    """Return the language of the answer: the language chosen in this browser (a cookie), else the
    language stored for the user, else the language that the browser prefers.
    """
    chosen = request.cookies.get(cookie_name(site_of(request), "language"))
    for language in (chosen, None if user is None else user.language):
        if language in LANGUAGES:
            return language
    return preferred(request.headers.get("accept-language", ""))


def preferred(accepted: str) -> str:
    """Return the supported language that a browser prefers (RFC 9110 §12.5.4), or else English."""
    weights: dict[str, float] = {}
    for part in accepted.split(",")[:20]:
        named, _, weight = part.partition(";")
        language = named.strip().lower().partition("-")[0]
        try:
            wanted = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if language in LANGUAGES:
            weights[language] = max(wanted, weights.get(language, 0))
    best = max(weights, key=lambda code: weights[code], default=ENGLISH)
    return best if weights.get(best, 0) > 0 else ENGLISH


# --- our own pages


def own_page(app: Starlette, address: str) -> str | None:
    """Return `address`, a path with a query, if the path leads to a page of the console that needs
    a login. Otherwise return `None`, so a redirect never leads to another site.
    """
    path, _, query = address.partition("?")
    path = unquote(path)
    if not path.startswith("/") or path.startswith(("//", "/\\")) or not path.isprintable():
        return None
    if is_for_programs(path) or is_open(path):
        return None
    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    if not any(route.matches(scope)[0] is Match.FULL for route in app.router.routes):
        return None
    return quote(path) + (f"?{quote(query, safe='=&%+:,/-._~')}" if query else "")


def within(path: str, prefix: str) -> str:
    """Return a path without the console's prefix, which a proxy may already have removed."""
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        path = path.removeprefix(prefix)
    return path or "/"


# --- the guard itself


class AccessGuard:
    """The application with the guard in front, as an ASGI application."""

    def __init__(self, app: Starlette, site: Site) -> None:
        self.app = app
        self.site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse the request. See the ASGI specification."""
        if scope["type"] != "http":
            return
        path = within(scope["path"], self.site.prefix)
        scope = {**scope, "app": self.app, "path": path, "raw_path": quote(path).encode()}
        scope |= {"root_path": "", "state": {"visitor": None, "language": ENGLISH}}
        request = Request(scope, receive)
        answering = _Answering(request, send)
        try:
            body = b"" if request.method in READING else await _body_of(request)
            if path == "/healthz":  # not in a thread, because slow pages may hold every thread
                instead = self._admit(request, body)
            else:
                instead = await run_in_threadpool(self._admit, request, body)
            if instead is None:
                await self.app(scope, _replayed(body, receive), answering.send)
            else:
                await instead(scope, receive, answering.send)
        except ClientDisconnect:
            return
        except Exception as error:
            if answering.has_begun and not answering.has_ended:
                raise
            if not answering.has_begun:
                await refusal(request, error)(scope, receive, answering.send)

    def _admit(self, request: Request, body: bytes) -> Response | None:
        """Identify the visitor, and check that the request is allowed. Return a redirect to send in
        place of the page, or `None` to answer by the page. Raises `PageRefused` and `StateError`.
        """
        path, console = path_of(request), self.site.workspace().settings.console
        peer = peer_of(request, console)
        request.state.address = peer.address
        request.state.language = language_of(request, None)
        is_by_token = is_for_programs(path) and _bearer(request) is not None
        # Monitors use the machine's own name, which may differ from `url`.
        if path != "/healthz" and not (path == "/metrics" and is_by_token):
            _must_be_our_host(request, console, peer)
        if request.method not in READING and not is_by_token:
            _must_be_our_origin(request, console)
        if path.startswith("/static/") or path == "/healthz":
            return None
        visitor = request.state.visitor = who_asks(request)
        user = None if visitor is None else visitor.user
        request.state.language = language_of(request, user)
        chosen = request.query_params.get("lang")
        if request.method == "GET" and chosen in LANGUAGES and not is_for_programs(path):
            return self._in_language(request, chosen)
        if is_open(path) or (path == "/metrics" and _may_read_metrics(request, console, peer)):
            return None
        if visitor is None:
            return self._to_login(request)
        if request.method not in READING:
            _must_be_allowed(request, visitor, body, is_by_token=is_by_token)
        return None

    def _in_language(self, request: Request, language: str) -> Response:
        """Return a redirect to the same page, or else to the first page, and make the browser store
        the language.
        """
        query = request.query_params.multi_items()
        rest = urlencode([(name, value) for name, value in query if name != "lang"])
        path = quote(path_of(request))
        page = path if is_open(path) else own_page(self.app, path) or "/"
        target = self.site.prefix + page + (f"?{rest}" if rest else "")
        response = RedirectResponse(target, 303)
        set_cookie(response, self.site, "language", language, _YEAR)
        return response

    def _to_login(self, request: Request) -> Response:
        """Return a redirect to the login, which leads back to the page afterwards. Raises
        `PageRefused` on a path for programs.
        """
        path = path_of(request)
        if is_for_programs(path):
            raise PageRefused(401, headers={"WWW-Authenticate": "Bearer"})
        asked = f"{quote(path)}?{request.scope['query_string'].decode('latin-1')}"
        is_partial = "hx-request" in request.headers
        if is_partial:  # otherwise htmx would show the login inside the page
            shown = request.headers.get("hx-current-url", "").partition("#")[0].partition("//")[2]
            path, mark, query = f"/{shown.partition('/')[2]}".partition("?")
            asked = within(path, self.site.prefix) + mark + query
        back = own_page(self.app, asked) if request.method == "GET" else None
        query = f"?{urlencode({'next': back})}" if back not in {None, "/"} else ""
        target = f"{self.site.prefix}/login{query}"
        if is_partial:
            return Response(status_code=401, headers={"HX-Redirect": target})
        return RedirectResponse(target, 303)


def _must_be_allowed(request: Request, visitor: Visitor, body: bytes, *, is_by_token: bool) -> None:
    """Raise `PageRefused` for a browser's change without the form token of the session, and for a
    change that a viewer may not make.
    """
    if not is_by_token:
        sent = request.headers.get("x-csrf-token") or _field(request, body, "csrf")
        if not hmac.compare_digest(sent.encode(), visitor.csrf.encode()):
            raise PageRefused(
                403,
                Text("the form has expired, or belongs to another session"),
                Text("go back, reload the page, and try again"),
            )
    path = path_of(request)
    is_own = any(
        path.startswith(own_path) if own_path.endswith("/") else path == own_path
        for own_path in FOR_VIEWERS
    )
    if not visitor.may_start and not is_own:
        raise PageRefused(
            403,
            Text(
                "{name} is a viewer, and viewers cannot start or change anything",
                name=visitor.user.name,
            ),
            Text("use an operator's token: `certferry console token add NAME`")
            if is_by_token
            else Text("to let this user start runs: `certferry console user role NAME operator`"),
        )


def _field(request: Request, body: bytes, name: str) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return ""
    try:
        return parse_qs(body.decode(), max_num_fields=1000).get(name, [""])[0]
    except ValueError as error:
        raise PageRefused(400) from error


async def _body_of(request: Request) -> bytes:
    """Read the body of a request. Raises `PageRefused` if the body is too large."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            raise PageRefused(413, headers={"Connection": "close"})
        parts.append(part)
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` for the application, which gives the body already read, and then the later
    messages of the connection.
    """
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


class _Answering:
    """Sends an answer with the headers common to all answers."""

    def __init__(self, request: Request, send: Send) -> None:
        self._request = request
        self._send = send
        self.has_begun = self.has_ended = False

    async def send(self, message: Message) -> None:
        """See the ASGI specification."""
        if message["type"] == "http.response.start":
            self.has_begun = True
            message = {**message, "headers": [*message["headers"], *self._added(message)]}
        elif not message.get("more_body", False):
            self.has_ended = True
        await self._send(message)

    def _added(self, message: Message) -> list[tuple[bytes, bytes]]:
        site = site_of(self._request)
        added = {**_HEADERS, "cache-control": "no-store"}
        if site.is_https:
            added |= {"strict-transport-security": f"max-age={_YEAR}"}
        new_secret = getattr(self._request.state, "new_secret", None)
        if new_secret is not None:
            carrier = Response()
            start_session(carrier, self._request, new_secret)
            added |= {"set-cookie": carrier.headers["set-cookie"]}
        present = {name.lower() for name, _ in message["headers"]} - {b"set-cookie"}
        encoded = [(name.encode(), value.encode()) for name, value in added.items()]
        return [(name, value) for name, value in encoded if name not in present]
