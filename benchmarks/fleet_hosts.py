"""The time that 1, 2, 4 and 8 hosts need for the same work.

Each host is a process, beside a PostgreSQL server and a CDN. The CDN in memory is a process that
all hosts ask; each host has a CA of its own, since no host continues another's order. Waits take as
long as `Latency` says. The aim is the work of a single host divided by the hosts, and a fifth more,
until the account's pace at the CDN is the limit; changes at the CDN are immediate. The share of
busy processors is printed: above 90 % the processors were the limit instead of the hosts.

Usage: `python -m benchmarks.fleet_hosts [--work N] [--hosts N …] [--order SECONDS] [--request
SECONDS] [--processing SECONDS] [--per-second N]`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks.sync import now, ports_of, wish
from certferry.adapters.http.http_client import Pacer
from certferry.adapters.state.connect import connect
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.pem import parse_bundle
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.planning.planner import Claims
from certferry.core.planning.report import Result, SyncReport, of_lineage
from certferry.core.redaction import Secret
from certferry.ports.state import StateStore
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import WORKERS, Ports, WaitLimit, recorded_as_begun
from certferry.values import replace
from certferry_sandbox.testing.interruptions import Altered, Port
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.support.postgresql import KEY, Postgresql, running_postgresql

HOSTS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Latency:
    """The waits of a simulated world, in seconds: an order at the CA, a request to the CDN or its
    edges, and a change at the CDN; and the requests a second that the CDN takes from all hosts
    together.
    """

    order: float = 1.0
    request: float = 0.02
    processing: float = 0.0
    per_second: float = 250.0

    @property
    def of_one(self) -> float:
        """The least time of a certificate: an order, and the CDN's part."""
        return self.order + REQUESTS * self.request


REQUESTS = 6
"""To the CDN and its edges, for a first certificate: a host observes both under the lease, uploads,
binds, and observes both again; more often during a slow change.
"""


# --- The CDN of all hosts


class Cdn(MemoryCdn):
    """A CDN in another process, which takes so many seconds for a change."""

    def __init__(self, processing: float) -> None:
        super().__init__(now, processing=timedelta(seconds=processing), lags=(timedelta(0),))

    def upload_pem(self, lineage: str, fullchain: str, key: str) -> str:
        """Take an upload: a key is a secret, which cannot be pickled."""
        return self.upload(lineage, parse_bundle(fullchain, Secret(key)))

    def writes_made(self) -> tuple[int, int]:
        """Return the numbers of uploads and bindings."""
        return self.uploads, self.writes


class World(BaseManager):
    """The process of the CDN."""


World.register("cdn", Cdn)


class Waiting:
    """The fate of calls to a remote port: each takes its time, at the account's pace."""

    def __init__(self, seconds: float, pace: Callable[[], None]) -> None:
        self._seconds = seconds
        self._pace = pace
        self.calls = 0

    def before(self) -> None:
        """See `Fate.before`."""
        self.calls += 1
        self._pace()
        time.sleep(self._seconds)

    def after(self) -> None:
        """See `Fate.after`."""


# --- A host


@dataclass(frozen=True)
class Task:
    """The task of a host: its name, the database, the CDN, and the work."""

    name: str
    url: str
    key: str
    cdn: Any
    work: int
    latency: Latency


@dataclass(frozen=True)
class Done:
    """The beginning and end of a host, its processor time, and its results."""

    begun: float
    ended: float
    processor: float
    issued: int
    requests: int
    is_well: bool


_together: Barrier
"""The barrier of all hosts before their runs."""


def _join(together: Barrier) -> None:
    global _together  # noqa: PLW0603 - a barrier passes to processes by inheritance alone
    _together = together


def host(task: Task) -> Done:
    """Make a scheduled run as a host, beginning when all hosts are known."""
    wishes = [wish(number) for number in range(task.work)]
    with closing(connect(task.url, Secret(task.key), host=task.name)) as state:
        issuer = MemoryIssuer(state, now)
        away = Waiting(task.latency.request, _pacer(state, task.latency.per_second).wait)
        engine = Reconciler(_ports(state, task, issuer, away, wishes))
        with recorded_as_begun(lambda: state):
            _together.wait()
            begun, processor = time.monotonic(), time.process_time()
            report = engine.sync(wishes, WaitLimit(), scheduled=True)
            ended, processor = time.monotonic(), time.process_time() - processor
    return Done(begun, ended, processor, issuer.issued, away.calls, _is_well(report))


def _pacer(state: StateStore, per_second: float) -> Pacer:
    interval = timedelta(seconds=1 / per_second)
    return Pacer(
        per_second,
        pause=time.sleep,
        reserve=lambda turns: state.reserve("account", "cdn", interval, turns),
    )


def _is_well(report: SyncReport) -> bool:
    ends = {of_lineage(lineage) for lineage in report.lineages}
    return report.complete and ends <= {Result.IN_ORDER, Result.ELSEWHERE}


def _ports(
    state: StateStore,
    task: Task,
    issuer: MemoryIssuer,
    fate: Waiting,
    wishes: Sequence[DesiredCertificate],
) -> Ports:
    cdn, latency = task.cdn, task.latency

    def upload(lineage: str, bundle: CertificateBundle) -> Any:
        return cdn.upload_pem(lineage, bundle.fullchain_pem, bundle.privkey_pem.reveal())

    def issue(*args: Any) -> Any:
        time.sleep(latency.order)
        return issuer.issue(*args)

    away: Any = Port(Altered(cdn, upload=upload), fate)
    slow: Any = Altered(issuer, issue=issue)
    ports = ports_of(state, away)
    return replace(ports, issuer=slow, claims=Claims(wishes))


# --- All of them


def shared_work(
    server: Postgresql, work: int, latency: Latency, hosts: Sequence[int] = HOSTS
) -> Iterator[str]:
    """Let hosts issue, upload, bind and verify so many certificates together."""
    by_pace = work * REQUESTS / latency.per_second
    yield (
        f"{work:,} certificates: an order takes {latency.order} s, a request to the CDN"
        f" {latency.request} s, {latency.per_second:.0f} of these a second for all hosts: by that"
        f" pace {by_pace:.0f} s, by waits alone {work * latency.of_one / WORKERS:.0f} s divided by"
        " the hosts"
    )
    yield from ("", _HEAD, "| ---: | ---: | ---: | --- | ---: | ---: | ---: | --- | ---: |")
    first = 0.0
    for count in hosts:
        idle, elapsed = _idle_time(), time.monotonic()
        done, writes = _all_at_work(server, work, latency, count)
        busy = 1 - (_idle_time() - idle) / ((time.monotonic() - elapsed) * (os.cpu_count() or 1))
        took = max(end.ended for end in done) - min(end.begun for end in done)
        first = first or took * count
        most = max(first / count, by_pace) * 1.2
        issued = [end.issued for end in done]
        is_once = (sum(issued), *writes) == (work, work, work) and all(end.is_well for end in done)
        early = max(end.ended for end in done) - min(end.ended for end in done)
        cells = (
            str(count),
            f"{took:.1f}",
            f"{most:.1f}",
            "yes" if took <= most else "NO",
            f"{busy:.0%}",
            f"{1000 * sum(end.processor for end in done) / work:.1f} ms",
            f"{sum(end.requests for end in done) / work:.2f}",
            f"{min(issued)} to {max(issued)}" + ("" if is_once else f", NOT ONCE: {writes}"),
            f"{early:.1f} s",
        )
        yield f"| {' | '.join(cells)} |"


_HEAD = (
    "| hosts | seconds | aim | kept | processors busy | a certificate takes of them | requests each"
    " | certificates of a host | first host done before the last |"
)


def _all_at_work(
    server: Postgresql, work: int, latency: Latency, count: int
) -> tuple[list[Done], tuple[int, int]]:
    context, url = get_context("spawn"), server.url(server.new_state())
    with World(ctx=context) as world:
        cdn = world.cdn(latency.processing)  # type: ignore[attr-defined]  # made by `register`
        for number in range(work):
            cdn.add_domain(wish(number).lineage)
        task = partial(Task, url=url, key=KEY.reveal(), cdn=cdn, work=work, latency=latency)
        tasks = [task(f"web-{number}") for number in range(count)]
        with context.Pool(count, _join, (context.Barrier(count),)) as pool:
            done = pool.map(host, tasks, chunksize=1)
        return done, cdn.writes_made()


def _idle_time() -> float:
    """Return the seconds in which the processors were idle (proc(5))."""
    idle = Path("/proc/stat").read_text(encoding="ascii").split()[4]
    return int(idle) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print a line for each number of hosts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=int, default=2000)
    parser.add_argument("--hosts", type=int, nargs="+", default=HOSTS)
    parser.add_argument("--order", type=float, default=Latency.order)
    parser.add_argument("--request", type=float, default=Latency.request)
    parser.add_argument("--processing", type=float, default=Latency.processing)
    parser.add_argument("--per-second", type=float, default=Latency.per_second)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    waits = (arguments.order, arguments.request, arguments.processing)
    latency = Latency(*waits, arguments.per_second)
    with running_postgresql() as server:
        for line in shared_work(server, arguments.work, latency, arguments.hosts):
            print(line, flush=True)


if __name__ == "__main__":
    main()
