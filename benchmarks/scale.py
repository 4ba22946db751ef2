"""The needs of 100,000 certificates on a single host, and the time of a run without work.

Orders, accounts and requests are computed from the CA's limits and certferry's own rules, and are
the same everywhere. Time and memory are measured with a real SQLite state and a CDN in memory, so
that only certferry's own work counts. The program prints the tables of `docs/explanation/scale.md`.

Usage: `python -m benchmarks.scale [--certificates N] [--measured N]`; `--measured 0` for the
computed tables alone.
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from benchmarks.many_domains import MOST
from benchmarks.many_domains_stand_in import RATE
from benchmarks.run_cost import MOST as MOST_REQUESTS
from benchmarks.sync import furnish, now, ports_of, wish
from benchmarks.three_years import LIVES
from benchmarks.three_years_ca import USUAL
from benchmarks.three_years_world import START
from certferry.adapters.acme.budget import limits_at
from certferry.adapters.state.columns import from_moment, from_names
from certferry.adapters.state.connect import connect
from certferry.core.assessment.health import Recorded
from certferry.core.certificates.certificate import HALF_DAY, Certificate, renew_at
from certferry.core.planning.limits import Limits, PlannedOrder, rate_limit_hold
from certferry.ports.state import StateStore
from certferry.reconcile.reads import plans_of, statuses_of
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import WaitLimit
from certferry_sandbox.testing.memory_target import MemoryCdn

CERTIFICATES, MEASURED = 100_000, 20_000
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
WEEK = 7 * DAY


def limits() -> Limits:
    """Return the limits of Let's Encrypt that certferry respects."""
    usual_limits = limits_at(USUAL.directory)
    if usual_limits is None:
        raise LookupError(USUAL.directory)
    return usual_limits


def renewed_every(lifetime: timedelta) -> timedelta:
    """Return the age at which a certificate is renewed, without a window of the CA."""
    end, name = START + lifetime, "img.example.com"
    certificate = Certificate("", (name,), name, "", "", START, end, "ec256")
    return renew_at(certificate) - START


def renewals(certificates: int) -> Iterator[tuple[str, ...]]:
    """Yield the cost of renewing so many certificates, by their lifetime."""
    yield (
        "valid for",
        "renewed after",
        "orders a day",
        "accounts, if renewals counted",
        "requests to the CA a day",
        "requests a second, evenly",
        "calls to DNS a day",
    )
    questions = certificates * (DAY / HALF_DAY)
    for name in ("90", "64", "45", "6"):
        lifetime = LIVES[name].lifetime(START)
        orders = certificates / (renewed_every(lifetime) / DAY)
        requests = orders * MOST_REQUESTS["renewal"].ca + questions
        yield (
            _span(lifetime),
            _span(renewed_every(lifetime)),
            _count(orders),
            _count(_up(orders / a_day())),
            _count(requests),
            f"{requests / (DAY / SECOND):.1f}",
            _count(orders * MOST_REQUESTS["renewal"].dns),
        )


def a_day() -> float:
    """Return the new orders that an account may make in a day."""
    orders = limits().orders
    return orders.most * (DAY / orders.within)


def first_issue(certificates: int) -> Iterator[tuple[str, ...]]:
    """Yield the cost of the first certificates, all of which count."""
    yield ("first certificates", "by the limits")
    domain = limits().domain
    yield ("new orders a day and account", _count(a_day()))
    yield ("days on one account", _count(_up(certificates / a_day())))
    yield ("accounts for one week", _count(_up(certificates / (a_day() * 7))))
    each_week = domain.most * (WEEK / domain.within)
    yield ("registered domains for one week, at least", _count(_up(certificates / each_week)))


def at_qiniu(domains: int) -> Iterator[tuple[str, ...]]:
    """Yield the time of Qiniu's pace for an account with so many domains."""
    yield ("one account at Qiniu", "requests a domain, at most", f"hours, at {RATE} a second")
    for kind_of_run in ("no-op", "renewal", "first sync"):
        hours = domains * MOST[kind_of_run] * SECOND / RATE / HOUR
        yield (kind_of_run, f"{MOST[kind_of_run]:.0f}", f"{hours:.1f}")


def measured(certificates: int) -> Iterator[tuple[str, ...]]:
    """Yield the measurements with so many certificates in the state."""
    yield ("measured", f"with {_count(certificates)} certificates")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        with closing(connect(path, Path(folder) / "secret.key")) as state:
            cdn = MemoryCdn(now, processing=timedelta(0), lags=(timedelta(0), timedelta(0)))
            wishes = [wish(number) for number in range(certificates)]
            furnish(state, cdn, wishes)
            engine = Reconciler(ports_of(state, cdn))
            engine.sync(wishes, WaitLimit())  # asks for the moments of renewal, and stores them
            took = _timed(lambda: engine.sync(wishes, WaitLimit()))
            yield ("a run that finds nothing to do", f"{took:.1f} s")
            yield ("`plan`", f"{_timed(lambda: plans_of(engine.ports, wishes)):.1f} s")
            yield (
                "`status`",
                f"{_timed(lambda: statuses_of(engine.ports, wishes, Recorded())):.1f} s",
            )
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            yield ("memory of the whole process, with the CDN in it", f"{memory:.0f} MB")
            yield ("the state", f"{path.stat().st_size / 1e6:.0f} MB")
            yield from _budget(state, path)


def _budget(state: StateStore, path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the time of a check of the rate limits, after a month of orders."""
    allowed, directory = limits(), USUAL.directory
    orders = int(a_day() * 30)
    begin, pause = now() - 30 * DAY, 30 * DAY / orders
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.executemany(
            "INSERT INTO issuance (number, directory, lineage, names, renews, ordered_at)"
            " VALUES (?, ?, '', ?, 0, ?)",
            (
                (
                    number,
                    directory,
                    from_names((f"www.shop{number}.example",)),
                    from_moment(begin + number * pause),
                )
                for number in range(orders)
            ),
        )
    wanted = PlannedOrder(("www.new.example",))
    looks = 20

    def look() -> None:
        for _ in range(looks):
            rate_limit_hold(allowed, state.spent(directory, wanted), wanted, now())

    took = _timed(look) / looks
    yield (f"whether an order may be made, after {_count(orders)}", f"{1000 * took:.1f} ms")


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _up(number: float) -> int:
    return -int(-number // 1)


def _count(number: float) -> str:
    return f"{round(number):,}"


def _span(span: timedelta) -> str:
    return f"{span / DAY:.1f} d"


def table(rows: Iterator[Sequence[str]]) -> Iterator[str]:
    """Return the lines of a table in Markdown; the first row is its head."""
    head = next(rows)
    yield f"| {' | '.join(head)} |"
    yield f"| --- {'| ---: ' * (len(head) - 1)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def needed(certificates: int) -> list[str]:
    """Return the lines of the computed tables."""
    tables = (renewals(certificates), first_issue(certificates), at_qiniu(certificates))
    return [line for rows in tables for line in (*table(rows), "")]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--certificates", type=int, default=CERTIFICATES)
    parser.add_argument("--measured", type=int, default=MEASURED)
    arguments = parser.parse_args()
    print(*needed(arguments.certificates), sep="\n", flush=True)
    if arguments.measured:
        for line in table(measured(arguments.measured)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
