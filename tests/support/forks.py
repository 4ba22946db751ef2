"""Processes that start with certferry imported, each as a fork of a process with the imports.

A fork saves the imports' quarter of a second of processor time. Number, signals, memory, streams
and end are the process's own. The thorough tier, and tests of the start of the command, start new
processes instead.
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
"""The modules that are imported before the forks; a process imports other modules itself."""

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
    """Start a process as `subprocess.Popen` does, with text in the pipes. Fork if a fork behaves
    the same.
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
    """Run a process to the end, started by `start`, with an empty input."""
    pipe = subprocess.PIPE
    with start(
        arguments, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
    ) as process:
        out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _forks(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether the command is Python with certferry, a `-c` program or a file, and Python
    would start with the same settings as this process.
    """
    python, program, *_ = [*arguments, "", ""]
    is_known = program == "-c" or program.endswith(".py") or list(arguments[:3]) == COMMAND
    is_here = _read_at_the_start(environ) == _read_at_the_start(os.environ)
    return python == sys.executable and is_known and is_here and not THOROUGH


def _read_at_the_start(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Python reads only at the start."""
    names = (name for name in environ if name.startswith(("LANG", "LC_", "PYTHON")))
    return {name: environ[name] for name in names}


class _Fork(subprocess.Popen[str]):
    """A forked process with the part of the interface of `Popen` that tests use."""

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
        opened: list[int] = []
        for number, stream in enumerate(streams):
            our_end, end_of_process = _pipe(stream, number)
            ours.append(our_end)
            theirs.append(_Descriptor(end_of_process))
            if stream in {subprocess.PIPE, subprocess.DEVNULL}:
                opened.append(end_of_process)
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
        for descriptor in opened:
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
        input: str | None = None,  # noqa: A002 - the name in `Popen`
        timeout: float | None = None,
    ) -> tuple[str, str]:
        """See `Popen.communicate`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with ThreadPoolExecutor(2) as readers:
            outputs = [
                readers.submit(stream.read if stream else str)
                for stream in (self.stdout, self.stderr)
            ]
            if self.stdin:
                self.stdin.write(input or "")
                self.stdin.close()
            try:
                out, err = (output.result(timeout) for output in outputs)
                self.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
            except (Late, subprocess.TimeoutExpired):
                self.kill()
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        return out, err


def _pipe(stream: Stream, number: int) -> tuple[IO[str] | None, int]:
    """Return our end of a stream, if any, and the process's end."""
    if stream == subprocess.PIPE:
        reading, writing = os.pipe()
        return (os.fdopen(reading), writing) if number else (os.fdopen(writing, "w"), reading)
    if stream == subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_RDWR)
    if stream is None:
        return None, number
    return None, stream if isinstance(stream, int) else stream.fileno()


class _Descriptor:
    """The number of an open file; a process that receives the object gets another number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[object, ...]:
        return _detached, (reduction.DupFd(self.number),)


def _detached(sent: Any) -> int:
    """Return the number of a descriptor in this process."""
    return int(sent.detach())


@cache
def _server() -> ForkServerContext:
    """Return the context with the process that forks. The process starts with the first fork, and
    ends with this process.
    """
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
    """Become the process: take over environment, directory and streams, and run the program in
    `words`.
    """
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
        case ["-m", _, *arguments]:
            sys.argv = [str(command_line.__file__), *arguments]
            command_line.begin()
        case ["-c", program, *arguments]:
            sys.argv = ["-c", *arguments]
            main = {"__name__": "__main__"}
            exec(compile(program, "<string>", "exec"), main)  # noqa: S102 - as `python -c` does
        case [file, *_]:
            sys.argv = [*words]
            runpy.run_path(file, run_name="__main__")


def _opened(number: int, mode: str) -> TextIO:
    """Open a standard stream with Python's own settings."""
    binary = open(number, f"{mode}b", closefd=False)  # noqa: SIM115 - the process ends with it
    return io.TextIOWrapper(
        binary,
        encoding="utf-8",
        errors="backslashreplace" if number == 2 else "surrogateescape",
        line_buffering=number == 2 or binary.isatty(),
    )
