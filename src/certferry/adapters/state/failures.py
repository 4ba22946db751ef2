"""What the database and the file system report, in certferry's words."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from pathlib import Path

from certferry.errors import StateError, StateUnavailable
from certferry.file_trust import NotTrusted
from certferry.system_words import system_words
from certferry.text import Text

PRIMARY = 0xFF
"""The low byte of an extended result code is the primary one (https://sqlite.org/rescode.html)."""

_LEAST_ROOM = 64 * 1024
"""The index of the write-ahead log takes half of it at once (https://sqlite.org/walformat.html)."""

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class translating_errors:  # noqa: N801 - reads as the function that it stands for
    """Translate every foreign error about a file in a `with` block. A run reads the state several
    times a certificate, and a generator would cost each time twice as much.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, problem: BaseException | None, __: object) -> None:
        if isinstance(problem, sqlite3.Error):
            raise _of_database(problem, self._path) from problem
        if isinstance(problem, OSError):
            raise _of_file(problem, self._path) from problem


def _of_database(exc: sqlite3.Error, path: Path) -> StateError:
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY
    match code:
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StateUnavailable(
                Text("{path} has been locked by another process for too long", path=path),
                hint=Text("see who has it open: fuser -v {path}", path=path),
            )
        case sqlite3.SQLITE_PERM | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return _not_permitted(path, str(exc)) if _is_writable(path) else _read_only(path)
        case sqlite3.SQLITE_IOERR if _has_no_room(path.parent):
            # What SQLite says when it is the index of the log that cannot grow.
            return _full(path)
        case sqlite3.SQLITE_IOERR:
            return StateUnavailable(
                Text("{path} cannot be read or written: {problem}", path=path, problem=str(exc)),
                hint=Text(
                    "free some space at {folder}, or check its disk if there is enough",
                    folder=path.parent,
                ),
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_FORMAT:
            return damaged(path, str(exc))
    return StateError(Text("{path}: {problem}", path=path, problem=str(exc)))


def _of_file(exc: OSError, path: Path) -> StateError:
    if isinstance(exc, NotTrusted):
        return StateError(
            Text("{path} {problem}", path=exc.path, problem=exc.problem),
            hint=exc.fix,
        )
    if exc.errno in _NO_SPACE:
        return _full(path)
    return _not_permitted(path, system_words(exc))


def _is_writable(path: Path) -> bool:
    """Return whether its file system takes writes: after an error of its disk it may not."""
    try:
        return not os.statvfs(path.parent).f_flag & os.ST_RDONLY
    except OSError:
        return True


def takes_no_writes(path: Path) -> bool:
    """Return whether what is wrong with a file is that its disk is full, or may only be read."""
    try:
        return not _is_writable(path) or _has_no_room(path.parent)
    except OSError:
        return False


def _has_no_room(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < _LEAST_ROOM


def _full(path: Path) -> StateUnavailable:
    return StateUnavailable(
        Text("{path} cannot be written: the disk is full", path=path),
        hint=Text("free some space at {folder}", folder=path.parent),
    )


def _read_only(path: Path) -> StateUnavailable:
    return StateUnavailable(
        Text("{path} cannot be opened: its file system is read-only", path=path),
        hint=Text("see with `mount` and `dmesg` why, and have it writable again"),
    )


def _not_permitted(path: Path, problem: Text | str) -> StateUnavailable:
    return StateUnavailable(
        Text("{path} cannot be opened: {problem}", path=path, problem=problem),
        hint=Text("{path} must be a file of the user who runs certferry", path=path),
    )


def damaged(path: Path | str, problem: Text | str) -> StateError:
    """Return the error for a database that is no state, or no longer one; a `path` that is no
    `Path` is a server's.
    """
    hint = Text("put it back from a backup, or name a database or schema of its own in `url`")
    if isinstance(path, Path):
        hint = Text(
            "check the path, or put {path} back from a backup; without a backup, start over: move"
            " it away, with its `-wal` and `-shm` if there are any, and the next `certferry sync`"
            " makes it anew and issues every certificate again",
            path=path,
        )
    return StateError(
        Text("{path} is not a state of certferry: {problem}", path=path, problem=problem), hint=hint
    )
