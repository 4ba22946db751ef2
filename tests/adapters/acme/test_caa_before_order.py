"""CAA records that forbid the CA are told before anything is ordered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from certferry.adapters.acme.issuer import AcmeIssuer, connect
from certferry.adapters.acme.resolvers import Resolvers
from certferry.errors import OrderFailed
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.nameserver.service import DnsService
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.name_servers import ANSWER_WITHIN
from tests.adapters.acme.proxy import with_fields

PEBBLE = "pebble.letsencrypt.org"


def naming(*identities: str) -> Callable[[Request, Response], Response]:
    """Let the directory say what the CA is called in CAA records; this Pebble does not."""

    def rewrite(request: Request, response: Response) -> Response:
        if request.path != "/dir":
            return response
        return with_fields(response, meta={"caaIdentities": identities})

    return rewrite


@pytest.fixture
def issuer(bench: Bench, dns_service: DnsService) -> Callable[..., AcmeIssuer]:
    """Makes issuers that ask the CA's own resolver."""
    host, _, port = dns_service.resolver_endpoint.rpartition(":")
    bench.proxy.rewrite = naming(PEBBLE)

    def connected(port: int = int(port), within: timedelta = ANSWER_WITHIN) -> AcmeIssuer:
        return connect(
            bench.settings(),
            state=bench.state,
            propagation=bench.propagation,
            pause=bench.clock.pause,
            now=bench.clock.now,
            resolvers=Resolvers([(host, port)], within),
        )

    return connected


def orders(bench: Bench) -> int:
    """How often something was ordered."""
    return len(bench.proxy.requests("POST /order-plz"))


def test_names_that_the_ca_may_not_issue_for(
    bench: Bench, issuer: Callable[..., AcmeIssuer]
) -> None:
    """The record is told with what to write there; nothing is ordered until it is changed."""
    forbids = bench.zones.seed(bench.name, "CAA", '0 issue "other.test"')

    with pytest.raises(OrderFailed) as failure:
        bench.issue(issuer=issuer())

    assert (
        f"{bench.name}: the CAA records at {bench.name} let other.test issue, and not {PEBBLE}"
    ) == str(failure.value)
    assert f'CAA 0 issue "{PEBBLE}"' in str(failure.value.hint)
    assert 0 == orders(bench)

    bench.zones.remove(forbids.id)
    bench.zones.seed(bench.name, "CAA", f'0 issue "{PEBBLE}"')
    assert bench.issue(issuer=issuer()).key_matches


def test_record_for_another_account(bench: Bench, issuer: Callable[..., AcmeIssuer]) -> None:
    """The URL of the account that there is by now is compared (RFC 8657)."""
    other = f'0 issue "{PEBBLE}; accounturi=https://ca.test/acct/1"'
    bench.zones.seed(bench.name, "CAA", other)

    with pytest.raises(OrderFailed, match="for another account only"):
        bench.issue(issuer=issuer())
    assert 0 == orders(bench)


def test_ca_that_does_not_say_what_it_is_called(
    bench: Bench, issuer: Callable[..., AcmeIssuer]
) -> None:
    """The CA judges its records itself."""
    bench.zones.seed(bench.name, "CAA", '0 issue "other.test"')

    connected = issuer()
    bench.proxy.rewrite = naming()

    assert bench.issue(issuer=connected).key_matches


def test_records_that_cannot_be_read(bench: Bench, issuer: Callable[..., AcmeIssuer]) -> None:
    """The CA is asked all the same: it may see more than this machine's resolver."""
    bench.zones.seed(bench.name, "CAA", '0 issue "other.test"')

    assert bench.issue(issuer=issuer(9, timedelta(seconds=0.1))).key_matches


def test_order_under_way_is_finished(bench: Bench, issuer: Callable[..., AcmeIssuer]) -> None:
    """It was allowed when it was made; the CA has looked by itself."""
    bench.issue()
    bench.zones.seed(bench.name, "CAA", '0 issue "other.test"')

    assert bench.issue(issuer=issuer()).key_matches
