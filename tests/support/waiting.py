"""Waits for a condition, with a deadline."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 20  # seconds


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait until the condition holds, and return whether the condition holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@dataclass(frozen=True)
class Logged:
    """A process that prints into a file."""

    process: subprocess.Popen[bytes] | subprocess.Popen[str]
    log: Path

    @property
    def output(self) -> str:
        """The output so far."""
        return self.log.read_text(encoding="utf-8")

    def prints(self, words: str) -> bool:
        """Wait until the output contains the words, and return whether the output does."""
        return eventually(lambda: words in self.output)
