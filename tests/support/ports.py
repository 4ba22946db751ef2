"""Ports of loopback that were free a moment ago."""

from __future__ import annotations

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
