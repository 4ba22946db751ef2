"""Run a program of the operator's: without a shell, for a bounded time, its words in the log."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import closing
from datetime import timedelta
from functools import cached_property

from certferry.adapters.clients import strays
from certferry.core.desired import Program
from certferry.core.redaction import redacted
from certferry.core.secret import Secret
from certferry.errors import DeployError, Retry, TargetRejected
from certferry.ports.progress import Pause
from certferry.system_words import system_words
from certferry.text import Text, verbatim

MOST_OUTPUT = 16 * 1024
"""Bytes of a program's output that are kept, from its end, where the reason usually is."""

GRACE = timedelta(seconds=3)
"""How long a program that is ended before its time may take to leave things in order."""

_MOST_WORDS = 300
"""Characters of it that an error quotes."""

_TICK = 0.05
"""Seconds after which it is looked at whether the run has been stopped."""

_CHUNK = 4096
_MOST_CHUNKS = 64
"""More than a pipe holds; a child that never stops writing does not hold up the end."""

_READ_ON = "exec 3<&0; cat <&3 3<&- &"  # what goes to the background has no other input in a shell

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
    """Run a program to its end, with these variables and the environment but for the `withheld`.

    Its output goes to the log, without what is `hidden`. One that takes too long, or is running
    when the run is stopped, is ended with its children. Raises `DeployError`, and `Interrupted` as
    `pause` does.
    """
    must_be_there(program)
    mark = secrets.token_hex(16)
    environment = {name: value for name, value in os.environ.items() if name not in withheld}
    environment |= {**variables, strays.VARIABLE: mark}
    with _started(program, environment) as process, closing(_Output(process, hidden)) as output:
        ended = False
        try:
            ended = _follow(process, output, program.timeout, pause)
        finally:
            if not ended:
                _end(process, output, mark)
            output.log(program.arguments[0])
        process.wait()
        if ended:
            output.leave()
    if not ended:
        raise _too_slow(program)
    if process.returncode != 0:
        raise _failed(program, process.returncode, output.last_words())


def _started(program: Program, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            program.arguments,
            env=environment,
            cwd=program.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group of its own, so that its children can be ended with it; and no terminal that
            # it could ask for a password.
            start_new_session=True,
        )
    except (OSError, ValueError) as exc:
        raise TargetRejected(
            Text(
                "the program {program} cannot be run: {problem}",
                program=program.arguments[0],
                problem=system_words(exc),
            ),
            hint=Text("try the same command by hand, as the user who runs certferry"),
        ) from exc


class _Output:
    """What a process writes: read as it comes, kept from its end."""

    def __init__(self, process: subprocess.Popen[bytes], hidden: Collection[Secret]) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for with PIPE
        self._stream = process.stdout
        os.set_blocking(self._stream.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stream, selectors.EVENT_READ)
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._left_out = 0
        self._at_end = False
        self._hidden = hidden

    def read(self, seconds: float) -> None:
        """Take in what comes within this time, or at once what is there."""
        if self._at_end:
            time.sleep(seconds)
        elif self._selector.select(seconds):
            chunk = os.read(self._stream.fileno(), _CHUNK)
            self._keep(chunk)
            self._at_end = not chunk

    def drain(self) -> None:
        """Take in what is there still. A child that lives on may keep it open: not waited for."""
        for _ in range(_MOST_CHUNKS):
            if self._at_end or not self._selector.select(0):
                return
            self.read(0)

    def leave(self) -> None:
        """Leave the rest to a process that throws it away: a child that lives on would die of its
        first word when nobody held the other end of the pipe any more (SIGPIPE).
        """
        if self._at_end:
            return
        os.set_blocking(self._stream.fileno(), True)
        with contextlib.suppress(OSError):
            subprocess.run(
                ["/bin/sh", "-c", _READ_ON],
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd="/",
                stdin=self._stream,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                check=False,
            )

    def close(self) -> None:
        """Let go of what was needed to read."""
        self._selector.close()

    def log(self, name: str) -> None:
        """Write it to the log, a record for each line. Each has a `program`: by it the log file
        takes it, whatever else is left out there.
        """
        if self._left_out:
            said = Text(
                "{program}: {count} bytes of its output are left out",
                program=name,
                count=self._left_out,
            )
            _log.info(said, extra={"program": name})
        for line in self._lines:
            _log.info("%s: %s", name, line, extra={"program": name})

    def last_words(self) -> str:
        """Give the end of it, on one line."""
        return " ".join(" ".join(self._lines).split())[-_MOST_WORDS:]

    def _keep(self, chunk: bytes) -> None:
        self._kept.append(chunk)
        self._size += len(chunk)
        while self._size - len(self._kept[0]) > MOST_OUTPUT:
            self._left_out += len(self._kept[0])
            self._size -= len(self._kept.popleft())

    @cached_property
    def _lines(self) -> list[str]:
        """What is kept of it, once all is there: to look for a key in it takes its time."""
        # Masked before anything is cut: nothing would tell a part of a secret.
        text = redacted(b"".join(self._kept).decode(errors="surrogateescape"), self._hidden)
        lines = text.splitlines()
        # A line that lost its beginning may be the rest of a secret's.
        whole = lines[1:] if self._left_out else lines
        return [_without_controls(line) for line in whole if line.strip()]


def _without_controls(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line).rstrip()


def _follow(
    process: subprocess.Popen[bytes], output: _Output, timeout: timedelta, pause: Pause
) -> bool:
    """Wait for the end; tell whether it came in time."""
    deadline = time.monotonic() + timeout.total_seconds()
    while not _has_ended(process):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        output.read(min(_TICK, left))
        pause(0)
    output.drain()
    return True


def _end(process: subprocess.Popen[bytes], output: _Output, mark: str) -> None:
    """Ask it to end, give it its time, and then end what is left of it."""
    try:
        _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE.total_seconds()
        while not _has_ended(process) and time.monotonic() < deadline:
            output.read(_TICK)
        output.drain()
    finally:
        # In any case: it may have ended alone, and left its children.
        _signal(process, signal.SIGKILL)
        strays.end(mark)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Look without reaping it: as long as it is not, its group's number is nobody else's."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)


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


def _failed(program: Program, code: int, words: str) -> DeployError:
    name = program.arguments[0]
    if code < 0:
        said = Text(
            "the program {program} was ended by signal {signal}", program=name, signal=-code
        )
    else:
        said = Text("the program {program} failed with exit code {code}", program=name, code=code)
    told = Text("{failure}: {words}", failure=said, words=verbatim(words)) if words else said
    return DeployError(
        told,
        lasting=said,
        hint=Text(
            "all it said is in the file of --log-file, or shown with -v; the next run tries again"
        ),
        retry=Retry.LATER,
    )
