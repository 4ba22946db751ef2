"""Children of a program that have left its process group, as `setsid` does. They are known by a
mark in their environment; one that has cleared it, or runs as another user, is not found.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

VARIABLE = "CERTFERRY_RUN"
"""Holds the mark: another one in each run of a program, that nobody could guess."""

_MOST_LOOKS = 20
"""What is ended may have had a child since it was looked at; one that has them faster gets away."""


def end(mark: str) -> None:
    """End every process that carries this mark, at once. Where there is no /proc, none is found."""
    for _ in range(_MOST_LOOKS):
        found = list(_marked(f"{VARIABLE}={mark}".encode()))
        if not found:
            return
        for number in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)


def _marked(entry: bytes) -> Iterator[int]:
    for process in Path("/proc").glob("[1-9]*"):
        # It has ended meanwhile, or is another user's. One that has ended has no environment.
        with suppress(OSError):
            if entry in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)
