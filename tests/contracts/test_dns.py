"""The contract of DNS providers, for the fake and for every provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from certferry.core.redaction import Secret
from certferry.errors import DnsAccessDenied
from certferry.ports.dns import DnsProvider
from certferry.reconcile.issue import ZoneRouter
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
from tests.adapters.aliyun.account import alidns_account, aliyun_account
from tests.adapters.cloudflare.account import cloudflare_account
from tests.adapters.dnspod.account import dnspod_account
from tests.adapters.lexicon.account import at as at_powerdns
from tests.adapters.programs.account import command_account
from tests.adapters.rfc2136.account import at as at_bind
from tests.adapters.tencentcloud.account import tencentcloud_account
from tests.support.bind import Bind
from tests.support.powerdns import PowerDns


class Place(NamedTuple):
    """An account with the zone: two connections, a connection with wrong keys, and the zone's
    values.
    """

    connect: Callable[[], DnsProvider]
    other: Callable[[], DnsProvider]
    denied: Callable[[], DnsProvider]
    values: Values


Fixture = pytest.FixtureRequest
Open = Callable[[Fixture], AbstractContextManager[Place]]


@contextmanager
def in_memory(_: Fixture, *, among_others: bool = False) -> Iterator[Place]:
    """Open the fake; or several accounts as a single provider, with the zone at the second."""
    memory = MemoryDns([ZONE])

    def by_zone(other: str, ours: str) -> DnsProvider:
        return ZoneRouter([(other, MemoryDns(["example.org"])), (ours, memory)])

    def connect() -> DnsProvider:
        return by_zone("other.example.org", ZONE) if among_others else memory

    def elsewhere() -> DnsProvider:
        return by_zone("example.org", "example.edu") if among_others else memory

    def denied() -> DnsProvider:
        memory.fail_with(DnsAccessDenied(Text("no"), hint=Text("check the token")))
        return connect()

    yield Place(connect, elsewhere, denied, memory.values)


@contextmanager
def by_zone(request: Fixture) -> Iterator[Place]:
    with in_memory(request, among_others=True) as place:
        yield place


def at_stand_in(opened: Callable[[], AbstractContextManager[Any]], **wrong: Any) -> Open:
    """Open an account at a vendor's stand-in; these settings make its keys wrong."""

    @contextmanager
    def at(_: Fixture) -> Iterator[Place]:
        with opened() as account:
            at_dnspod = getattr(
                account, "dnspod", account
            )  # the account that the program writes to
            at_dnspod.add_zone(ZONE)
            connect = account.connect
            denied = (lambda: connect(**wrong)) if wrong else account.denied
            yield Place(connect, connect, denied, at_dnspod.values)

    return at


@contextmanager
def by_updates(request: Fixture) -> Iterator[Place]:
    """Open a zone at a real BIND, with the key that may change the zone, or with another secret."""
    bind: Bind = request.getfixturevalue("bind")
    wrong = Secret("MDEyMzQ1Njc4OWFiY2RlZg==")
    yield Place(
        lambda: at_bind(bind),
        lambda: at_bind(bind),
        lambda: at_bind(bind, key_secret=wrong),
        bind.values,
    )


@contextmanager
def by_lexicon(request: Fixture) -> Iterator[Place]:
    """Open a zone at a real PowerDNS through the library, or with a wrong key."""
    server: PowerDns = request.getfixturevalue("powerdns")
    yield Place(
        lambda: at_powerdns(server),
        lambda: at_powerdns(server),
        lambda: at_powerdns(server, key="wrong"),
        server.values,
    )


PLACES: dict[str, Open] = {
    "memory": in_memory,
    "by-zone": by_zone,
    "dnspod": at_stand_in(dnspod_account, token=Secret("0" * 32)),
    "tencentcloud": at_stand_in(tencentcloud_account, secret_key=Secret("0" * 32)),
    "command": at_stand_in(command_account, token="0" * 32),
    "alidns": at_stand_in(alidns_account),
    "aliyun": at_stand_in(aliyun_account),
    "cloudflare": at_stand_in(cloudflare_account),
    "rfc2136": by_updates,
    "lexicon": by_lexicon,
}


@pytest.mark.parametrize("name", installed().names(DNS_PROVIDERS))
def test_every_provider_of_ours_keeps_the_contract(name: str) -> None:
    """Each declared provider has its place here, or its class below. `aliyun` has the provider of
    its older type `alidns`.
    """
    assert {"aliyun": "alidns"}.get(name, name) in {*PLACES, "acme-dns"}


class TestProvider(DnsProviderContract):
    """Every provider that removes its own records."""

    @pytest.fixture(params=PLACES)
    def place(self, request: Fixture) -> Iterator[Place]:
        with PLACES[request.param](request) as place:
            yield place

    @pytest.fixture
    def provider(self, place: Place) -> DnsProvider:
        return place.connect()

    @pytest.fixture
    def other(self, place: Place) -> DnsProvider:
        """Return another connection."""
        return place.other()

    @pytest.fixture
    def denied(self, place: Place) -> DnsProvider:
        return place.denied()

    @pytest.fixture
    def values(self, place: Place) -> Values:
        return place.values


class TestAcmeDns(DnsWritingContract):
    """A registration at the stand-in of acme-dns, which removes no records (decision 0029)."""

    name, apex_name, room = f"img.{SERVED}", f"apex.{SERVED}", 2

    @pytest.fixture
    def account(self) -> Iterator[AcmeDnsAccount]:
        """Run a server with two registrations, in the file of a client."""
        with acme_dns_account() as account:
            yield account

    @pytest.fixture
    def registrations(self, account: AcmeDnsAccount) -> list[Registered]:
        """Return the registrations of both names."""
        return [account.service.register(subdomain=label) for label in ("img", "apex")]

    @pytest.fixture
    def provider(
        self, account: AcmeDnsAccount, registrations: list[Registered], tmp_path: Path
    ) -> DnsProvider:
        """Return a provider with both registrations."""
        return account.stored(stored(tmp_path / "storage", registrations))

    @pytest.fixture
    def denied(self, account: AcmeDnsAccount, registrations: list[Registered]) -> DnsProvider:
        return account.connect(registrations[0], password=Secret(registrations[1].password))

    @pytest.fixture
    def values(self, account: AcmeDnsAccount) -> Values:
        return account.values
