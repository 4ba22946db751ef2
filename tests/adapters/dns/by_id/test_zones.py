"""The zone of a name, at every service that names records by id."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import pytest

from certferry.errors import DnsUnavailable, ZoneNotFound
from certferry.ports.dns import DnsProvider
from certferry.ports.examination import Delegated, Timed
from certferry.ports.survey import ZoneKeeper
from certferry_sandbox.dnspod.service import NAMESERVERS
from tests.adapters.dns.by_id.any_account import READ_BACK, AnAccount, opened

NAME = "_acme-challenge.img.example.com"


def test_longest_zone_is_taken(account: AnAccount, provider: DnsProvider) -> None:
    """A delegated sub-zone in the account holds its own names; the parent zone holds all others."""
    account.add_zone("dev.example.com")
    account.add_zone(
        "v.example.com"
    )  # a suffix of the next name by characters, and no suffix by labels

    provider.add_txt("_acme-challenge.dev.example.com", "in-sub-zone")
    provider.add_txt("_acme-challenge.prev.example.com", "in-parent")

    [first] = account.zones.records(name="_acme-challenge.dev.example.com")
    [second] = account.zones.records(name="_acme-challenge.prev.example.com")
    assert ("dev.example.com", "example.com") == (first.zone, second.zone)


def test_name_may_be_the_zone_itself(account: AnAccount, provider: DnsProvider) -> None:
    """An alias may lead to the apex of a zone that only holds challenges."""
    account.add_zone("example-challenges.net")

    handle = provider.add_txt("Example-Challenges.NET.", "value")

    assert ["value"] == account.values("example-challenges.net")
    assert provider.remove_txt("Example-Challenges.NET.", "value", handle)
    assert [] == account.values("example-challenges.net")


def test_zone_is_searched_once(account: AnAccount, provider: DnsProvider) -> None:
    """Further writes and removals in the zone need no second search."""
    provider.add_txt(NAME, "one")
    before = len(account.calls(account.ZONES))

    provider.add_txt(NAME, "two")
    provider.remove_txt(NAME, "one", None)

    assert before == len(account.calls(account.ZONES))


def test_name_without_a_zone_is_reported_with_existing_zones(
    account: AnAccount, provider: DnsProvider
) -> None:
    """The operator can recognise the wrong account at once."""
    for number in range(6):
        account.add_zone(f"zone-{number}.example.org")

    with pytest.raises(ZoneNotFound) as missing:
        provider.add_txt("_acme-challenge.example.net", "value")

    hint = str(missing.value.hint)
    assert "example.com, zone-0.example.org" in hint
    assert "and 2 more" in hint


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("alidns", "the account has no zones"),
        ("cloudflare", "lacks a permission or the zone"),
        ("dnspod", "the account has no zones"),
    ],
)
def test_account_without_any_zone(service: str, words: str) -> None:
    """The hint differs from the hint for a name outside every zone."""
    with opened(service) as empty, pytest.raises(ZoneNotFound) as missing:
        empty.connect().add_txt(NAME, "value")

    assert words in str(missing.value.hint)


@pytest.mark.parametrize(
    ("service", "servers"),
    [
        ("alidns", {"dns1.hichina.com", "dns2.hichina.com"}),
        ("cloudflare", {"ada.ns.cloudflare.com", "bob.ns.cloudflare.com"}),
        ("dnspod", set(NAMESERVERS)),
    ],
)
def test_name_servers_of_a_zone(service: str, servers: set[str]) -> None:
    """The list of zones contains the name servers; an unknown zone has an empty set."""
    with opened(service) as account:
        account.add_zone("example.com")
        provider = cast("Delegated", account.connect())

        assert servers == provider.name_servers("example.com")
        assert not provider.name_servers("example.net")
        assert 1 == len(account.calls(account.ZONES))


@READ_BACK
def test_clock_of_the_service(account: AnAccount) -> None:
    """The time comes from a request without credentials."""
    provider = cast("Timed", account.connect(late=timedelta(minutes=7)))

    assert timedelta(minutes=7) == provider.clock_ahead()
    [request] = account.service.http.requests()
    assert ("GET", b"") == (request.method, request.body)
    assert "Authorization" not in request.headers


@READ_BACK
def test_clock_of_a_silent_service(account: AnAccount) -> None:
    """The error is the same as for any call that gets no answer."""
    provider = cast("Timed", account.connect())
    account.service.http.stop()

    with pytest.raises(DnsUnavailable, match="the time of the service: cannot connect"):
        provider.clock_ahead()

    account.service.http.start()


def test_all_zones_are_listed(account: AnAccount, provider: DnsProvider) -> None:
    """A list of several pages is read to the end: `init` makes a certificate for each zone."""
    for number in range(210):
        account.add_zone(f"zone-{number}.example.org")

    zones = cast("ZoneKeeper", provider).zones()

    assert 211 == len({zone.name for zone in zones})
    assert {None} == {zone.problem for zone in zones}
