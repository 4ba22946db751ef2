"""The log file: whole lines from any number of processes. It is opened for each line, so that
logrotate may move it away. What is no file, such as a container's `/dev/stdout`, is only written
to.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
from pathlib import Path

from certferry.errors import ConfigError
from certferry.file_trust import NotTrusted, Spot, spot
from certferry.system_words import system_words
from certferry.text import Text

_MODE = 0o640
"""The owner writes; a group, such as Debian's `adm`, may read along."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

_NAMED = {"/dev/stdout": 1, "/dev/stderr": 2}
_NUMBERED = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
_OF_THE_DISK = frozenset({errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EROFS})
_MOST_LINKS = 40
"""As many as Linux follows in a path (path_resolution(7))."""


class LogFile:
    """A file that lines are added to; or a pipe, a terminal, a device that they are written to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: int | None = None

    def try_out(self) -> None:
        """Open it; a file that is not there is made. Raises `ConfigError` when that cannot be.

        What is no file stays open until the process ends: a pause would be the end to the reader
        of a FIFO.
        """
        kept = is_stream(self.path)
        try:
            descriptor = self._open()
        except OSError as exc:
            raise ConfigError(
                cannot_be_written(self.path, exc), hint=_advice(self.path, exc)
            ) from exc
        if kept:
            self._kept = descriptor
        else:
            os.close(descriptor)

    def add(self, line: str) -> None:
        """Add a line, in one piece (`O_APPEND`). Raises `OSError`."""
        descriptor = self._open() if self._kept is None else self._kept
        try:
            _write(descriptor, (line + "\n").encode("utf-8", "backslashreplace"))
        finally:
            if descriptor != self._kept:
                os.close(descriptor)

    def _open(self) -> int:
        number = _open_already(self.path)
        if number is not None:
            return os.dup(number)
        # The system's own directory of logs may be its logger's, and the group's.
        with spot(self.path, exposed=True) as found:
            descriptor = _opened(found, stream=is_stream(self.path))
            try:
                _must_be_harmless(found, os.fstat(descriptor))
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor


def _opened(found: Spot, *, stream: bool) -> int:
    if stream:
        # A FIFO without a reader is an error and not a wait; the log waits for a slow reader.
        descriptor = found.open(_FLAGS)
        os.set_blocking(descriptor, True)
        return descriptor
    try:
        descriptor = found.open(_FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        # To be made all the same: another program may move it away at this moment.
        return found.open(_FLAGS | os.O_CREAT, _MODE)
    # The process's mask may have taken the group's right away.
    os.fchmod(descriptor, _MODE)
    return descriptor


def _must_be_harmless(found: Spot, facts: os.stat_result) -> None:
    """Raise `NotTrusted` where others could have put what is written to: another name of a file
    that is not a log, or a pipe without a reader.
    """
    if found.is_exposed and (not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1):
        problem = Text("is no regular file with one name, and others can write to its directory")
        raise NotTrusted(found.path, problem, Text("move it away, or name another log"))


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
    file behind it would be written at two places at once, or moved away from its program.
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


def _write(descriptor: int, written: bytes) -> None:
    while written:
        written = written[os.write(descriptor, written) :]


def is_trouble_of_its_disk(problem: BaseException | None) -> bool:
    """Tell whether the disk is full, broken or read-only: that is no mistake of who named the log,
    and a run must not stay away for it.
    """
    return isinstance(problem, OSError) and problem.errno in _OF_THE_DISK


def cannot_be_written(path: Path, problem: OSError) -> Text:
    """Say that a log cannot be written."""
    if isinstance(problem, NotTrusted):
        said = Text("{path} {problem}", path=problem.path, problem=problem.problem)
        return Text("the log is not written: {problem}", problem=said)
    return Text(
        "the log {path} cannot be written: {problem}", path=path, problem=system_words(problem)
    )


def _advice(path: Path, problem: OSError) -> Text:
    if isinstance(problem, NotTrusted):
        return problem.fix
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
