"""The open connections of a server, so that it can end them all at once."""

from __future__ import annotations

import contextlib
import socket
import threading

END_DEADLINE = 5.0  # seconds that end() gives the threads in charge to notice


class Connections:
    """Thread-safe; a server reports the beginning and the end of each connection."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()

    def opened(self, connection: socket.socket) -> None:
        """Note a connection."""
        with self._changed:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection, after it was closed."""
        with self._changed:
            self._open.discard(connection)
            self._changed.notify_all()

    def end(self) -> None:
        """Hang up on every client and wait until the connections are closed."""
        with self._changed:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the client may have hung up first
                    # Not the TLS socket's own shutdown, which pulls its state from under a reader.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, END_DEADLINE)
