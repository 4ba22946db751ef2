"""Orders that an earlier run began: finished where they still lead to what is wanted now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from certferry.core.secret import Secret
from certferry.errors import CaUnavailable, DnsUnavailable, RateLimited, Retry
from certferry.ports.state import AcmeOrder
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import ZONE, Bench
from tests.adapters.acme.ports import ZoneDns, unavailable
from tests.adapters.acme.proxy import refusal, with_fields

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
    """Change what orders look like."""

    def rewrite(request: Request, response: Response) -> Response:
        is_order = request.path.startswith("/my-order/")
        return with_fields(response, **fields) if is_order else response

    return rewrite


def kept(bench: Bench) -> AcmeOrder:
    """The order that the state remembers."""
    order = bench.state.order(bench.lineage)
    assert order is not None
    return order


def orders(bench: Bench) -> int:
    """How many orders were begun."""
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
    assert any(activity.startswith("picking up the order of") for activity in bench.activities)


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
    """Rewrite the answers from one URL."""
    return lambda request, response: (
        rewrite(request, response) if url.endswith(request.path) else response
    )


def test_order_whose_earlier_proof_fails_late_is_replaced_in_the_same_run(bench: Bench) -> None:
    """The CA had been told to look, but looked when the records of the killed run were gone."""
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
    """Show every order and authorization as pending to the first look."""
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
