"""What `scripts/release` makes of a commit: the artefacts that operators install, and what
accompanies them. Not shipped.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO


class Refused(Exception):
    """What keeps the release from being made, as one sentence."""


@dataclass(frozen=True)
class Release:
    """One release while it is made. A maker reads `tree` and `dist`, and writes into `dist`."""

    version: str
    """As `src/certferry/__init__.py` has it."""
    epoch: int
    """The commit's date in seconds since 1970: `SOURCE_DATE_EPOCH` for every tool."""
    tree: Path
    """The files of the commit, exported: artefacts are made from these alone."""
    dist: Path
    """Where artefacts go, and where those that were made earlier lie."""
    work: Path
    """A scratch folder, removed at the end. Its path differs each time: no artefact may have it."""


def run_tool(
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: IO[str] | int | None = None,
) -> None:
    """Run a tool to its end. Where this process is told to end meanwhile, so are the tool and what
    it has started, and each has its time to clear away. Raises `CalledProcessError`.
    """
    with subprocess.Popen(
        command, env=environ, cwd=cwd, stdout=stdout, start_new_session=True
    ) as process:
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if code:
        raise subprocess.CalledProcessError(code, list(command))
