"""Call the system's tools `crontab` and `systemctl`."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from datetime import timedelta

from certferry.errors import ScheduleError, system_words
from certferry.text import Text

_LONGEST_COMPLAINT = 300  # characters


def call(
    words: Sequence[str],
    environ: Mapping[str, str],
    within: timedelta,
    hint: Text,
    content: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    """Run a tool with `content` on standard input, and return the result, whatever the exit code.
    The tool's messages are in English. Raises `ScheduleError` if the tool cannot run, or runs
    longer than `within`.
    """
    try:
        return subprocess.run(
            words,
            input=content,
            capture_output=True,
            env={**environ, "LC_ALL": "C"},
            timeout=within.total_seconds(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        problem = system_words(exc)
        raise ScheduleError(
            Text("`{program}` cannot be run: {problem}", program=words[0], problem=problem),
            hint=hint,
        ) from exc


def complaint(result: subprocess.CompletedProcess[bytes]) -> str:
    """Return a failed tool's message on one line; without a message, the exit code."""
    words = " ".join(result.stderr.decode(errors="replace").split())
    return words[:_LONGEST_COMPLAINT] or f"exit code {result.returncode}"
