"""What whole runs cost a real CA: requests counted at a proxy before Pebble."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from certferry.adapters.acme.renewal_info import certificate_id
from certferry.core.certificates.renewal import renew_at
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.planning.report import LineageReport
from certferry.ports.progress import no_listener
from certferry.reconcile.reconciler import LineageReconciler
from certferry.reconcile.run import Ports
from certferry_sandbox.nameserver.service import DnsService
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.testing.memory_receiver import MemoryReceivers, MemorySource
from certferry_sandbox.testing.memory_target import MemoryCdn
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import Bench

HALF_DAY = timedelta(hours=12)


def run(bench: Bench) -> LineageReport:
    """Run as a process of its own does, for a certificate that is issued and kept."""
    cdn = MemoryCdn(bench.clock.now, processing=timedelta(0), lags=(timedelta(0),))
    ports = Ports(
        issuer=bench.issuer(),
        source=MemorySource(),
        dns={"dns": bench.dns},
        targets={},
        receiver=MemoryReceivers().receiver,
        probe=cdn,
        state=bench.state,
        now=bench.clock.now,
        progress=no_listener,
    )
    one = LineageReconciler(DesiredCertificate(bench.lineage, (bench.name,), "dns"), ports)
    assert one.reconcile() is None
    return one.report()


def cost(bench: Bench, act: Callable[[Bench], LineageReport] = run) -> list[str]:
    """The requests that a run makes, which ends well."""
    before = len(bench.proxy.journal)
    assert act(bench).ok
    return [call.request.label for call in bench.proxy.journal[before:]]


def test_run_with_nothing_due_costs_one_request_in_half_a_day(bench: Bench) -> None:
    """None at all after the first in it; the run that issues has asked already."""
    first = cost(bench)
    assert "/renewalInfo/" in first[-1]
    assert 1 == sum("/renewalInfo/" in label for label in first)
    assert [] == cost(bench)

    for _ in range(6):
        bench.clock.advance(HALF_DAY)
        (asked,) = cost(bench)
        assert "/renewalInfo/" in asked
        assert [] == cost(bench)
    assert 1 == len(bench.state.versions(bench.lineage))


def test_renewal_in_pebbles_window_replaces_the_certificate(bench: Bench) -> None:
    """The order says so, and Pebble takes it."""
    cost(bench)
    former = bench.state.versions(bench.lineage)[0]
    assert former.window is not None
    bench.clock.advance(former.window.start - timedelta(minutes=1) - bench.clock.now())
    cost(bench)
    assert 1 == len(bench.state.versions(bench.lineage))

    bench.clock.advance(former.window.end - bench.clock.now())
    cost(bench)

    assert 2 == len(bench.state.versions(bench.lineage))
    leaf = bench.state.bundle(bench.lineage, 1).cert_pem
    assert certificate_id(leaf) == bench.proxy.payload("POST /order-plz")["replaces"]


def test_certificate_of_six_days_is_renewed_when_its_ca_says(
    dns_service: DnsService, zones: Zones, tmp_path: Path
) -> None:
    """In the window that Pebble gives it, or at half of its life: long before its end, and once."""
    life = timedelta(hours=160)
    with Pebble(dns_service.resolver_endpoint, nonce_reject=0, certificate_validity=life) as pebble:
        bench = Bench(pebble, zones, tmp_path)
        with bench.proxy:
            cost(bench)
            (first,) = bench.state.versions(bench.lineage)
            due = renew_at(first.certificate, first.window)
            bench.clock.advance(due - timedelta(minutes=1) - bench.clock.now())
            cost(bench)
            assert 1 == len(bench.state.versions(bench.lineage))

            bench.clock.advance(timedelta(minutes=2))
            cost(bench)

    assert first.window is not None
    assert life / 4 < first.certificate.not_after - due <= life / 2
    assert 2 == len(bench.state.versions(bench.lineage))
