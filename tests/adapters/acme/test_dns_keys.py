"""A DNS account that refuses its keys costs one order, whatever it can list."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certferry.errors import DnsAccessDenied, DnsError
from certferry.ports.issuer import IssueRequest
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.ports import unavailable

DENIED = DnsAccessDenied("the token is wrong")


def issue(bench: Bench) -> None:
    """Issue by a run of its own, with an account that has a label."""
    request: IssueRequest = replace(bench.request(), dns="bind")
    bench.issuer().issue(request, bench.dns, bench.lease(), bench.events.append)


@pytest.fixture
def refusing(bench: Bench) -> Bench:
    """A run has found that the account refuses its keys, and its order is lost."""
    bench.dns.before_adding = DENIED
    bench.dns.while_removing = DENIED
    with pytest.raises(DnsAccessDenied):
        issue(bench)
    bench.state.drop_order(bench.lease())
    return bench


def test_refused_keys_are_tried_before_the_ca_is_asked(refusing: Bench) -> None:
    """The CA hears of no second order; each run asks the account."""
    asked = len(refusing.proxy.journal)

    for _ in range(2):
        with pytest.raises(DnsAccessDenied):
            issue(refusing)

    assert asked == len(refusing.proxy.journal)
    assert 2 == len(refusing.dns.removals)


def test_keys_that_are_taken_again(refusing: Bench) -> None:
    """The run goes on by itself, and later ones do not ask any more."""
    refusing.dns.before_adding = refusing.dns.while_removing = None
    issue(refusing)
    looks = refusing.dns.removals.count(None)

    refusing.state.drop_order(refusing.lease())
    issue(refusing)

    assert 1 == looks == refusing.dns.removals.count(None)


@pytest.mark.parametrize("problem", [unavailable(), DnsError("no such record")])
def test_account_that_says_something_else(refusing: Bench, problem: DnsError) -> None:
    """It may take the keys: then the order finds out, so that nothing stays shut for ever."""
    refusing.dns.before_adding, refusing.dns.while_removing = None, problem

    issue(refusing)

    assert 2 == len(refusing.proxy.requests("POST /order-plz"))


def test_other_account_is_not_asked(refusing: Bench) -> None:
    """What one account refuses says nothing of another."""
    refusing.dns.before_adding = refusing.dns.while_removing = None

    refusing.issue()

    assert None not in refusing.dns.removals
