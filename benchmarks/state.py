"""The cost of the state for a run without work, as multiples of a bare read of the same rows.

A run reads the versions of every lineage. The bare read asks SQLite for the same rows, lineage by
lineage, and ignores the answer, so that the ratio describes certferry instead of the machine.

Usage: `python benchmarks/state.py [--lineages N] [--rounds N]`.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from certferry.adapters.state.connect import connect
from certferry.ports.state import StateStore
from certferry_sandbox.testing.certificates import make_bundle

NOW = datetime(2026, 3, 1, tzinfo=UTC)
VERSIONS = 3


def fill(store: StateStore, lineages: Sequence[str]) -> None:
    """Store a few versions of every lineage."""
    bundles = [make_bundle("img.example.com", not_before=NOW) for _ in range(VERSIONS)]
    for lineage in lineages:
        lease = store.acquire(lineage, NOW)
        for bundle in bundles:
            store.save_version(lease, bundle, NOW)
        store.release(lease)


def seconds(work: Callable[[str], object], lineages: Sequence[str]) -> float:
    """Time a kind of work on every lineage, per lineage."""
    started = time.perf_counter()
    for lineage in lineages:
        work(lineage)
    return (time.perf_counter() - started) / len(lineages)


def measure(
    works: dict[str, Callable[[str], object]], lineages: Sequence[str], rounds: int
) -> dict[str, list[float]]:
    """Time every kind of work once per round, so that a busy moment affects all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work, lineages))
    return times


def main() -> None:
    """Print a line per kind of work: median per lineage, and the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lineages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    lineages = [f"lineage-{number}" for number in range(arguments.lineages)]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        with (
            closing(connect(path, Path(folder) / "secret.key")) as store,
            closing(sqlite3.connect(path)) as raw,
        ):
            fill(store, lineages)
            query = "SELECT * FROM version WHERE lineage = ? ORDER BY number DESC"
            works: dict[str, Callable[[str], object]] = {
                "bare read": lambda lineage: raw.execute(query, (lineage,)).fetchall(),
                "versions": store.versions,
                "all that is remembered": store.remembered,
                "challenge records": store.challenge_records,
                "bundle, with its key": lambda lineage: store.bundle(lineage, VERSIONS),
            }
            times = measure(works, lineages, arguments.rounds)

    for name, measured in times.items():
        ratios = [
            of_work / bare for of_work, bare in zip(measured, times["bare read"], strict=True)
        ]
        print(
            f"{name:<22} {1000 * statistics.median(measured):7.4f} ms per lineage   "
            f"{statistics.median(ratios):6.2f} x"
        )


if __name__ == "__main__":
    main()
