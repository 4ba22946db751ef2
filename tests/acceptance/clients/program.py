"""Runs another client's program as its user does, with an empty standard input."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

LONGEST_RUN = 60  # seconds


def run_to_its_end(
    command: Sequence[str], environ: Mapping[str, str], *, code: int = 0, cwd: Path | None = None
) -> str:
    """Run the command in the given environment, assert its exit code, and return its output."""
    done = subprocess.run(
        command,
        env=environ,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )
    assert code == done.returncode, done.stdout
    return done.stdout
