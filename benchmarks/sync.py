"""What a run costs that finds nothing to do: many certificates, a real SQLite state, and a CDN in
memory, so that only certferry's own work is timed.

The baseline of the same run is reading one lineage's versions from the same state, which no run
can do without; what the CDN in memory takes for itself is taken from the whole. Usage: `python
benchmarks/sync.py [--certificates N] [--rounds N]`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from certferry.adapters.state.connect import connect
from certferry.core.assessment.notices import noticed
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    Kind,
)
from certferry.core.observed.stored_runs import RunKind, RunReport, RunSource, RunState, StoredRun
from certferry.core.planning.report import SyncReport
from certferry.ports.progress import no_listener
from certferry.ports.state import StateStore
from certferry.ports.target import Scope
from certferry.present.documents import of_report
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import Ports, WaitLimit
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.memory_dns import MemoryDns
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from certferry_sandbox.testing.memory_receiver import MemoryReceivers, MemorySource
from certferry_sandbox.testing.memory_target import MemoryCdn


def now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)


def wish(number: int) -> DesiredCertificate:
    """One certificate, served at one domain."""
    domain = f"img{number}.example.com"
    deployment = DesiredDeployment("cdn", (domain,))
    return DesiredCertificate(domain, (domain,), "dns", deployments=(deployment,))


def furnish(state: StateStore, cdn: MemoryCdn, wishes: list[DesiredCertificate]) -> None:
    """Bring every certificate to where nothing is to do: issued, bound, served."""
    for one in wishes:
        bundle = make_bundle(*one.names, not_before=now() - timedelta(days=1))
        lease = state.acquire(one.lineage, now())
        state.save_version(lease, bundle, now())
        state.release(lease)
        cdn.add_domain(one.lineage)
        remote_id = cdn.upload(one.lineage, bundle)
        cdn.bind(one.lineage, Kind.CDN, remote_id, DesiredHttps())


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Time some work: the median of the rounds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def ports_of(state: StateStore, cdn: MemoryCdn) -> Ports:
    """Join a state and a CDN with fakes of everything else."""
    return Ports(
        issuer=MemoryIssuer(state, now=now),
        source=MemorySource(),
        receiver=MemoryReceivers().receiver,
        dns={"dns": MemoryDns(["example.com"])},
        targets={"cdn": cdn},
        probe=cdn,
        state=state,
        now=now,
        progress=no_listener,
    )


def main() -> None:
    """Print the cost of one certificate in a run with nothing to do, and its ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--certificates", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as directory:
        state = connect(Path(directory) / "state.db", Path(directory) / "secret.key")
        cdn = MemoryCdn(now, processing=timedelta(0), lags=(timedelta(0), timedelta(0)))
        wishes = [wish(number) for number in range(arguments.certificates)]
        furnish(state, cdn, wishes)
        reconciler = Reconciler(ports_of(state, cdn))
        report = reconciler.sync(wishes, WaitLimit())
        assert report.ok, "there was something to do"  # noqa: S101 - or nothing is measured
        each = milliseconds(
            lambda: compared(state, reconciler.sync(wishes, WaitLimit())), arguments.rounds
        ) / len(wishes)
        looks = [as_look(one, state) for one in wishes]
        fake = milliseconds(lambda: ask_all(cdn, looks), arguments.rounds) / len(wishes)
        storing = milliseconds(lambda: store(state, report), arguments.rounds) / len(wishes)
        reading = milliseconds(lambda: read_all(state, wishes), arguments.rounds) / len(wishes)
        state.close()

    print(f"reading the versions   {reading:6.3f} ms each")
    print(f"sync, nothing to do    {each:6.3f} ms each   {each / reading:5.2f} x")
    print(f"storing that it ran    {storing:6.3f} ms each   {storing / each:5.2f} x of the run")
    print(f"of that, our own work  {each - fake:6.3f} ms each   (the CDN in memory: {fake:.3f})")


def compared(state: StateStore, report: SyncReport) -> None:
    """Compare what a run leaves to be told with what stands, as every run does at its end."""
    lineages = [one.lineage for one in report.lineages]
    before = state.notices()
    after = noticed(report, before, now(), versions={}, declared=lineages)
    assert before == after, "there was something to tell"  # noqa: S101 - or a write is measured


def store(state: StateStore, report: SyncReport) -> None:
    """Store the row of a run in which nothing happened, as `wiring.runner` does."""
    run = StoredRun(uuid4().hex, RunKind.SYNC, RunSource.COMMAND, "me", state.host, now())
    state.save_run_begin(run)
    state.save_run_end(run.id, RunState.DONE, now(), RunReport(of_report(report)))


def read_all(state: StateStore, certificates: list[DesiredCertificate]) -> None:
    """Read every lineage once."""
    for one in certificates:
        state.versions(one.lineage)


def as_look(wanted: DesiredCertificate, state: StateStore) -> Scope:
    """Return what a run asks the CDN of a lineage."""
    known = [version.certificate for version in state.versions(wanted.lineage)]
    return Scope(wanted.lineage, wanted.names, wanted.names, Kind.AUTO, known)


def ask_all(cdn: MemoryCdn, looks: list[Scope]) -> None:
    """Ask the CDN and its edges about every lineage once."""
    for one in looks:
        cdn.observe(one)
        cdn.served(one.names)


if __name__ == "__main__":
    main()
