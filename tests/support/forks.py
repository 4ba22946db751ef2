"""Processes that begin with certferry imported: each is a fork of one that has imported it, which
saves the quarter of a second of the processor that the imports take. All else is a process's own:
its number, its signals, its memory, its streams, its end. The thorough tier starts each anew, and
so does a test of how the command starts.
"""

from __future__ import annotations

import io
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from functools import cache
from multiprocessing import get_context, reduction
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO, Any, TextIO

from certferry import __main__ as command_line
from tests.support.tiers import THOROUGH

IMPORTED = (
    *("certferry.cli.init", "certferry.cli.sync", "certferry.wiring.workspace"),
    *("certferry.adapters.acme.issuer", "certferry.console.process", __name__),
)
"""What is imported once; a process imports what else it needs."""

COMMAND = [sys.executable, "-m", "certferry"]
Stream = int | IO[Any] | None


def start(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    pass_fds: Sequence[int] = (),
    start_new_session: bool = False,
) -> subprocess.Popen[str]:
    """Start a process as `subprocess.Popen` does, with text in its pipes; fork it where that makes
    no difference.
    """
    environ = dict(os.environ if env is None else env)
    if _forks(arguments, environ) and not pass_fds:
        streams = (stdin, stdout, stderr)
        return _Fork(
            arguments[1:], environ, cwd or Path.cwd(), streams, is_session=start_new_session
        )
    return subprocess.Popen(
        arguments,
        env=environ,
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        text=True,
        pass_fds=pass_fds,
        start_new_session=start_new_session,
    )


def run(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a process to its end, as `start` starts it; it reads nothing."""
    pipe = subprocess.PIPE
    with start(
        arguments, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
    ) as process:
        out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _forks(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether Python runs certferry, a program or a file, and starts there as it did."""
    python, what, *_ = [*arguments, "", ""]
    is_known = what == "-c" or what.endswith(".py") or list(arguments[:3]) == COMMAND
    is_here = _read_at_the_start(environ) == _read_at_the_start(os.environ)
    return python == sys.executable and is_known and is_here and not THOROUGH


def _read_at_the_start(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Python reads when it starts, and never again."""
    names = (name for name in environ if name.startswith(("LANG", "LC_", "PYTHON")))
    return {name: environ[name] for name in names}


class _Fork(subprocess.Popen[str]):
    """A process that was forked, with what tests ask of a `Popen`."""

    def __init__(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        directory: Path,
        streams: Sequence[Stream],
        *,
        is_session: bool,
    ) -> None:
        ours: list[IO[str] | None] = []
        theirs: list[_Descriptor] = []
        given: list[int] = []
        for number, stream in enumerate(streams):
            mine, its = _pipe(stream, number)
            ours.append(mine)
            theirs.append(_Descriptor(its))
            if stream in {subprocess.PIPE, subprocess.DEVNULL}:
                given.append(its)
        self.stdin, self.stdout, self.stderr = ours
        self.args = [sys.executable, *words]
        self.returncode = None
        self._process = _server().Process(
            target=_begin,
            args=(words, environ, directory, theirs),
            kwargs={"is_session": is_session},
            daemon=True,
        )
        self._process.start()
        for descriptor in given:
            os.close(descriptor)
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """See `Popen.poll`."""
        if self.returncode is None:
            self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """See `Popen.wait`."""
        if self.returncode is None:
            self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(
        self,
        input: str | None = None,  # noqa: A002 - as `Popen` calls it
        timeout: float | None = None,
    ) -> tuple[str, str]:
        """See `Popen.communicate`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with ThreadPoolExecutor(2) as readers:
            read = [
                readers.submit(stream.read if stream else str)
                for stream in (self.stdout, self.stderr)
            ]
            if self.stdin:
                self.stdin.write(input or "")
                self.stdin.close()
            try:
                out, err = (one.result(timeout) for one in read)
                self.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
            except (Late, subprocess.TimeoutExpired):
                self.kill()
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        return out, err


def _pipe(stream: Stream, number: int) -> tuple[IO[str] | None, int]:
    """Return our end of a stream, if it has one, and the process's."""
    if stream == subprocess.PIPE:
        reading, writing = os.pipe()
        return (os.fdopen(reading), writing) if number else (os.fdopen(writing, "w"), reading)
    if stream == subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_RDWR)
    if stream is None:
        return None, number
    return None, stream if isinstance(stream, int) else stream.fileno()


class _Descriptor:
    """The number of an open file, which is another one in the process that is sent it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[object, ...]:
        return _detached, (reduction.DupFd(self.number),)


def _detached(sent: Any) -> int:
    """Return the number that a descriptor has here."""
    return int(sent.detach())


@cache
def _server() -> ForkServerContext:
    """Have a process that forks; it starts with the first fork, and ends with this process."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED])
    return context


def _begin(
    words: Sequence[str],
    environ: Mapping[str, str],
    directory: Path,
    streams: Sequence[int],
    *,
    is_session: bool,
) -> None:
    """Be the process: with this environment, directory and streams, run what the words say."""
    if is_session:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    os.chdir(directory)
    sys.stdin = _opened(0, "r")
    sys.stdout = _opened(1, "w")
    sys.stderr = _opened(2, "w")
    match words:
        case ["-m", _, *rest]:
            sys.argv = [str(command_line.__file__), *rest]
            command_line.begin()
        case ["-c", program, *rest]:
            sys.argv = ["-c", *rest]
            main = {"__name__": "__main__"}
            exec(compile(program, "<string>", "exec"), main)  # noqa: S102 - as `python -c` does
        case [file, *_]:
            sys.argv = [*words]
            runpy.run_path(file, run_name="__main__")


def _opened(number: int, mode: str) -> TextIO:
    """Open a stream as Python does where it starts."""
    binary = open(number, f"{mode}b", closefd=False)  # noqa: SIM115 - the process ends with it
    return io.TextIOWrapper(
        binary,
        encoding="utf-8",
        errors="backslashreplace" if number == 2 else "surrogateescape",
        line_buffering=number == 2 or binary.isatty(),
    )
