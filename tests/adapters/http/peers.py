"""Peers that do with a connection what no HTTP server would."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator

Treat = Callable[[socket.socket], None]
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def read_request(connection: socket.socket) -> None:
    """Read a whole request, head and body: what is left unread when a socket closes resets the
    connection, and takes the answer with it.
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
    """Listen on a port and treat each connection in a way that no HTTP server would."""
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


def drip(head: bytes) -> Treat:
    """Answer with this header field, and then byte by byte until the other side hangs up."""
    return endless(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", b"x")


def endless(beginning: bytes, drop: bytes) -> Treat:
    """Answer with a beginning, and then with drops until the other side hangs up."""
    tap = threading.Event()  # never set: waiting for it is the time between two drops

    def treat(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(beginning)
        while not tap.wait(0.02):
            connection.sendall(drop)

    return treat


def tunnel(connection: socket.socket) -> None:
    """Act as a proxy: connect, and carry bytes both ways until one side hangs up."""
    asked = b""
    while not asked.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            return
        asked += piece
    host, _, port = asked.decode().split(" ")[1].rpartition(":")  # CONNECT host:port HTTP/1.1
    with socket.create_connection((host, int(port))) as beyond:
        connection.sendall(CONNECTED)
        other = {connection: beyond, beyond: connection}
        while True:
            for readable in select.select(list(other), [], [])[0]:
                piece = readable.recv(2**16)  # more than a record of TLS, so that none stays behind
                if not piece:
                    return
                other[readable].sendall(piece)
