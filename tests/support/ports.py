"""Ports of loopback, free at the moment of the call."""

from __future__ import annotations

import random
import socket
from contextlib import closing

HOST = "127.0.0.1"


def free_port() -> int:
    while True:
        with (
            closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as udp,
            closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as tcp,
        ):
            udp.bind((HOST, 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            return int(udp.getsockname()[1])


OTHERS = range(15_000, 32_768)
"""Ports that Linux never assigns to a program that asks for any port (`ip_local_port_range`)."""


def lasting_port() -> int:
    """Return a port for a server that a test restarts: no other program gets the port meanwhile."""
    while True:
        port = random.choice(OTHERS)  # noqa: S311 - no secret
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as tcp:
            try:
                tcp.bind((HOST, port))
            except OSError:
                continue
            return port
