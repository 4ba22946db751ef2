"""Several DNS accounts of one certificate: each writes what is in its zones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.names import is_within
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.discovery.proposal import must_have_zone
from certferry.core.discovery.survey import FoundZone
from certferry.core.planning.report import Outcome
from certferry.core.planning.steps import Action
from certferry.errors import DnsAccessDenied, DnsUnavailable, ZoneNotFound
from certferry.ports.state import ChallengeRecord
from certferry.reconcile.issue import ZoneRouter
from certferry.reconcile.reconciler import LineageReconciler
from certferry.reconcile.run import Ports
from certferry_sandbox.testing.memory_dns import MemoryDns
from tests.core.strategies import hostnames, labels
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import outcome

NAME = "_acme-challenge.img.example.com"
ELSEWHERE = "_acme-challenge.delegated.net"


class Unlisted:
    """An account that cannot tell which zones it has."""

    def __init__(self, *zones: str) -> None:
        self._dns = MemoryDns(zones)
        self.add_txt = self._dns.add_txt
        self.remove_txt = self._dns.remove_txt
        self.values = self._dns.values


class Asked:
    """An account that tells of a name which zone holds it, and cannot list its zones."""

    def __init__(self, *zones: str) -> None:
        self._zones = tuple(FoundZone(zone) for zone in zones)
        self._dns = MemoryDns(zones)
        self.add_txt = self._dns.add_txt
        self.remove_txt = self._dns.remove_txt
        self.values = self._dns.values

    def zones(self) -> None:
        """List none."""

    def zone_of(self, name: str) -> FoundZone:
        """Find the zone of a name."""
        return must_have_zone(name, self._zones)


def test_account_that_cannot_list_its_zones_is_asked_for_the_name() -> None:
    """In the order of the table, before one that can tell nothing."""
    one, two, silent = Asked("example.com"), Asked("delegated.net"), Unlisted("elsewhere.org")
    provider = ZoneRouter([("example.com", one), ("example.net", silent), ("example.org", two)])

    provider.add_txt(ELSEWHERE, "value")
    provider.add_txt("_acme-challenge.elsewhere.org", "value")

    assert ["value"] == two.values(ELSEWHERE)
    assert ["value"] == silent.values("_acme-challenge.elsewhere.org")


@given(st.lists(hostnames, min_size=1, max_size=6, unique=True), labels)
def test_longest_zone_decides(zones: list[str], label: str) -> None:
    """Whatever else the accounts have."""
    ordered = sorted(zones, key=lambda zone: -zone.count("."))
    accounts = {zone: MemoryDns(zones) for zone in zones}
    provider = ZoneRouter([(zone, accounts[zone]) for zone in ordered])

    for zone in zones:
        name = f"{label}.{zone}"
        holding = [other for other in zones if is_within(name, other)]
        assert provider.at(name) is accounts[max(holding, key=len)]


def test_name_outside_the_zones_goes_to_the_account_that_has_its_zone() -> None:
    """A CNAME has led there."""
    one, two = MemoryDns(["example.com"]), MemoryDns(["example.org", "delegated.net"])
    provider = ZoneRouter([("example.com", one), ("example.org", two)])

    handle = provider.add_txt(ELSEWHERE, "value")

    assert ["value"] == two.values(ELSEWHERE)
    assert provider.remove_txt(ELSEWHERE, "value", handle)
    with pytest.raises(ZoneNotFound, match=r"example\.net"):
        provider.add_txt("_acme-challenge.example.net", "value")


def test_account_that_cannot_tell_its_zones_comes_last() -> None:
    """It is asked where no other has the zone, and may have it."""
    silent, other = Unlisted("example.com", "delegated.net"), MemoryDns(["example.org"])
    provider = ZoneRouter([("example.com", silent), ("example.org", other)])

    provider.add_txt(ELSEWHERE, "value")
    provider.add_txt("_acme-challenge.www.example.org", "value")

    assert ["value"] == silent.values(ELSEWHERE)
    assert ["value"] == other.values("_acme-challenge.www.example.org")


class Two:
    """A world with a second account, and a certificate that needs both."""

    def __init__(self, world: ModelWorld) -> None:
        self.world = world
        self.other = MemoryDns(["delegated.net"])
        wish = world.wish(names=("img.example.com", "delegated.net"))
        zones = (("delegated.net", "other"), ("example.com", "dnspod"))
        self.wish: DesiredCertificate = replace(wish, dns="", dns_zones=zones)

    def ports(self, run: str = "run") -> Ports:
        """The ports of a run, with both accounts."""
        ports = self.world.ports(run)
        self.world.alive.add(run)
        return replace(ports, dns={**ports.dns, "other": self.other})

    def visited(self) -> LineageReconciler:
        """Reconcile the lineage once."""
        run = LineageReconciler(self.wish, self.ports())
        run.reconcile()
        return run


def test_order_is_proven_by_both_accounts(world: ModelWorld) -> None:
    """Each gets the records of its zone, and loses them again."""
    two = Two(world)

    report = two.visited().report()

    assert Outcome.DONE is outcome(report, Action.ISSUE).outcome
    assert 1 == world.issuer.issued
    assert two.other.calls > 0
    assert ([], []) == (world.challenge_values(), two.other.values(ELSEWHERE))


@pytest.mark.parametrize("refusing", ["dnspod", "other"])
def test_refusal_of_either_account_stands_in_the_way(world: ModelWorld, refusing: str) -> None:
    """Before an order is made."""
    two = Two(world)
    denied = DnsAccessDenied("the keys are refused")
    {"dnspod": world.dns, "other": two.other}[refusing].fail_with(denied)

    report = two.visited().report()

    assert "the keys are refused" in str(outcome(report, Action.ISSUE).detail)
    assert 0 == world.issuer.issued


def test_what_an_earlier_run_left_is_removed_at_its_account(world: ModelWorld) -> None:
    """Also where the other cannot be asked."""
    two = Two(world)
    two.visited()
    from_other = two.other.add_txt(ELSEWHERE, "A" * 43)
    left = ChallengeRecord("img", ELSEWHERE, "A" * 43, world.now(), from_other)
    world.state.save_challenge_record(left)
    world.dns.fail_with(DnsUnavailable("away"))

    report = two.visited().report()

    assert Outcome.DONE is outcome(report, Action.CLEAN).outcome
    assert [] == two.other.values(ELSEWHERE)
