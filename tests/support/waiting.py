"""Waiting for what takes its time, and for no longer than it may."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 20  # seconds


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait until it is so."""
    deadline = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@dataclass(frozen=True)
class Logged:
    """A process that prints into a file."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """What it has printed."""
        return self.log.read_text(encoding="utf-8")

    def says(self, words: str) -> bool:
        """Wait until it has printed this."""
        return eventually(lambda: words in self.said)
