"""Leases, runs in progress and reserved requests in a state shared by several hosts. All moments
are by the database's clock.

A lease ends at a stored moment. While the holder works, the holder keeps moving the end ahead.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

from certferry.adapters.state.columns import MOMENT, Value, from_moment, to_moment
from certferry.adapters.state.database import Database, Reader, Row, T, Transaction
from certferry.adapters.state.fencing import must_be_in_force, taken_over
from certferry.adapters.state.leases import (
    BEGUN_RUNS,
    held_by_another,
    longest_ahead,
    must_be_unheld,
    new_holder,
)
from certferry.adapters.state.run_tables import detach_runs
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.store import SqlState
from certferry.core.observed.records import BegunRun
from certferry.errors import CertferryError, LeaseHeld, LeaseLost, StateUnavailable
from certferry.ports.progress import passed
from certferry.ports.state import Lease, held_leases
from certferry.text import Text

LENGTH = timedelta(minutes=2)
"""How long a lease is in force after the last renewal, and so how long other hosts wait after a
host has died."""

_RENEWALS = 3
"""How often a lease is renewed within the lease's length, so one renewal may fail without harm."""

_JUST_RENEWED = 1 / 24
"""The part of a lease's length in which a renewal counts as recent, and `extend` skips another
renewal: five seconds of `LENGTH`."""

# `clock_timestamp` is the present moment. `now` would be the moment at which the transaction began.
_FORM = '\'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\''
_NOW = f"to_char(clock_timestamp() AT TIME ZONE 'UTC', {_FORM})"
_END = (
    "to_char((clock_timestamp() + CAST(? AS DOUBLE PRECISION) * INTERVAL '1 second')"
    f" AT TIME ZONE 'UTC', {_FORM})"
)

# The row may name this holder already, if the answer to an earlier attempt was lost.
_TAKE = (
    "INSERT INTO lease AS held (lineage, token, holder, since, until)"  # noqa: S608 - constants of this module
    f" VALUES (?, 1, ?, ?, {_END}) ON CONFLICT (lineage) DO UPDATE SET"
    " token = CASE WHEN held.holder = excluded.holder THEN held.token ELSE held.token + 1 END,"
    f" holder = excluded.holder, since = excluded.since, until = {_END}"
    f" WHERE held.holder IS NULL OR held.until <= {_NOW} OR held.holder = excluded.holder"
    f" RETURNING token, until, {_NOW} AS moment"
)
_THIS = "lineage = ? AND holder = ? AND token = ?"
_RENEW = (
    f"UPDATE lease SET until = {_END}"  # noqa: S608 - constants of this module
    f" WHERE until > {_NOW} AND ({{these}}) RETURNING lineage, holder, token,"
    f" {_NOW} AS moment"
)
_RELEASE = (
    "UPDATE lease SET holder = NULL, since = NULL, until = NULL WHERE {these} RETURNING token"
)

# The new moment is computed while the row is locked. Therefore a host's requests come after all
# requests that other hosts have reserved. If an answer is lost, or a host dies, the reserved
# moments pass unused.
_TURNS = "CAST(? AS DOUBLE PRECISION) * INTERVAL '1 second'"
_RESERVE = (
    "INSERT INTO pace AS held (account, name, until)"  # noqa: S608 - constants of this module
    f" VALUES (?, ?, {_END}) ON CONFLICT (account, name) DO UPDATE SET until ="
    f" to_char((CASE WHEN CAST(held.until AS TIMESTAMPTZ) > clock_timestamp() + {_TURNS}"
    " THEN clock_timestamp() ELSE greatest(CAST(held.until AS TIMESTAMPTZ), clock_timestamp())"
    f" END + {_TURNS}) AT TIME ZONE 'UTC', {_FORM}) RETURNING until, {_NOW} AS now"
)
_MOST_HOSTS = 400
"""The most processes, on all hosts, that wait for turns of the same account at the same time."""

_RUN = "\1run "
"""The beginning of the name of a run's lease, followed by the host and the run's number. No
lineage's name begins like this."""

_IN_FORCE = (
    "EXISTS (SELECT 1 FROM lease WHERE holder IS NOT NULL"  # noqa: S608 - constants of this module
    f" AND until > {_NOW} AND lineage = ? || begun_run.host || ' ' || begun_run.number)"
)
_UNENDED = f"WHERE host = ? AND NOT {_IN_FORCE} ORDER BY began_at"
_RUNNING = f"SELECT host, began_at FROM begun_run WHERE {_IN_FORCE} ORDER BY began_at DESC"  # noqa: S608 - constants of this module
_LIVING = f"SELECT host, number FROM begun_run WHERE {_IN_FORCE}"  # noqa: S608 - constants of this module


class SharedDatabase(Database, Protocol):
    """A database to which other hosts write too."""

    def repeat(self, statement: str, *values: Value) -> Sequence[Row]:
        """Carry out a statement outside any transaction, and return the rows. If the answer is
        lost, the statement is carried out again, so the statement must allow a repetition.
        """


_QUICK = 1.0
"""The most seconds for an answer of the database's clock. A slower answer is less exact than an
earlier answer.
"""


_SLOWED = 0.9
"""The speed of a clock ahead of the database's clock: ten minutes are made up in 100 minutes."""


class SharedClock:
    """The database's clock as known on this host: the last answer of the database, plus the time
    since that answer, measured by `passed`.

    The error is at most half of the time that the answer took. This machine's own clock (`machine`)
    may be wrong or jump, and only serves for `ahead`.
    """

    def __init__(
        self, ask: Callable[[], str], passed: Callable[[], float], machine: Callable[[], datetime]
    ) -> None:
        self._ask = ask
        self._passed = passed
        self._machine = machine
        self._answer: tuple[datetime, float] | None = None
        self._latest: tuple[datetime, float] | None = None

    def set(self, answer: str, asked: float) -> tuple[datetime, float]:
        """Store an answer of the database, as the time in the middle between question and answer.
        `asked` is when the question was sent, in seconds of `passed`. An answer slower than
        `_QUICK` does not replace an earlier answer. Return the stored time, and the seconds of
        `passed` at that time.
        """
        answered = self._passed()
        if self._answer is None or answered - asked <= _QUICK:
            self._answer = to_moment(answer), (asked + answered) / 2
        return self._answer

    def now(self) -> datetime:
        """Return the present moment. The database is asked only before the first answer. Raises
        `StateError`.

        The moments never go back: a run would wait for minutes if a stored beginning lay in the
        future. If the server's clock was set back, the moments still advance, a little slower than
        time (`_SLOWED`), so every deadline comes.
        """
        asked = self._passed()
        moment, at = self._answer or self.set(self._ask(), asked)
        passed = self._passed()
        present = moment + timedelta(seconds=passed - at)
        if self._latest is not None:
            latest, told_at = self._latest
            present = max(present, latest + _SLOWED * timedelta(seconds=passed - told_at))
        self._latest = present, passed
        return present

    def ahead(self) -> timedelta:
        """Return how far this host's clock is ahead of the database's clock; negative if behind.

        Raises `StateError`.
        """
        return self._machine() - self.now()


class SharedState(SqlState):
    """See `StateStore`: a state shared by several hosts.

    A thread renews all held leases, in one statement, until the store is closed. A process that is
    killed, or frozen for longer than `length`, loses the leases, and later writes of the process
    are refused.

    The database's clock decides whether a lease is in force. This host's `clock` only measures
    spans of time: since a renewal, and since the database's last answer. With `reads_only`, the
    server may refuse writes.
    """

    is_shared = True

    def __init__(
        self,
        database: SharedDatabase,
        sealing: Sealing,
        host: str,
        length: timedelta = LENGTH,
        clock: Callable[[], float] = passed,
        machine: str = "",
        machine_now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        reads_only: bool = False,
    ) -> None:
        super().__init__(database, sealing, host, machine=machine)
        self._reads_only = reads_only
        self._shared = database
        self._length = length.total_seconds()
        self._passed = clock
        self._clock = SharedClock(self._ask_clock, clock, machine_now)
        self._held: dict[tuple[str, str, int], float] = {}
        self._guard = threading.Lock()
        self._is_closed = threading.Event()
        self._renewing: threading.Thread | None = None

    def acquire(self, lineage: str, now: datetime) -> Lease:
        """See `LeaseStore.acquire`."""
        holder, asked = new_holder(self.host), self._passed()
        since, length = from_moment(now), str(self._length)
        rows = self._shared.repeat(_TAKE, lineage, holder, since, length, length)
        if not rows:
            raise held_by_another(self._database, lineage, is_shared=True)
        self._clock.set(rows[0]["moment"], asked)
        lease = Lease(lineage, holder, rows[0]["token"], to_moment(rows[0]["until"]))
        with self._guard:
            self._held[_key(lease)] = asked
            self._begin_renewing()
        return lease

    def extend(self, lease: Lease) -> None:
        """See `LeaseStore.extend`: renew the lease. If the answer took longer than half of the
        lease's length, renew again. A lease taken or renewed a moment ago (`_JUST_RENEWED`) is not
        renewed, because a deployment calls this method three times.
        """
        renewed = self._held.get(_key(lease))
        if renewed is not None and self._passed() - renewed <= self._length * _JUST_RENEWED:
            return
        while True:
            asked = self._passed()
            try:
                is_renewed = self._renew([_key(lease)])
            except StateUnavailable as problem:
                if not self._may_have_ended(lease):
                    raise
                raise _not_renewed(lease) from problem
            if not is_renewed:
                raise taken_over(lease)
            if self._passed() - asked <= self._length / 2:
                return

    def must_hold(self, lease: Lease) -> None:
        """See `LeaseStore.must_hold`. Raise once half of the length has passed since the last
        renewal, because another host may soon take the lease.
        """
        if self._may_have_ended(lease):
            raise _not_renewed(lease)

    def _may_have_ended(self, lease: Lease) -> bool:
        renewed = self._held.get(_key(lease))
        return renewed is None or self._passed() - renewed > self._length / 2

    def _write(self, function: Callable[[Transaction], T]) -> T:
        """Carry out a write in a transaction that first checks all leases needed by the work in
        progress (`held_leases`). Raises `LeaseLost`.
        """
        leases, dialect = held_leases(), self._database.dialect

        def write(transaction: Transaction) -> T:
            for lease in leases:
                must_be_in_force(transaction, dialect, lease)
            return function(transaction)

        return self._database.run(write)

    def release(self, lease: Lease) -> None:
        """See `LeaseStore.release`."""
        with self._guard:
            self._held.pop(_key(lease), None)
        self._shared.repeat(_RELEASE.format(these=_THIS), *_key(lease))

    def begin_run(self, now: datetime) -> BegunRun:
        """See `LeaseStore.begin_run`. Each run in progress holds a lease of its own, which shows
        other hosts that the run lives.
        """
        number = 1
        while True:
            with suppress(LeaseHeld):
                self.acquire(f"{self._run_name}{number}", now)
                break
            number += 1
        run = BegunRun(number, now, self.host, os.getpid())

        def begin(transaction: Transaction) -> None:
            for left in BEGUN_RUNS.found(transaction, _UNENDED, self.host, _RUN):
                transaction.remove("begun_run", host=self.host, number=left.number)
            detach_runs(transaction, self.host, number)
            BEGUN_RUNS.save(transaction, run, host=self.host)
            self._store_presence(transaction, now)

        try:
            self._database.run(begin)
        except BaseException:
            self._release_run(run)
            raise
        return run

    def end_run(self, run: BegunRun) -> None:
        """See `LeaseStore.end_run`."""
        try:
            self._database.run(
                lambda transaction: transaction.remove(
                    "begun_run", host=self.host, number=run.number
                )
            )
        finally:
            self._release_run(run)

    def _release_run(self, run: BegunRun) -> None:
        name = f"{self._run_name}{run.number}"
        with self._guard:
            held = [key for key in self._held if key[0] == name]
        for key in held:
            self.release(Lease(*key))

    def unended_runs(self) -> tuple[BegunRun, ...]:
        """See `LeaseStore.unended_runs`: a run is dead once the run's lease has ended."""
        return BEGUN_RUNS.found(self._database, _UNENDED, self.host, _RUN)

    def must_be_idle(self, transaction: Transaction) -> None:
        """See `SqlState.must_be_idle`."""
        must_be_unheld(transaction, f"holder IS NOT NULL AND until > {_NOW}")

    def reserve(self, account: str, name: str, interval: timedelta, count: int) -> timedelta | None:
        turns = str((count * interval).total_seconds())
        most = str(longest_ahead(interval, _MOST_HOSTS).total_seconds())
        try:
            [row] = self._shared.repeat(_RESERVE, account, name, turns, most, turns)
        except StateUnavailable:
            if not self._reads_only:
                raise
            return None  # a reader keeps a pace of its own if the server refuses writes
        first = to_moment(row["until"]) - count * interval
        return max(first - to_moment(row["now"]), timedelta())

    @property
    def _run_name(self) -> str:
        return f"{_RUN}{self.host} "

    def _running(self, reader: Reader) -> dict[str, datetime]:
        rows = reader.rows(_RUNNING, _RUN)
        readable = (row for row in rows if MOMENT.can_read(row["began_at"]))
        return {row["host"]: to_moment(row["began_at"]) for row in readable}  # the oldest is last

    def _living(self, reader: Reader) -> set[tuple[str, int]]:
        """See `RunTables._living`."""
        return {(row["host"], row["number"]) for row in reader.rows(_LIVING, _RUN)}

    def now(self) -> datetime:
        """See `HostStore.now`: the first call, and each lease taken or renewed, set the clock."""
        return self._clock.now()

    def clock_ahead(self) -> timedelta:
        """See `HostStore.clock_ahead`."""
        return self._clock.ahead()

    def _ask_clock(self) -> str:
        [row] = self._shared.repeat(f"SELECT {_NOW} AS moment")
        return str(row["moment"])

    def close(self) -> None:
        """See `StateStore.close`: release the leases first. If the database does not answer, the
        leases end at their stored moments.
        """
        self._is_closed.set()
        with self._guard:
            held, renewing = list(self._held), self._renewing
            self._held.clear()
        if renewing is not None:
            renewing.join(self._length)
        if held:
            with suppress(CertferryError):
                self._shared.repeat(_RELEASE.format(these=_any(held)), *_flat(held))
        super().close()

    def _begin_renewing(self) -> None:
        if self._renewing is None and not self._is_closed.is_set():
            self._renewing = threading.Thread(target=self._keep, name="leases", daemon=True)
            self._renewing.start()

    def _keep(self) -> None:
        """Renew the held leases until the store is closed; after a failure, retry sooner."""
        pause = self._length / _RENEWALS
        while not self._is_closed.wait(pause):
            with self._guard:
                held = list(self._held)
            pause = self._length / _RENEWALS
            try:
                if held:
                    self._renew(held)
            except CertferryError:  # the next write of a holder reports it
                pause /= 4

    def _renew(self, held: Sequence[tuple[str, str, int]]) -> bool:
        """Renew the `held` leases that are still in force. Return whether all of them were."""
        asked = self._passed()
        query = _RENEW.format(these=_any(held))
        rows = self._shared.repeat(query, str(self._length), *_flat(held))
        if rows:
            self._clock.set(rows[0]["moment"], asked)
        renewed = {(row["lineage"], row["holder"], row["token"]) for row in rows}
        with self._guard:
            for key in held:
                if key in self._held:
                    self._held[key] = asked if key in renewed else -math.inf
        return renewed == set(held)


def _key(lease: Lease) -> tuple[str, str, int]:
    return lease.lineage, lease.holder, lease.token


def _any(held: Sequence[object]) -> str:
    return " OR ".join([f"({_THIS})"] * len(held))


def _flat(held: Sequence[tuple[str, str, int]]) -> list[Value]:
    return [value for key in held for value in key]


def _not_renewed(lease: Lease) -> LeaseLost:
    return LeaseLost(
        Text("{lineage}: the lease could not be renewed in time", lineage=lease.lineage),
        hint=Text("another host may continue with the certificate; the next run checks"),
    )
