"""Orders: left over, counted, revoked, and what whole runs cost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certferry.adapters.acme.budget import limits_at
from certferry.adapters.acme.csr import certificate_id
from certferry.adapters.state.connect import connect
from certferry.config.values import DIRECTORIES
from certferry.core.certificates.certificate import KeyType, renew_at
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.planning.limits import Allowance, Limits, Spent
from certferry.core.planning.report import LineageReport
from certferry.core.redaction import Secret
from certferry.errors import (
    AuthorizationFailed,
    CaUnavailable,
    DnsUnavailable,
    IssuanceError,
    OrderPostponed,
    RateLimited,
    Retry,
)
from certferry.ports.issuer import IssueRequest
from certferry.ports.progress import no_listener
from certferry.ports.state import AcmeOrder
from certferry.reconcile.reconciler import LineageReconciler
from certferry.reconcile.run import Ports
from certferry.values import replace
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.nameserver.service import DnsService
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.testing.memory_receiver import MemoryReceivers, MemorySource
from certferry_sandbox.testing.memory_target import MemoryCdn
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import ZONE, Bench
from tests.adapters.acme.ports import ZoneDns, unavailable
from tests.adapters.acme.proxy import refusal, with_fields
from tests.support.programs import with_renewal_info

# --- Orders that an earlier run began: finished where they still lead to what is wanted now


PENDING, READY, PROCESSING, VALID = "pending", "ready", "processing", "valid"


def leave_order(bench: Bench, status: str) -> AcmeOrder:
    """Let a run fail so that its order is left in this state at the CA."""
    if status == PENDING:
        bench.propagation.error = unavailable()
        with pytest.raises(DnsUnavailable):
            bench.issue()
        bench.propagation.error = None
    elif status == PROCESSING:
        bench.proxy.rewrite = never_done
        with pytest.raises(CaUnavailable, match="waiting for the CA to issue"):
            bench.issue()
    else:
        path = {READY: "/finalize-order/*", VALID: "/certZ/*"}[status]
        bench.proxy.faults.add(Fault.status(502), on=f"POST {path}", times=None)
        with pytest.raises(CaUnavailable, match="502"):
            bench.issue()
        bench.proxy.faults.clear()
    bench.dns.added.clear()
    return kept(bench)


def never_done(request: Request, response: Response) -> Response:
    """Show every order that was finalized as still in processing."""
    if "order/" not in request.path or b'"valid"' not in response.body:
        return response
    return with_fields(response, status=PROCESSING, certificate=None)


def showing_order(**fields: Any) -> Callable[[Request, Response], Response]:
    def rewrite(request: Request, response: Response) -> Response:
        is_order = request.path.startswith("/my-order/")
        return with_fields(response, **fields) if is_order else response

    return rewrite


def kept(bench: Bench) -> AcmeOrder:
    order = bench.state.order(bench.lineage)
    assert order is not None
    return order


def orders(bench: Bench) -> int:
    return len(bench.proxy.requests("POST /order-plz"))


@pytest.mark.parametrize("status", [PENDING, READY, PROCESSING, VALID])
def test_order_in_any_state_is_finished_with_the_key_that_was_kept(
    bench: Bench, status: str
) -> None:
    """No second order, no second certificate; names that are proven are not proven again."""
    order = leave_order(bench, status)
    bench.proxy.rewrite = lambda _, response: response

    bundle = bench.issue()

    assert order.key_pem == bundle.privkey_pem
    assert (1, 1) == (orders(bench), bench.proxy.finalized)
    assert (status == PENDING) is bool(bench.dns.added)
    assert order == kept(bench)
    assert any(activity.startswith("resuming the order of") for activity in bench.activities)


def test_order_whose_state_lags_behind_its_proofs_is_finished(bench: Bench) -> None:
    """Pending while every authorization is valid: there is nothing to prove, and it goes on."""
    order = leave_order(bench, READY)
    looks = iter([PENDING, PENDING])

    def rewrite(_: Request, response: Response) -> Response:
        status = next(looks, None)
        return response if status is None else with_fields(response, status=status)

    bench.proxy.rewrite = only_for(order.url, rewrite)

    assert bench.issue().key_matches
    assert [] == bench.dns.added
    assert 1 == orders(bench)


def test_order_that_stays_in_processing_is_looked_at_again_by_every_run(bench: Bench) -> None:
    """The wait is bounded and its failure is temporary; the order is neither lost nor doubled."""
    order = leave_order(bench, PROCESSING)

    with pytest.raises(CaUnavailable) as failure:
        bench.issue()

    assert Retry.LATER == failure.value.retry
    assert order == kept(bench)
    assert (1, 1) == (orders(bench), bench.proxy.finalized)


@pytest.mark.parametrize(
    "rewrite",
    [
        showing_order(status="invalid"),
        showing_order(expires="2020-01-01T00:00:00Z"),
        showing_order(expires="2020-01-01T00:00:00"),
        showing_order(profile="tlsserver"),
    ],
    ids=["invalid", "expired", "expired in no zone", "another profile"],
)
def test_order_that_leads_nowhere_is_replaced(
    bench: Bench, rewrite: Callable[[Request, Response], Response]
) -> None:
    """A new one is begun, and the old one is forgotten."""
    order = leave_order(bench, READY)
    bench.proxy.rewrite = only_for(order.url, rewrite)

    bundle = bench.issue(issuer=bench.issuer(must_have_profile=False), profiles=("classic",))

    assert 2 == orders(bench)
    assert order.url != kept(bench).url
    assert bundle.key_matches
    assert order.key_pem != bundle.privkey_pem


def only_for(
    url: str, rewrite: Callable[[Request, Response], Response]
) -> Callable[[Request, Response], Response]:
    return lambda request, response: (
        rewrite(request, response) if url.endswith(request.path) else response
    )


def test_order_whose_earlier_proof_fails_late_is_replaced_in_the_same_run(bench: Bench) -> None:
    """The CA had been asked to look, but looked when the records of the killed run were gone."""
    bench.dns, dns = ZoneDns(elsewhere()), bench.dns
    bench.propagation.looks = False
    bench.proxy.faults.add(Fault.reset_after(), on="POST /chalZ/*", times=None)
    with pytest.raises(CaUnavailable):
        bench.issue()
    bench.proxy.faults.clear()
    bench.dns, bench.propagation.looks = dns, True
    order = kept(bench)
    bench.proxy.rewrite = undecided_at_first()

    assert bench.issue().key_matches
    assert order.url != kept(bench).url
    assert [] == bench.txt_left


def undecided_at_first() -> Callable[[Request, Response], Response]:
    seen: set[str] = set()

    def rewrite(request: Request, response: Response) -> Response:
        is_first = request.path not in seen
        seen.add(request.path)
        if is_first and request.path.startswith(("/my-order/", "/authZ/")):
            return with_fields(response, status=PENDING)
        return response

    return rewrite


def elsewhere() -> Zones:
    """A zone that is not the delegated one."""
    zones = Zones()
    zones.add_zone(ZONE, ["ns1.other.test"])
    return zones


@pytest.mark.parametrize(
    ("kind", "status"), [("malformed", 404), ("unauthorized", 403), ("accountDoesNotExist", 400)]
)
def test_order_that_the_ca_does_not_show_is_replaced(bench: Bench, kind: str, status: int) -> None:
    """It may have been removed, or belong to another account."""
    order = leave_order(bench, READY)
    path = order.url.removeprefix(bench.proxy.url)
    bench.proxy.faults.add(refusal(kind, "no such order", status), on=f"POST {path}")

    assert bench.issue().key_matches
    assert 2 == orders(bench)


@pytest.mark.parametrize(
    ("fault", "error"),
    [(refusal("rateLimited", "slow down", 429), RateLimited), (Fault.html(502), CaUnavailable)],
)
def test_order_that_cannot_be_looked_at_now_is_kept(
    bench: Bench, fault: Fault, error: type[Exception]
) -> None:
    """The CA's bad day is no reason to order twice."""
    order = leave_order(bench, READY)
    bench.proxy.faults.add(fault, on="POST /my-order/*", times=None)

    with pytest.raises(error):
        bench.issue()

    assert order == kept(bench)
    assert 1 == orders(bench)


@pytest.mark.parametrize(
    "change",
    [
        {"directory": "https://ca.example/dir"},
        {"url": "https://10.0.0.5/my-order/1"},
        {"names": ("other.example.com",)},
        {"key_pem": Secret("no key at all")},
    ],
    ids=["another CA", "another host", "other names", "unreadable key"],
)
def test_order_for_something_else_is_replaced(bench: Bench, change: dict[str, Any]) -> None:
    """It is not even looked at."""
    order = leave_order(bench, READY)
    bench.state.save_order(bench.lease(), replace(order, **change))
    path = order.url.removeprefix(bench.proxy.url)
    looks = len(bench.proxy.requests(f"POST {path}"))

    assert bench.issue().key_matches
    assert 2 == orders(bench)
    assert looks == len(bench.proxy.requests(f"POST {path}"))


def test_order_whose_names_stand_in_another_order_is_finished(bench: Bench) -> None:
    """A certificate's names are a set."""
    names = (bench.name, f"*.{bench.name}")
    bench.propagation.error = unavailable()
    with pytest.raises(DnsUnavailable):
        bench.issue(*names)
    bench.propagation.error = None

    assert set(names) == set(bench.issue(*reversed(names)).certificate.names)
    assert 1 == orders(bench)


def test_order_whose_certificate_is_gone_is_forgotten(bench: Bench) -> None:
    """The run that finds out fails, and the next one begins anew."""
    leave_order(bench, VALID)
    bench.proxy.faults.add(refusal("malformed", "certificate not found", 404), on="POST /certZ/*")
    with pytest.raises(Exception, match="certificate not found"):
        bench.issue()
    assert bench.state.order(bench.lineage) is None

    assert bench.issue().key_matches
    assert 2 == bench.proxy.finalized


# --- What is counted at a CA, and what it says of its limits: kept for every later run


HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
LIMITS = Limits(
    orders=Allowance(3, 3 * HOUR),
    domain=Allowance(50, WEEK),
    same_names=Allowance(5, WEEK),
    failed_proofs=Allowance(2, HOUR),
)
OTHERS = IssueRequest("other", ("other.example.org",), KeyType.EC256)


def spent(bench: Bench) -> Spent:
    return bench.state.spent(bench.proxy.directory_url, bench.request().wanted)


def other_directory() -> Zones:
    """Return zones that the CA does not look into."""
    zones = Zones()
    zones.add_zone(ZONE, ["ns1.dns.test"])
    return zones


def held(bench: Bench, request: IssueRequest | None = None) -> OrderPostponed | None:
    return bench.issuer(limits=LIMITS).rate_limit_hold(request or bench.request())


def test_order_is_counted_and_its_certificate(bench: Bench) -> None:
    """It may lead to a certificate from the moment it was made, and has when that is saved."""
    bundle = bench.issue(issuer=bench.issuer(limits=LIMITS))
    (order,) = spent(bench).orders
    assert (False, None) == (order.given_up, order.issued_at)

    now = bench.clock.now()
    bench.state.save_version(bench.lease(), bundle, now)

    (order,) = spent(bench).orders
    assert now == order.issued_at


def test_order_that_would_be_too_many_is_not_made(bench: Bench) -> None:
    """The CA is not asked for it. One in progress is finished all the same."""
    issuer = bench.issuer(limits=LIMITS)
    for _ in range(3):
        bundle = bench.issue(issuer=issuer)
        assert None is held(bench)
        bench.state.save_version(bench.lease(), bundle, bench.clock.now())
    until = bench.clock.now() + 3 * HOUR

    with pytest.raises(OrderPostponed) as failure:
        bench.issue(issuer=bench.issuer(limits=LIMITS))

    moment = failure.value.retry.after
    assert moment is not None
    assert until - HOUR < moment <= until
    assert failure.value == held(bench)
    assert 3 == len(bench.proxy.requests("POST /order-plz"))


def test_order_whose_answer_never_came_is_counted(bench: Bench) -> None:
    """The CA may have taken it."""
    bench.proxy.faults.add(Fault.reset_after(), on="POST /order-plz", times=9)

    with pytest.raises(CaUnavailable):
        bench.issue(issuer=bench.issuer(limits=LIMITS))

    (order,) = spent(bench).orders
    assert order.counts_since is not None


def test_proofs_that_the_ca_refuses_are_counted(bench: Bench) -> None:
    """By name, each time, and the name is left alone before the CA says so."""
    bench.propagation.looks = False
    bench.dns = ZoneDns(other_directory())
    for number in (1, 2):
        assert None is held(bench)
        with pytest.raises(AuthorizationFailed) as failure:
            bench.issue(issuer=bench.issuer(limits=LIMITS))
        assert (bench.name,) == failure.value.names
        assert number == len(spent(bench).failed_proofs)
        assert spent(bench).orders[-1].given_up

    error = held(bench)

    assert error is not None
    assert f"has refused the proof of {bench.name} 2 times" in str(error.message)
    assert None is held(bench, OTHERS)


def test_record_that_could_not_be_written_is_no_failed_proof(bench: Bench) -> None:
    """The CA has not looked, and the order continues."""
    bench.dns.before_adding = unavailable()

    with pytest.raises(DnsUnavailable):
        bench.issue(issuer=bench.issuer(limits=LIMITS))

    assert () == spent(bench).failed_proofs
    assert not spent(bench).orders[-1].given_up


@pytest.mark.parametrize(
    ("fault", "path", "error", "for_all"),
    [
        (
            refusal("rateLimited", "too many new orders (300) from this account", 429, "7200"),
            "POST /order-plz",
            RateLimited,
            True,
        ),
        (
            refusal("rateLimited", 'too many certificates for "example.com"', 429, "7200"),
            "POST /order-plz",
            RateLimited,
            False,
        ),
        (refusal("serverInternal", "maintenance", 503, "7200"), "GET /dir", CaUnavailable, True),
    ],
    ids=["account", "domain", "maintenance"],
)
def test_retry_after_is_kept_for_whom_it_concerns(
    bench: Bench, fault: Fault, path: str, error: type[IssuanceError], *, for_all: bool
) -> None:
    """A later run asks nothing until then; for other names only where it is not about a name."""
    bench.proxy.faults.add(fault, on=path)
    with pytest.raises(error) as failure:
        bench.issue()
    moment = failure.value.retry.after
    assert moment is not None

    mine, others = held(bench), held(bench, OTHERS)

    assert mine is not None
    assert moment == mine.retry.after
    assert for_all is (others is not None)


@pytest.mark.parametrize("header", ["240000000000", "Thu, 01 Jan 1931 00:00:00 GMT", "0"])
def test_moment_without_sense_spoils_nothing(bench: Bench, tmp_path: Path, header: str) -> None:
    """A week at most is kept, in a state that later runs can read."""
    bench.proxy.faults.add(refusal("rateLimited", "later", 429, header), on="POST /order-plz")
    with closing(connect(tmp_path / "state.db", tmp_path / "secret.key")) as state:
        bench.state = state  # type: ignore[assignment]  # the real one
        with pytest.raises(RateLimited):
            bench.issue()
    with closing(connect(tmp_path / "state.db", tmp_path / "secret.key")) as later:
        (hold,) = later.spent(bench.proxy.directory_url, bench.request().wanted).holds

    assert timedelta(0) <= hold.until - hold.told_at <= WEEK


def test_refusal_without_a_moment_holds_nothing_back(bench: Bench) -> None:
    """How long is not known."""
    bench.proxy.faults.add(refusal("rateLimited", "slow down", 429), on="POST /order-plz")
    with pytest.raises(RateLimited):
        bench.issue()

    assert None is held(bench)
    assert () == spent(bench).holds


def test_directories_whose_limits_are_known() -> None:
    """Let's Encrypt's, and those of its staging directory, which allows more of everything."""
    production = limits_at(DIRECTORIES["letsencrypt"])
    staging = limits_at(DIRECTORIES["letsencrypt-staging"])

    assert production is not None
    assert staging is not None
    for name in ("orders", "domain", "same_names", "failed_proofs"):
        ours, theirs = getattr(production, name), getattr(staging, name)
        assert (ours.within, True) == (theirs.within, ours.most < theirs.most)
    assert None is limits_at(DIRECTORIES["zerossl"])


# --- What whole runs cost a real CA: requests counted at a proxy before Pebble


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


@with_renewal_info
def test_run_with_nothing_due_costs_two_requests_in_half_a_day(bench: Bench) -> None:
    """A look at the directory and the question; none at all after the first run in it. The run that
    issues has asked already.
    """
    first = cost(bench)
    assert "/renewalInfo/" in first[-1]
    assert 1 == sum("/renewalInfo/" in label for label in first)
    assert [] == cost(bench)

    for _ in range(6):
        bench.clock.advance(HALF_DAY)
        directory, asked = cost(bench)
        assert "GET /dir" == directory
        assert "/renewalInfo/" in asked
        assert [] == cost(bench)
    assert 1 == len(bench.state.versions(bench.lineage))


@with_renewal_info
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


@with_renewal_info
def test_certificate_of_six_days_is_renewed_when_its_ca_says(
    dns_service: DnsService, zones: Zones, tmp_path: Path
) -> None:
    """In the window that Pebble gives it, or at half of its life: long before its end, and once."""
    life = timedelta(hours=160)
    with (
        Pebble(dns_service.resolver_endpoint, nonce_reject=0, certificate_validity=life) as pebble,
        Bench(pebble, zones, tmp_path) as bench,
    ):
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
