"""A CDN's edges on loopback: TLS servers that choose the certificate at each handshake."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, Protocol, Self, TypeVar

from certferry_sandbox.httpd import Connections

PORT_TRIES = 100  # a port that is free on one address may be taken on another
CONNECTION_TIMEOUT = 5.0  # seconds a client may take over its handshake, and over its request
REQUEST_LIMIT = 65536  # bytes of a request head that are read
HANDSHAKE_FAILURE = ssl.AlertDescription.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
UNKNOWN_NAME = ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
PEM_END = "-----END CERTIFICATE-----\n"


class Identity(Protocol):
    """A certificate with its chain, and the private key, both as PEM, for an edge to present."""

    @property
    def fullchain_pem(self) -> str:
        """Leaf first."""

    @property
    def privkey_pem(self) -> str:
        """Unencrypted."""


Serving = Callable[[str, datetime], Identity | None]
Clock = Callable[[], datetime]
EVER = datetime.min.replace(tzinfo=UTC)  # before every other moment
Served = TypeVar("Served", bound=Identity)


class Timeline(Generic[Served]):
    """The certificates of a domain, each with the moment from which the certificate is in force."""

    def __init__(self, certificate: Served | None) -> None:
        self._entries = [(EVER, certificate)]

    def note(self, moment: datetime, certificate: Served | None) -> None:
        """Put a certificate in force from `moment` on; None is no certificate."""
        self._entries.append((moment, certificate))

    def since(self, moment: datetime) -> list[Served | None]:
        """Return the certificate in force at `moment`, then each later certificate."""
        later = [certificate for begun, certificate in self._entries if begun > moment]
        return [self.at(moment), *later]

    def at(self, moment: datetime) -> Served | None:
        """Return the certificate in force at `moment`."""
        return [certificate for since, certificate in self._entries if since <= moment][-1]


class Edge:
    """An edge. Its switches may change at any time, and apply from the next handshake on.

    `lag`: the time between a change and the first handshake with the new certificate.
    `wrong_chain`: the edge sends the leaf without the issuers.
    `can_only_serve`: the only chain with which the edge completes handshakes, as PEM.
    """

    def __init__(self, address: str, lag: timedelta, serving: Serving, clock: Clock) -> None:
        self.address = address
        self.lag = lag
        self.wrong_chain = False
        self.can_only_serve: str | None = None
        self._serving = serving
        self._clock = clock
        self._stopped_looking: datetime | None = None
        self._contexts = _Contexts()
        self._context = _server_context()
        self._context.sni_callback = self._choose
        self._socket: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._hushed = threading.Event()
        self._connections = Connections()

    @property
    def stale(self) -> bool:
        """Whether the edge keeps the certificates from the moment that turned `stale` on."""
        return self._stopped_looking is not None

    @stale.setter
    def stale(self, on: bool) -> None:
        self._stopped_looking = self._clock() if on else None

    @property
    def down(self) -> bool:
        """Whether the edge refuses connections. Turning `down` on ends the open connections."""
        return self._accepting is None

    @down.setter
    def down(self, on: bool) -> None:
        if on and not self.down:
            port = self.port
            self.stop()
            self.bind(port)  # held without listening, so that no other process takes the port
        elif not on and self.down:
            self.listen()

    @property
    def port(self) -> int:
        """The edge's port. Raises RuntimeError for an edge without a port."""
        return int(self._bound().getsockname()[1])

    def bind(self, port: int) -> None:
        """Take a port (0 for any free port). Raises OSError for a port in use."""
        self._socket = socket.socket()
        try:
            # Connections of an earlier listener may linger, but no other server may share the port.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(port > 0))
            self._socket.bind((self.address, port))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError:
            self.stop()
            raise

    def listen(self) -> None:
        """Accept connections, in a thread of its own."""
        listener = self._bound()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # inherited: see bind
        listener.listen()
        self._hushed.clear()
        self._accepting = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """End the connections and give the port back; a second call does nothing."""
        if self._socket is None:
            return
        if self._accepting is not None:
            self._hushed.set()
            # Accepting blocks without polling, so one connection wakes it up.
            with socket.create_connection((self.address, self.port)):
                self._accepting.join()
            self._accepting = None
        self._socket.close()
        self._socket = None
        self._connections.end()

    def _bound(self) -> socket.socket:
        if self._socket is None:
            raise RuntimeError("the edge is not running")
        return self._socket

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            if self._hushed.is_set():
                connection.close()
                return
            try:
                tls = self._wrap(connection)
            except OSError:  # the client has hung up
                connection.close()
            else:
                threading.Thread(target=self._serve, args=(tls,), daemon=True).start()

    def _wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        connection.settimeout(CONNECTION_TIMEOUT)
        tls = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._connections.opened(tls)
        return tls

    def _serve(self, tls: ssl.SSLSocket) -> None:
        # A client that only reads the certificate, or refuses it, hangs up.
        with contextlib.suppress(OSError), tls:
            tls.do_handshake()
            self._answer(tls)
        self._connections.closed(tls)

    def _answer(self, tls: ssl.SSLSocket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < REQUEST_LIMIT:
            received = tls.recv(REQUEST_LIMIT)
            if not received:
                return
            head += received
        body = f"served by the edge at {self.address}\n".encode()
        tls.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )

    def _choose(
        self, tls: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> int | None:
        """Set the certificate for the requested name, or return the number of an alert."""
        moment = (self._stopped_looking or self._clock()) - self.lag
        identity = self._serving(name.lower(), moment) if name else None
        if identity is not None and self.can_only_serve not in {None, identity.fullchain_pem}:
            return HANDSHAKE_FAILURE
        if identity is not None:
            tls.context = self._contexts.of(identity, leaf_only=self.wrong_chain)
            return None
        return UNKNOWN_NAME


class Edges:
    """All edges of a CDN, on one common port of several loopback addresses.

    `serving` is asked at each handshake for the certificate of a lower-case host name as of a
    moment; it must be thread-safe and must not raise. `lags` names the addresses.
    """

    def __init__(
        self, serving: Serving, lags: Mapping[str, timedelta], *, clock: Clock, port: int = 0
    ) -> None:
        self._edges = [Edge(address, lag, serving, clock) for address, lag in lags.items()]
        self._wanted_port = port

    def __iter__(self) -> Iterator[Edge]:
        return iter(self._edges)

    def __len__(self) -> int:
        return len(self._edges)

    def __getitem__(self, index: int) -> Edge:
        return self._edges[index]

    @property
    def addresses(self) -> list[str]:
        """The addresses of the edges, in order."""
        return [edge.address for edge in self._edges]

    @property
    def port(self) -> int:
        """The common port. Raises RuntimeError while the edges are stopped."""
        return self._edges[0].port

    def start(self) -> Self:
        """Listen on all addresses. Raises OSError when there is no common port."""
        tries_left = PORT_TRIES
        while True:
            try:
                self._listen()
                return self
            except OSError as problem:
                self.stop()
                tries_left -= 1
                if problem.errno != errno.EADDRINUSE or self._wanted_port or not tries_left:
                    raise

    def stop(self) -> None:
        """Stop all; a second call does nothing."""
        for edge in self._edges:
            edge.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listen(self) -> None:
        port = self._wanted_port
        for edge in self._edges:
            edge.bind(port)
            port = edge.port
        for edge in self._edges:
            edge.listen()


class _Contexts:
    """A TLS context for each certificate, made at the certificate's first handshake."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, ssl.SSLContext] = {}

    def of(self, identity: Identity, *, leaf_only: bool) -> ssl.SSLContext:
        leaf, end, issuers = identity.fullchain_pem.partition(PEM_END)
        chain = leaf + end if leaf_only else leaf + end + issuers
        with self._lock:
            if chain not in self._made:
                self._made[chain] = _loaded_context(chain, identity.privkey_pem)
            return self._made[chain]


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # a resumed session would show no certificate
    context.options |= ssl.OP_NO_TICKET
    return context


def _loaded_context(chain_pem: str, privkey_pem: str) -> ssl.SSLContext:
    context = _server_context()
    # OpenSSL reads files alone; these are gone before anything is served.
    with TemporaryDirectory(prefix="certferry-edge-") as private:
        chain, privkey = Path(private, "fullchain.pem"), Path(private, "privkey.pem")
        chain.write_text(chain_pem)
        privkey.write_text(privkey_pem)
        context.load_cert_chain(chain, privkey)
    return context
