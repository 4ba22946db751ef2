"""The cost of a run without work over many certificates, with a real SQLite state.

The CDN is in memory, so that only certferry's own work is timed. The baseline of the same run is
the read of a lineage's versions from the same state; the CDN's own time is subtracted from the
whole.

Usage: `python benchmarks/sync.py [--certificates N] [--rounds N]`.
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
    """Return the real time."""
    return datetime.now(UTC)


def wish(number: int) -> DesiredCertificate:
    """Return a certificate with a single domain."""
    domain = f"img{number}.example.com"
    deployment = DesiredDeployment("cdn", (domain,))
    return DesiredCertificate(domain, (domain,), "dns", deployments=(deployment,))


def furnish(state: StateStore, cdn: MemoryCdn, wishes: list[DesiredCertificate]) -> None:
    """Bring every certificate to its final state: issued, bound, served."""
    for certificate in wishes:
        bundle = make_bundle(*certificate.names, not_before=now() - timedelta(days=1))
        lease = state.acquire(certificate.lineage, now())
        state.save_version(lease, bundle, now())
        state.release(lease)
        cdn.add_domain(certificate.lineage)
        remote_id = cdn.upload(certificate.lineage, bundle)
        cdn.bind(certificate.lineage, Kind.CDN, remote_id, DesiredHttps())


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of some work over the rounds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def ports_of(state: StateStore, cdn: MemoryCdn) -> Ports:
    """Return ports with this state and CDN, and fakes of all other services."""
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
    """Print the cost of a certificate in a run without work, and its ratio."""
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
        assert report.ok, "there was something to do"  # noqa: S101 - other runs have work
        each = milliseconds(
            lambda: compared(state, reconciler.sync(wishes, WaitLimit())), arguments.rounds
        ) / len(wishes)
        looks = [as_look(certificate, state) for certificate in wishes]
        fake = milliseconds(lambda: ask_all(cdn, looks), arguments.rounds) / len(wishes)
        storing = milliseconds(lambda: store(state, report), arguments.rounds) / len(wishes)
        reading = milliseconds(lambda: read_all(state, wishes), arguments.rounds) / len(wishes)
        state.close()

    print(f"reading the versions   {reading:6.3f} ms each")
    print(f"sync, nothing to do    {each:6.3f} ms each   {each / reading:5.2f} x")
    print(f"storing that it ran    {storing:6.3f} ms each   {storing / each:5.2f} x of the run")
    print(f"of that, our own work  {each - fake:6.3f} ms each   (the CDN in memory: {fake:.3f})")


def compared(state: StateStore, report: SyncReport) -> None:
    """Compare the notices of a run with the stored notices, as every run does at its end."""
    lineages = [lineage.lineage for lineage in report.lineages]
    before = state.notices()
    after = noticed(report, before, now(), versions={}, declared=lineages)
    assert before == after, "there was something to tell"  # noqa: S101 - other runs write


def store(state: StateStore, report: SyncReport) -> None:
    """Store the row of a run without events, as `wiring.runner` does."""
    run = StoredRun(uuid4().hex, RunKind.SYNC, RunSource.COMMAND, "me", state.host, now())
    state.save_run_begin(run)
    state.save_run_end(run.id, RunState.DONE, now(), RunReport(of_report(report)))


def read_all(state: StateStore, certificates: list[DesiredCertificate]) -> None:
    """Read every lineage once."""
    for certificate in certificates:
        state.versions(certificate.lineage)


def as_look(wanted: DesiredCertificate, state: StateStore) -> Scope:
    """Return the scope of a run's question to the CDN about a lineage."""
    certificates_of_lineage = [version.certificate for version in state.versions(wanted.lineage)]
    return Scope(wanted.lineage, wanted.names, wanted.names, Kind.AUTO, certificates_of_lineage)


def ask_all(cdn: MemoryCdn, looks: list[Scope]) -> None:
    """Ask the CDN and its edges about every lineage once."""
    for scope in looks:
        cdn.observe(scope)
        cdn.served(scope.names)


if __name__ == "__main__":
    main()
