"""Ports of loopback that were free a moment ago."""

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
"""Ports that Linux never gives to a program that asks for any (`ip_local_port_range`)."""


def lasting_port() -> int:
    """A port for a server that is stopped and started again: no other program gets it meanwhile."""
    while True:
        port = random.choice(OTHERS)  # noqa: S311 - no secret
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as tcp:
            try:
                tcp.bind((HOST, port))
            except OSError:
                continue
            return port
