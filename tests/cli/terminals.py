"""A terminal for tests: what a person would see on a screen, and a process that runs in one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from certferry.present.layout import width
from tests.support.forks import start

_PIECE = re.compile(r"\x1b\[(?P<parameters>[?\d;]*)(?P<code>[A-Za-z])|(?P<other>.)", re.DOTALL)


class Screen:
    """The cells of a terminal that knows what rich says to it. Lines that scroll off are kept.

    `widest` is the widest line that was ever there, `raw` all that was received.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.raw = ""
        self.widest = 0
        self._lines: list[list[str]] = [[]]
        self._row = 0
        self._column = 0

    @property
    def text(self) -> str:
        return "\n".join("".join(cells).rstrip() for cells in self._lines).rstrip("\n")

    def feed(self, received: str) -> None:
        self.raw += received
        for piece in _PIECE.finditer(received):
            if piece["code"]:
                self._obey(piece["code"], piece["parameters"])
            else:
                self._write(piece["other"])

    def _obey(self, code: str, parameters: str) -> None:
        if code == "A":
            self._row = max(self._row - int(parameters or 1), 0)
        elif code == "K":
            assert parameters == "2"
            self._lines[self._row] = []
        else:
            assert code in "mhl", f"what is {parameters}{code}?"

    def _write(self, character: str) -> None:
        if character == "\n":
            self._row += 1
            if self._row == len(self._lines):
                self._lines.append([])
        elif character == "\r":
            self._column = 0
        elif character == "\b":
            self._column = max(self._column - 1, 0)
        else:
            self._put(character)

    def _put(self, character: str) -> None:
        assert character.isprintable(), repr(character)
        cells = self._lines[self._row]
        cells += " " * (self._column - len(cells))
        # A wide character takes two places of the list: the second one is empty.
        cells[self._column : self._column + width(character)] = [character, ""][: width(character)]
        self._column += width(character)
        self.widest = max(self.widest, self._column)


class Terminal:
    """A process in a terminal of its own, for a `with` block. With `echo` it shows what is typed,
    unless the process says otherwise, as terminals do.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        columns: int = 80,
        rows: int = 24,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        echo: bool = False,
    ) -> None:
        self._master, slave = pty.openpty()
        if not echo:
            self._quiet(slave)
        self.resize(columns, rows)
        self.screen = Screen(columns)
        self._bytes = b""
        self.process = start(
            arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | {"TERM": "xterm-256color"} | dict(environ or {}),
            cwd=cwd,
            start_new_session=True,
        )
        os.close(slave)

    @staticmethod
    def _quiet(slave: int) -> None:
        """Echo nothing: what the test types is no output."""
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)

    def resize(self, columns: int, rows: int) -> None:
        """Make the window larger or smaller."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, words: str) -> None:
        """Type on the keyboard; a byte that is no UTF-8 is a surrogate, as Python has it."""
        os.write(self._master, words.encode(errors="surrogateescape"))

    def until(self, seen: Callable[[str], bool], seconds: float = 20) -> str:
        """Wait until the screen shows what is looked for, and give it."""
        deadline = time.monotonic() + seconds
        while not seen(self.screen.text):
            left = deadline - time.monotonic()
            assert left > 0, f"not seen; the screen shows:\n{self.screen.text}"
            assert self._read(left), f"the program has ended; the screen shows:\n{self.screen.text}"
        return self.screen.text

    def end(self, seconds: float = 20) -> int:
        """Wait for the program to end, and give its exit code."""
        deadline = time.monotonic() + seconds
        while self._read(max(deadline - time.monotonic(), 0)):
            assert time.monotonic() < deadline, self.screen.text
        return self.process.wait(max(deadline - time.monotonic(), 1))

    def _read(self, seconds: float) -> bool:
        """Read what comes within this time; tell whether the program still has the terminal."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return True
        try:
            self._bytes += os.read(self._master, 65536)
        except OSError:  # what Linux says when no process holds the other end
            return False
        text = self._bytes.decode(errors="ignore")
        self._bytes = self._bytes[len(text.encode()) :]
        self.screen.feed(text)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self._master)
