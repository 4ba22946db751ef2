"""What the state keeps of the past for people and monitors: runs, history, sightings, and what was
found out about accounts.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime

from certferry.adapters.state.columns import (
    from_facts,
    from_moment,
    to_facts,
    to_moment,
    to_optional_moment,
)
from certferry.adapters.state.database import Database
from certferry.adapters.state.leases import LeaseLocks
from certferry.core.assessment.health import Sighting
from certferry.core.observed.records import BegunRun, HistoryEntry, LastRun
from certferry.ports.state import Edit


class Runs:
    """A row for each run that is under way, whose lock ends with its process however that ends; and
    one row for the last: what came before it is in the history.
    """

    def __init__(self, database: Database, locks: LeaseLocks) -> None:
        self._database = database
        self._locks = locks
        self._held: dict[BegunRun, ExitStack] = {}

    def begin_run(self, now: datetime) -> BegunRun:
        """See `StateStore.begin_run`."""
        with ExitStack() as undo:
            # Locked inside the write: another run finds no row without its lock.
            with self._database.transaction(serializable=True) as connection:
                number = self._locked(undo)
                # Of this number too: `status` may have its lock while it asks whether it is free.
                for left in {number, *(run.number for run in self._begun() if self._is_gone(run))}:
                    connection.execute("DELETE FROM begun_run WHERE number = ?", (left,))
                run = BegunRun(number, now, platform.node(), os.getpid())
                connection.execute(
                    "INSERT INTO begun_run (number, began_at, host, pid) VALUES (?, ?, ?, ?)",
                    (number, from_moment(now), run.host, run.pid),
                )
            self._held[run] = undo.pop_all()
        return run

    def end_run(self, run: BegunRun) -> None:
        """See `StateStore.end_run`."""
        with (
            self._held.pop(run, ExitStack()),
            self._database.transaction() as connection,
        ):
            connection.execute("DELETE FROM begun_run WHERE number = ?", (run.number,))

    def unended_runs(self) -> tuple[BegunRun, ...]:
        """See `StateStore.unended_runs`."""
        gone = [run for run in self._begun() if self._is_gone(run)]
        # What has ended since the rows were read has taken its own away.
        still_there = self._begun() if gone else []
        return tuple(run for run in gone if run in still_there)

    def _begun(self) -> list[BegunRun]:
        rows = self._database.rows(
            "SELECT number, began_at, host, pid FROM begun_run ORDER BY began_at"
        )
        return [BegunRun(n, to_moment(began_at), host, pid) for n, began_at, host, pid in rows]

    def _is_gone(self, run: BegunRun) -> bool:
        lock = self._locks.take(_lock_of(run.number))
        if lock is None:
            return False
        lock.close()
        return True

    def _locked(self, undo: ExitStack) -> int:
        """Lock the first number that no run has."""
        number = 1
        while (lock := self._locks.take(_lock_of(number))) is None:
            number += 1
        undo.push(lock)
        return number

    def save_run(self, ended_at: datetime, *, succeeded: bool) -> None:
        """Keep when a run ended, and whether nothing failed in it."""
        moment = from_moment(ended_at)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO last_run (id, ended_at, succeeded_at) VALUES (1, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET ended_at = excluded.ended_at,"
                " succeeded_at = COALESCE(excluded.succeeded_at, last_run.succeeded_at)",
                (moment, moment if succeeded else None),
            )

    def last_run(self) -> LastRun | None:
        """When the last run ended, `None` before the first."""
        for ended_at, succeeded_at in self._database.rows(
            "SELECT ended_at, succeeded_at FROM last_run"
        ):
            return LastRun(to_moment(ended_at), to_optional_moment(succeeded_at))
        return None

    def close(self) -> None:
        """Let go of the locks that are still held."""
        while self._held:
            _, lock = self._held.popitem()
            lock.close()


def _lock_of(number: int) -> str:
    return f"\0run {number}"  # no lineage is called so


class History:
    """Entries in the order in which they were appended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append_history(self, entry: HistoryEntry) -> None:
        """Write down what happened. Never changed, never removed."""
        with self._database.transaction(serializable=True) as connection:
            connection.execute(
                "INSERT INTO history (number, at, lineage, event, who, facts)"
                " SELECT COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, ? FROM history",
                (
                    from_moment(entry.at),
                    entry.lineage,
                    entry.event,
                    entry.who,
                    from_facts(entry.facts),
                ),
            )

    def history(self, lineage: str | None, limit: int) -> tuple[HistoryEntry, ...]:
        """What happened, newest first, of one lineage or of all."""
        columns = "SELECT at, lineage, event, who, facts FROM history"
        order = "ORDER BY number DESC LIMIT ?"
        rows = (
            self._database.rows(f"{columns} {order}", limit)
            if lineage is None
            else self._database.rows(f"{columns} WHERE lineage = ? {order}", lineage, limit)
        )
        return tuple(
            HistoryEntry(to_moment(at), of_lineage, event, who, to_facts(facts))
            for at, of_lineage, event, who, facts in rows
        )


class Sightings:
    """Rows by lineage, target and domain."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sightings(self) -> tuple[Sighting, ...]:
        """See `StateStore.sightings`."""
        rows = self._database.rows(
            "SELECT lineage, target, domain, served, since, fingerprint FROM sighting"
            " ORDER BY lineage, target, domain"
        )
        return tuple(
            Sighting(lineage, target, domain, bool(served), to_moment(since), fingerprint)
            for lineage, target, domain, served, since, fingerprint in rows
        )

    def update_sightings(
        self, change: Callable[[tuple[Sighting, ...]], tuple[Sighting, ...]]
    ) -> tuple[Sighting, ...]:
        """See `StateStore.update_sightings`."""
        with self._database.transaction(serializable=True) as connection:
            before = {one.place: one for one in self.sightings()}
            after = {one.place: one for one in change(tuple(before.values()))}
            for place in before.keys() - after.keys():
                connection.execute(
                    "DELETE FROM sighting WHERE lineage = ? AND target = ? AND domain = ?", place
                )
            for place, one in after.items():
                if before.get(place) != one:
                    connection.execute(
                        "INSERT INTO sighting (lineage, target, domain, served, since, fingerprint)"
                        " VALUES (?, ?, ?, ?, ?, ?)"
                        " ON CONFLICT (lineage, target, domain) DO UPDATE SET"
                        " served = excluded.served, since = excluded.since,"
                        " fingerprint = excluded.fingerprint",
                        (*place, int(one.served), from_moment(one.since), one.fingerprint),
                    )
        return tuple(after[place] for place in sorted(after))


class AccountNotes:
    """Short texts by account and name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def account_note(self, account: str, name: str) -> str | None:
        """Return what a note says, `None` where there is none."""
        rows = self._database.rows(
            "SELECT text FROM account_note WHERE account = ? AND name = ?", account, name
        )
        return next((str(text) for (text,) in rows), None)

    def update_account_note(self, account: str, name: str, change: Edit) -> str | None:
        """Change a note in one transaction, and return what it says now."""
        with self._database.transaction(serializable=True) as connection:
            before = self.account_note(account, name)
            after = change(before)
            if after is None:
                connection.execute(
                    "DELETE FROM account_note WHERE account = ? AND name = ?", (account, name)
                )
            elif after != before:
                connection.execute(
                    "INSERT INTO account_note (account, name, text) VALUES (?, ?, ?)"
                    " ON CONFLICT (account, name) DO UPDATE SET text = excluded.text",
                    (account, name, after),
                )
        return after
