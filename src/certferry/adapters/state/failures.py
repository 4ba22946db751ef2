"""Translations of the errors of databases and the file system to `StateError` and `ConfigError`."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from certferry import errors
from certferry.file_trust import NotTrusted
from certferry.text import Text

if TYPE_CHECKING:
    import psycopg

PRIMARY = 0xFF
"""The mask for the primary code, the low byte of an extended result code
(https://sqlite.org/rescode.html)."""

_LEAST_ROOM = 64 * 1024
"""With fewer bytes free on the disk, a failed write means a full disk. The index of the write-ahead
log takes half of these bytes at once (https://sqlite.org/walformat.html).
"""

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


LONGEST_RESULT = 64 * 2**20
"""The most bytes in the result of a query, a limit against another program's rows. With ten
thousand certificates the largest result has about ten mebibytes."""

OF_A_ROW = 100
"""Bytes counted for each row in addition to the text, because a million empty rows take memory too.
"""

_TABLE = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?!certferry_rows)(\w+)", re.IGNORECASE)


def table_of(query: str) -> str:
    """Return the names of the tables in a query, joined by commas, for messages."""
    return ", ".join(dict.fromkeys(_TABLE.findall(query)))


class Unreadable(Exception):
    """Raised for rows that certferry cannot have written: too long a result, or bytes in place of
    text.
    """

    def __init__(self, problem: Text) -> None:
        super().__init__(str(problem))
        self.problem = problem


def too_long(table: str) -> Unreadable:
    """Return the error for a query of a table with a result longer than `LONGEST_RESULT`."""
    most = LONGEST_RESULT // 2**20
    message = Text("the table {table} returns more than {count} MiB")
    return Unreadable(message.filled(table=table, count=most))


def no_text(table: str) -> Unreadable:
    """Return the error for a table with bytes, or with text in another encoding than UTF-8."""
    return Unreadable(Text("the table {table} contains text that is not UTF-8", table=table))


class translating_errors:  # noqa: N801 - used like a function
    """Translate errors about a file in a `with` block to certferry's errors.

    A class, because a generator would take twice as long, and a run uses this block several times
    for each certificate.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, problem: BaseException | None, __: object) -> None:
        if isinstance(problem, sqlite3.Error):
            raise _of_database(problem, self._path) from problem
        if isinstance(problem, Unreadable):
            raise damaged(self._path, problem.problem) from problem
        if isinstance(problem, OSError):
            raise _of_file(problem, self._path) from problem


NAME_THE_NEW_ONE = Text(
    "set `url` of [state] to the new state, with its `key`, then run: certferry sync"
)
MOVED = "the state was moved to "
"""The beginning of the database's error after a write to a moved state."""


def _moved(place: Path | str) -> errors.StateMoved:
    # The new place is not shown. The place in this error comes from a trigger, and any program can
    # make a trigger; only the mark in the table `moved` has a proof.
    message = Text("the state in {place} was moved", place=place)
    hint = Text(
        "`certferry state check` shows the new place: set `url` and `key` of [state] to it, then"
        " run: certferry sync"
    )
    return errors.StateMoved(message, hint=hint)


def _of_database(exc: sqlite3.Error, path: Path) -> errors.StateError:
    if str(exc).startswith(MOVED):
        return _moved(path)
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY
    match code:
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return errors.StateUnavailable(
                Text("{path} has been locked by another process for too long", path=path),
                hint=Text("check which process has the file open: fuser -v {path}", path=path),
            )
        case sqlite3.SQLITE_PERM | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return _not_permitted(path, str(exc)) if _is_writable(path) else _read_only(path)
        case sqlite3.SQLITE_IOERR if _has_no_room(path.parent):
            # SQLite reports this error if the disk has no room for the index of the log.
            return _full(path)
        case sqlite3.SQLITE_IOERR:
            return errors.StateUnavailable(
                Text("{path} cannot be read or written: {problem}", path=path, problem=str(exc)),
                hint=Text(
                    "free some space at {folder}; if enough is free, check the disk",
                    folder=path.parent,
                ),
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_FORMAT:
            return damaged(path, str(exc))
    return errors.StateError(Text("{path}: {problem}", path=path, problem=str(exc)))


def _of_file(exc: OSError, path: Path) -> errors.StateError:
    if isinstance(exc, NotTrusted):
        return errors.StateError(
            Text("{path} {problem}", path=exc.path, problem=exc.problem), hint=exc.fix
        )
    if exc.errno in _NO_SPACE:
        return _full(path)
    if isinstance(exc, FileNotFoundError):
        return errors.StateUnavailable(
            Text("{path} is gone", path=path),
            hint=Text("put the file back, or check with `mount` whether its disk is mounted"),
        )
    return _not_permitted(path, errors.system_words(exc))


def _is_writable(path: Path) -> bool:
    """Return whether a file's file system is mounted for writing. After an error of the disk, the
    system may make the file system read-only.
    """
    try:
        return not os.statvfs(path.parent).f_flag & os.ST_RDONLY
    except OSError:
        return True


def takes_no_writes(path: Path) -> bool:
    """Return whether a file's disk is full, or mounted read-only."""
    try:
        return not _is_writable(path) or _has_no_room(path.parent)
    except OSError:
        return False


def _has_no_room(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < _LEAST_ROOM


def _full(path: Path) -> errors.StateUnavailable:
    return errors.StateUnavailable(
        Text("{path} cannot be written: the disk is full", path=path),
        hint=Text("free some space at {folder}", folder=path.parent),
    )


def _read_only(path: Path) -> errors.StateUnavailable:
    return errors.StateUnavailable(
        Text("{path} cannot be opened: the file system is read-only", path=path),
        hint=Text(
            "check the reason with `mount` and `dmesg`, and make the file system writable again"
        ),
    )


def _not_permitted(path: Path, problem: Text | str) -> errors.StateUnavailable:
    return errors.StateUnavailable(
        Text("{path} cannot be opened: {problem}", path=path, problem=problem),
        hint=Text("{path} must belong to certferry's user", path=path),
    )


def damaged(path: Path | str, problem: Text | str) -> errors.StateError:
    """Return the error for a damaged state, or for another program's database. A `path` of type
    `str` names a server's database.
    """
    hint = Text("put the state back from a backup, or set `url` to a database or schema of its own")
    if isinstance(path, Path):
        hint = Text(
            "check the path, or put {path} back: `certferry restore FILE`. Without a backup,"
            " start over: move the file away, with its `-wal` and `-shm` files; the next"
            " `certferry sync` creates a new state and issues every certificate again",
            path=path,
        )
    return errors.StateError(
        Text("{path} is not a state of certferry: {problem}", path=path, problem=problem), hint=hint
    )


# --- A database on a server


def of_server(
    problem: psycopg.Error, place: str, *, is_connected: bool, is_lost: bool, is_patient: bool
) -> errors.StateError | errors.ConfigError:
    """Return certferry's error for an error of a server: `DatabaseUnavailable` if waiting may help,
    `StateMoved` for a moved state, `ConfigError` for a missing permission or a connection that
    waiting cannot cure, and `StateError` for any other error.

    `is_connected` means that the server has answered before, `is_lost` that the connection ended.
    `is_patient` means that certferry's own time limit has passed; an earlier time-out is caused by
    a setting of the server.
    """
    code = problem.sqlstate or ""
    words = _words(problem)
    if words.startswith(MOVED):
        return _moved(place)
    if not code and not is_connected:
        return _of_connecting(words, place)
    setting = _TIME_OUTS.get(code)
    if setting is not None and not is_patient and re.search("timeout|超时", words):
        return errors.DatabaseUnavailable(
            Text("{place} ended certferry's transaction by {setting}: {problem}").filled(
                place=place, setting=setting, problem=words
            ),
            hint=Text(
                "the setting is too short for a state: raise it for the URL's user, for example"
                " ALTER ROLE USER SET {setting} = '60s'",
                setting=setting,
            ),
        )
    if is_lost:
        return errors.DatabaseUnavailable(
            Text("{place} does not answer: {problem}", place=place, problem=words),
            hint=Text("the next run continues; check that the server runs and is reachable"),
        )
    for codes, (message, hint) in _TEMPORARY.items():
        if re.match(codes, code):
            return errors.DatabaseUnavailable(message.filled(place=place, problem=words), hint=hint)
    if code in {"42501", "3F000"}:
        return errors.ConfigError(
            Text("{place}: permission is missing: {problem}", place=place, problem=words),
            hint=Text(
                "the URL's user needs a database of its own, or a schema: GRANT CREATE, USAGE ON"
                " SCHEMA public TO USER"
            ),
        )
    if code.startswith(("42P01", "42703", "XX00")):
        return damaged(place, words)
    return errors.StateError(Text("{path}: {problem}", path=place, problem=words))


_TIME_OUTS = {
    "57014": "statement_timeout",
    "55P03": "lock_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "57P05": "idle_session_timeout",
}
"""The server's settings for time-outs, by the SQLSTATE of the error (PostgreSQL, "Error Codes")."""

_TEMPORARY = {
    "53100": (
        Text("{place} cannot be written: the server's disk is full"),
        Text("free some space there; the next run continues"),
    ),
    "53": (
        Text("{place} has no room for the data: {problem}"),
        Text("the next run tries again; check max_connections and the server's memory"),
    ),
    "25006": (
        Text("{place} accepts no writes right now: {problem}"),
        Text("the server may have become a read replica; the next run tries again"),
    ),
    "40001|40P01|55P03|57014": (
        Text("{place} has been busy with other writes for too long"),
        Text("the next run tries again"),
    ),
}
"""Messages and hints for errors that may be over in the next run, by a pattern for the beginning of
the SQLSTATE (PostgreSQL, "Error Codes")."""

_NO_WAITING = {
    r"^invalid ": Text("correct `url` of [state]"),
    r"^authentication method requirement": Text(
        "nothing was sent to the server: have it use scram-sha-256 (`password_encryption`, set"
        " the user's password again, pg_hba.conf), or write sslmode=verify-full and"
        " sslrootcert=FILE in `url`"
    ),
    # The server's words in English and Chinese (src/backend/po/zh_CN.po), because libpq gives no
    # SQLSTATE for errors during the connection.
    r"database .* does not exist|数据库.*不存在": Text(
        "create the database with createdb, as the server's administrator; then run"
        " `certferry state init`"
    ),
    r"authentication failed|no password supplied|role .* does not|认证失败|角色.*不存在": Text(
        "check the user in `url` and `password` of [state] (or PGPASSWORD, ~/.pgpass)"
    ),
    r"no pg_hba.conf entry|没有.*pg_hba.conf|permission denied for|权限不够": Text(
        "allow the user from this host in the server's pg_hba.conf and permissions"
    ),
    r"certificate verify failed|root certificate file|not support SSL|does not match host": Text(
        "set sslrootcert=FILE in `url` to the CA of the server's certificate"
        " (/etc/ssl/certs/ca-certificates.crt has the public CAs); the certificate must match the"
        " URL's host"
    ),
}


def _of_connecting(words: str, place: str) -> errors.StateError | errors.ConfigError:
    """Return the error for a failed connection: a `ConfigError` if the server's words show a
    problem that waiting cannot cure.
    """
    message = Text("{place} cannot be opened: {problem}", place=place, problem=words)
    for pattern, hint in _NO_WAITING.items():
        if re.search(pattern, words):
            return errors.ConfigError(message, hint=hint)
    return errors.DatabaseUnavailable(
        message, hint=Text("the next run continues; check that the server runs and is reachable")
    )


_PREFIX = re.compile(
    r"(connection is bad:? ?|connection failed: )?"
    r"(connection to server (at|on socket) .*? failed: )?(FATAL|致命错误)?(: +)?"
)


def _words(problem: psycopg.Error) -> str:
    """Return the message of the server or libpq on a single line, without the failed statement."""
    words = problem.diag.message_primary or str(problem).strip().splitlines()[0]
    return _PREFIX.sub("", words, count=1)
