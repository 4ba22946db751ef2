"""The hosts that use the state: their machines, runs and work, and the removal of a host."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from certferry import __version__
from certferry.adapters.state.columns import MOMENT, SECONDS
from certferry.adapters.state.database import Reader, Row, Table, Tables, Transaction, writes
from certferry.adapters.state.declarations import declared_unlike
from certferry.adapters.state.notice_tables import LAST_RUNS
from certferry.core.desired.declaration import outdated
from certferry.core.observed.records import HostRecord, HostWork, LastRun
from certferry.errors import LeaseHeld
from certferry.text import Text

_HOSTS = Table(
    "host",
    HostRecord,
    seen_at=MOMENT,
    clock_ahead=SECONDS,
    last_run=None,
    running_since=None,
)
_WITH_LAST_RUNS = (
    "SELECT host.*, last_run.ended_at, last_run.succeeded_at"
    " FROM host LEFT JOIN last_run ON last_run.host = host.name ORDER BY host.name"
)
_DECLARES = "SELECT host, COUNT(*) AS declares FROM host_declaration GROUP BY host"
_OF_A_HOST = (
    "rollout sighting account_note last_run begun_run host_declaration notice told run watched_host"
)
"""Tables with rows that belong to one host. These rows are deleted with the host."""


class HostTables(Tables):
    """See `HostStore`. The clock is this machine's clock; `SharedState` uses the database's clock
    instead.
    """

    is_shared: bool
    #: A digest of the machine's identity, see `this_machine`.
    _machine: str

    def now(self) -> datetime:
        return datetime.now(UTC)

    def clock_ahead(self) -> timedelta:
        return timedelta(0)

    def other_machine_seen_at(self) -> datetime | None:
        """See `HostStore.other_machine_seen_at`. Always `None` for a state with a single host: the
        file of such a state may be moved to another machine.
        """
        query = "SELECT seen_at FROM host WHERE name = ? AND machine <> ?"
        rows = self._database.rows(query, self.host, self._machine) if self.is_shared else ()
        seen = (MOMENT.read(row["seen_at"]) for row in rows if MOMENT.can_read(row["seen_at"]))
        return next(seen, None)

    def hosts(self) -> tuple[HostRecord, ...]:
        running = self._running(self._database)

        def runs_of(row: Row) -> dict[str, LastRun | datetime | None]:
            last_run = LAST_RUNS.first([row]) if row["ended_at"] is not None else None
            return {"last_run": last_run, "running_since": running.get(row["name"])}

        return _HOSTS.read(self._database.rows(_WITH_LAST_RUNS), runs_of)

    def work_of_hosts(self) -> Mapping[str, HostWork]:
        return self._database.read(self._work_of_hosts)

    def _work_of_hosts(self, reader: Reader) -> Mapping[str, HostWork]:
        declares = {row["host"]: row["declares"] for row in reader.rows(_DECLARES)}
        unlike, holds = declared_unlike(reader), self._holds(reader)
        return {
            host: HostWork(
                declares.get(host, 0),
                tuple(sorted(outdated(unlike, host))),
                tuple(holds.get(host, ())),
            )
            for host in declares.keys() | holds.keys()
        }

    def _holds(self, reader: Reader) -> Mapping[str, list[str]]:
        """Return the lineages that each host is working on, according to the leases in force."""
        lineages_of = defaultdict[str, list[str]](list)
        clock = self._database.dialect.clock
        query = f"SELECT lineage, holder FROM lease WHERE until > {clock} ORDER BY lineage"  # noqa: S608 - a dialect's constant
        for row in reader.rows(query):
            if (
                row["holder"] and row["lineage"].isprintable()
            ):  # the leases of runs have unprintable names
                lineages_of[row["holder"].rsplit("/", 2)[0]].append(row["lineage"])
        return lineages_of

    @writes
    def forget_host(self, transaction: Transaction, name: str) -> tuple[str, ...]:
        since = self._running(transaction).get(name)
        if since is not None:
            raise LeaseHeld(
                Text(
                    "{host} stays: a run has been in progress there since {since}",
                    host=name,
                    since=since,
                ),
                hint=Text("try again after the run has ended"),
            )
        query = "SELECT DISTINCT lineage FROM rollout WHERE host = ? ORDER BY lineage"
        lineages = tuple(row["lineage"] for row in transaction.rows(query, name))
        for table in _OF_A_HOST.split():
            transaction.remove(table, host=name)
        transaction.remove("host", name=name)
        return lineages

    def _running(self, reader: Reader) -> Mapping[str, datetime]:
        """Return, for each host with a run in progress, the start of the oldest such run."""
        raise NotImplementedError

    def _store_presence(self, transaction: Transaction, now: datetime) -> None:
        """Store that a run of this host has begun."""
        transaction.save(
            "host",
            ("name",),
            name=self.host,
            machine=self._machine,
            release=__version__,
            seen_at=MOMENT.write(now),
            clock_ahead=round(self.clock_ahead().total_seconds()),
        )


_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")


@cache
def this_machine() -> str:
    """Return a digest of the machine's id; the id itself is confidential (machine-id(5)).

    Without an id, as in a container, return a digest of certferry's path. Containers of the same
    image therefore count as a single machine.
    """
    identity = sys.prefix
    for path in _IDS:
        with suppress(OSError, ValueError):
            machine_id = Path(path).read_text("ascii").strip()
            if re.fullmatch("[0-9a-f]{32}", machine_id):
                identity = machine_id
                break
    return hashlib.sha256(f"certferry {identity}".encode()).hexdigest()[:32]
