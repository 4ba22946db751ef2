"""An account at DNSPod, with the zone example.com."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certferry.ports.dns import DnsProvider
from tests.adapters.dnspod.account import DnspodAccount, dnspod_account


@pytest.fixture
def account() -> Iterator[DnspodAccount]:
    with dnspod_account() as account:
        account.service.add_domain("example.com")
        yield account


@pytest.fixture
def provider(account: DnspodAccount) -> DnsProvider:
    return account.connect()
