"""The cost of several hosts with a PostgreSQL server, beside a single host with SQLite.

Measured in the same run are a run without work, a lease, the statements of a pass, and the rate of
leases. PostgreSQL runs on this machine, as in the tests, and does not wait for the disk (`fsync =
off`): the ratios count. `benchmarks.fleet_hosts` measures the time that more hosts need for the
same work.

Usage: `python -m benchmarks.fleet [--certificates N] [--rounds N] [--only PART …]`.
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
    """Return a CDN that carries out changes at once."""
    return MemoryCdn(now, processing=timedelta(0), lags=(timedelta(0),))


def opened(server: Postgresql, database: str, host: str) -> StateStore:
    """Open a shared state as a host does."""
    return connect(server.url(database), KEY, host=host)


# --- A run without work


def idle(server: Postgresql, certificates: int, repeats: int) -> Iterator[str]:
    """Compare such a run over PostgreSQL with the same run over SQLite, round by round."""
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
            assert engine.sync(wishes, WaitLimit()).ok  # noqa: S101 - a failed run measures nothing
            runs[name] = lambda engine=engine: engine.sync(wishes, WaitLimit())  # type: ignore[misc]  # an engine for each
        times = [{name: _seconds(run) for name, run in runs.items()} for _ in range(repeats)]
    best = {name: min(round_times[name] for round_times in times) for name in runs}
    for name, seconds in best.items():
        yield f"nothing to do, {name:<10} {1000 * seconds / certificates:6.3f} ms a certificate"
    ratio = best["PostgreSQL"] / best["SQLite"]
    middle = statistics.median(
        round_times["PostgreSQL"] / round_times["SQLite"] for round_times in times
    )
    yield f"  PostgreSQL / SQLite, best rounds {ratio:5.2f} x, median {middle:5.2f} x (at most 1.5)"


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


# --- Statements for the server


@contextmanager
def counted_statements() -> Iterator[Counter[str]]:
    """Count the statements sent to the server in a `with` block, each a round trip."""
    execute, counts = psycopg.Connection.execute, Counter[str]()

    def counted(self: Any, query: Any, *args: Any, **named: Any) -> Any:
        counts[str(query).split(maxsplit=1)[0]] += 1
        return execute(self, query, *args, **named)

    psycopg.Connection.execute = counted  # type: ignore[method-assign]  # of the library
    try:
        yield counts
    finally:
        psycopg.Connection.execute = execute  # type: ignore[method-assign]  # the library's


def statements(server: Postgresql, certificates: int) -> Iterator[str]:
    """Count the round trips of a lease, and the round trips of passes."""
    with closing(opened(server, server.new_state(), "web-1")) as state:
        state.release(state.acquire("img", now()))  # connects
        with counted_statements() as counts:
            state.release(state.acquire("img", now()))
        yield f"a lease taken and given back     {counts.total():6.0f} round trips (at most 3)"
        cdn, wishes = quick_cdn(), [wish(number) for number in range(certificates)]
        ports = replace(ports_of(state, cdn), progress=history_keeper(state, now, "root"))
        cdn.add_domain(wishes[0].lineage)
        first = LineageReconciler(wishes[0], ports)
        for work_of_pass in ("issues, uploads and binds", "sees it served"):
            with counted_statements() as counts:
                first.reconcile()
            yield f"a pass that {work_of_pass:<26}{counts.total():3.0f} round trips {dict(counts)}"
        furnish(state, cdn, wishes[1:])
        engine = Reconciler(ports)
        assert engine.sync(wishes, WaitLimit()).ok  # noqa: S101 - a failed run has other statements
        with counted_statements() as counts:
            LineageReconciler(wishes[1], ports).reconcile()
        yield f"a pass that finds nothing to do  {counts.total():6.0f} round trips (at most 8)"
        with counted_statements() as counts:
            engine.sync(wishes, WaitLimit())
        each = counts.total() / certificates
        yield f"  in a run over {certificates:,} of them      {each:6.2f} each, on average"


# --- Leases in a second


def claims(server: Postgresql) -> Iterator[str]:
    """Run processes that take and release leases as fast as possible (`benchmarks.claims`)."""
    for count, done in rounds(server.url(server.new_state()), CLAIMING):
        bare, leases = done["SELECT 1"], done["lease taken and given back"]
        yield (
            f"leases taken and given back by {count} hosts {leases:6.0f} a second (at least 1,000);"
            f" {leases / bare:4.2f} x a bare SELECT"
        )


# --- The needs of many hosts


CERTIFICATES, FLEET = 100_000, 200
ROUND_TRIPS = 58
"""For a certificate that is issued, bound and verified: see `statements`."""
A_READ = 1
"""Round trips for reading the state of so many lineages at once (`observe.AT_ONCE`)."""


def needed(certificates: int, hosts: int) -> list[str]:
    """Return the lines of the computed tables of `docs/explanation/scale.md`."""
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
        renewals_of = f"renewals of certificates valid for {lifetime / DAY:.1f} d"
        yield renewals_of, *_a_day(orders * ROUND_TRIPS)
    reads = hosts * 2 * -(-certificates // AT_ONCE)
    yield "every host runs twice, and declares them all", *_a_day(reads * A_READ)
    yield "every host works all day, and renews its leases", *_a_day(hosts * DAY / (LENGTH / 3))
    paces = (RATE + FUSION_RATE) * (DAY / timedelta(seconds=1))
    yield "one account at Qiniu at its pace, each request reserved alone", *_a_day(paces)


def _a_day(number: float) -> tuple[str, str]:
    return f"{number:,.0f}", f"{number / (DAY / timedelta(seconds=1)):.1f}"


def _at_one_account() -> Iterator[tuple[str, ...]]:
    """Yield the time of an account's pace that runs without work take."""
    sizes = (500, 2_000, 10_000)
    yield ("hosts that declare the same domains", *(f"{size:,} domains" for size in sizes))
    for hosts in (1, 2, 4, 8, 20):
        minutes = (hosts * size * MOST["no-op"] / RATE / 60 for size in sizes)
        yield (str(hosts), *(f"{of_size:,.0f} min" for of_size in minutes))


PARTS = ("needed", "idle", "statements", "claims")


def main() -> None:
    """Print the measurements."""
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
