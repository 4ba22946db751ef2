"""Answer monitors over HTTP: `/healthz` says whether this host's certferry works, and `/metrics`
has the metrics.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from http.client import HTTPConnection, HTTPException

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from certferry.config.model import ConsoleSettings
from certferry.console.site import site_of
from certferry.core.assessment.hosts import away_since
from certferry.errors import CertferryError, system_words
from certferry.reconcile.run import in_thread
from certferry.text import Text
from certferry.wiring.monitoring import metrics_of
from certferry.wiring.workspace import Workspace

METRICS = "text/plain; version=0.0.4"
"""The format of Prometheus (docs/facts/receivers.md §3)."""

LONGEST = 10  # seconds that `ask_healthz` waits for the console


def ask_healthz(console: ConsoleSettings) -> None:
    """Query `/healthz` of the console at the address in the settings. Raises `CertferryError`
    unless the console answers that certferry works.
    """
    try:
        with closing(_connect(console)) as connection:
            connection.request("GET", f"{console.prefix}/healthz")
            is_well = connection.getresponse().status == 200  # noqa: PLR2004 - RFC 9110 §15.3.1
    except (OSError, HTTPException) as exc:
        problem = system_words(exc) if isinstance(exc, OSError) else repr(exc)
        raise CertferryError(
            Text(
                "the console at {where} does not respond: {problem}",
                where=console.listen,
                problem=problem,
            ),
            hint=Text("start the console: certferry serve"),
        ) from exc
    if not is_well:
        raise CertferryError(
            Text(
                "the state database does not respond, or this host has had no run for more than a"
                " day"
            ),
            hint=Text("find the cause with certferry status, and in the log of certferry serve"),
        )


def _connect(console: ConsoleSettings) -> HTTPConnection:
    """Return a connection to the console on this machine. The console's certificate is not
    verified: the certificate is for a name, and the connection goes to an address. Raises
    `OSError`.
    """
    connection = HTTPConnection("localhost", timeout=LONGEST)
    if console.address is None:
        connection.sock = unix_socket = socket.socket(socket.AF_UNIX)
        try:
            unix_socket.settimeout(LONGEST)
            unix_socket.connect(str(console.socket))
        except OSError:
            unix_socket.close()
            raise
    else:  # 0.0.0.0 and :: also lead to this machine
        connection.sock = socket.create_connection(console.address, LONGEST)
    if console.has_certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection.sock = context.wrap_socket(connection.sock, server_hostname=console.host)
    return connection


class Health:
    """Examines whether certferry works on this host. The examination has a thread of its own, so
    monitors get an answer even while slow pages hold all other threads. Only the event loop's
    thread may use this class.
    """

    def __init__(self) -> None:
        self._latest: Future[bool] | None = None

    async def is_well(self, workspace: Workspace) -> bool:
        """Return whether certferry works on this host (`_is_well`). Concurrent callers share one
        examination.
        """
        if self._latest is None or self._latest.done():
            self._latest = in_thread(partial(_is_well, workspace), "health")
        return await asyncio.shield(asyncio.wrap_future(self._latest))


async def healthz(request: Request) -> Response:
    """Answer 200 if certferry works on this host (`_is_well`), else 503. The path needs no login,
    so the answer gives no details.
    """
    health: Health = request.app.state.health
    is_well = await health.is_well(site_of(request).workspace())
    return PlainTextResponse("ok\n" if is_well else "not ok\n", 200 if is_well else 503)


def _is_well(workspace: Workspace) -> bool:
    """Return whether certferry works on this host: the state answers and its key fits, and the last
    run ended at most 26 hours ago (`away_since`). The start of a run in progress counts as well.
    """
    state = workspace.state
    try:
        state.must_unseal()
        own = [host for host in state.hosts() if host.name == state.host]
        has_run = any(host.last_run or host.running_since for host in own)
        return has_run and all(away_since(host, state.now()) is None for host in own)
    except CertferryError:
        return False


def metrics(request: Request) -> Response:
    """Answer with the present metrics, in the format of the metrics file. Raises `StateError`."""
    workspace = site_of(request).workspace()
    text = metrics_of(workspace.settings, workspace.state, {})
    return PlainTextResponse(text, media_type=METRICS)


ROUTES = (Route("/healthz", healthz, name="healthz"), Route("/metrics", metrics, name="metrics"))
