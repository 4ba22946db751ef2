"""Run a program of the operator's: without a shell, for a bounded time, its words in the log."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Self

from certferry.core.desired.certificate import Program
from certferry.core.redaction import Secret, redacted
from certferry.errors import DeployError, Retry, TargetRejected, system_words
from certferry.ports.adapter import Ended
from certferry.ports.progress import Pause
from certferry.ports.state import must_still_hold
from certferry.text import Quoted, Text

GRACE = timedelta(seconds=2)
"""How long a program that is ended before its time may take to leave things in order."""

_MOST_WORDS = 300  # characters of it that an error quotes

_TICK = 0.05  # seconds between two looks at whether the run has been stopped

_log = logging.getLogger(__name__)


def must_be_there(program: Program) -> None:
    """Raise `TargetRejected` for a program that cannot be found or run."""
    name = program.arguments[0]
    if shutil.which(name) is None:
        message = Text("the program {program} cannot be found or run", program=name)
        hint = Text("check that it is there, and that it may be executed")
        if "/" not in name:
            searched = os.environ.get("PATH", os.defpath)
            hint = Text("give its whole path; it was looked for in {path}", path=searched)
        raise TargetRejected(message, hint=hint)


def run(
    program: Program,
    variables: Mapping[str, str],
    pause: Pause,
    *,
    hidden: Collection[Secret],
    withheld: Collection[str] = (),
) -> None:
    """Run a program as `run_to_end` does. Raises `DeployError` also where it fails."""
    ended = run_to_end(program, variables, pause, hidden=hidden, withheld=withheld)
    if ended.code != 0:
        raise failed(program.arguments[0], ended)


def run_to_end(
    program: Program,
    variables: Mapping[str, str],
    pause: Pause,
    *,
    hidden: Collection[Secret],
    withheld: Collection[str] = (),
    given: bytes = b"",
) -> Ended:
    """Run a program to its end, with these variables and the environment but for the `withheld`,
    and what it is `given` on its standard input.

    Its output goes to the log, without what is `hidden`. One that takes too long, or is running
    when the run is stopped, is ended with its process group. Raises `DeployError`, and
    `Interrupted` as `pause` does.
    """
    must_be_there(program)
    environment = {name: value for name, value in os.environ.items() if name not in withheld}
    with (
        _input(given) as stdin,
        _started(program, {**environment, **variables}, stdin) as process,
        Output(process) as output,
    ):
        ended = False
        try:
            ended = _follow(process, output, program.timeout, pause)
        finally:
            if not ended:
                _end(process, output)
            lines = output.rest(hidden)
            _log_lines(program.arguments[0], lines, output.left_out)
    if not ended:
        raise _too_slow(program)
    return Ended(process.returncode, _last_words(lines))


@contextlib.contextmanager
def _input(given: bytes) -> Iterator[int]:
    """Open what a program reads: a file, so that one which reads nothing blocks nothing."""
    if not given:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(given)
        file.seek(0)
        yield file.fileno()


def _started(
    program: Program, environment: Mapping[str, str], stdin: int
) -> subprocess.Popen[bytes]:
    must_still_hold()
    try:
        return subprocess.Popen(
            program.arguments,
            env=environment,
            cwd=program.directory,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group of its own, so that its children can be ended with it; and no terminal that
            # it could ask for a password.
            start_new_session=True,
        )
    except (OSError, ValueError) as exc:
        said = Text("the program {program} cannot be run: {problem}")
        said = said.filled(program=program.arguments[0], problem=system_words(exc))
        hint = Text("try the same command by hand, as the user who runs certferry")
        raise TargetRejected(said, hint=hint) from exc


def _follow(
    process: subprocess.Popen[bytes], output: Output, timeout: timedelta, pause: Pause
) -> bool:
    """Wait for the end; return whether it came in time."""
    deadline = time.monotonic() + timeout.total_seconds()
    while not _has_ended(process):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        output.read(min(_TICK, left))
        pause(0)
    return True


def _end(process: subprocess.Popen[bytes], output: Output) -> None:
    """Ask its group to end, give it its time, and then kill the processes left in it."""
    try:
        _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE.total_seconds()
        while not _has_ended(process) and time.monotonic() < deadline:
            output.read(_TICK)
    finally:
        # In any case: it may have ended alone, and left its children.
        _signal(process, signal.SIGKILL)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Check without reaping it: until then no other process gets its group's number."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)


def _log_lines(name: str, lines: list[str], left_out: int) -> None:
    """Log them, each with its `program`, by which the log file takes it at any level."""
    if left_out:
        said = Text(
            "{program}: {count} bytes of its output are left out", program=name, count=left_out
        )
        _log.info(said, extra={"program": name})
    for line in lines:
        _log.info("%s: %s", name, line, extra={"program": name})


def _last_words(lines: list[str]) -> Quoted:
    return Quoted(" ".join(" ".join(lines).split())[-_MOST_WORDS:])


def _too_slow(program: Program) -> DeployError:
    return DeployError(
        Text(
            "the program {program} was still running after {time}, and was ended",
            program=program.arguments[0],
            time=program.timeout,
        ),
        hint=Text("the next run tries again; if it needs longer, set `timeout` in seconds"),
        retry=Retry.LATER,
    )


def failed(name: str, ended: Ended) -> DeployError:
    """Return the error for a program that ended with another code than 0."""
    code, words = ended.code, ended.words
    said = Text("the program {program} failed with exit code {code}", program=name, code=code)
    if code < 0:
        words_of_signal = Text("the program {program} was ended by signal {signal}")
        said = words_of_signal.filled(program=name, signal=-code)
    said = Text("{failure}: {words}", failure=said, words=words) if words else said
    hint = Text(
        "all it said is in the file of --log-file, or shown with -v; the next run tries again"
    )
    return DeployError(said, hint=hint, retry=Retry.LATER)


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
        """Read what comes within this time."""
        if self._at_end:
            time.sleep(seconds)
        elif self._selector.select(seconds):
            chunk = os.read(self._pipe, _CHUNK)
            self._at_end = not chunk
            said = self._kept + chunk
            self._kept = said[-MOST_OUTPUT:]
            self.left_out += len(said) - len(self._kept)

    def rest(self, hidden: Collection[Secret]) -> list[str]:
        """Read the rest (a child may hold the pipe open), and return the lines that are kept."""
        for _ in range(_MOST_CHUNKS):
            self.read(0)
        kept = self._kept.decode(errors="surrogateescape")
        if self.left_out:
            # A line that lost its beginning may be the rest of a secret's.
            kept = "".join(kept.splitlines(keepends=True)[1:])
        # Masked before anything else is cut: a part of a secret may not be recognised.
        lines = redacted(kept, hidden).splitlines()
        return [_without_controls(line) for line in lines if line.strip()]


def _without_controls(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line).rstrip()
