"""Which zone a name is in, at every service that names its records by id."""

from __future__ import annotations

from typing import cast

import pytest

from certferry.errors import ZoneNotFound
from certferry.ports.dns import DnsProvider
from certferry.ports.survey import ZoneKeeper
from tests.adapters.dns.by_id.any_account import SERVICES, AnAccount, opened

NAME = "_acme-challenge.img.example.com"


def test_longest_zone_is_taken(account: AnAccount, provider: DnsProvider) -> None:
    """A delegated sub-zone of the account holds its names, and its parent the others."""
    account.add_zone("dev.example.com")
    account.add_zone("v.example.com")  # no suffix by labels of what follows

    provider.add_txt("_acme-challenge.dev.example.com", "in-sub-zone")
    provider.add_txt("_acme-challenge.prev.example.com", "in-parent")

    [first] = account.zones.records(name="_acme-challenge.dev.example.com")
    [second] = account.zones.records(name="_acme-challenge.prev.example.com")
    assert ("dev.example.com", "example.com") == (first.zone, second.zone)


def test_name_may_be_the_zone_itself(account: AnAccount, provider: DnsProvider) -> None:
    """An alias may lead to the apex of a zone that is kept for challenges."""
    account.add_zone("example-challenges.net")

    handle = provider.add_txt("Example-Challenges.NET.", "value")

    assert ["value"] == account.values("example-challenges.net")
    assert provider.remove_txt("Example-Challenges.NET.", "value", handle)
    assert [] == account.values("example-challenges.net")


def test_zones_are_looked_for_once(account: AnAccount, provider: DnsProvider) -> None:
    """Whatever is written there afterwards."""
    provider.add_txt(NAME, "one")
    before = len(account.calls(account.ZONES))

    provider.add_txt(NAME, "two")
    provider.remove_txt(NAME, "one", None)

    assert before == len(account.calls(account.ZONES))


def test_name_without_a_zone_is_told_with_those_that_are_there(
    account: AnAccount, provider: DnsProvider
) -> None:
    """The operator sees at once whether it is the wrong account."""
    for number in range(6):
        account.add_zone(f"zone-{number}.example.org")

    with pytest.raises(ZoneNotFound) as missing:
        provider.add_txt("_acme-challenge.example.net", "value")

    hint = str(missing.value.hint)
    assert "example.com, zone-0.example.org" in hint
    assert "and 2 more" in hint


@pytest.mark.parametrize("service", SERVICES)
def test_account_without_any_zone(service: str) -> None:
    """Keys that see nothing are told apart from a name that is elsewhere."""
    with opened(service) as empty, pytest.raises(ZoneNotFound) as missing:
        empty.connect().add_txt(NAME, "value")

    assert "it has none at all" in str(missing.value.hint)
    assert "let the keys see it" in str(missing.value.hint)


def test_all_zones_are_found(account: AnAccount, provider: DnsProvider) -> None:
    """A list of several pages is read to its end: `init` makes a certificate for each."""
    for number in range(210):
        account.add_zone(f"zone-{number}.example.org")

    found = cast("ZoneKeeper", provider).zones()

    assert 211 == len({zone.name for zone in found})
    assert {None} == {zone.problem for zone in found}
