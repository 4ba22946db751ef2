"""Build the console's web application: the routes of all pages and of the API, with the guard in
front of them.

The functions of most routes are synchronous, because the engine and the state block; Starlette runs
these functions in threads. Only the guard (`guard.py`) decides which routes need a login.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from certferry.console import (
    accounts,
    api,
    causes,
    certificates,
    discover,
    health,
    history,
    login,
    overview,
    plan,
    runs,
    watched,
)
from certferry.console.guard import AccessGuard
from certferry.console.refusals import PageRefused, refusal
from certferry.console.site import HERE, Site, asset_digest
from certferry.errors import CertferryError

_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def _static_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (HERE / "static").iterdir()}


def static_file(request: Request) -> Response:
    """Return a static file. If the URL has the digest of the current file, browsers may keep the
    file for a year. Raises `HTTPException` for an unknown file.
    """
    name = request.path_params["name"]
    content = _static_files().get(name)
    kind = next((kind for end, kind in _KINDS.items() if name.endswith(end)), None)
    if content is None or kind is None:
        raise HTTPException(404)
    is_current = request.path_params["digest"] == asset_digest(name)
    kept = "public, max-age=31536000, immutable" if is_current else "no-store"
    return Response(content, media_type=kind, headers={"Cache-Control": kept})


ROUTES: Sequence[BaseRoute] = (
    Route("/static/{digest}/{name}", static_file, name="static"),
    *health.ROUTES,
    *login.ROUTES,
    *overview.ROUTES,
    *causes.ROUTES,
    *certificates.ROUTES,
    *watched.ROUTES,
    *plan.ROUTES,
    *runs.ROUTES,
    *api.ROUTES,
    *discover.ROUTES,
    *history.ROUTES,
    *accounts.ROUTES,
)

_EXPECTED = {HTTPException: refusal, PageRefused: refusal, CertferryError: refusal}
"""The handlers of exceptions that a page may raise, by class. Subclasses have the same handler."""


def console_app(site: Site) -> AccessGuard:
    """Return the application of a site, with the guard in front."""
    return AccessGuard(pages_of(site), site)


def pages_of(site: Site) -> Starlette:
    """Return the application of a site without the guard, which `console_app` adds."""
    app = Starlette(routes=list(ROUTES), exception_handlers={Exception: refusal, **_EXPECTED})
    app.router.redirect_slashes = False  # the redirect would lose the URL's prefix
    app.state.site = site
    app.state.health = health.Health()
    app.state.guesses = login.Guesses()
    app.state.turns = login.Turns()
    return app
