"""What several hosts and one PostgreSQL cost, beside one host and SQLite in the same run: one that
finds nothing to do, a lease, the statements of a pass, and how many leases are taken in a second.

PostgreSQL runs beside it on this machine, as in the tests, and writes nothing through to the disk
(`fsync = off`): what counts are the ratios. How long more hosts need for the same work is
`benchmarks.fleet_hosts`. Usage: `python -m benchmarks.fleet [--certificates N] [--rounds N]
[--only PART …]`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.claims import rounds
from benchmarks.many_domains import MOST
from benchmarks.scale import DAY, renewed_every, table
from benchmarks.sync import furnish, now, ports_of, wish
from benchmarks.three_years import LIVES
from benchmarks.three_years_world import START
from certferry.adapters.qiniu.qiniu_client import FUSION_RATE, RATE
from certferry.adapters.state.connect import connect
from certferry.adapters.state.shared_leases import LENGTH
from certferry.ports.state import StateStore
from certferry.reconcile.observe import AT_ONCE
from certferry.reconcile.reconciler import LineageReconciler, Reconciler
from certferry.reconcile.run import WaitLimit, history_keeper
from certferry.values import replace
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.support.postgresql import KEY, Postgresql, running_postgresql

CLAIMING = 2.0  # seconds


def quick_cdn() -> MemoryCdn:
    """Return a CDN whose changes are done at once."""
    return MemoryCdn(now, processing=timedelta(0), lags=(timedelta(0),))


def opened(server: Postgresql, database: str, host: str) -> StateStore:
    """Open a shared state as a host does."""
    return connect(server.url(database), KEY, host=host)


# --- A run that finds nothing to do


def idle(server: Postgresql, certificates: int, repeats: int) -> Iterator[str]:
    """Compare such a run over PostgreSQL with one over SQLite, round by round."""
    wishes = [wish(number) for number in range(certificates)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as states:
        runs: dict[str, Callable[[], object]] = {}
        for name, state in {
            "SQLite": connect(Path(folder) / "state.db", Path(folder) / "secret.key"),
            "PostgreSQL": opened(server, server.new_state(), "web-1"),
        }.items():
            states.enter_context(closing(state))
            cdn = quick_cdn()
            furnish(state, cdn, wishes)
            engine = Reconciler(ports_of(state, cdn))
            assert engine.sync(wishes, WaitLimit()).ok  # noqa: S101 - or nothing is measured
            runs[name] = lambda engine=engine: engine.sync(wishes, WaitLimit())  # type: ignore[misc]  # one engine each
        times = [{name: _seconds(run) for name, run in runs.items()} for _ in range(repeats)]
    best = {name: min(one[name] for one in times) for name in runs}
    for name, seconds in best.items():
        yield f"nothing to do, {name:<10} {1000 * seconds / certificates:6.3f} ms a certificate"
    ratio = best["PostgreSQL"] / best["SQLite"]
    middle = statistics.median(one["PostgreSQL"] / one["SQLite"] for one in times)
    yield f"  PostgreSQL / SQLite, best rounds {ratio:5.2f} x, median {middle:5.2f} x (at most 1.5)"


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


# --- What is asked of the server


@contextmanager
def counted_statements() -> Iterator[Counter[str]]:
    """Count what is sent to the server in a `with` block, each with one answer awaited."""
    execute, found = psycopg.Connection.execute, Counter[str]()

    def counted(self: Any, query: Any, *args: Any, **named: Any) -> Any:
        found[str(query).split(maxsplit=1)[0]] += 1
        return execute(self, query, *args, **named)

    psycopg.Connection.execute = counted  # type: ignore[method-assign]  # the library's
    try:
        yield found
    finally:
        psycopg.Connection.execute = execute  # type: ignore[method-assign]  # the library's


def statements(server: Postgresql, certificates: int) -> Iterator[str]:
    """Count the round trips of a lease, and those of passes."""
    with closing(opened(server, server.new_state(), "web-1")) as state:
        state.release(state.acquire("img", now()))  # connects
        with counted_statements() as found:
            state.release(state.acquire("img", now()))
        yield f"a lease taken and given back     {found.total():6.0f} round trips (at most 3)"
        cdn, wishes = quick_cdn(), [wish(number) for number in range(certificates)]
        ports = replace(ports_of(state, cdn), progress=history_keeper(state, now, "root"))
        cdn.add_domain(wishes[0].lineage)
        first = LineageReconciler(wishes[0], ports)
        for what in ("issues, uploads and binds", "sees it served"):
            with counted_statements() as found:
                first.reconcile()
            yield f"a pass that {what:<26}{found.total():3.0f} round trips {dict(found)}"
        furnish(state, cdn, wishes[1:])
        engine = Reconciler(ports)
        assert engine.sync(wishes, WaitLimit()).ok  # noqa: S101 - or something else is counted
        with counted_statements() as found:
            LineageReconciler(wishes[1], ports).reconcile()
        yield f"a pass that finds nothing to do  {found.total():6.0f} round trips (at most 8)"
        with counted_statements() as found:
            engine.sync(wishes, WaitLimit())
        each = found.total() / certificates
        yield f"  in a run over {certificates:,} of them      {each:6.2f} each, on average"


# --- Leases in a second


def claims(server: Postgresql) -> Iterator[str]:
    """Have processes take and give back leases as fast as they can (`benchmarks.claims`)."""
    for count, done in rounds(server.url(server.new_state()), CLAIMING):
        bare, leases = done["SELECT 1"], done["lease taken and given back"]
        yield (
            f"leases taken and given back by {count} hosts {leases:6.0f} a second (at least 1,000);"
            f" {leases / bare:4.2f} x a bare SELECT"
        )


# --- What many hosts need


CERTIFICATES, FLEET = 100_000, 200
ROUND_TRIPS = 58
"""To the server, for a certificate that is issued, bound and seen: see `statements`."""
A_READ = 1
"""Round trips for reading what is stored of so many lineages at once (`observe.AT_ONCE`)."""


def needed(certificates: int, hosts: int) -> list[str]:
    """Return the lines of the tables of `docs/explanation/scale.md` that are arithmetic."""
    tables = (_at_the_server(certificates, hosts), _at_one_account())
    return [line for rows in tables for line in (*table(rows), "")]


def _at_the_server(certificates: int, hosts: int) -> Iterator[tuple[str, ...]]:
    yield (
        f"{certificates:,} certificates, {hosts} hosts",
        "round trips a day",
        "a second, evenly",
    )
    for name in ("90", "6"):
        lifetime = LIVES[name].lifetime(START)
        orders = certificates / (renewed_every(lifetime) / DAY)
        what = f"renewals of certificates valid for {lifetime / DAY:.1f} d"
        yield what, *_a_day(orders * ROUND_TRIPS)
    reads = hosts * 2 * -(-certificates // AT_ONCE)
    yield "every host runs twice, and declares them all", *_a_day(reads * A_READ)
    yield "every host works all day, and renews its leases", *_a_day(hosts * DAY / (LENGTH / 3))
    paces = (RATE + FUSION_RATE) * (DAY / timedelta(seconds=1))
    yield "one account at Qiniu at its pace, each request reserved alone", *_a_day(paces)


def _a_day(number: float) -> tuple[str, str]:
    return f"{number:,.0f}", f"{number / (DAY / timedelta(seconds=1)):.1f}"


def _at_one_account() -> Iterator[tuple[str, ...]]:
    """Return how long an account's pace is taken by runs that find nothing to do."""
    sizes = (500, 2_000, 10_000)
    yield ("hosts that declare the same domains", *(f"{size:,} domains" for size in sizes))
    for hosts in (1, 2, 4, 8, 20):
        minutes = (hosts * size * MOST["no-op"] / RATE / 60 for size in sizes)
        yield (str(hosts), *(f"{one:,.0f} min" for one in minutes))


PARTS = ("needed", "idle", "statements", "claims")


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--certificates", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {threading.active_count()} thread"
    )
    if "needed" in arguments.only:
        print(*needed(CERTIFICATES, FLEET), sep="\n")
    with running_postgresql() as server:
        parts: dict[str, Callable[[], Iterator[str]]] = {
            "needed": lambda: iter(()),
            "idle": lambda: idle(server, arguments.certificates, arguments.rounds),
            "statements": lambda: statements(server, arguments.certificates),
            "claims": lambda: claims(server),
        }
        for part in arguments.only:
            for line in parts[part]():
                print(line, flush=True)


if __name__ == "__main__":
    main()
