"""Leases and reserved requests of a PostgreSQL server, as multiples of a bare round trip.

Processes, as hosts are, take and release leases, reserve requests of a shared account, and reserve
requests of their own. The bare round trip is `SELECT 1` over the same driver in the same round. The
aim is a thousand leases a second. The started server does not wait for its disk.

Usage: `python -m benchmarks.claims [--url URL] [--seconds N]`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

from certferry.adapters.state.connect import connect
from certferry.adapters.state.postgresql import PostgresqlDatabase, prepare
from tests.support.postgresql import KEY, running_postgresql

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOSTS = (1, 2, 4, 8)
INTERVAL = timedelta(microseconds=1)


def repeated(work: Callable[[int], object], until: float) -> int:
    """Work until a moment, and return the number of repetitions."""
    numbers = count()
    while time.time() < until:
        work(next(numbers))
    return next(numbers)


def measured(kind: str, url: str, host: str, seconds: float) -> float:
    """Return a host's rate of a kind of work, during the same work of all other hosts."""
    with closing(connect(url, KEY, host=host)) as state, closing(PostgresqlDatabase(url)) as bare:
        works: dict[str, Callable[[int], object]] = {
            "SELECT 1": lambda _: bare.rows("SELECT 1 AS one"),
            "lease taken and given back": lambda number: state.release(
                state.acquire(f"{host}-{number % 500}", NOW)
            ),
            "request of one account": lambda _: state.reserve("qiniu", "", INTERVAL, 1),
            "request of its own": lambda _: state.reserve(host, "", INTERVAL, 1),
        }
        works[kind](0)
        return repeated(works[kind], time.time() + seconds) / seconds


KINDS = ("SELECT 1", "lease taken and given back", "request of one account", "request of its own")


def rounds(url: str, seconds: float) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the total rate of each kind of work for each number of hosts."""
    for hosts in HOSTS:
        with ProcessPoolExecutor(hosts) as pool:
            names = [f"web-{number}" for number in range(hosts)]
            yield (
                hosts,
                {
                    kind: sum(pool.map(partial(measured, kind, url, seconds=seconds), names))
                    for kind in KINDS
                },
            )


def main() -> None:
    """Print a line for each number of hosts and each kind of work."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", help="an empty database; without it, a server is started")
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    with ExitStack() as ended:
        url = arguments.url
        if url is None:
            server = ended.enter_context(running_postgresql())
            url = server.url(server.new_database())
        prepare(url, KEY, "web-0", init=True)
        for hosts, rates in rounds(url, arguments.seconds):
            for kind, rate in rates.items():
                print(
                    f"{hosts} hosts  {kind:<27} {rate:7.0f} a second   "
                    f"{rates['SELECT 1'] / rate:5.2f} x"
                )


if __name__ == "__main__":
    main()
