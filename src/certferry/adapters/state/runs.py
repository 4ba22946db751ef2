"""The runs that are under way, when the last one ended, and the last in which nothing failed."""

from __future__ import annotations

import os
import platform
from contextlib import ExitStack
from datetime import datetime

from certferry.adapters.state.columns import from_moment, to_moment, to_optional_moment
from certferry.adapters.state.database import Database
from certferry.adapters.state.lease_locks import LeaseLocks
from certferry.core.history import BegunRun, LastRun


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
