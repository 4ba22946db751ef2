"""The vendors' public names, answered on loopback: behind a proxy (RFC 9110 §9.3.6) each service
speaks TLS under its own name, as for an operator without a configuration file.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from certferry_sandbox.authority import Authority

PATIENCE = 20  # seconds
_CHUNK = 65536


@contextmanager
def answered(services: Mapping[str, str], directory: Path) -> Iterator[dict[str, str]]:
    """Answer for public names with the services at the given URLs, for a `with` block, and return
    the environment variables that lead a command to the proxy. The proxy refuses other names.
    """
    authority, now = Authority("Public Names"), datetime.now(UTC)
    bundle, identity = directory / "public-roots.pem", directory / "public-names.pem"
    issued = authority.issue(list(services), now - timedelta(hours=1), now + timedelta(days=1))
    bundle.write_text(authority.root_pem)
    identity.write_text(issued.fullchain_pem + issued.privkey_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        accepting = threading.Thread(target=_accept, args=(server, services, context))
        accepting.start()
        port = server.getsockname()[1]
        yield {"HTTPS_PROXY": f"http://127.0.0.1:{port}", "REQUESTS_CA_BUNDLE": str(bundle)}
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _accept(server: socket.socket, services: Mapping[str, str], context: ssl.SSLContext) -> None:
    tunnels = []
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            client.settimeout(PATIENCE)
            tunnels.append(threading.Thread(target=_tunnel, args=(client, services, context)))
            tunnels[-1].start()
    for tunnel in tunnels:
        tunnel.join()


def _tunnel(client: socket.socket, services: Mapping[str, str], context: ssl.SSLContext) -> None:
    with closing(client), suppress(OSError):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        _, authority, _ = head.split(b" ", 2)
        name = authority.decode().partition(":")[0]
        if name not in services:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        place = urlsplit(services[name])
        with (
            context.wrap_socket(client, server_side=True) as secured,
            socket.create_connection((place.hostname, place.port), PATIENCE) as service,
        ):
            _pass_on(secured, service)


def _pass_on(secured: ssl.SSLSocket, service: socket.socket) -> None:
    """Copy in both directions until either side ends. A single thread copies, because a TLS
    connection forbids a read beside a write.
    """
    ways = {secured: service, service: secured}
    while True:
        readable, _, _ = select.select(ways, [], [], PATIENCE)
        if not readable:
            return
        for source in readable:
            chunk = source.recv(_CHUNK)
            while isinstance(source, ssl.SSLSocket) and source.pending():
                chunk += source.recv(_CHUNK)
            if not chunk:
                return
            ways[source].sendall(chunk)
