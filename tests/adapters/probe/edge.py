"""An edge with any chain, at an address of this machine."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def context_of(pem: str, folder: Path) -> ssl.SSLContext:
    """Return the TLS context of a server with the leaf, the issuers and the key of a PEM text."""
    path = folder / "edge.pem"
    path.write_text(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@contextmanager
def serving(
    pem: str, folder: Path, address: str = "127.0.0.1", port: int = 0
) -> Iterator[tuple[str, int]]:
    """Present a chain for the duration of a `with` block; yield address and port."""
    with serving_with(context_of(pem, folder), address, port) as place:
        yield place


@contextmanager
def serving_with(
    context: ssl.SSLContext, address: str = "127.0.0.1", port: int = 0
) -> Iterator[tuple[str, int]]:
    """Answer handshakes for the duration of a `with` block; yield address and port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as server:
        host = threading.Thread(target=_serve, args=(server, context))
        host.start()
        try:
            yield address, server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            host.join()


def _serve(server: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):  # the server was shut down
        while True:
            connection, _ = server.accept()
            with (
                connection,
                suppress(OSError),
                context.wrap_socket(connection, server_side=True) as session,
            ):
                session.recv(1)
