"""The log file: whole lines from any number of processes, and old ones kept by size.

A file that has reached `MOST_BYTES` becomes `FILE.1`, the one before it `FILE.2`, and so on; of
these there are `OLD_FILES`. The new file is whose the old one was. By size and not by day: a disk
has a size, and most days say little. What is no file, such as a container's `/dev/stdout`, is only
written to.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from certferry.errors import ConfigError
from certferry.system_words import system_words
from certferry.text import Text

MOST_BYTES = 5 * 1024 * 1024
OLD_FILES = 5

_MODE = 0o640
"""The owner writes; a group, such as Debian's `adm`, may read along."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

_NAMED = {"/dev/stdout": 1, "/dev/stderr": 2}
_NUMBERED = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
_MOST_LINKS = 40
"""As many as Linux follows in a path (path_resolution(7))."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a log, and what to do about it."""

    what: Text
    hint: Text | None = None


class LogStream:
    """A pipe, a terminal or another device. Lines are written to it; nothing is kept or moved."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.full: Trouble | None = None
        """A stream never is."""
        self._descriptor: int | None = None

    def try_out(self) -> None:
        """Open it, until the process ends: who reads a FIFO would take a pause for the end.

        Raises `ConfigError`.
        """
        with _told(self.path):
            self._descriptor = self._open()

    def add(self, line: str) -> None:
        """Write a line. Raises `OSError`."""
        if self._descriptor is None:
            self._descriptor = self._open()
        _write(self._descriptor, _bytes(line))

    def _open(self) -> int:
        number = _open_already(self.path)
        if number is not None:
            return os.dup(number)
        # A FIFO that nobody reads is an error and not a wait; a slow reader is waited for.
        descriptor = os.open(self.path, _FLAGS)
        os.set_blocking(descriptor, True)
        return descriptor


class LogFile:
    """A file that lines are added to. It is opened for each: somebody else may have moved it."""

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        # A link stays where it is: what it leads to is what is moved away.
        self.path = Path(os.path.realpath(path))
        self.full: Trouble | None = None
        """Why a full file was not moved away. It is not tried again: lines are added all the same.
        """
        self._most_bytes = most_bytes

    def try_out(self) -> None:
        """Make the file, empty, if it is not there. Raises `ConfigError` when that cannot be."""
        with _told(self.path), self._opened():
            pass

    def add(self, line: str) -> None:
        """Add a line, in one piece. Raises `OSError`."""
        written = _bytes(line)
        with self._opened(len(written)) as descriptor:
            _write(descriptor, written)

    @contextmanager
    def _opened(self, coming: int = 0) -> Iterator[int]:
        """Hold the file, alone among all processes, with room for what is coming."""
        while True:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if not self._is_in_place(descriptor):
                    continue  # another process has moved it away meanwhile
                if self._is_full(descriptor, coming) and self._makes_room():
                    continue
                yield descriptor
                return
            finally:
                os.close(descriptor)  # lets go of the lock too

    def _open(self) -> int:
        try:
            descriptor = os.open(self.path, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
        except FileExistsError:
            # To be made all the same: another program may move it away at this moment.
            return os.open(self.path, _FLAGS | os.O_CREAT, _MODE)
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

    def _makes_room(self) -> bool:
        """Move the file away, and tell whether lines now go into a new one."""
        if self.full is not None:
            return False
        # What is not there any more, another program has moved at the same moment.
        with suppress(FileNotFoundError):
            problem = self._what_keeps_it()
            if problem is not None:
                self.full = self._grows_on(problem)
        return self.full is None

    def _what_keeps_it(self) -> Text | None:
        """Move the file away, or tell why not. Raises `FileNotFoundError`."""
        foreign = self._foreign()
        if foreign is not None:
            return Text("{path} is not certferry's", path=foreign)
        try:
            self._move_away()
        except FileNotFoundError:
            raise
        except OSError as exc:  # the directory's rights, or a file that is mounted by itself
            return system_words(exc)
        return None

    def _foreign(self) -> Path | None:
        """Give what stands where old files would go, and must not be moved or replaced.

        One more than certferry keeps: another program, such as logrotate, keeps more of them.
        """
        beyond = self._old(OLD_FILES + 1)
        if os.path.lexists(beyond):
            return beyond
        places = (self._old(number) for number in range(1, OLD_FILES + 1))
        return next((p for p in places if os.path.lexists(p) and not _is_file(p)), None)

    def _grows_on(self, problem: Text) -> Trouble:
        return Trouble(
            Text(
                "the log {path} is full and cannot be moved away, so it goes on growing: {problem}",
                path=self.path,
                problem=problem,
            ),
            Text("give the log a directory of its own that {user} may write to", user=_user()),
        )

    def _move_away(self) -> None:
        old = range(1, OLD_FILES)
        # Up to the first gap: nothing is replaced while there is room.
        last = next((number for number in old if not self._old(number).exists()), OLD_FILES)
        for number in range(last - 1, 0, -1):
            self._old(number).replace(self._old(number + 1))
        moved = self.path.stat()
        self.path.replace(self._old(1))
        # While the old one is held: who waits for it, such as its owner, finds the new one usable.
        with suppress(OSError):  # what is wrong is told where lines are added
            _make_like(self.path, moved)

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def log_at(path: Path) -> LogFile | LogStream:
    """Give the log that a path names."""
    return LogStream(path) if is_stream(path) else LogFile(path)


def is_stream(path: Path) -> bool:
    """Tell whether a path leads to no file, or to whatever is open already."""
    if _open_already(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:  # what is wrong with it is told where it is opened
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def _open_already(path: Path) -> int | None:
    """Give the descriptor that a path names, perhaps by a link, as images have for their logs.

    What it leads to is open. Opening it once more fails for a socket or another user's pipe, and a
    file behind it would be written at two places at once, or moved away from whoever opened it.
    """
    for _ in range(_MOST_LINKS):
        numbered = _NUMBERED.fullmatch(str(path))
        number = int(numbered[1]) if numbered else _NAMED.get(str(path))
        if number is not None:
            return number
        try:
            path = path.parent / path.readlink()
        except OSError:  # it is no link
            return None
    return None


def _make_like(path: Path, moved: os.stat_result) -> None:
    """Make the file that follows another, as far as the system lets us: root's run is not to lock
    out the user whose log it was. Raises `OSError`.
    """
    descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        mode = stat.S_IMODE(moved.st_mode) & 0o777
        try:
            os.fchown(descriptor, -1, moved.st_gid)
        except OSError:
            mode &= ~stat.S_IRWXG  # another group is not to have what this one had
        # Before the owner: what is another's already cannot be changed without a further right.
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, moved.st_uid, -1)
    finally:
        os.close(descriptor)


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _bytes(line: str) -> bytes:
    return (line + "\n").encode("utf-8", "backslashreplace")


def _write(descriptor: int, written: bytes) -> None:
    while written:
        written = written[os.write(descriptor, written) :]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigError(cannot_be_written(path, exc), hint=_advice(path)) from exc


def cannot_be_written(path: Path, problem: OSError) -> Text:
    """Say that a log cannot be written."""
    return Text(
        "the log {path} cannot be written: {problem}", path=path, problem=system_words(problem)
    )


def _advice(path: Path) -> Text:
    if not path.parent.is_dir():
        directory = shlex.quote(str(path.parent))
        return Text("make the directory first: mkdir -p {directory}", directory=directory)
    return Text("name a file that {user} may write with --log-file", user=_user())


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        return str(os.geteuid())
