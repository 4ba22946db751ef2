"""The cost of the history's chain: sealed entries, and the verification of a long history.

An entry with its seal is a multiple of the same row alone in a transaction; the verification is a
multiple of a bare read of its rows.

Usage: `python -m benchmarks.history [--entries N] [--rounds N] [--long N] [--postgresql]`; the last
option starts a PostgreSQL server of its own (from the tests' wheel), over a socket.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from certferry.adapters.state.connect import connect
from certferry.adapters.state.database import Database
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.sqlite import SqliteDatabase
from certferry.core.observed.records import HistoryEntry
from certferry.ports.state import StateStore
from tests.support.postgresql import KEY, running_postgresql

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ROW = {"at": "2026-03-01T00:00:00.000000Z", "event": "bound", "who": "root@web", "facts": "{}"}


@contextmanager
def opened(*, on_server: bool) -> Iterator[tuple[StateStore, Database]]:
    """Open an empty state of either kind, and its database."""
    with ExitStack() as stack:
        if on_server:
            server = stack.enter_context(running_postgresql())
            server.ask("ALTER SYSTEM SET fsync = on")
            server.ask("SELECT pg_reload_conf()")
            url = server.url(server.new_state())
            store: StateStore = stack.enter_context(closing(connect(url, KEY)))
            yield store, stack.enter_context(closing(PostgresqlDatabase(url)))
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            path = folder / "state.db"
            store = stack.enter_context(closing(connect(path, folder / "secret.key")))
            yield store, stack.enter_context(closing(SqliteDatabase(path)))


def seconds(work: Callable[[], object], count: int) -> float:
    """Return the time of a single repetition of some work."""
    started = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - started) / count


def main() -> None:
    """Print the medians of the times, and the median of the ratios of each round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--entries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--long", type=int, default=100_000)
    parser.add_argument("--postgresql", action="store_true")
    arguments = parser.parse_args()

    with opened(on_server=arguments.postgresql) as (store, database):
        count = itertools.count()

        def bare() -> None:
            lineage = f"bare-{next(count) % 20}"
            database.run(lambda transaction: transaction.add("history", **ROW, lineage=lineage))

        def sealed() -> None:
            lineage = f"lineage-{next(count) % 20}"
            store.append_history(HistoryEntry(NOW, lineage, "bound", "root@web", {}))

        sealed()
        rounds = [
            (seconds(bare, arguments.entries), seconds(sealed, arguments.entries))
            for _ in range(arguments.rounds)
        ]
        ratio = statistics.median(after / before for before, after in rounds)
        before, after = (1000 * statistics.median(times) for times in zip(*rounds, strict=True))
        print(f"an entry          {before:7.3f} ms bare   {after:7.3f} ms sealed   {ratio:5.2f} x")

        while store.verify_history().entries < arguments.long:
            for _ in range(arguments.long // 4):
                sealed()
        query = "SELECT * FROM history WHERE number > ? ORDER BY number LIMIT 1000"
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        verified = store.verify_history()
        took = time.perf_counter() - started
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
        started, last = time.perf_counter(), 0
        while rows := database.rows(query, last):
            last = rows[-1]["number"]
        ratio = took / (time.perf_counter() - started)
        print(
            f"{verified.entries} verified in {took:.2f} s   {ratio:5.2f} x a bare read"
            f"   {grown} KiB more memory   unbroken: {not verified.breaks}"
        )


if __name__ == "__main__":
    main()
