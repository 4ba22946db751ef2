"""The command line, run in the process of the tests.

A run has the environment and the streams of a process, and saves the start of Python. Other
programs run as processes.
"""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from certferry.cli.main import run
from certferry.present.console import standard_console
from tests.support.schemas import must_fit_output


@dataclass(frozen=True)
class Ended:
    """The exit code and the output of a run."""

    code: int
    out: str
    err: str


def run_here(
    arguments: Sequence[str], environ: Mapping[str, str], directory: Path | None = None
) -> Ended:
    """Run the command to the end, in `directory` if given.

    A test of signals, or of threads that end with the process, needs a process instead. Output as
    JSON must fit its schema.
    """
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    with (
        mock.patch.dict(os.environ, environ, clear=True),
        chdir(directory or Path.cwd()),
        redirect_stdout(streams[0]),
        redirect_stderr(streams[1]),
    ):
        code = run(arguments, standard_console(os.environ))
    out, err = (_written_on(stream) for stream in streams)
    must_fit_output(arguments, out)
    return Ended(int(code), out, err)


def run_program(
    words: Sequence[str | Path],
    environ: Mapping[str, str],
    directory: Path,
    *,
    longest: float,
) -> subprocess.CompletedProcess[str]:
    """Run another program to the end, with any exit code, in at most `longest` seconds."""
    return subprocess.run(
        words,
        env=environ,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=longest,
    )


def _written_on(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
