"""The application: every route, and the guard before all of them.

A route is a page's function, which Starlette runs in a thread: the engine and the state wait. What
is not in `OPEN` needs a session or a token, decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from certferry.console import health, overview
from certferry.console.site import Site

ROUTES: Sequence[BaseRoute] = (
    *health.ROUTES,
    *overview.ROUTES,
)


def console_app(site: Site) -> Starlette:
    """Make the application of a site."""
    app = Starlette(routes=list(ROUTES))
    app.state.site = site
    return app
