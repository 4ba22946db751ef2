"""The leases and runs in progress of a state that a single host uses.

The database stores the holder of a lease. A file lock shows whether the holder is alive.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import secrets
from contextlib import ExitStack, nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path

from certferry.adapters.state.columns import (
    MOMENT,
    NUMBER,
    PLAIN,
    corrupt,
    from_moment,
    to_moment,
)
from certferry.adapters.state.database import Database, Reader, Row, Table, Transaction
from certferry.adapters.state.failures import translating_errors
from certferry.adapters.state.fencing import must_be_in_force
from certferry.adapters.state.run_tables import detach_runs
from certferry.adapters.state.sealing import OWNER_ONLY_FILE, Sealing, make_directory
from certferry.adapters.state.store import SqlState
from certferry.core.observed.records import BegunRun
from certferry.errors import LeaseHeld, StateError, StateUnavailable
from certferry.ports.state import Lease
from certferry.text import Text

_BETWEEN = "/"
_ENDED = Text("try again after that run has ended")

_MOST_PROCESSES = 30
"""The most processes of a host that wait for turns of the same account at the same time."""

_RESERVED = "SELECT until FROM pace WHERE account = ? AND name = ?"
_RESERVE = (
    "INSERT INTO pace (account, name, until) VALUES (?, ?, ?)"
    " ON CONFLICT (account, name) DO UPDATE SET until = excluded.until"
)

BEGUN_RUNS = Table(
    "begun_run",
    BegunRun,
    *("host", "number"),
    number=NUMBER,
    began_at=MOMENT,
    host=PLAIN.named("machine"),
    pid=NUMBER,
)


def longest_ahead(interval: timedelta, processes: int) -> timedelta:
    """Return how far ahead `processes` together can have reserved moments for requests, at most.

    A process reserves a single moment, or the moments of a second (`adapters.http.http_client`). A
    stored reservation further ahead was made before the clock was set back, and does not count.
    """
    return processes * max(interval, timedelta(seconds=1))


class HostState(SqlState):
    """See `StateStore`: a state with all runs on one host.

    A lease lasts as long as a file lock, and the lock ends with the holder's process. Therefore
    leases need no extension, and the column `until` stays empty. A lease's token grows with every
    new holder. A former holder's writes are refused because of the older token, even if the lock's
    file was removed.
    """

    is_shared = False

    def __init__(
        self,
        database: Database,
        sealing: Sealing,
        locks: LeaseLocks,
        host: str,
        problem: StateError | None = None,
        machine: str = "",
    ) -> None:
        super().__init__(database, sealing, host, problem, machine)
        self._locks = locks
        self._held: dict[Lease | BegunRun, ExitStack] = {}

    def reserve(self, account: str, name: str, interval: timedelta, count: int) -> timedelta | None:
        """See `StateStore.reserve`; the processes of a host share the host's clock."""

        def take(transaction: Transaction) -> timedelta:
            now = self.now()
            rows = transaction.rows(_RESERVED, account, name)
            first = max([now, *(to_moment(row["until"]) for row in rows)])
            if first - now > longest_ahead(interval, _MOST_PROCESSES):
                first = now
            until = from_moment(first + count * interval)
            transaction.execute(_RESERVE, account, name, until)
            return first - now

        try:
            return self._database.run(take)
        except StateUnavailable:  # a read-only file: `plan` may still read, and send requests
            return None

    def acquire(self, lineage: str, now: datetime) -> Lease:
        """See `LeaseStore.acquire`."""
        with ExitStack() as lock:

            def take(transaction: Transaction) -> Lease:
                # Locks are taken and released only inside a write. Therefore the row of a locked
                # lease always names the present holder.
                lock.close()  # the lock of an earlier try of this function
                taken = self._locks.take(lineage)
                if taken is None:
                    raise held_by_another(transaction, lineage)
                lock.push(taken)
                return _write_down(transaction, lineage, now)

            lease = self._database.run(take)
            self._held[lease] = lock.pop_all()
        return lease

    def extend(self, lease: Lease) -> None:
        """See `LeaseStore.extend`. The lock has no end, so only the lease's row is checked."""
        must_be_in_force(self._database, self._database.dialect, lease)

    def must_hold(self, lease: Lease) -> None:
        """See `LeaseStore.must_hold`. A living process keeps the lock, so there is nothing to
        check.
        """

    def release(self, lease: Lease) -> None:
        """See `LeaseStore.release`."""
        with self._held.pop(lease, ExitStack()) as lock:

            def give_back(transaction: Transaction) -> None:
                transaction.execute(
                    "UPDATE lease SET holder = NULL, since = NULL"
                    " WHERE lineage = ? AND holder = ? AND token = ?",
                    lease.lineage,
                    lease.holder,
                    lease.token,
                )
                lock.close()

            self._database.run(give_back)

    def begin_run(self, now: datetime) -> BegunRun:
        """See `LeaseStore.begin_run`."""
        with ExitStack() as lock:

            def begin(transaction: Transaction) -> BegunRun:
                lock.close()  # the lock of an earlier try of this function
                # Locked inside the write, so other runs see a row only with a taken lock.
                number = self._lock_number(lock)
                gone = {run.number for run in self._begun(transaction) if self._is_gone(run)}
                # A dead run may have had `number`. The lock is ours now, so `_is_gone` would not
                # return the dead run.
                for left in {number, *gone}:
                    transaction.remove("begun_run", host=self.host, number=left)
                detach_runs(transaction, self.host, number)
                run = BegunRun(number, now, platform.node(), os.getpid())
                BEGUN_RUNS.save(transaction, run, host=self.host)
                self._store_presence(transaction, now)
                return run

            run = self._database.run(begin)
            self._held[run] = lock.pop_all()
        return run

    def end_run(self, run: BegunRun) -> None:
        """See `LeaseStore.end_run`."""
        with self._held.pop(run, ExitStack()):
            self._database.run(
                lambda transaction: transaction.remove(
                    "begun_run", host=self.host, number=run.number
                )
            )

    def unended_runs(self) -> tuple[BegunRun, ...]:
        """See `LeaseStore.unended_runs`."""
        gone = [run for run in self._begun(self._database) if self._is_gone(run)]
        # A run may have ended after the first query, and removed its row. Query again, because
        # such a run was not killed.
        still_there = self._begun(self._database) if gone else ()
        return tuple(run for run in gone if run in still_there)

    def must_be_idle(self, transaction: Transaction) -> None:
        """See `SqlState.must_be_idle`: raise if a lineage or a run is locked. No other process can
        take a lock until `transaction` ends, because locks are taken only inside a write.
        """
        for row in transaction.rows("SELECT lineage FROM lease WHERE holder IS NOT NULL"):
            with self._locks.take(row["lineage"]) or nullcontext() as lock:
                if lock is None:
                    raise held_by_another(transaction, row["lineage"])
        for run in self._begun(transaction):
            if not self._is_gone(run):
                raise _in_progress(str(run.pid), run.host, run.began_at)

    def _running(self, reader: Reader) -> dict[str, datetime]:
        begun = [run.began_at for run in self._begun(reader) if not self._is_gone(run)]
        return {self.host: min(begun)} if begun else {}

    def _living(self, reader: Reader) -> set[tuple[str, int]]:
        """See `RunTables._living`."""
        return {(self.host, run.number) for run in self._begun(reader) if not self._is_gone(run)}

    def _begun(self, reader: Reader) -> tuple[BegunRun, ...]:
        return BEGUN_RUNS.found(reader, "WHERE host = ? ORDER BY began_at", self.host)

    def _is_gone(self, run: BegunRun) -> bool:
        with self._locks.take(_lock_of(run.number)) or nullcontext() as lock:
            return lock is not None

    def _lock_number(self, lock: ExitStack) -> int:
        """Lock the lowest free number for a run, and return the number."""
        number = 1
        while (taken := self._locks.take(_lock_of(number))) is None:
            number += 1
        lock.push(taken)
        return number

    def close(self) -> None:
        self.release_locks()
        super().close()

    def release_locks(self) -> None:
        """Release every held lease and run, as the end of the process does."""
        while self._held:
            _, lock = self._held.popitem()
            lock.close()


def _lock_of(number: int) -> str:
    return f"\0run {number}"  # differs from every lineage's name


def _write_down(transaction: Transaction, lineage: str, now: datetime) -> Lease:
    rows = transaction.rows("SELECT token FROM lease WHERE lineage = ?", lineage)
    token = NUMBER.read(rows[0]["token"]) + 1 if rows else 1
    row = {
        "holder": (holder := new_holder(platform.node())),
        "since": from_moment(now),
        "until": None,
    }
    transaction.save("lease", ("lineage",), lineage=lineage, token=token, **row)
    return Lease(lineage, holder, token)


def new_holder(host: str) -> str:
    """Return a new name for the holder of a lease. The token alone does not identify a holder: a
    database restored from a backup issues the same tokens again.
    """
    return _BETWEEN.join((host, str(os.getpid()), secrets.token_hex(8)))


def _holder_of(name: str) -> tuple[str, str]:
    """Return the host and the process in a holder's name. Raises `StateError` for another name."""
    try:
        host, pid, _ = name.rsplit(_BETWEEN, 2)
    except ValueError as problem:
        raise corrupt() from problem
    return host, pid


def held_by_another(reader: Reader, lineage: str, *, is_shared: bool = False) -> LeaseHeld:
    """Return the error for another holder's lease, naming the holder if the lease's row is
    readable.
    """
    for row in reader.rows(_HOLDER, lineage):
        with suppress(StateError):
            return _held_by(lineage, row, is_shared=is_shared)
    # A restored backup lacks the holder, or the holder has just released the lease.
    return LeaseHeld(
        Text("{lineage}: another run is working on the certificate", lineage=lineage), hint=_ENDED
    )


_HOLDER = "SELECT holder, since, until FROM lease WHERE lineage = ? AND holder IS NOT NULL"


def _held_by(lineage: str, row: Row, *, is_shared: bool) -> LeaseHeld:
    host, pid = _holder_of(row["holder"])
    since = MOMENT.read(row["since"])
    return LeaseHeld(
        Text(
            "{lineage}: {holder} has been working since {since}",
            lineage=lineage,
            holder=Text("process {pid} on {host}", pid=pid, host=host),
            since=since,
        ),
        hint=_ENDED,
        host=host if is_shared else None,
        since=since,
        until=MOMENT.read(row["until"]),
    )


def _in_progress(pid: str, host: str, since: datetime) -> LeaseHeld:
    return LeaseHeld(
        Text(
            "{holder} has been working since {since}",
            holder=Text("process {pid} on {host}", pid=pid, host=host),
            since=since,
        ),
        hint=_ENDED,
    )


def must_be_unheld(reader: Reader, condition: str) -> None:
    """Raise `LeaseHeld` for a lease in force. `condition`, constant SQL, selects such leases."""
    query = f"SELECT holder, since FROM lease WHERE {condition} ORDER BY lineage"  # noqa: S608 - constants, by contract
    for row in reader.rows(query):
        host, pid = _holder_of(row["holder"])
        raise _in_progress(pid, host, to_moment(row["since"]))


class LeaseLocks:
    """File locks (flock(2)), released by the system when the holder's process ends in any way.

    Each lock opens the lock's file anew. Therefore threads exclude each other as well, and programs
    started by the holder inherit no lock. The files are empty, and are not removed: after a
    removal, two runs could lock two different files with the same name. A file system without locks
    raises an error.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, lineage: str) -> ExitStack | None:
        """Lock a lineage until the caller closes the returned stack. Return `None` if the lineage
        is locked already. Raises `StateUnavailable`.
        """
        # Hashed: a lineage's name may be too long for a file's name, and have any characters.
        path = self._directory / hashlib.sha256(lineage.encode()).hexdigest()
        with translating_errors(path), ExitStack() as opened:
            make_directory(self._directory)
            # Open for writing: NFS requires this for an exclusive lock (flock(2)).
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY_FILE)
            opened.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            return opened.pop_all()
