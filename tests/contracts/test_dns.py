"""The DNS providers' contract, kept by the twin and by every provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry.core.secret import Secret
from certferry.errors import DnsAccessDenied
from certferry.ports.dns import DnsProvider
from certferry.reconcile.challenges import ZoneRouter
from certferry.text import Text
from certferry.wiring.adapters import DNS_PROVIDERS, installed
from certferry_sandbox.acme_dns import Registered
from certferry_sandbox.testing.contracts.dns import (
    ZONE,
    DnsProviderContract,
    DnsWritingContract,
    Values,
)
from certferry_sandbox.testing.memory_dns import MemoryDns
from tests.adapters.acme_dns.account import SERVED, AcmeDnsAccount, acme_dns_account, stored
from tests.adapters.alidns.account import AlidnsAccount, alidns_account
from tests.adapters.cloudflare.account import CloudflareAccount, cloudflare_account
from tests.adapters.dnspod.account import DnspodAccount, dnspod_account
from tests.adapters.lexicon.account import at as at_powerdns
from tests.adapters.programs.account import CommandAccount, command_account
from tests.adapters.rfc2136.account import at as at_bind
from tests.adapters.tencentcloud.account import TencentCloudAccount, tencentcloud_account
from tests.support.bind import Bind
from tests.support.powerdns import PowerDns


@pytest.mark.parametrize("name", installed().names(DNS_PROVIDERS))
def test_every_provider_of_ours_keeps_the_contract(name: str) -> None:
    """One that is declared has its class below."""
    runs = {
        one.__name__.removeprefix("Test").lower()
        for one in globals().values()
        if isinstance(one, type) and issubclass(one, DnsWritingContract)
    }

    assert name.replace("-", "") in runs


class TestMemoryDns(DnsProviderContract):
    """The twin."""

    @pytest.fixture
    def memory(self) -> MemoryDns:
        """An account in memory."""
        return MemoryDns([ZONE])

    @pytest.fixture
    def provider(self, memory: MemoryDns) -> DnsProvider:
        """The account itself."""
        return memory

    @pytest.fixture
    def other(self, memory: MemoryDns) -> DnsProvider:
        """The same: it remembers nothing but records."""
        return memory

    @pytest.fixture
    def denied(self, memory: MemoryDns) -> DnsProvider:
        """The account, while it accepts no credentials."""
        memory.fail_with(DnsAccessDenied(Text("no"), hint=Text("check the token")))
        return memory

    @pytest.fixture
    def values(self, memory: MemoryDns) -> Values:
        """What is there."""
        return memory.values


class TestByZone(DnsProviderContract):
    """Several accounts as one, of which the second has the zone."""

    @pytest.fixture
    def memory(self) -> MemoryDns:
        """The account with the zone."""
        return MemoryDns([ZONE])

    @pytest.fixture
    def provider(self, memory: MemoryDns) -> DnsProvider:
        """Both accounts."""
        return ZoneRouter([("other.example.org", MemoryDns(["example.org"])), (ZONE, memory)])

    @pytest.fixture
    def other(self, memory: MemoryDns) -> DnsProvider:
        """The accounts in another process, which finds the zone by asking."""
        return ZoneRouter([("example.org", MemoryDns(["example.org"])), ("example.edu", memory)])

    @pytest.fixture
    def denied(self, provider: DnsProvider, memory: MemoryDns) -> DnsProvider:
        """The accounts, while the second accepts no credentials."""
        memory.fail_with(DnsAccessDenied(Text("no"), hint=Text("check the token")))
        return provider

    @pytest.fixture
    def values(self, memory: MemoryDns) -> Values:
        """What is there."""
        return memory.values


class TestDnspod(DnsProviderContract):
    """DNSPod's token API, at its stand-in."""

    @pytest.fixture
    def account(self) -> Iterator[DnspodAccount]:
        """An account."""
        with dnspod_account() as account:
            account.service.add_domain(ZONE)
            yield account

    @pytest.fixture
    def provider(self, account: DnspodAccount) -> DnsProvider:
        """The account."""
        return account.connect()

    @pytest.fixture
    def other(self, account: DnspodAccount) -> DnsProvider:
        """Another connection to it."""
        return account.connect()

    @pytest.fixture
    def denied(self, account: DnspodAccount) -> DnsProvider:
        """A connection with a wrong token."""
        return account.connect(token=Secret("0" * 32))

    @pytest.fixture
    def values(self, account: DnspodAccount) -> Values:
        """What is in the zone."""
        return account.values


class TestTencentCloud(DnsProviderContract):
    """DNSPod through Tencent Cloud's API 3.0, at its stand-in."""

    @pytest.fixture
    def account(self) -> Iterator[TencentCloudAccount]:
        """An account."""
        with tencentcloud_account() as account:
            account.service.add_domain(ZONE)
            yield account

    @pytest.fixture
    def provider(self, account: TencentCloudAccount) -> DnsProvider:
        """The account."""
        return account.connect()

    @pytest.fixture
    def other(self, account: TencentCloudAccount) -> DnsProvider:
        """Another connection to it."""
        return account.connect()

    @pytest.fixture
    def denied(self, account: TencentCloudAccount) -> DnsProvider:
        """A connection with a wrong key."""
        return account.connect(secret_key=Secret("0" * 32))

    @pytest.fixture
    def values(self, account: TencentCloudAccount) -> Values:
        """What is in the zone."""
        return account.values


class TestCommand(DnsProviderContract):
    """A program of an operator's, which writes at the stand-in of DNSPod."""

    @pytest.fixture
    def account(self) -> Iterator[CommandAccount]:
        """An account."""
        with command_account() as account:
            account.dnspod.service.add_domain(ZONE)
            yield account

    @pytest.fixture
    def provider(self, account: CommandAccount) -> DnsProvider:
        """The account."""
        return account.connect()

    @pytest.fixture
    def other(self, account: CommandAccount) -> DnsProvider:
        """Another connection to it."""
        return account.connect()

    @pytest.fixture
    def denied(self, account: CommandAccount) -> DnsProvider:
        """A program with a wrong token."""
        return account.connect(token="0" * 32)

    @pytest.fixture
    def values(self, account: CommandAccount) -> Values:
        """What is in the zone."""
        return account.dnspod.values


class TestAlidns(DnsProviderContract):
    """Alibaba Cloud DNS, at its stand-in."""

    @pytest.fixture
    def account(self) -> Iterator[AlidnsAccount]:
        """An account."""
        with alidns_account() as account:
            account.add_zone(ZONE)
            yield account

    @pytest.fixture
    def provider(self, account: AlidnsAccount) -> DnsProvider:
        """The account."""
        return account.connect()

    @pytest.fixture
    def other(self, account: AlidnsAccount) -> DnsProvider:
        """Another connection to it."""
        return account.connect()

    @pytest.fixture
    def denied(self, account: AlidnsAccount) -> DnsProvider:
        """A connection with keys that are not accepted."""
        return account.denied()

    @pytest.fixture
    def values(self, account: AlidnsAccount) -> Values:
        """What is in the zone."""
        return account.values


class TestCloudflare(DnsProviderContract):
    """Cloudflare, at its stand-in."""

    @pytest.fixture
    def account(self) -> Iterator[CloudflareAccount]:
        """An account."""
        with cloudflare_account() as account:
            account.add_zone(ZONE)
            yield account

    @pytest.fixture
    def provider(self, account: CloudflareAccount) -> DnsProvider:
        """The account."""
        return account.connect()

    @pytest.fixture
    def other(self, account: CloudflareAccount) -> DnsProvider:
        """Another connection to it."""
        return account.connect()

    @pytest.fixture
    def denied(self, account: CloudflareAccount) -> DnsProvider:
        """A connection with keys that are not accepted."""
        return account.denied()

    @pytest.fixture
    def values(self, account: CloudflareAccount) -> Values:
        """What is in the zone."""
        return account.values


class TestRfc2136(DnsProviderContract):
    """Dynamic updates, at a real BIND."""

    @pytest.fixture
    def provider(self, bind: Bind) -> DnsProvider:
        """The key that may change the zone."""
        return at_bind(bind)

    @pytest.fixture
    def other(self, bind: Bind) -> DnsProvider:
        """Another connection to it."""
        return at_bind(bind)

    @pytest.fixture
    def denied(self, bind: Bind) -> DnsProvider:
        """The key with another secret."""
        return at_bind(bind, key_secret=Secret("MDEyMzQ1Njc4OWFiY2RlZg=="))

    @pytest.fixture
    def values(self, bind: Bind) -> Values:
        """What is in the zone."""
        return bind.values


class TestAcmeDns(DnsWritingContract):
    """A registration at the stand-in of acme-dns, which removes nothing (decision 0029)."""

    name, apex_name, room = f"img.{SERVED}", f"apex.{SERVED}", 2

    @pytest.fixture
    def account(self) -> Iterator[AcmeDnsAccount]:
        """A server with two registrations, in the file of a client."""
        with acme_dns_account() as account:
            yield account

    @pytest.fixture
    def registrations(self, account: AcmeDnsAccount) -> list[Registered]:
        """The registrations of both names."""
        return [account.service.register(subdomain=label) for label in ("img", "apex")]

    @pytest.fixture
    def provider(
        self, account: AcmeDnsAccount, registrations: list[Registered], tmp_path: Path
    ) -> DnsProvider:
        """Both registrations."""
        return account.stored(stored(tmp_path / "storage", registrations))

    @pytest.fixture
    def denied(self, account: AcmeDnsAccount, registrations: list[Registered]) -> DnsProvider:
        """A registration with another's password."""
        return account.connect(registrations[0], password=Secret(registrations[1].password))

    @pytest.fixture
    def values(self, account: AcmeDnsAccount) -> Values:
        """What is in the zone."""
        return account.values


class TestLexicon(DnsProviderContract):
    """The library lexicon, at a real PowerDNS."""

    @pytest.fixture
    def provider(self, powerdns: PowerDns) -> DnsProvider:
        """The server's API."""
        return at_powerdns(powerdns)

    @pytest.fixture
    def other(self, powerdns: PowerDns) -> DnsProvider:
        """Another connection to it."""
        return at_powerdns(powerdns)

    @pytest.fixture
    def denied(self, powerdns: PowerDns) -> DnsProvider:
        """A connection with a wrong key."""
        return at_powerdns(powerdns, key="wrong")

    @pytest.fixture
    def values(self, powerdns: PowerDns) -> Values:
        """What is in the zone."""
        return powerdns.values
