"""A small proxy before the console: with a prefix, stripped or passed on, and optionally with
buffering, so a browser gets an answer only at its end.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.ports import HOST

PATIENCE = 60  # seconds
PART = 65_536
_HOPS = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
_OWN = _HOPS | {"date", "server"}


@dataclass(frozen=True)
class Manner:
    """The settings of a proxy: the `prefix` (`/x/y`, or empty), whether the proxy `strips` the
    prefix, and whether it `buffers` answers. A stripping proxy passes on the browser's `Host`.
    Other proxies send their own `Host`, as nginx does by default.
    """

    prefix: str = ""
    strips: bool = False
    buffers: bool = False


class Handler(BaseHTTPRequestHandler):
    """Passes a request on."""

    protocol_version = "HTTP/1.1"
    server: ProxyServer

    def do_GET(self) -> None:
        manner = self.server.manner
        if not f"{self.path}/".startswith(f"{manner.prefix}/"):
            self.send_error(404, "Not below the prefix")
            return
        path = self.path.removeprefix(manner.prefix) or "/" if manner.strips else self.path
        upstream = http.client.HTTPConnection(HOST, self.server.upstream, timeout=PATIENCE)
        with closing(upstream):
            upstream.request(self.command, path, self._body(), self._headers())
            self._pass_back(upstream.getresponse())

    do_POST = do_HEAD = do_GET

    def _body(self) -> bytes | None:
        length = int(self.headers.get("Content-Length", "0"))
        return self.rfile.read(length) if length else None

    def _headers(self) -> dict[str, str]:
        passed = {k: v for k, v in self.headers.items() if k.lower() not in _HOPS}
        if not self.server.manner.strips:
            passed["Host"] = f"{HOST}:{self.server.upstream}"
        return passed | {"X-Forwarded-For": str(self.client_address[0])}

    def _pass_back(self, answer: http.client.HTTPResponse) -> None:
        whole = answer.read() if self.server.manner.buffers else None
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OWN:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        if whole is not None:
            self.wfile.write(whole)
            return
        while part := answer.read1(PART):
            self.wfile.write(part)
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


class ProxyServer(ThreadingHTTPServer):
    """A proxy before the console at the port `upstream`."""

    daemon_threads = True

    def __init__(self, port: int, upstream: int, manner: Manner) -> None:
        super().__init__((HOST, port), Handler)
        self.upstream = upstream
        self.manner = manner

    def handle_error(self, *_: Any) -> None:
        """Ignore a browser or a console that closed the connection."""


@contextmanager
def proxy(port: int, upstream: int, manner: Manner) -> Iterator[None]:
    """Run a proxy for a `with` block."""
    with ProxyServer(port, upstream, manner) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
