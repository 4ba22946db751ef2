"""Calls of the HTTP client: a server that answers every path, and requests with a secret."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta

from certferry.adapters.http.exchange import TIMEOUTS, Request, Timeouts
from certferry.adapters.http.http_client import HttpClient, Pacer
from certferry_sandbox import httpd

SHORT = Timeouts(connect=timedelta(seconds=5), read=timedelta(seconds=0.5))
SECRET = "very-secret-value"


def serve(request: httpd.Request) -> httpd.Response:
    """Answer every path, and a single path with a redirect."""
    if request.path == "/elsewhere":
        return httpd.Response(302, headers=(("Location", "/here"),))
    return httpd.Response.json({"path": request.path}, Set_Cookie="session=1; Path=/")


def at_once(seconds: float) -> None:
    """Return at once instead of pausing."""


def new_client(
    waits: Callable[[float], None], attempts: int = 4, timeouts: Timeouts = TIMEOUTS
) -> HttpClient:
    return HttpClient(
        pace=Pacer(1000, pause=at_once),
        pause=waits,
        attempts=attempts,
        timeouts=timeouts,
        jitter=lambda: 1.0,
    )


def get(url: str) -> Callable[[], Request]:
    return lambda: Request("GET", url, {"Authorization": SECRET})


def post(url: str) -> Callable[[], Request]:
    return lambda: Request("POST", url, {"Authorization": SECRET}, SECRET.encode())


def unused_port() -> int:
    """Return a port without a listening server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
