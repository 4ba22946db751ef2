"""The leases of one host: the system's locks say who works on what, the database who came last."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import secrets
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from certferry.adapters.state.columns import from_moment, to_moment
from certferry.adapters.state.database import Connection, Database
from certferry.adapters.state.failures import in_our_words
from certferry.adapters.state.sealing import OWNER_ONLY_FILE, make_directory
from certferry.errors import LeaseHeld, LeaseLost
from certferry.ports.state import Lease
from certferry.text import Text

_BETWEEN = "/"


class Leases:
    """One lease for each lineage; its token grows with every new holder and is never forgotten.

    It is held while its lock is, which ends with its process: nothing has to be extended, and
    the column `until` stays empty. The token still refuses what a former holder writes, should
    the lock's file have been removed.
    """

    def __init__(self, database: Database, locks: LeaseLocks) -> None:
        self._database = database
        self._locks = locks
        self._held: dict[Lease, ExitStack] = {}

    def acquire(self, lineage: str, now: datetime) -> Lease:
        """Take the lease of a lineage. Raises `LeaseHeld`."""
        with ExitStack() as undo:
            # Locked inside the write, and let go inside one: a run that finds it locked reads who
            # has it now.
            with self._database.transaction(serializable=True) as connection:
                lock = self._locks.take(lineage)
                if lock is None:
                    raise _held(connection, lineage)
                undo.push(lock)
                lease = _write_down(connection, lineage, now)
            self._held[lease] = undo.pop_all()
        return lease

    def extend(self, lease: Lease) -> None:
        """See `StateStore.extend`: there is nothing to do but to look."""
        with self._database.snapshot() as connection:
            must_be_in_force(connection, lease)

    def release(self, lease: Lease) -> None:
        """Give a lease back. A lost one is let go silently."""
        with (
            self._held.pop(lease, ExitStack()) as lock,
            self._database.transaction() as connection,
        ):
            connection.execute(
                "UPDATE lease SET holder = NULL, since = NULL"
                " WHERE lineage = ? AND holder = ? AND token = ?",
                (lease.lineage, lease.holder, lease.token),
            )
            lock.close()

    def close(self) -> None:
        """Let go of the locks that are still held."""
        while self._held:
            _, lock = self._held.popitem()
            lock.close()


def must_be_in_force(connection: Connection, lease: Lease) -> None:
    """Refuse, inside a write, what comes from a holder that another has replaced (`LeaseLost`)."""
    found = connection.execute(
        "SELECT 1 FROM lease WHERE lineage = ? AND holder = ? AND token = ?",
        (lease.lineage, lease.holder, lease.token),
    ).fetchone()
    if found is None:
        raise LeaseLost(
            Text("{lineage}: another run has taken over", lineage=lease.lineage),
            hint=Text("nothing of this run was written; the other one goes on"),
        )


def _write_down(connection: Connection, lineage: str, now: datetime) -> Lease:
    found = connection.execute("SELECT token FROM lease WHERE lineage = ?", (lineage,)).fetchone()
    token = 1 if found is None else found[0] + 1
    # Anew for each acquisition: a database that was put back from a backup gives tokens again.
    holder = _BETWEEN.join((platform.node(), str(os.getpid()), secrets.token_hex(8)))
    connection.execute(
        "INSERT INTO lease (lineage, token, holder, since, until) VALUES (?, ?, ?, ?, NULL)"
        " ON CONFLICT (lineage) DO UPDATE SET token = excluded.token,"
        " holder = excluded.holder, since = excluded.since, until = excluded.until",
        (lineage, token, holder, from_moment(now)),
    )
    return Lease(lineage, holder, token)


def _held(connection: Connection, lineage: str) -> LeaseHeld:
    hint = Text("try again when it has ended")
    found = connection.execute(
        "SELECT holder, since FROM lease WHERE lineage = ? AND holder IS NOT NULL", (lineage,)
    ).fetchone()
    if found is None:  # the database was put back from a backup under the holder
        return LeaseHeld(Text("{lineage}: another run is at work", lineage=lineage), hint=hint)
    holder, since = found
    host, pid, _ = holder.rsplit(_BETWEEN, 2)
    return LeaseHeld(
        Text(
            "{lineage}: {holder} has been at work since {since}",
            lineage=lineage,
            holder=Text("process {pid} on {host}", pid=pid, host=host),
            since=to_moment(since),
        ),
        hint=hint,
    )


class LeaseLocks:
    """Locks that end with the process that holds them, however it ends (flock(2)).

    Each belongs to one opening of its file, so threads of one process exclude each other as well,
    and a program that the holder started keeps nothing: the descriptor is not inherited. The files
    are empty and stay: removing one would let two runs lock two files of one name. On a network's
    file system they hold as far as its locks do, like those of the database itself; one without
    locks is an error.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, lineage: str) -> ExitStack | None:
        """Lock a lineage, until what is returned is closed; `None` while it is locked already.
        Raises `StateUnavailable`.
        """
        # A lineage may have any characters, and more of them than a file's name.
        path = self._directory / hashlib.sha256(lineage.encode()).hexdigest()
        with in_our_words(path), ExitStack() as opened:
            make_directory(self._directory)
            # Writable: NFS locks exclusively through nothing less (flock(2)).
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY_FILE)
            opened.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            return opened.pop_all()
