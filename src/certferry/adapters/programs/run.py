"""Run an operator's program without a shell and with a time limit. The output goes to the log."""

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
"""How long a program may take to clean up after the signal to end."""

_MOST_WORDS = 300  # characters of output quoted by an error

_TICK = 0.05  # seconds between two checks whether the run was stopped

_log = logging.getLogger(__name__)


def must_be_there(program: Program) -> None:
    """Raise `TargetRejected` for a program that is missing or cannot be executed."""
    name = program.arguments[0]
    if shutil.which(name) is None:
        message = Text("the program {program} cannot be found or run", program=name)
        hint = Text("check that the program exists and is executable")
        if "/" not in name:
            searched = os.environ.get("PATH", os.defpath)
            hint = Text("write the program's full path; certferry searched {path}", path=searched)
        raise TargetRejected(message, hint=hint)


def run(
    program: Program,
    variables: Mapping[str, str],
    pause: Pause,
    *,
    hidden: Collection[Secret],
    withheld: Collection[str] = (),
) -> None:
    """Run a program as `run_to_end` does. Raises `DeployError` also if the program fails."""
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
    """Run a program to the end, and return the exit code and the last words of the output.

    The program gets the environment except `withheld`, plus `variables`, and reads `given` on
    standard input. The output goes to the log, with `hidden` masked. The program is ended, together
    with its process group, after the time-out or if the run is stopped.

    Raises `DeployError` if the program cannot be started or was ended after the time-out,
    `Interrupted` by `pause`, and `LeaseLost`.
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
            log_lines(program.arguments[0], lines, output.left_out)
    if not ended:
        raise too_slow(program)
    return Ended(process.returncode, last_words(lines))


@contextlib.contextmanager
def _input(given: bytes) -> Iterator[int]:
    """Open a program's standard input: a file, because a pipe blocks if unread."""
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
            # A separate process group, so that the children can be ended as well; and no terminal
            # to ask for a password.
            start_new_session=True,
        )
    except (OSError, ValueError) as exc:
        message = Text("the program {program} cannot be run: {problem}")
        message = message.filled(program=program.arguments[0], problem=system_words(exc))
        hint = Text("run the command by hand, as certferry's user")
        raise TargetRejected(message, hint=hint) from exc


def _follow(
    process: subprocess.Popen[bytes], output: Output, timeout: timedelta, pause: Pause
) -> bool:
    """Wait for the program to end; return whether the program ended in time."""
    deadline = time.monotonic() + timeout.total_seconds()
    while not has_ended(process):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        output.read(min(_TICK, left))
        pause(0)
    return True


def _end(process: subprocess.Popen[bytes], output: Output) -> None:
    """Ask the process group to end, wait for `GRACE`, then kill the group."""
    try:
        _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE.total_seconds()
        while not has_ended(process) and time.monotonic() < deadline:
            output.read(_TICK)
    finally:
        # Kill the group in any case: the program may have ended and left children behind.
        _signal(process, signal.SIGKILL)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with its group, and wait for the process. For a process without a cleanup."""
    _signal(process, signal.SIGKILL)
    process.wait()


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the program has ended. The process is not reaped, so the number of the process
    group stays taken.
    """
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)


def log_lines(name: str, lines: list[str], left_out: int) -> None:
    """Log the lines, marked by the attribute `program`: the log file takes lines with this
    attribute at any level.
    """
    if left_out:
        sentence = Text(
            "{program}: {count} bytes of its output are left out", program=name, count=left_out
        )
        _log.info(sentence, extra={"program": name})
    for line in lines:
        _log.info("%s: %s", name, line, extra={"program": name})


def last_words(lines: list[str]) -> Quoted:
    """Return the end of a program's output, for an error."""
    return Quoted(" ".join(" ".join(lines).split())[-_MOST_WORDS:])


def too_slow(program: Program) -> DeployError:
    """Return the error for a program that was stopped after the time-out."""
    return DeployError(
        Text(
            "the program {program} was still running after {time} and was stopped",
            program=program.arguments[0],
            time=program.timeout,
        ),
        hint=Text("the next run tries again; to allow more time, set `timeout` in seconds"),
        retry=Retry.LATER,
    )


def failed(name: str, ended: Ended) -> DeployError:
    """Return the error for a program with an exit code other than 0."""
    code, words = ended.code, ended.words
    message = Text("the program {program} failed with exit code {code}", program=name, code=code)
    if code < 0:
        words_of_signal = Text("signal {signal} ended the program {program}")
        message = words_of_signal.filled(program=name, signal=-code)
    message = Text("{failure}: {words}", failure=message, words=words) if words else message
    hint = Text("-v and the file of --log-file show the program's output; the next run tries again")
    return DeployError(message, hint=hint, retry=Retry.LATER)


MOST_OUTPUT = 16 * 1024
"""How many bytes of a program's output are kept. The end is kept, because errors usually
come last."""

_CHUNK = 4096
_MOST_CHUNKS = 64
"""How many chunks are read after the program's end: more than a pipe holds, and not endless,
because a child may write for ever.
"""


class Output:
    """The output of a process started with a pipe; used in a `with` block."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - started with PIPE
        self._pipe = process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._kept = b""
        self._at_end = False
        #: Bytes dropped from the beginning.
        self.left_out = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def read(self, seconds: float) -> None:
        """Read output for up to `seconds`."""
        if self._at_end:
            time.sleep(seconds)
        elif self._selector.select(seconds):
            chunk = os.read(self._pipe, _CHUNK)
            self._at_end = not chunk
            output = self._kept + chunk
            self._kept = output[-MOST_OUTPUT:]
            self.left_out += len(output) - len(self._kept)

    def rest(self, hidden: Collection[Secret]) -> list[str]:
        """Read the rest of the output, without waiting for a child that holds the pipe open. Return
        the kept lines with secrets masked.
        """
        for _ in range(_MOST_CHUNKS):
            self.read(0)
        return readable_lines(self._kept, hidden, is_cut=self.left_out > 0)


def readable_lines(output: bytes, hidden: Collection[Secret], *, is_cut: bool) -> list[str]:
    """Return the lines of a program's output with secrets masked. `is_cut`: the beginning of the
    output is missing.
    """
    kept = output.decode(errors="surrogateescape")
    if is_cut:
        # The beginning of the first line is lost. The rest of the line may be part of a secret,
        # which masking would miss.
        kept = "".join(kept.splitlines(keepends=True)[1:])
    # Mask before cutting into lines, because masking may miss a part of a secret.
    lines = redacted(kept, hidden).splitlines()
    return [_without_controls(line) for line in lines if line.strip()]


def _without_controls(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line).rstrip()
