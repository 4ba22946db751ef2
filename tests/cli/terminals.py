"""A terminal for tests: the contents of a screen, and a process that runs in the terminal."""

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
    """The cells of a terminal that understands rich's control sequences. Lines that scroll off
    stay.

    `widest` is the width of the widest line so far, `raw` all received text.
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
        # A wide character takes two cells; the second cell is empty.
        cells[self._column : self._column + width(character)] = [character, ""][: width(character)]
        self._column += width(character)
        self.widest = max(self.widest, self._column)


class Terminal:
    """A process in its own terminal, during a `with` block. With `echo` the terminal shows typed
    text, unless the process switches the echo off.
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
        """Switch the echo off, so that typed text is no output."""
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, words: str) -> None:
        """Type words; bytes outside UTF-8 are surrogates, as in Python."""
        os.write(self._master, words.encode(errors="surrogateescape"))

    def until(self, condition: Callable[[str], bool], seconds: float = 20) -> str:
        """Wait until the text of the screen meets the condition, and return the text."""
        deadline = time.monotonic() + seconds
        while not condition(self.screen.text):
            remaining = deadline - time.monotonic()
            assert remaining > 0, f"not seen; the screen shows:\n{self.screen.text}"
            assert self._read(remaining), (
                f"the program has ended; the screen shows:\n{self.screen.text}"
            )
        return self.screen.text

    def end(self, seconds: float = 20) -> int:
        """Wait for the end of the program, and return its exit code."""
        deadline = time.monotonic() + seconds
        while self._read(max(deadline - time.monotonic(), 0)):
            assert time.monotonic() < deadline, self.screen.text
        return self.process.wait(max(deadline - time.monotonic(), 1))

    def _read(self, seconds: float) -> bool:
        """Read the output within some time, and return whether the program still has the
        terminal.
        """
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return True
        try:
            self._bytes += os.read(self._master, 65536)
        except OSError:  # Linux raises the error when no process has the other end
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
