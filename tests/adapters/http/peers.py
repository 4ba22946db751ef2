"""Peers that treat a connection in unusual ways, as proxies and broken servers do."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator

Treat = Callable[[socket.socket], None]
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def read_request(connection: socket.socket) -> None:
    """Read a whole request, head and body. Unread bytes would reset the connection on close, and
    destroy the answer.
    """
    with connection.makefile("rb") as stream:
        length = 0
        while line := stream.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        stream.read(length)


@contextlib.contextmanager
def peer(treat: Treat) -> Iterator[str]:
    """Listen on a port and treat each connection in a given way."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    treat(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        host, port = listener.getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            ended.set()
            socket.create_connection((host, port)).close()
            thread.join()


def endless_body(head: bytes) -> Treat:
    """Answer with a header field, and then byte by byte until the client hangs up."""
    return endless(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", b"x")


def endless(beginning: bytes, piece: bytes) -> Treat:
    """Answer with a beginning, and then with pieces until the client hangs up."""
    never = threading.Event()  # never set: a wait for this event is the time between two pieces

    def treat(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(beginning)
        while not never.wait(0.02):
            connection.sendall(piece)

    return treat


def tunnel(connection: socket.socket) -> None:
    """Act as a proxy: connect, and pass bytes in both directions until a side hangs up."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            return
        request += piece
    host, _, port = request.decode().split(" ")[1].rpartition(":")  # CONNECT host:port HTTP/1.1
    with socket.create_connection((host, int(port))) as beyond:
        connection.sendall(CONNECTED)
        other = {connection: beyond, beyond: connection}
        while True:
            for readable in select.select(list(other), [], [])[0]:
                # More than a TLS record, so that every record is read whole.
                piece = readable.recv(2**16)
                if not piece:
                    return
                other[readable].sendall(piece)
