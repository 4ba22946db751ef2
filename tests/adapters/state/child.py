"""A process that works on a state, and the conversation with the process: a line of JSON at a
time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = Path(__file__).with_name("child_program.py")
PATIENCE = 10  # in seconds, for a child to end by itself


class Child:
    """A running program of `child_program.py`. Leaving the block closes its pipes and ends the
    child.
    """

    def __init__(self, program: str, folder: Path, wrapped_in: tuple[str, ...] = ()) -> None:
        self._process = subprocess.Popen(
            [*wrapped_in, sys.executable, str(PROGRAM), program, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the child ended with {self._process.wait()} and wrote no line"
        return json.loads(line)

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """Send SIGKILL, and wait until the child is a zombie: ended, but not yet reaped."""
        self._process.kill()
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)

    @property
    def pid(self) -> int:
        return self._process.pid

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Suspend the child for the time of a `with` block, which begins after the child has
        stopped.
        """
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def reap(self) -> None:
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
