"""Command deliveries, surveys of accounts, DNS by zone, and the number of state calls in a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.receivers import command
from certferry.core.assessment.status import Standing, status_of
from certferry.core.certificates.names import is_within
from certferry.core.desired.certificate import (
    CommandDelivery,
    Delivery,
    DesiredCertificate,
    Kind,
    PemFiles,
    Program,
)
from certferry.core.desired.declaration import delivered
from certferry.core.discovery.inventory import AccountSurvey, FoundDomain, FoundZone, Survey
from certferry.core.discovery.proposal import must_have_zone
from certferry.core.events import Activity, Begun, Event, LineageEnded
from certferry.core.network import Host
from certferry.core.observed.observation import Change, Served
from certferry.core.planning.plan import Action, Deploy
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.report import LineageReport, Outcome
from certferry.core.planning.timing import Times
from certferry.errors import (
    ConfigError,
    DnsAccessDenied,
    DnsUnavailable,
    Interrupted,
    TargetUnavailable,
    ZoneNotFound,
)
from certferry.ports.probe import NONE_NAMED, Named
from certferry.ports.receiver import Receiver
from certferry.ports.state import ChallengeRecord
from certferry.ports.survey import Looked
from certferry.reconcile.issue import ZoneRouter
from certferry.reconcile.observe import observe
from certferry.reconcile.reads import MOST_SIGNS, SIGNS_OF_LIFE, Surveys, survey_accounts
from certferry.reconcile.reconciler import LineageReconciler, plan_lineage
from certferry.reconcile.run import Ports, Run
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle, with_another_chain
from certferry_sandbox.testing.memory_dns import MemoryDns
from tests.core.strategies import hostnames, labels
from tests.reconcile.many_certificates import Counted, now
from tests.reconcile.model import MOMENT, ModelWorld
from tests.reconcile.one_lineage import IMG, outcome

# --- Certificates that are handed to a command: run once for each certificate, and once more
# when the command itself was edited


FILES = PemFiles("/ssl/fullchain.pem", "/ssl/privkey.pem")


class Machine:
    """A world with a machine that runs commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = ModelWorld()
        self.killed = False

    def desired(self, *arguments: str) -> DesiredCertificate:
        """Declare a certificate for one command; the command appends its arguments to a file."""
        script = ("/bin/sh", "-c", 'echo "$1" >> ran; test "$1" != broken', "push", *arguments)
        program = Program(script, str(self.folder), timedelta(seconds=30))
        deployment = delivered(CommandDelivery("push", program))
        return replace(self.world.desired(), deployments=(deployment,))

    def sync(self, desired: DesiredCertificate) -> LineageReport:
        """Make one run to the end."""
        self.world.alive.add("run")
        run = LineageReconciler(desired, replace(self.world.ports("run"), receiver=self.receiver))
        assert run.reconcile() is None
        self.world.alive.discard("run")
        self.world.pass_time(MOMENT)
        return run.report()

    def deploys(self, desired: DesiredCertificate) -> list[Deploy]:
        """Plan, and return the deliveries."""
        observed = observe(desired, replace(self.world.ports("planner"), receiver=self.receiver))
        plan = plan_lineage(desired, observed, Times.at(self.world.clock), Issuing.IF_DUE)
        return [step for step in plan.steps if isinstance(step, Deploy)]

    def standing(self, desired: DesiredCertificate) -> Standing:
        observed = observe(desired, replace(self.world.ports("looker"), receiver=self.receiver))
        [found] = status_of(desired, observed, self.world.clock).domains
        return found.standing

    def receiver(self, delivery: Delivery) -> Receiver:
        assert isinstance(delivery, CommandDelivery)
        return command.CommandReceiver(delivery, workspace=self.folder / "w", pause=lambda _: None)

    @property
    def ran(self) -> list[str]:
        path = self.folder / "ran"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine before its first run."""
    return Machine(tmp_path)


def test_edited_command_runs_again_for_the_same_certificate(machine: Machine) -> None:
    """The plan gives the reason, no certificate is issued, and a later run changes nothing."""
    machine.sync(machine.desired("to lb1"))
    edited = machine.desired("to lb2")

    [deploy] = machine.deploys(edited)
    assert (Change("command", "edited", "run"),) == deploy.changes
    assert Standing.DRIFTED is machine.standing(edited)
    assert machine.sync(edited).ok
    assert machine.sync(edited).is_unchanged

    assert ["to lb1", "to lb2"] == machine.ran
    assert 1 == machine.world.issuer.issued
    assert [] == machine.deploys(edited)
    assert Standing.VERIFIED is machine.standing(edited)


def test_edited_command_that_fails_is_run_until_it_succeeds(machine: Machine) -> None:
    """A failed command does not count as a delivery."""
    machine.sync(machine.desired("well"))

    assert not machine.sync(machine.desired("broken")).ok
    assert machine.deploys(machine.desired("broken"))
    assert machine.sync(machine.desired("well")).ok

    assert ["well", "broken", "well"] == machine.ran


def test_program_of_a_delivery_that_failed_is_not_made_up(machine: Machine) -> None:
    """The state stores the program of the last run, never the program of a later one."""
    machine.sync(machine.desired("broken"))
    [record] = machine.world.state.remembered("img").rollouts
    machine.world.state.save_rollout(replace(record, program_digest=None))

    assert not machine.sync(machine.desired("broken", "again")).ok

    [record] = machine.world.state.remembered("img").rollouts
    assert record.verified_at is None
    assert ["broken", "broken"] == machine.ran


def test_leaf_with_another_chain_is_handed_over_again(machine: Machine) -> None:
    """Otherwise the command's server would keep the earlier chain."""
    bundle = make_bundle("img.example.com", not_before=machine.world.clock)
    desired = replace(machine.desired("well"), names=(), dns="", files=FILES)
    other = with_another_chain(bundle)
    for held in (bundle, other, other):
        machine.world.source.put(FILES, held)
        assert machine.sync(desired).ok

    assert ["well", "well"] == machine.ran


# # --- Accounts that are surveyed side by side; a failing account leaves the others alone


SILENT = TargetUnavailable(Text("no answer"))


class Edges:
    """A `Probe` that finds one address everywhere, and counts the requested domains."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def served(
        self, domains: Sequence[str], named: Named = NONE_NAMED
    ) -> dict[str, tuple[Served, ...]]:
        self.asked.append(len(domains))
        return {domain: (Served("192.0.2.1", "ab" * 32, valid=True),) for domain in domains}

    def served_by(self, hosts: Sequence[Host]) -> dict[Host, tuple[Served, ...]]:
        return {host: (Served("192.0.2.1", "ab" * 32, valid=True),) for host in hosts}


class Desk:
    """The input and the reports of an examination."""

    def __init__(self) -> None:
        self.edges = Edges()
        self.result: list[tuple[str, str]] = []
        self.counted: list[Event] = []
        self.run = Run(progress=self._hear)
        self.clock: Callable[[], datetime] = now

    def survey(self, surveys: Surveys) -> tuple[AccountSurvey, ...]:
        return survey_accounts(surveys, self.edges, self.clock, self.run)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Begun | LineageEnded):
            self.counted.append(event)
            return
        assert isinstance(event, Activity)
        self.result.append((event.lineage, str(event.what)))


def holding(*domains: FoundDomain) -> Callable[[Looked], Survey]:
    def survey(looked: Looked) -> Survey:
        for count, _ in enumerate(domains, start=1):
            looked(count, len(domains))
        return Survey(domains)

    return survey


def failing(trouble: BaseException) -> Callable[[Looked], Survey]:
    """Return a survey that raises an error."""

    def survey(looked: Looked) -> Survey:
        del looked
        raise trouble

    return survey


def domain(name: str, *, https: bool = True, hidden: bool = False) -> FoundDomain:
    return FoundDomain(name, Kind.CDN, has_https=https, binding_hidden=hidden)


@pytest.mark.parametrize("trouble", [SILENT, ConfigError(Text("no keys"))])
def test_account_that_fails_hides_no_other(trouble: Exception) -> None:
    """The failed account is reported beside the contents of the others, in the order of the
    requests.
    """
    desk = Desk()
    img = domain("img.example.com")

    bad, good = desk.survey({"bad": failing(trouble), "good": holding(img)})

    assert ("bad", trouble) == (bad.label, bad.failure)
    assert (img,) == good.survey.domains
    assert {"img.example.com"} == set(good.served)
    assert ("bad", str(trouble)) in desk.result
    assert [Begun(2), LineageEnded("bad"), LineageEnded("good")] == sorted(desk.counted, key=str)


def test_edges_are_looked_at_where_there_may_be_https() -> None:
    """A domain without HTTPS has no certificate to present."""
    desk = Desk()
    plain = domain("plain.example.com", https=False)
    hidden = domain("hidden.example.com", https=False, hidden=True)

    [look] = desk.survey({"qiniu": holding(plain, hidden, domain("img.example.com"))})

    assert {"hidden.example.com", "img.example.com"} == set(look.served)


def test_accounts_are_looked_at_side_by_side() -> None:
    """A slow account does not delay the next account."""
    both = threading.Barrier(2, timeout=20)

    def survey(looked: Looked) -> Survey:
        del looked
        both.wait()
        return Survey(())

    assert 2 == len(Desk().survey({"a": survey, "b": survey}))


def test_a_sign_of_life_comes_at_once_and_then_every_few_domains() -> None:
    """The first event names the account, later events count the domains and the edges."""
    desk = Desk()
    total = 2 * SIGNS_OF_LIFE + 1
    domains = [domain(f"d{number}.example.com") for number in range(total)]

    desk.survey({"qiniu": holding(*domains)})

    steps = (SIGNS_OF_LIFE, 2 * SIGNS_OF_LIFE)
    assert [
        "reading the account's domains",
        *(f"{count} of {total} domains read" for count in steps),
        *(f"edges of {count} of {total} domains checked" for count in (0, *steps)),
        "checked",
    ] == [what for _, what in desk.result]
    assert [SIGNS_OF_LIFE, SIGNS_OF_LIFE, 1] == desk.edges.asked


def test_how_long_the_rest_takes_is_notified_of_a_long_look() -> None:
    """Ten thousand domains take a quarter of an hour: forty events, each with the remaining time at
    the present pace.
    """
    desk, total, passed = Desk(), 10_000, timedelta(0)

    def survey(looked: Looked) -> Survey:
        nonlocal passed
        for count in range(1, total + 1):
            passed += timedelta(seconds=0.1)
            looked(count, total)
        return Survey(())

    desk.clock = lambda: now() + passed

    desk.survey({"qiniu": survey})

    result = [what for _, what in desk.result if "domains read" in what]
    assert MOST_SIGNS - 1 == len(result)
    assert "250 of 10000 domains read, about 16 minutes left" == result[0]
    assert "9750 of 10000 domains read" == result[-1]


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), Interrupted(Text("stopped"))])
def test_what_is_stopped_stops_them_all(trouble: BaseException) -> None:
    """An examination needs no clean-up, so the run does not wait for the other accounts."""
    desk = Desk()

    with pytest.raises(type(trouble)):
        desk.survey({"a": failing(trouble), "b": holding()})

    assert desk.run.is_stopped


# --- Several DNS accounts of one certificate: each writes what is in its zones


NAME = "_acme-challenge.img.example.com"
ELSEWHERE = "_acme-challenge.delegated.net"


class Unlisted:
    """An account that cannot list its zones."""

    def __init__(self, *zones: str) -> None:
        self._dns = MemoryDns(zones)
        self.add_txt = self._dns.add_txt
        self.remove_txt = self._dns.remove_txt
        self.values = self._dns.values


class Asked:
    """An account that names the zone of a given name, and cannot list its zones."""

    def __init__(self, *zones: str) -> None:
        self._zones = tuple(FoundZone(zone) for zone in zones)
        self._dns = MemoryDns(zones)
        self.add_txt = self._dns.add_txt
        self.remove_txt = self._dns.remove_txt
        self.values = self._dns.values

    def zones(self) -> None:
        """List none."""

    def zone_of(self, name: str) -> FoundZone:
        return must_have_zone(name, self._zones)


def test_account_that_cannot_list_its_zones_is_asked_for_the_name() -> None:
    """Accounts are asked in the order of the table, accounts without any knowledge of zones
    last.
    """
    first, second, silent = Asked("example.com"), Asked("delegated.net"), Unlisted("elsewhere.org")
    provider = ZoneRouter(
        [("example.com", first), ("example.net", silent), ("example.org", second)]
    )

    provider.add_txt(ELSEWHERE, "value")
    provider.add_txt("_acme-challenge.elsewhere.org", "value")

    assert ["value"] == second.values(ELSEWHERE)
    assert ["value"] == silent.values("_acme-challenge.elsewhere.org")


@given(st.lists(hostnames, min_size=1, max_size=6, unique=True), labels)
def test_longest_zone_decides(zones: list[str], label: str) -> None:
    """Other zones of the accounts do not matter."""
    ordered = sorted(zones, key=lambda zone: -zone.count("."))
    accounts = {zone: MemoryDns(zones) for zone in zones}
    provider = ZoneRouter([(zone, accounts[zone]) for zone in ordered])

    for zone in zones:
        name = f"{label}.{zone}"
        holding = [other for other in zones if is_within(name, other)]
        assert provider.at(name) is accounts[max(holding, key=len)]


def test_name_outside_the_zones_goes_to_the_account_that_has_its_zone() -> None:
    """A CNAME leads into the zone."""
    first, second = MemoryDns(["example.com"]), MemoryDns(["example.org", "delegated.net"])
    provider = ZoneRouter([("example.com", first), ("example.org", second)])

    handle = provider.add_txt(ELSEWHERE, "value")

    assert ["value"] == second.values(ELSEWHERE)
    assert provider.remove_txt(ELSEWHERE, "value", handle)
    with pytest.raises(ZoneNotFound, match=r"example\.net"):
        provider.add_txt("_acme-challenge.example.net", "value")


def test_account_that_cannot_report_its_zones_comes_last() -> None:
    """Such an account is asked if no other account has the zone."""
    silent, other = Unlisted("example.com", "delegated.net"), MemoryDns(["example.org"])
    provider = ZoneRouter([("example.com", silent), ("example.org", other)])

    provider.add_txt(ELSEWHERE, "value")
    provider.add_txt("_acme-challenge.www.example.org", "value")

    assert ["value"] == silent.values(ELSEWHERE)
    assert ["value"] == other.values("_acme-challenge.www.example.org")


class Two:
    """A world with a second account, and a certificate with names in both."""

    def __init__(self, world: ModelWorld) -> None:
        self.world = world
        self.other = MemoryDns(["delegated.net"])
        desired = world.desired(names=("img.example.com", "delegated.net"))
        zones = (("delegated.net", "other"), ("example.com", "dnspod"))
        self.desired: DesiredCertificate = replace(desired, dns="", dns_zones=zones)

    def ports(self, run: str = "run") -> Ports:
        """Return the ports of a run, with both accounts."""
        ports = self.world.ports(run)
        self.world.alive.add(run)
        return replace(ports, dns={**ports.dns, "other": self.other})

    def reconciled(self) -> LineageReconciler:
        run = LineageReconciler(self.desired, self.ports())
        run.reconcile()
        return run


def test_order_is_proven_by_both_accounts(world: ModelWorld) -> None:
    """Each account gets the records of its own zone, and loses the records again."""
    two = Two(world)

    report = two.reconciled().report()

    assert Outcome.DONE is outcome(report, Action.ISSUE).outcome
    assert 1 == world.issuer.issued
    assert two.other.calls > 0
    assert ([], []) == (world.challenge_values(), two.other.values(ELSEWHERE))


@pytest.mark.parametrize("refusing", ["dnspod", "other"])
def test_refusal_of_either_account_stands_in_the_way(world: ModelWorld, refusing: str) -> None:
    """The refusal comes before an order."""
    two = Two(world)
    denied = DnsAccessDenied("the keys are refused")
    {"dnspod": world.dns, "other": two.other}[refusing].fail_with(denied)

    report = two.reconciled().report()

    assert "the keys are refused" in str(outcome(report, Action.ISSUE).detail)
    assert 0 == world.issuer.issued


def test_what_an_earlier_run_left_is_removed_at_its_account(world: ModelWorld) -> None:
    """The other account may be out of reach."""
    two = Two(world)
    two.reconciled()
    from_other = two.other.add_txt(ELSEWHERE, "A" * 43)
    left = ChallengeRecord("img", ELSEWHERE, "A" * 43, world.now(), from_other)
    world.state.save_challenge_record(left)
    world.dns.fail_with(DnsUnavailable("away"))

    report = two.reconciled().report()

    assert Outcome.DONE is outcome(report, Action.CLEAN).outcome
    assert [] == two.other.values(ELSEWHERE)


# # --- The number of state calls of a run: a thousand waiting domains share one state


MOST_PER_PASS = 1.5
"""An earlier version made 231 calls in 34 passes. Now a pass reads the state about once."""


def test_a_life_of_passes_asks_the_state_seldom() -> None:
    """From an empty state to a verified edge, with a change of forty minutes."""
    world = ModelWorld(processing=timedelta(minutes=40))
    world.cdn.add_domain(IMG)
    world.alive.add("run")
    ports = world.ports("run")
    state: Any = Counted(ports.state)
    passes = 0

    class Run(LineageReconciler):
        def reconcile(self) -> Any:
            nonlocal passes
            passes += 1
            return super().reconcile()

    run = Run(world.desired(), replace(ports, state=state))
    world.pass_to_the_end(run)

    assert run.report().ok
    assert passes >= 30
    assert state.calls.total() <= MOST_PER_PASS * passes, state.calls
