"""A console for tests, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
import uvicorn
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from certferry.config.load import load
from certferry.config.model import ConsoleSettings
from certferry.console.app import console_app
from certferry.console.guard import AccessGuard
from certferry.console.site import Site, Visitor
from certferry.core.access import LINK_IS_GOOD_FOR, PasswordLink, Role, User, digest_of_secret
from certferry.core.observed.stored_runs import RunKind, RunSource, StoredRun
from certferry.ports.state import StateStore
from certferry.values import replace
from certferry.wiring.settings import ADAPTERS
from certferry.wiring.workspace import Workspace
from tests.support.ports import HOST, free_port
from tests.support.waiting import eventually

PASSWORD = "correct-horse-7"
ANNA = User("anna", Role.OPERATOR, datetime(2026, 11, 29, tzinfo=UTC))


class AsVisitor:
    """An application with the guard taken off, for tests of pages. Every request comes from the
    same user.
    """

    def __init__(self, app: ASGIApp, user: User = ANNA, language: str = "en") -> None:
        self._app = app.app if isinstance(app, AccessGuard) else app
        self._user = user
        self._language = language

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            state = scope.setdefault("state", {})
            state["visitor"] = Visitor(self._user, "token-of-forms")
            state["language"] = self._language
        await self._app(scope, receive, send)


@contextmanager
def served(app: ASGIApp, port: int | None = None) -> Iterator[str]:
    """Serve an application for a `with` block; yield the URL, without a slash at the end."""
    port = free_port() if port is None else port
    config = uvicorn.Config(app, HOST, port, log_config=None, lifespan="off", proxy_headers=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        assert eventually(lambda: server.started)
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@dataclass(eq=False)
class Began:
    """A runner that records each start, and carries out no run."""

    runs: list[tuple[RunKind, tuple[str, ...], str, RunSource]] = field(default_factory=list)
    #: For each run, whether it also orders certificates before their renewal is due.
    early: list[bool] = field(default_factory=list)

    def start(
        self,
        kind: RunKind,
        names: Sequence[str],
        *,
        who: str,
        source: RunSource,
        plan: str | None = None,
        request: str | None = None,
        renews: bool = False,
    ) -> StoredRun:
        """Record the run."""
        self.runs.append((kind, tuple(names), who, source))
        self.early.append(renews)
        return StoredRun("run-1", kind, source, who, "web-1", datetime.now(UTC), tuple(names), plan)

    def stop(self, run: str) -> bool:
        """Report every run as unknown."""
        return not run


@dataclass(eq=False)
class Console:
    """A console with its guard at `url`, without a slash at the end."""

    url: str
    site: Site
    began: Began

    @property
    def state(self) -> StateStore:
        """The state of the console."""
        return self.site.workspace().state

    @property
    def origin(self) -> str:
        """The `Origin` that browsers send with forms."""
        return "/".join(self.site.workspace().settings.console.base.split("/")[:3])

    def add_user(
        self, name: str = "anna", role: Role = Role.OPERATOR, password: str = PASSWORD
    ) -> None:
        """Add a user with this password. The hash is cheap, so verification takes no time."""
        self.state.add_user(User(name, role, self.site.now()))
        secret = self.link(name).rpartition("/")[2]
        quick = Argon2id(salt=bytes(16), length=32, iterations=1, lanes=1, memory_cost=8)
        stored = quick.derive_phc_encoded(password.encode())
        self.state.choose_password(digest_of_secret(secret), stored, self.site.now())

    def link(self, name: str, *, within: timedelta = LINK_IS_GOOD_FOR) -> str:
        """Return the path of a link for choosing a password."""
        secret = f"link-of-{name}"
        self.state.save_link(PasswordLink(digest_of_secret(secret), name, self.site.now() + within))
        return f"/welcome/{secret}"

    def logged_in(self, name: str = "anna", password: str = PASSWORD) -> requests.Session:
        """Return a browser in which a user is logged in."""
        browser = requests.Session()
        reply = self.post(browser, "/login", name=name, password=password)
        assert reply.status_code == 303, reply.text
        return browser

    def get(self, browser: requests.Session, path: str, **headers: str) -> requests.Response:
        """Open a page, and follow no redirect."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return browser.get(self.url + path, headers=sent, allow_redirects=False, timeout=20)

    def post(self, browser: requests.Session, path: str, **fields: str) -> requests.Response:
        """Send a form of the console, with the token of the browser's session."""
        sent = {"csrf": self.csrf(browser), **fields}
        return browser.post(
            self.url + path,
            sent,
            headers={"Origin": self.origin},
            allow_redirects=False,
            timeout=20,
        )

    def csrf(self, browser: requests.Session) -> str:
        """Return the token in the forms for this browser."""
        page = self.get(browser, "/account").text
        return page.partition('name="csrf" value="')[2].partition('"')[0]


@contextmanager
def console(
    folder: Path, settings: ConsoleSettings | None = None, tables: str = ""
) -> Iterator[Console]:
    """Serve a console with its guard and a new state. `{port}` in the URL of the settings stands
    for the console's port.
    """
    path = folder / "certferry.toml"
    path.write_text(f"[state]\nurl = 'sqlite:///{folder}/state.db'\n{tables}")
    path.chmod(0o600)
    port = free_port()
    wanted = settings or ConsoleSettings()
    url = None if wanted.url is None else wanted.url.format(port=port)
    served_settings = replace(wanted, listen=f"{HOST}:{port}", url=url)
    with Workspace(replace(load(path, {}, ADAPTERS), console=served_settings)) as workspace:
        began = Began()
        site = Site(lambda: workspace, began, served_settings.prefix, served_settings.is_https)
        with served(console_app(site), port) as where:
            yield Console(where + served_settings.prefix, site, began)


def asgi(guard: AccessGuard, path: str, peer: Mapping[str, object], **headers: str) -> Message:
    """Request a page in this process. Return the start of the answer, with the body added."""
    return asyncio.run(answer(guard, path, peer, **headers))


async def answer(
    guard: AccessGuard, path: str, peer: Mapping[str, object], **headers: str
) -> Message:
    """Request a page in the running loop; see `asgi`."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "scheme": "http",
        "headers": [(n.replace("_", "-").lower().encode(), v.encode()) for n, v in headers.items()],
        **peer,
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await guard(scope, receive, send)
    return {**sent[0], "body": b"".join(message.get("body", b"") for message in sent).decode()}
