"""The tables of runs: who started each run, the run's events and report, and whether the run's
process lives.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from certferry.adapters.state import columns
from certferry.adapters.state.columns import Value
from certferry.adapters.state.database import Reader, Table, Tables, Transaction
from certferry.adapters.state.failures import LONGEST_RESULT
from certferry.core.observed.stored_runs import (
    RunEvent,
    RunKind,
    RunReport,
    RunSource,
    RunState,
    StoredRun,
)
from certferry.core.redaction import redacted, without_secrets
from certferry.ports.run_store import EVENTS_OF_A_RUN, KEPT_RUNS, KEPT_WHOLE
from certferry.text import Text
from certferry.values import replace


def _word_of(kind: type[RunKind | RunSource | RunState]) -> columns.Column:
    return columns.Column(from_value=partial(columns.read_as, kind))


_RUNS = Table(
    "run",
    StoredRun,
    "id",
    kind=_word_of(RunKind),
    source=_word_of(RunSource),
    state=_word_of(RunState),
    started_at=columns.MOMENT,
    ended_at=columns.MOMENT,
    names=columns.NAMES,
    number=columns.NUMBER,
    done=columns.NUMBER,
    count=columns.NUMBER,
)
_EVENTS = Table("run_event", RunEvent, number=columns.NUMBER, at=columns.MOMENT, text=columns.TEXT)

_IN_ORDER = "ORDER BY started_at DESC, id DESC LIMIT ?"
_DELETE_OLDEST = f"DELETE FROM run WHERE id IN (SELECT id FROM run {_IN_ORDER} OFFSET {KEPT_RUNS})"  # noqa: S608 - constants of this module
_DELETE_EVENTS = (
    "DELETE FROM run_event WHERE run IN (SELECT id FROM run AS old WHERE ended_at IS NOT NULL"  # noqa: S608 - constants of this module
    f" AND id IN (SELECT id FROM run {_IN_ORDER} OFFSET {KEPT_WHOLE}))"
)
_ALL = 1_000_000  # SQLite requires a LIMIT before an OFFSET
_NAMES = "', ' || substr(names, 2)"

_DETACH = "UPDATE run SET number = NULL WHERE host = ? AND number = ? AND ended_at IS NULL"


def detach_runs(transaction: Transaction, host: str, number: int) -> None:
    """Remove a number (`BegunRun.number`) from the host's stored runs that have no end. These runs
    are dead, because a new run is about to get the number.
    """
    transaction.execute(_DETACH, host, number)


class RunTables(Tables):
    """See `RunStore`. These tables are written even after the loss of a lease, so a run can report
    the loss.
    """

    def save_run_begin(self, run: StoredRun, request: str | None = None) -> StoredRun:
        def begin(transaction: Transaction) -> StoredRun | None:
            query = "WHERE request = ?"
            for earlier in _RUNS.found(transaction, query, request) if request else ():
                return earlier
            transaction.add("run", **_RUNS.values(run, request=request))
            transaction.execute(_DELETE_OLDEST, _ALL)
            transaction.execute(_DELETE_EVENTS, _ALL)
            return None

        earlier = self._database.run(begin)
        return run if earlier is None else self._as_they_stand((earlier,))[0]

    def append_run_events(self, run: str, events: Sequence[RunEvent]) -> None:
        if not events:
            return
        rows = [{"run": run, **_EVENTS.values(event)} for event in events]
        places = ", ".join("?" * len(rows[0]))
        query = (
            f"INSERT INTO run_event ({', '.join(rows[0])}) VALUES ({places})"  # noqa: S608 - names of the schema
            " ON CONFLICT (run, number) DO NOTHING"
        )

        def append(transaction: Transaction) -> None:
            if not _RUNS.found(transaction, "WHERE id = ?", run):
                return  # deleted as too old, after many later runs
            transaction.execute_each(query, [tuple(row.values()) for row in rows])
            oldest = max(event.number for event in events) - EVENTS_OF_A_RUN
            if oldest > 0:
                transaction.execute(
                    "DELETE FROM run_event WHERE run = ? AND number <= ?", run, oldest
                )

        self._database.run(append)

    def save_run_progress(self, run: str, done: int, count: int) -> None:
        query = "UPDATE run SET done = ?, count = ? WHERE id = ? AND ended_at IS NULL"
        self._database.run(lambda transaction: transaction.execute(query, done, count, run))

    def save_run_end(
        self, run: str, state: RunState, ended_at: datetime, report: RunReport | None
    ) -> None:
        packed = None if report is None else _packed(report)

        def end(transaction: Transaction) -> None:
            if not _RUNS.found(transaction, "WHERE id = ? AND ended_at IS NULL", run):
                return
            moment = columns.from_moment(ended_at)
            transaction.update("run", {"id": run}, state=state, ended_at=moment)
            if packed is not None:
                transaction.add("run_report", run=run, documents=packed)

        self._database.run(end)

    def stored_run(self, run: str) -> StoredRun | None:
        runs = _RUNS.found(self._database, "WHERE id = ?", run)
        return next(iter(self._as_they_stand(runs)), None)

    def stored_runs(
        self,
        limit: int,
        *,
        before: str | None = None,
        lineage: str | None = None,
        host: str | None = None,
        who: str | None = None,
    ) -> tuple[StoredRun, ...]:
        # The column has a JSON list of names. `_NAMES` puts a comma and a space before each quoted
        # name, so a name can be searched for whole: names contain no comma and no quote.
        quoted = None if lineage is None else f", {json.dumps(lineage)}"
        conditions: dict[str, Value] = {
            "(started_at, id) < (SELECT started_at, id FROM run WHERE id = ?)": before,
            f"(names = '[]' OR replace({_NAMES}, ?, '') <> {_NAMES})": quoted,
            "host = ?": host,
            "who = ?": who,
        }
        asked = {condition: value for condition, value in conditions.items() if value is not None}
        where = f"WHERE {' AND '.join(asked)}" if asked else ""
        runs = _RUNS.found(self._database, f"{where} {_IN_ORDER}", *asked.values(), limit)
        return self._as_they_stand(runs)

    def runs_in_progress(self, limit: int) -> tuple[StoredRun, ...]:
        # Killed runs have no end either. A killed run keeps its number until a later run gets the
        # number.
        unended = f"WHERE ended_at IS NULL AND number IS NOT NULL {_IN_ORDER}"
        runs = self._as_they_stand(_RUNS.found(self._database, unended, _ALL))
        return tuple(run for run in runs if run.state is RunState.RUNNING)[:limit]

    def run_events(self, run: str, after: int = 0, limit: int = 1000) -> tuple[RunEvent, ...]:
        condition = "WHERE run = ? AND number > ? ORDER BY number LIMIT ?"
        return _EVENTS.found(self._database, condition, run, after, limit)

    def latest_run_events(self, run: str, limit: int) -> tuple[RunEvent, ...]:
        condition = "WHERE run = ? ORDER BY number DESC LIMIT ?"
        return _EVENTS.found(self._database, condition, run, limit)[::-1]

    def run_report(self, run: str) -> RunReport | None:
        rows = self._database.rows("SELECT documents FROM run_report WHERE run = ?", run)
        return next((_unpacked(row["documents"]) for row in rows), None)

    def _as_they_stand(self, runs: tuple[StoredRun, ...]) -> tuple[StoredRun, ...]:
        """Return runs, with the state `DIED` for unended runs of dead processes."""
        if all(run.ended_at for run in runs):
            return runs
        living = self._living(self._database)
        gone = [run.id for run in runs if not run.ended_at and (run.host, run.number) not in living]
        # A run may have ended after `runs` was read, and before the living processes were counted.
        # A process stores the end of a run before giving up the run's number. Therefore a second
        # query shows the end.
        places = ", ".join("?" * len(gone))
        stored = _RUNS.found(self._database, f"WHERE id IN ({places})", *gone) if gone else ()
        died = {run.id: replace(run, state=RunState.DIED) for run in stored if not run.ended_at}
        anew = {run.id: run for run in stored} | died
        return tuple(anew.get(run.id, run) for run in runs)

    def _living(self, reader: Reader) -> Collection[tuple[str, int]]:
        """Return the host and the number of each run with a living process."""
        raise NotImplementedError


def _packed(report: RunReport) -> str:
    """Return a report, compressed to a tenth: a report on a thousand certificates has megabytes."""
    text = json.dumps(report.document, ensure_ascii=False, default=_plain)
    return base64.b64encode(zlib.compress(text.encode())).decode()


def _plain(text: Text) -> object:
    return columns.as_plain(without_secrets(text, redacted))


def _unpacked(packed: str) -> RunReport:
    try:
        # Bounded, because another program may have written the row.
        plain = zlib.decompressobj().decompress(base64.b64decode(packed), LONGEST_RESULT)
        return RunReport(_with_sentences(dict(json.loads(plain))))
    except (*columns.UNREADABLE, zlib.error) as problem:
        raise columns.corrupt() from problem


def _with_sentences(value: Any) -> Any:
    match value:
        case {"text": _, "values": _}:
            return columns.from_plain(value)
        case dict():
            return {key: _with_sentences(item) for key, item in value.items()}
        case list():
            return [_with_sentences(item) for item in value]
    return value
