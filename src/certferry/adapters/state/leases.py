"""The leases: who may work on which lineage, and until when."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

from certferry.adapters.state.columns import from_moment, to_moment
from certferry.adapters.state.database import Database
from certferry.adapters.state.holder import Holder
from certferry.errors import LeaseHeld, LeaseLost, Retry
from certferry.ports.state import Lease
from certferry.text import Text


class Leases:
    """One lease for each lineage; its token grows with every new holder and is never forgotten."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, lineage: str, ttl: timedelta, now: datetime) -> Lease:
        """Take the lease of a lineage, unless somebody alive holds it. Raises `LeaseHeld`."""
        with self._database.transaction() as connection:
            last_token = _refuse_if_held(connection, lineage, now)
            lease = Lease(lineage, str(Holder.here()), last_token + 1)
            connection.execute(
                "INSERT INTO lease (lineage, token, holder, since, until) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (lineage) DO UPDATE SET token = excluded.token,"
                " holder = excluded.holder, since = excluded.since, until = excluded.until",
                (
                    lease.lineage,
                    lease.token,
                    lease.holder,
                    from_moment(now),
                    from_moment(now + ttl),
                ),
            )
        return lease

    def extend(self, lease: Lease, ttl: timedelta, now: datetime) -> None:
        """Keep a lease for longer. Raises `LeaseLost`."""
        with self._database.transaction() as connection:
            must_be_in_force(connection, lease)
            connection.execute(
                "UPDATE lease SET until = ? WHERE lineage = ?",
                (from_moment(now + ttl), lease.lineage),
            )

    def release(self, lease: Lease) -> None:
        """Give a lease back. A lost one is let go silently."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE lease SET holder = NULL, since = NULL, until = NULL"
                " WHERE lineage = ? AND holder = ? AND token = ?",
                (lease.lineage, lease.holder, lease.token),
            )


def must_be_in_force(connection: sqlite3.Connection, lease: Lease) -> None:
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


def _refuse_if_held(connection: sqlite3.Connection, lineage: str, now: datetime) -> int:
    """Give the last holder's token, or raise `LeaseHeld`."""
    found = connection.execute(
        "SELECT token, holder, since, until FROM lease WHERE lineage = ?", (lineage,)
    ).fetchone()
    if found is None:
        return 0
    token, written, since, until = found
    if written is None:
        return int(token)
    holder = Holder.parse(written)
    is_over = to_moment(until) <= now and not holder.lives_beside_us()
    if is_over or holder.has_ended():
        return int(token)
    raise _held(lineage, holder, to_moment(since), to_moment(until))


def _held(lineage: str, holder: Holder, since: datetime, until: datetime) -> LeaseHeld:
    return LeaseHeld(
        Text(
            "{lineage}: {holder} has been at work since {since}, and may be until {until}",
            lineage=lineage,
            holder=holder.described(),
            since=since,
            until=until,
        ),
        hint=Text("try again when it has ended; if it is gone, its lease ends by itself"),
        retry=Retry.at(until),
    )
