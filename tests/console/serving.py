"""The console served to tests over real HTTP, on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from certferry.console.site import Visitor
from certferry.core.access import Role, User
from tests.support.ports import HOST, free_port
from tests.support.waiting import eventually

ANNA = User("anna", Role.OPERATOR, datetime(2026, 11, 29, tzinfo=UTC))


class AsVisitor:
    """Lets every request through as one user's, for tests of pages alone."""

    def __init__(self, app: ASGIApp, user: User = ANNA, language: str = "en") -> None:
        self._app = app
        self._user = user
        self._language = language

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            state = scope.setdefault("state", {})
            state["visitor"] = Visitor(self._user, "token-of-forms")
            state["language"] = self._language
        await self._app(scope, receive, send)


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Serve an application for a `with` block; yield its URL, without a slash at its end."""
    port = free_port()
    config = uvicorn.Config(app, HOST, port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        assert eventually(lambda: server.started)
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
