"""The first screen: is everything in order, what needs an operator, what happens next."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certferry.console.site import render


def overview(request: Request) -> Response:
    """Show it."""
    return render(request, "overview.html")


ROUTES = (Route("/", overview, name="overview"),)
