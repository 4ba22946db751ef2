"""Whatever an acme-dns server answers, its port raises certferry's errors alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given

from certferry_sandbox.testing.contracts.dns import VALUE
from tests.adapters.acme_dns.account import AcmeDnsAccount, acme_dns_account
from tests.fuzz.bent import Bend, Bent, bends
from tests.fuzz.outcomes import only_ours, over_sockets


@pytest.fixture(scope="module")
def account() -> Iterator[AcmeDnsAccount]:
    """Run the stand-in."""
    with acme_dns_account() as account:
        yield account


@pytest.fixture(scope="module")
def front(account: AcmeDnsAccount) -> Iterator[Bent]:
    """Bend what it answers."""
    with Bent(account.service.url) as front:
        yield front


@over_sockets
@given(bend=bends())
def test_an_acme_dns_server_is_asked(account: AcmeDnsAccount, front: Bent, bend: Bend) -> None:
    """For a value, and whether it runs."""
    one = account.service.register()
    provider = account.connect(one, api=front.url)
    for call in (partial(provider.add_txt, one.fulldomain, VALUE), provider.clock_ahead):
        front.turn = bend.turns()
        only_ours(call)
