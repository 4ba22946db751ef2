"""The log file: whole lines from any number of processes, and old ones kept by size.

A file that has reached `MOST_BYTES` becomes `FILE.1`, the one before it `FILE.2`, and so on; of
these there are `OLD_FILES`. By size and not by day: a disk has a size, and most days say little.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certferry.errors import ConfigError
from certferry.text import Text

MOST_BYTES = 5 * 1024 * 1024
OLD_FILES = 5

_MODE = 0o640
"""The owner writes; a group, such as Debian's `adm`, may read along."""


class LogFile:
    """A file that lines are added to. It is opened for each: somebody else may have moved it."""

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        # A link stays where it is: what it leads to is what is moved away.
        self.path = Path(os.path.realpath(path))
        self._most_bytes = most_bytes

    def try_out(self) -> None:
        """Make the file, empty, if it is not there. Raises `ConfigError` when that cannot be."""
        try:
            with self._opened():
                pass
        except OSError as exc:
            raise ConfigError(
                cannot_be_written(self.path, exc),
                hint=_advice(self.path),
            ) from exc

    def add(self, line: str) -> None:
        """Add a line, in one piece. Raises `OSError`."""
        written = (line + "\n").encode("utf-8", "backslashreplace")
        with self._opened(len(written)) as descriptor:
            while written:
                written = written[os.write(descriptor, written) :]

    @contextmanager
    def _opened(self, coming: int = 0) -> Iterator[int]:
        """Hold the file, alone among all processes, with room for what is coming."""
        while True:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if not self._is_in_place(descriptor):
                    continue  # another process has moved it away meanwhile
                if self._is_full(descriptor, coming):
                    self._move_away()
                    continue
                yield descriptor
                return
            finally:
                os.close(descriptor)  # lets go of the lock too

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, _MODE)
        except FileExistsError:
            return os.open(self.path, flags)
        # The process's mask may have taken the group's right away.
        os.fchmod(descriptor, _MODE)
        return descriptor

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _is_full(self, descriptor: int, coming: int) -> bool:
        found = os.fstat(descriptor)
        return stat.S_ISREG(found.st_mode) and 0 < found.st_size > self._most_bytes - coming

    def _move_away(self) -> None:
        for number in range(OLD_FILES - 1, 0, -1):
            if self._old(number).exists():
                self._old(number).replace(self._old(number + 1))
        self.path.replace(self._old(1))

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def cannot_be_written(path: Path, problem: OSError) -> Text:
    """Say that a log cannot be written."""
    return Text("the log {path} cannot be written: {problem}", path=path, problem=problem.strerror)


def _advice(path: Path) -> Text:
    if not path.parent.is_dir():
        return Text("make the directory first: mkdir -p {directory}", directory=path.parent)
    return Text("name a file that {user} may write with --log-file", user=_user())


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        return str(os.geteuid())
