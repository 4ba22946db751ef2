"""Orders: left by earlier runs, counted against limits, and the requests of whole runs."""

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

# --- Orders of an earlier run


PENDING, READY, PROCESSING, VALID = "pending", "ready", "processing", "valid"


def leave_order(bench: Bench, status: str) -> AcmeOrder:
    """Fail a run so that its order stays at the CA in a given state."""
    if status == PENDING:
        bench.propagation.error = unavailable()
        with pytest.raises(DnsUnavailable):
            bench.issue()
        bench.propagation.error = None
    elif status == PROCESSING:
        bench.proxy.rewrite = always_processing
        with pytest.raises(CaUnavailable, match="waiting for the CA to issue"):
            bench.issue()
    else:
        path = {READY: "/finalize-order/*", VALID: "/certZ/*"}[status]
        bench.proxy.faults.add(Fault.status(502), on=f"POST {path}", times=None)
        with pytest.raises(CaUnavailable, match="502"):
            bench.issue()
        bench.proxy.faults.clear()
    bench.dns.added.clear()
    return stored_order(bench)


def always_processing(request: Request, response: Response) -> Response:
    """Show every finalized order as still in processing."""
    if "order/" not in request.path or b'"valid"' not in response.body:
        return response
    return with_fields(response, status=PROCESSING, certificate=None)


def showing_order(**fields: Any) -> Callable[[Request, Response], Response]:
    def rewrite(request: Request, response: Response) -> Response:
        is_order = request.path.startswith("/my-order/")
        return with_fields(response, **fields) if is_order else response

    return rewrite


def stored_order(bench: Bench) -> AcmeOrder:
    order = bench.state.order(bench.lineage)
    assert order is not None
    return order


def orders(bench: Bench) -> int:
    return len(bench.proxy.requests("POST /order-plz"))


@pytest.mark.parametrize("status", [PENDING, READY, PROCESSING, VALID])
def test_order_in_any_state_is_finished_with_its_key(bench: Bench, status: str) -> None:
    """A single order and a single certificate result, and proven names are not proven again."""
    order = leave_order(bench, status)
    bench.proxy.rewrite = lambda _, response: response

    bundle = bench.issue()

    assert order.key_pem == bundle.privkey_pem
    assert (1, 1) == (orders(bench), bench.proxy.finalized)
    assert (status == PENDING) is bool(bench.dns.added)
    assert order == stored_order(bench)
    assert any(activity.startswith("resuming the order of") for activity in bench.activities)


def test_pending_order_with_valid_authorizations_is_finished(bench: Bench) -> None:
    """Every name is proven already, so the run goes on to the CSR."""
    order = leave_order(bench, READY)
    statuses = iter([PENDING, PENDING])

    def rewrite(_: Request, response: Response) -> Response:
        status = next(statuses, None)
        return response if status is None else with_fields(response, status=status)

    bench.proxy.rewrite = only_for(order.url, rewrite)

    assert bench.issue().key_matches
    assert [] == bench.dns.added
    assert 1 == orders(bench)


def test_order_that_stays_in_processing_is_checked_by_every_run(bench: Bench) -> None:
    """The wait is limited and its error is temporary; the order is kept and used again."""
    order = leave_order(bench, PROCESSING)

    with pytest.raises(CaUnavailable) as failure:
        bench.issue()

    assert Retry.LATER == failure.value.retry
    assert order == stored_order(bench)
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
def test_unusable_order_is_replaced(
    bench: Bench, rewrite: Callable[[Request, Response], Response]
) -> None:
    """A new order replaces the old order in the state."""
    order = leave_order(bench, READY)
    bench.proxy.rewrite = only_for(order.url, rewrite)

    bundle = bench.issue(issuer=bench.issuer(must_have_profile=False), profiles=("classic",))

    assert 2 == orders(bench)
    assert order.url != stored_order(bench).url
    assert bundle.key_matches
    assert order.key_pem != bundle.privkey_pem


def only_for(
    url: str, rewrite: Callable[[Request, Response], Response]
) -> Callable[[Request, Response], Response]:
    return lambda request, response: (
        rewrite(request, response) if url.endswith(request.path) else response
    )


def test_order_with_a_late_failure_is_replaced_in_the_same_run(bench: Bench) -> None:
    """The CA checks the killed run's challenge only after the records are gone."""
    bench.dns, dns = ZoneDns(elsewhere()), bench.dns
    bench.propagation.looks = False
    bench.proxy.faults.add(Fault.reset_after(), on="POST /chalZ/*", times=None)
    with pytest.raises(CaUnavailable):
        bench.issue()
    bench.proxy.faults.clear()
    bench.dns, bench.propagation.looks = dns, True
    order = stored_order(bench)
    bench.proxy.rewrite = pending_at_first()

    assert bench.issue().key_matches
    assert order.url != stored_order(bench).url
    assert [] == bench.txt_left


def pending_at_first() -> Callable[[Request, Response], Response]:
    shown: set[str] = set()

    def rewrite(request: Request, response: Response) -> Response:
        is_first = request.path not in shown
        shown.add(request.path)
        if is_first and request.path.startswith(("/my-order/", "/authZ/")):
            return with_fields(response, status=PENDING)
        return response

    return rewrite


def elsewhere() -> Zones:
    """Return zones that the CA never reads."""
    zones = Zones()
    zones.add_zone(ZONE, ["ns1.other.test"])
    return zones


@pytest.mark.parametrize(
    ("kind", "status"), [("malformed", 404), ("unauthorized", 403), ("accountDoesNotExist", 400)]
)
def test_missing_order_is_replaced(bench: Bench, kind: str, status: int) -> None:
    """The order may have been removed, or belong to another account."""
    order = leave_order(bench, READY)
    path = order.url.removeprefix(bench.proxy.url)
    bench.proxy.faults.add(refusal(kind, "no such order", status), on=f"POST {path}")

    assert bench.issue().key_matches
    assert 2 == orders(bench)


@pytest.mark.parametrize(
    ("fault", "error"),
    [(refusal("rateLimited", "slow down", 429), RateLimited), (Fault.html(502), CaUnavailable)],
)
def test_order_is_kept_during_a_failure_of_the_ca(
    bench: Bench, fault: Fault, error: type[Exception]
) -> None:
    """A temporary failure must not lead to a second order."""
    order = leave_order(bench, READY)
    bench.proxy.faults.add(fault, on="POST /my-order/*", times=None)

    with pytest.raises(error):
        bench.issue()

    assert order == stored_order(bench)
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
    """The other order is ignored without a request."""
    order = leave_order(bench, READY)
    bench.state.save_order(bench.lease(), replace(order, **change))
    path = order.url.removeprefix(bench.proxy.url)
    looks = len(bench.proxy.requests(f"POST {path}"))

    assert bench.issue().key_matches
    assert 2 == orders(bench)
    assert looks == len(bench.proxy.requests(f"POST {path}"))


def test_order_with_reordered_names_is_finished(bench: Bench) -> None:
    """The order of a certificate's names is irrelevant."""
    names = (bench.name, f"*.{bench.name}")
    bench.propagation.error = unavailable()
    with pytest.raises(DnsUnavailable):
        bench.issue(*names)
    bench.propagation.error = None

    assert set(names) == set(bench.issue(*reversed(names)).certificate.names)
    assert 1 == orders(bench)


def test_order_with_a_missing_certificate_is_forgotten(bench: Bench) -> None:
    """The first run fails, and the next run makes a new order."""
    leave_order(bench, VALID)
    bench.proxy.faults.add(refusal("malformed", "certificate not found", 404), on="POST /certZ/*")
    with pytest.raises(Exception, match="certificate not found"):
        bench.issue()
    assert bench.state.order(bench.lineage) is None

    assert bench.issue().key_matches
    assert 2 == bench.proxy.finalized


# --- Rate limits, counted or reported, which every later run observes


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
    """Return zones that the CA never reads."""
    zones = Zones()
    zones.add_zone(ZONE, ["ns1.dns.test"])
    return zones


def hold_of(bench: Bench, request: IssueRequest | None = None) -> OrderPostponed | None:
    return bench.issuer(limits=LIMITS).rate_limit_hold(request or bench.request())


def test_order_and_certificate_are_counted(bench: Bench) -> None:
    """An order counts from its creation, and its certificate from the moment of saving."""
    bundle = bench.issue(issuer=bench.issuer(limits=LIMITS))
    (order,) = spent(bench).orders
    assert (False, None) == (order.given_up, order.issued_at)

    now = bench.clock.now()
    bench.state.save_version(bench.lease(), bundle, now)

    (order,) = spent(bench).orders
    assert now == order.issued_at


def test_order_beyond_the_limit_is_postponed(bench: Bench) -> None:
    """The CA gets no request for the order, and an open order is still finished."""
    issuer = bench.issuer(limits=LIMITS)
    for _ in range(3):
        bundle = bench.issue(issuer=issuer)
        assert None is hold_of(bench)
        bench.state.save_version(bench.lease(), bundle, bench.clock.now())
    until = bench.clock.now() + 3 * HOUR

    with pytest.raises(OrderPostponed) as failure:
        bench.issue(issuer=bench.issuer(limits=LIMITS))

    moment = failure.value.retry.after
    assert moment is not None
    assert until - HOUR < moment <= until
    assert failure.value == hold_of(bench)
    assert 3 == len(bench.proxy.requests("POST /order-plz"))


def test_order_without_an_answer_is_counted(bench: Bench) -> None:
    """The CA may have created the order."""
    bench.proxy.faults.add(Fault.reset_after(), on="POST /order-plz", times=9)

    with pytest.raises(CaUnavailable):
        bench.issue(issuer=bench.issuer(limits=LIMITS))

    (order,) = spent(bench).orders
    assert order.counts_since is not None


def test_refused_proofs_are_counted(bench: Bench) -> None:
    """Refusals count by name, and certferry stops before the CA's own limit."""
    bench.propagation.looks = False
    bench.dns = ZoneDns(other_directory())
    for number in (1, 2):
        assert None is hold_of(bench)
        with pytest.raises(AuthorizationFailed) as failure:
            bench.issue(issuer=bench.issuer(limits=LIMITS))
        assert (bench.name,) == failure.value.names
        assert number == len(spent(bench).failed_proofs)
        assert spent(bench).orders[-1].given_up

    error = hold_of(bench)

    assert error is not None
    assert f"has refused the proof of {bench.name} 2 times" in str(error.message)
    assert None is hold_of(bench, OTHERS)


def test_failed_write_is_no_refused_proof(bench: Bench) -> None:
    """The CA has not checked the name, and the order continues."""
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
def test_retry_after_is_stored_with_its_scope(
    bench: Bench, fault: Fault, path: str, error: type[IssuanceError], *, for_all: bool
) -> None:
    """Later runs wait until the moment; other names wait only under a general limit."""
    bench.proxy.faults.add(fault, on=path)
    with pytest.raises(error) as failure:
        bench.issue()
    moment = failure.value.retry.after
    assert moment is not None

    mine, others = hold_of(bench), hold_of(bench, OTHERS)

    assert mine is not None
    assert moment == mine.retry.after
    assert for_all is (others is not None)


@pytest.mark.parametrize("header", ["240000000000", "Thu, 01 Jan 1931 00:00:00 GMT", "0"])
def test_absurd_retry_after_is_limited(bench: Bench, tmp_path: Path, header: str) -> None:
    """The state holds at most a week, and stays readable for later runs."""
    bench.proxy.faults.add(refusal("rateLimited", "later", 429, header), on="POST /order-plz")
    with closing(connect(tmp_path / "state.db", tmp_path / "secret.key")) as state:
        bench.state = state  # type: ignore[assignment]  # the real state
        with pytest.raises(RateLimited):
            bench.issue()
    with closing(connect(tmp_path / "state.db", tmp_path / "secret.key")) as later:
        (hold,) = later.spent(bench.proxy.directory_url, bench.request().wanted).holds

    assert timedelta(0) <= hold.until - hold.told_at <= WEEK


def test_rate_limit_without_a_moment_delays_no_run(bench: Bench) -> None:
    """The length of the limit is unknown."""
    bench.proxy.faults.add(refusal("rateLimited", "slow down", 429), on="POST /order-plz")
    with pytest.raises(RateLimited):
        bench.issue()

    assert None is hold_of(bench)
    assert () == spent(bench).holds


def test_known_limits() -> None:
    """Let's Encrypt's staging directory allows more than its production directory."""
    production = limits_at(DIRECTORIES["letsencrypt"])
    staging = limits_at(DIRECTORIES["letsencrypt-staging"])

    assert production is not None
    assert staging is not None
    for name in ("orders", "domain", "same_names", "failed_proofs"):
        ours, theirs = getattr(production, name), getattr(staging, name)
        assert (ours.within, True) == (theirs.within, ours.most < theirs.most)
    assert None is limits_at(DIRECTORIES["zerossl"])


# --- Requests of whole runs, counted in front of Pebble


HALF_DAY = timedelta(hours=12)


def run(bench: Bench) -> LineageReport:
    """Run as a process of its own, for a certificate that is issued and stored."""
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
    reconciler = LineageReconciler(DesiredCertificate(bench.lineage, (bench.name,), "dns"), ports)
    assert reconciler.reconcile() is None
    return reconciler.report()


def requests_of(bench: Bench, act: Callable[[Bench], LineageReport] = run) -> list[str]:
    """Return the requests of a successful run."""
    before = len(bench.proxy.journal)
    assert act(bench).ok
    return [call.request.label for call in bench.proxy.journal[before:]]


@with_renewal_info
def test_run_with_nothing_due_sends_two_requests_in_half_a_day(bench: Bench) -> None:
    """The first run in half a day reads the directory and the renewal information, and later runs
    send nothing. An issuing run reads the renewal information at once.
    """
    first = requests_of(bench)
    assert "/renewalInfo/" in first[-1]
    assert 1 == sum("/renewalInfo/" in label for label in first)
    assert [] == requests_of(bench)

    for _ in range(6):
        bench.clock.advance(HALF_DAY)
        directory, information = requests_of(bench)
        assert "GET /dir" == directory
        assert "/renewalInfo/" in information
        assert [] == requests_of(bench)
    assert 1 == len(bench.state.versions(bench.lineage))


@with_renewal_info
def test_renewal_in_pebbles_window_replaces_the_certificate(bench: Bench) -> None:
    """The order names the former certificate, and Pebble accepts the order."""
    requests_of(bench)
    former = bench.state.versions(bench.lineage)[0]
    assert former.window is not None
    bench.clock.advance(former.window.start - timedelta(minutes=1) - bench.clock.now())
    requests_of(bench)
    assert 1 == len(bench.state.versions(bench.lineage))

    bench.clock.advance(former.window.end - bench.clock.now())
    requests_of(bench)

    assert 2 == len(bench.state.versions(bench.lineage))
    leaf = bench.state.bundle(bench.lineage, 1).cert_pem
    assert certificate_id(leaf) == bench.proxy.payload("POST /order-plz")["replaces"]


@with_renewal_info
def test_certificate_of_six_days_is_renewed_in_its_window(
    dns_service: DnsService, zones: Zones, tmp_path: Path
) -> None:
    """The renewal takes place once, in Pebble's window or at half of the lifetime."""
    life = timedelta(hours=160)
    with (
        Pebble(dns_service.resolver_endpoint, nonce_reject=0, certificate_validity=life) as pebble,
        Bench(pebble, zones, tmp_path) as bench,
    ):
        requests_of(bench)
        (first,) = bench.state.versions(bench.lineage)
        due = renew_at(first.certificate, first.window)
        bench.clock.advance(due - timedelta(minutes=1) - bench.clock.now())
        requests_of(bench)
        assert 1 == len(bench.state.versions(bench.lineage))

        bench.clock.advance(timedelta(minutes=2))
        requests_of(bench)

    assert first.window is not None
    assert life / 4 < first.certificate.not_after - due <= life / 2
    assert 2 == len(bench.state.versions(bench.lineage))
