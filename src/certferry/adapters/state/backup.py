"""Backup and restore of a state in a SQLite file.

A backup is an archive with the state's key and a copy of the database. SQLite makes the copy, even
while other processes write. A damaged state is not backed up, and a damaged archive is not
restored; the same holds for a state that its key does not open.
"""

from __future__ import annotations

import io
import os
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct

from certferry.adapters.state import sealing as seals
from certferry.adapters.state.database import migrate
from certferry.adapters.state.failures import PRIMARY, damaged, translating_errors
from certferry.adapters.state.sqlite import PATIENCE, InMemory
from certferry.adapters.state.store import SqlState, must_be_in_use
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, LeaseHeld, StateError, StateTooNew, StateTooOld
from certferry.text import Text
from certferry.whole_file import draft_beside, free_copy, sync_directory

_STATE, _KEY = "state.db", "secret.key"
_HEADER = 20
"""The position in a database file after the two bytes that show a write-ahead log
(sqlite.org/fileformat.html, "The Database Header")."""

_NO_LOG = b"\1\1"
_BESIDE = ("-wal", "-shm")
"""The suffixes of SQLite's own files beside a database."""

_NOT_COPIED = (
    "begun_run",
    "run WHERE ended_at IS NULL AND number IS NOT NULL",
    "console_user_session",
    "console_user_link",
)
"""The rows that a backup omits, each as the rest of a statement `DELETE FROM`. A run in progress
would count as killed after a restore. Sessions and links of the console are only for the old
machine."""

_PATIENCE = timedelta(seconds=1)
"""How long a restore waits for another process to unlock the database, such as a run
about to end."""

_IN_USE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_BROKEN = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT}


class Restored(Struct, frozen=True):
    """The result of a restore."""

    #: The names of the certificates in the backup.
    lineages: tuple[str, ...]
    #: When the backup was made.
    made_at: datetime
    #: The new paths of the replaced files.
    kept: tuple[Path, ...]


def back_up(path: Path, key: Path | Secret, now: datetime) -> tuple[bytes, tuple[str, ...]]:
    """Return an archive with the state and the state's key, and the names of the state's
    certificates. Runs can continue during the backup. If the state has no secret yet, make the key
    file. Raises `StateError`.
    """
    with translating_errors(path):
        if not path.exists():
            raise StateError(
                Text("there is no state at {path}", path=path),
                hint=Text(
                    "the first `certferry sync` creates the state; `url` of [state] sets the place"
                ),
            )
    state = _copied(path)
    lineages = _must_be_whole(state, path, seals.Sealing(key))
    if isinstance(key, Path) and not key.exists():
        seals.make_key(key)  # the key for the state's first secret
    return _packed({_STATE: state, _KEY: seals.encoded(seals.key_of(key))}, now), lineages


def restore(archive: bytes, source: Path, path: Path, key: Path | Secret) -> Restored:
    """Replace the state at `path`, and the key file, by the state and the key in an archive. The
    replaced files are kept under other names. If `key` is the key itself, the archive must have the
    same key. Messages call the archive `source`.

    Raises `LeaseHeld` while another process works with the state, `ConfigError` for an archive with
    another key than the given key, and `StateError` for anything but a complete backup. After an
    error, the old key is in place, and so is the old state, unless it was damaged and moved away.
    """
    files, made_at = _unpacked(archive, source)
    with _key_in_place(files[_KEY], key, source) as backup_key:
        try:
            lineages = _must_be_whole(files[_STATE], source, seals.Sealing(backup_key.key))
        except (StateTooNew, StateTooOld):
            raise
        except StateError as wrong:
            raise StateError(
                Text("{path} does not contain a complete state that its key opens", path=source),
                hint=Text("use another backup; nothing was changed"),
            ) from wrong
        kept = _replace(files[_STATE], path, backup_key)
    return Restored(lineages, made_at, kept)


def _copied(path: Path) -> bytes:
    with (
        translating_errors(path),
        closing(sqlite3.connect(path, timeout=PATIENCE.total_seconds())) as state,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as copy,
    ):
        state.backup(copy)
        # The rows of processes and of browsers' sessions are only for this machine. Errors are
        # ignored here: `_must_be_whole` refuses another program's database and a moved state.
        copy.execute("PRAGMA foreign_keys = ON")  # deletes a run's events with the run
        for rows in _NOT_COPIED:
            with suppress(sqlite3.OperationalError, sqlite3.IntegrityError):
                copy.execute(f"DELETE FROM {rows}")  # noqa: S608 - constants of this module
        return copy.serialize()


def _without_log(content: bytes) -> bytes:
    # Switch the write-ahead log off in the header. The log needs files beside the database, and a
    # database in memory has no files.
    return content[: _HEADER - 2] + _NO_LOG + content[_HEADER:]


def _must_be_whole(content: bytes, place: Path, sealing: seals.Sealing) -> tuple[str, ...]:
    """Check that a database is a complete state in use, and that `sealing` opens every sealed key.
    Return the names of the state's certificates. Raises `StateError`; `StateTooNew` or
    `StateTooOld` for the state of another version.
    """
    with closing(InMemory(place, _without_log(content))) as copy:
        for row in copy.rows("PRAGMA integrity_check"):
            if row["integrity_check"] != "ok":
                raise damaged(place, row["integrity_check"])
        if not copy.rows(copy.dialect.tables):
            raise damaged(place, Text("the backup is empty"))
        migrate(copy, "localhost")  # as the next run would
        must_be_in_use(copy, sealing)
        state = SqlState(copy, sealing, "localhost")
        state.must_unseal()
        for _, error in state.unopened():
            raise error
        return state.lineages()


def _packed(files: Mapping[str, bytes], now: datetime) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), seals.OWNER_ONLY_FILE
            member.mtime = int(now.timestamp())
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _unpacked(archive: bytes, source: Path) -> tuple[dict[str, bytes], datetime]:
    """Return the files of an archive, and when the archive was made. No file is written to disk,
    because the names of members may point anywhere.
    """
    files: dict[str, bytes] = {}
    made_at = datetime.fromtimestamp(0, UTC)
    with (
        suppress(tarfile.TarError, OSError, ValueError, OverflowError, EOFError),
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened,
    ):
        for member in opened:
            content = opened.extractfile(member) if member.isfile() else None
            if content is not None:
                files[member.name] = content.read()
                made_at = datetime.fromtimestamp(member.mtime, UTC)
    if set(files) != {_STATE, _KEY}:
        raise StateError(
            Text("{path} is not a backup of certferry", path=source),
            hint=Text(
                "create a backup with `certferry backup FILE`, and check that the file was copied"
                " completely"
            ),
        )
    return files, made_at


class _Key(Struct, frozen=True):
    """The key of a backup: already in force, or a draft to be put in place."""

    #: The key in force, or a draft of the key file.
    key: Path | Secret
    #: The destination of a draft; `None` for a key in force.
    place: Path | None = None

    @contextmanager
    def put(self) -> Iterator[list[Path]]:
        """Put the key file in place, then run a `with` block. Yield a list with the new path of the
        replaced file, or an empty list. If the block raises, put the replaced file back.
        """
        if self.place is None or isinstance(self.key, Secret):
            yield []
            return
        before = [free_copy(self.place)] if self.place.exists() else []
        for kept in before:
            os.link(self.place, kept)
        self.key.replace(self.place)
        sync_directory(self.place.parent)
        try:
            yield before
        except BaseException:
            self.place.unlink()
            for kept in before:
                kept.rename(self.place)
            raise


@contextmanager
def _key_in_place(content: bytes, key: Path | Secret, source: Path) -> Iterator[_Key]:
    if _is_there(content, key):  # a key file mounted by Kubernetes is read-only
        yield _Key(key)
        return
    if isinstance(key, Secret):
        raise ConfigError(
            Text("{path} was sealed with a key other than `key` of [state]", path=source),
            hint=Text("set `key` to the value at the time of the backup; nothing was changed"),
        )
    place = key.resolve()
    with translating_errors(key):
        seals.make_directory(place.parent)
        draft = draft_beside(place, content, seals.OWNER_ONLY_FILE)
    try:
        yield _Key(draft, place)
    finally:
        draft.unlink(missing_ok=True)


def _is_there(content: bytes, key: Path | Secret) -> bool:
    try:
        return seals.encoded(seals.key_of(key)) == content
    except StateError:
        return False


def _replace(content: bytes, path: Path, key: _Key) -> tuple[Path, ...]:
    """Replace the database at `path` by `content`, in one transaction. Return the paths that keep
    the replaced files.

    Even after a crash, other processes see either the old or the new database. The key file is
    replaced before the database. After a kill in between, runs refuse the state, and the same
    restore can be repeated.
    """
    with translating_errors(path):
        seals.make_directory(path.parent)
        is_new = not (path.exists() and path.stat().st_size)
        seals.make_file(path, b"")
        state, kept = _alone_with(path, is_new=is_new)
        with closing(state), closing(sqlite3.connect(":memory:")) as copy, key.put() as keys:
            copy.deserialize(_without_log(content))
            copy.backup(state)
            kept += keys
    return tuple(kept)


def _alone_with(path: Path, *, is_new: bool) -> tuple[sqlite3.Connection, list[Path]]:
    """Open a database for this process alone. Return the connection, and a list with the path that
    keeps the old database (an empty list if `is_new`). The old database is copied to that path; a
    damaged database is moved there. Raises `LeaseHeld` while another process works with the state.
    """
    state = _opened(path)
    try:
        _lock(state)
        return state, [] if is_new else [_kept_beside(state, path)]
    except sqlite3.Error as problem:
        state.close()
        code = getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY
        if code in _IN_USE:
            raise LeaseHeld(
                Text("another process has {path} open", path=path),
                hint=Text("wait until `pgrep -a certferry` lists no process; nothing was changed"),
            ) from problem
        if code not in _BROKEN:
            raise
    kept = _moved_away(path)
    seals.make_file(path, b"")
    state = _opened(path)
    _lock(state)
    return state, [kept]


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_PATIENCE.total_seconds(), isolation_level=None)


def _lock(state: sqlite3.Connection) -> None:
    """Lock a database until the connection is closed. The write-ahead log can be switched off only
    while no other process has the database open (sqlite.org/wal.html).
    """
    for command in (
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA journal_mode = DELETE",
        "BEGIN EXCLUSIVE",
        "COMMIT",
    ):
        state.execute(command).fetchall()


def _kept_beside(state: sqlite3.Connection, path: Path) -> Path:
    kept = free_copy(path)
    seals.make_file(kept, b"")
    try:
        with closing(sqlite3.connect(kept)) as copy:
            state.backup(copy)
    except BaseException:
        kept.unlink()
        raise
    return kept


def _moved_away(path: Path) -> Path:
    """Move a damaged database file, with SQLite's files beside the database, to a free name."""
    kept = free_copy(path)
    for end in ("", *_BESIDE):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(kept.with_name(kept.name + end))
    return kept
