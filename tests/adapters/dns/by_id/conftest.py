"""An account of each service, with the zone example.com."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certferry.ports.dns import DnsProvider
from tests.adapters.dns.by_id.any_account import SERVICES, AnAccount, opened


@pytest.fixture(params=SERVICES)
def account(request: pytest.FixtureRequest) -> Iterator[AnAccount]:
    with opened(request.param) as account:
        account.add_zone("example.com")
        yield account


@pytest.fixture
def provider(account: AnAccount) -> DnsProvider:
    return account.connect()
