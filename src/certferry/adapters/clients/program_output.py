"""What a program says: read as it comes, bounded, and without secrets."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Collection
from typing import Self

from certferry.core.redaction import redacted
from certferry.core.secret import Secret

MOST_OUTPUT = 16 * 1024
"""Bytes of a program's output that are kept, from its end, where the reason usually is."""

_CHUNK = 4096
_MOST_CHUNKS = 64
"""More than a pipe holds; a child that never stops writing does not hold up the end."""


class Output:
    """The output of a process that was started with a pipe; used in a `with` block."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for with PIPE
        self._pipe = process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._kept = b""
        self._at_end = False
        self.left_out = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def read(self, seconds: float) -> None:
        """Take in what comes within this time, or at once the output that has come."""
        if self._at_end:
            time.sleep(seconds)
        elif self._selector.select(seconds):
            chunk = os.read(self._pipe, _CHUNK)
            self._at_end = not chunk
            said = self._kept + chunk
            self._kept = said[-MOST_OUTPUT:]
            self.left_out += len(said) - len(self._kept)

    def rest(self, hidden: Collection[Secret]) -> list[str]:
        """Take in what is there still, and give the lines of all that is kept. A child that lives
        on may hold the pipe open: certferry does not wait for it.
        """
        for _ in range(_MOST_CHUNKS):
            self.read(0)
        # Masked before anything is cut: nothing would tell a part of a secret.
        lines = redacted(self._kept.decode(errors="surrogateescape"), hidden).splitlines()
        # A line that lost its beginning may be the rest of a secret's.
        whole = lines[1:] if self.left_out else lines
        return [_without_controls(line) for line in whole if line.strip()]


def _without_controls(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line).rstrip()
