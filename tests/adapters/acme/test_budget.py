"""What is counted at a CA, and what it says of its limits: kept for every later run."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.adapters.acme.budget import limits_at
from certferry.adapters.state.connect import connect
from certferry.config.values import DIRECTORIES
from certferry.core.certificates.certificate import KeyType
from certferry.core.planning.limits import Allowance, Limits, Spent
from certferry.errors import (
    AuthorizationFailed,
    CaUnavailable,
    DnsUnavailable,
    IssuanceError,
    OrderHeldBack,
    RateLimited,
)
from certferry.ports.issuer import IssueRequest
from certferry_sandbox.faults import Fault
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import ZONE, Bench
from tests.adapters.acme.ports import ZoneDns, unavailable
from tests.adapters.acme.proxy import refusal

HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
LIMITS = Limits(
    orders=Allowance(3, 3 * HOUR),
    domain=Allowance(50, WEEK),
    same_names=Allowance(5, WEEK),
    failed_proofs=Allowance(2, HOUR),
)
OTHERS = IssueRequest("other", ("other.example.org",), KeyType.EC256)


def spent(bench: Bench) -> Spent:
    """What later runs know of the lineage's names."""
    return bench.state.spent(bench.proxy.directory_url, bench.request().wanted)


def elsewhere() -> Zones:
    """Give zones that the CA does not look into."""
    zones = Zones()
    zones.add_zone(ZONE, ["ns1.dns.test"])
    return zones


def held(bench: Bench, request: IssueRequest | None = None) -> OrderHeldBack | None:
    """Ask an issuer of a later run."""
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
    """The CA is not asked for it. One that is under way is gone on with all the same."""
    issuer = bench.issuer(limits=LIMITS)
    for _ in range(3):
        bundle = bench.issue(issuer=issuer)
        assert None is held(bench)
        bench.state.save_version(bench.lease(), bundle, bench.clock.now())
    until = bench.clock.now() + 3 * HOUR

    with pytest.raises(OrderHeldBack) as failure:
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
    bench.dns = ZoneDns(elsewhere())
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
    """The CA has not looked, and the order is gone on with."""
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
        (
            refusal("serverInternal", "maintenance", 503, "7200"),
            "GET /dir",
            CaUnavailable,
            True,
        ),
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
