"""Orders at another CA near the deadline: the real reconciler with several CAs in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.certificates.certificate import CertificateBundle, RenewalInfo
from certferry.core.desired.certificate import Authority, DesiredCertificate, Issuance
from certferry.core.planning.limits import Hold
from certferry.core.planning.plan import Action
from certferry.core.planning.report import LineageReport, Outcome
from certferry.errors import (
    CaUnavailable,
    CertificateRejected,
    DnsUnavailable,
    IssuanceError,
    OrderPostponed,
    RateLimited,
    Retry,
)
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import IssueRequest
from certferry.ports.progress import Progress
from certferry.ports.state import Lease, StateStore
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG, outcome
from tests.support.tiers import spread

USUAL = Authority("letsencrypt", "https://le.example.com/directory")
OTHER = Authority("zerossl", "https://zerossl.example.com/directory")
ISSUANCE = Issuance(authorities=(USUAL, OTHER))

DOWN = CaUnavailable(Text("the CA is down"))
IMG_NAMES = (IMG, f"*.{IMG}")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Cas:
    by_directory: dict[str, MemoryIssuer]

    def at(self, authority: Authority) -> MemoryIssuer:
        return self.by_directory[authority.directory]

    def seen_by(self, state: StateStore) -> Cas:
        """Return the same CAs for a process with another view of the state."""
        return Cas({url: issuer.seen_by(state) for url, issuer in self.by_directory.items()})

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> frozenset[str]:
        return self.at(USUAL).must_be_provable(names, dns)

    def rate_limit_hold(self, request: IssueRequest) -> OrderPostponed | None:
        return self.by_directory[request.directory].rate_limit_hold(request)

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        return self.by_directory[request.directory].issue(request, dns, lease, progress)

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        return self.by_directory[directory].renewal_info(cert_pem)

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        self.at(USUAL).sweep(lineage, accounts, now)


class TwoCas(ModelWorld):
    def __init__(self) -> None:
        super().__init__()
        self.cdn.add_domain(IMG)
        issuers = {
            one.directory: MemoryIssuer(self.state, self.now, directory=one.directory)
            for one in (USUAL, OTHER)
        }
        self.cas = Cas(issuers)
        self.issuer = self.cas  # type: ignore[assignment]  # it does what the world asks of it

    def wanted(self) -> DesiredCertificate:
        return replace(self.desired(), issuance=ISSUANCE)

    def sync(self, **options: object) -> LineageReport:
        report = self.run(self.wanted(), **options)  # type: ignore[arg-type]  # a test's shorthand
        assert report is not None
        return report

    def fail(self, usual: IssuanceError | None = DOWN, other: IssuanceError | None = None) -> None:
        self.cas.at(USUAL).fail_with(usual)
        self.cas.at(OTHER).fail_with(other)

    @property
    def issued(self) -> tuple[int, int]:
        return self.cas.at(USUAL).issued, self.cas.at(OTHER).issued

    def lines(self, event: str) -> list[dict[str, str]]:
        """Return the facts of the history's entries of an event, oldest first."""
        entries = reversed(self.state.history("img", 100))
        facts = (entry.facts for entry in entries if entry.event == event)
        return [{name: str(fact) for name, fact in each.items()} for each in facts]


def asked_in_plan(world: TwoCas) -> list[str]:
    ports = world.ports("planner")
    run = LineageReconciler(world.wanted(), ports)
    issue = run.plan(observe(run.desired, ports)).issue
    assert issue is not None
    return [authority.name for authority in issue.authorities]


def test_usual_ca_is_asked_as_long_as_it_answers() -> None:
    """The history names the CA."""
    world = TwoCas()
    world.sync()

    assert (1, 0) == world.issued
    assert ["letsencrypt"] == [facts["ca"] for facts in world.lines("issued")]


def test_first_certificate_is_ordered_elsewhere_after_a_day() -> None:
    """For a day each failure is only reported; then the plan names both CAs."""
    world = TwoCas()
    world.fail()
    for _ in range(2):
        assert Outcome.FAILED is outcome(world.sync(), Action.ISSUE).outcome
        world.pass_time(DAY / 2)
    assert ["letsencrypt", "zerossl"] == asked_in_plan(world)

    assert Outcome.DONE is outcome(world.sync(), Action.ISSUE).outcome

    assert (0, 1) == world.issued
    assert [{"ca": "letsencrypt", "problem": "the CA is down"}] == world.lines("ca failed")
    assert ["zerossl"] == [facts["ca"] for facts in world.lines("issued")]


def test_ca_that_gave_a_certificate_is_asked_when_to_renew_it() -> None:
    """The usual CA does not know the certificate."""
    world = TwoCas()
    world.fail()
    world.sync()
    world.pass_time(DAY)
    world.sync()
    world.pass_time(DAY)
    world.sync()

    assert 0 == world.cas.at(USUAL).asked
    assert 0 < world.cas.at(OTHER).asked


def test_renewal_is_ordered_elsewhere_in_the_last_sixth_of_the_life() -> None:
    """Earlier failures, and the first failure in the last sixth, stay with the usual CA."""
    world = TwoCas()
    world.sync()
    world.fail()
    world.pass_time(timedelta(days=62))  # 28 of 90 days are left
    world.sync()
    world.pass_time(timedelta(days=2))
    world.sync()
    assert (["letsencrypt"], (1, 0)) == (asked_in_plan(world), world.issued)

    world.pass_time(timedelta(days=12))
    world.sync()

    assert (1, 1) == world.issued
    world.fail(None)
    world.pass_time(timedelta(days=61))
    world.sync()
    assert (2, 1) == world.issued


def test_passing_error_near_the_end_is_waited_out() -> None:
    """After a long outage of the machine, a single failure does not change the CA."""
    world = TwoCas()
    world.sync()
    world.fail()
    world.pass_time(timedelta(days=80))
    world.sync()
    assert (1, 0) == world.issued

    world.fail(None)
    world.pass_time(HOUR)
    world.sync()

    assert (2, 0) == world.issued


def test_trouble_with_dns_is_no_reason_to_go_elsewhere() -> None:
    """The other CA would have to read the same records."""
    world = TwoCas()
    world.sync()
    world.pass_time(timedelta(days=80))

    for _ in range(3):
        world.dns.fail_with(DnsUnavailable(Text("no answer")))
        world.sync()
        world.pass_time(DAY)

    assert (1, 0) == world.issued
    assert ["letsencrypt"] == asked_in_plan(world)


def test_ca_that_asked_to_be_left_alone_is_left_out() -> None:
    """The order waits until the other CA may be asked, then goes to the other CA alone."""
    world = TwoCas()
    world.fail(RateLimited(Text("too many"), retry=Retry.at(world.now() + 1.5 * DAY)))
    for _ in range(2):
        assert Outcome.WAITING is outcome(world.sync(), Action.ISSUE).outcome
        world.pass_time(DAY / 2)
    assert ["zerossl"] == asked_in_plan(world)

    assert Outcome.DONE is outcome(world.sync(), Action.ISSUE).outcome

    assert (0, 1) == world.issued
    assert [] == world.lines("ca failed")


def used_up(world: TwoCas, until: datetime) -> None:
    """Use up the budget at the usual CA until a moment, without any failure of the CA."""
    world.state.save_hold(USUAL.directory, Hold((*IMG_NAMES,), world.now(), until, for_all=False))


def test_budget_that_is_used_up_beyond_the_deadline_leads_elsewhere() -> None:
    """Only near the certificate's end; until then the order waits."""
    world = TwoCas()
    world.sync()
    world.pass_time(timedelta(days=70))
    used_up(world, world.now() + timedelta(days=6))
    assert Outcome.WAITING is outcome(world.sync(), Action.ISSUE).outcome
    world.pass_time(timedelta(days=5))

    assert Outcome.DONE is outcome(world.sync(), Action.ISSUE).outcome

    assert (1, 1) == world.issued
    assert [] == world.lines("ca failed")


def test_budget_that_is_free_again_within_the_hour_is_waited_for() -> None:
    """The deadline may be near."""
    world = TwoCas()
    world.sync()
    world.pass_time(timedelta(days=80))
    used_up(world, world.now() + HOUR)

    assert Outcome.WAITING is outcome(world.sync(), Action.ISSUE).outcome
    world.pass_time(HOUR)
    world.sync()

    assert (2, 0) == world.issued


def test_first_certificate_that_the_budget_holds_back_for_days_is_ordered_elsewhere() -> None:
    """The order goes to the other CA at once, without an error; if every CA asks for a pause, the
    order waits for the earliest.
    """
    world = TwoCas()
    used_up(world, world.now() + 3 * DAY)
    late = Hold((*IMG_NAMES,), world.now(), world.now() + 2 * DAY, for_all=False)
    world.state.save_hold(OTHER.directory, late)

    held = outcome(world.sync(), Action.ISSUE)
    assert held.error is not None
    assert (Outcome.WAITING, late.until) == (held.outcome, held.error.retry.after)

    world.state.save_hold(OTHER.directory, replace(late, until=world.now()))
    world.sync()
    assert (0, 1) == world.issued


def test_every_ca_asked_to_be_left_alone() -> None:
    """The order waits for the earliest moment of all CAs, and goes to the CA of that moment."""
    world = TwoCas()
    world.fail()
    world.sync()
    world.pass_time(DAY)
    late, early = (
        RateLimited(Text("too many"), retry=Retry.at(world.now() + days * DAY)) for days in (3, 2)
    )
    world.fail(late, early)
    assert Outcome.WAITING is outcome(world.sync(), Action.ISSUE).outcome
    world.fail(None)
    world.pass_time(HOUR)

    lines = outcome(world.sync(), Action.ISSUE)

    assert (Outcome.WAITING, (0, 0)) == (lines.outcome, world.issued)
    assert lines.error is not None
    assert early.retry.after == lines.error.retry.after
    world.pass_time(2 * DAY)
    world.sync()
    assert (0, 1) == world.issued


def test_failure_is_none_that_passes_where_only_one_ca_says_when() -> None:
    """The other CA's failure is reported as a failure."""
    world = TwoCas()
    world.fail()
    world.sync()
    world.pass_time(DAY)
    world.fail(RateLimited(Text("too many"), retry=Retry.at(world.now() + DAY)), DOWN)

    lines = outcome(world.sync(), Action.ISSUE)

    assert Outcome.FAILED is lines.outcome
    assert "too many; zerossl: the CA is down" == str(lines.detail)


def test_certificate_of_another_ca_is_replaced_at_none() -> None:
    """A CA knows its own certificates alone, and takes no order as the renewal of another CA's
    certificate.
    """
    world = TwoCas()
    world.sync()
    world.pass_time(timedelta(days=76))
    world.fail()
    world.sync()
    world.pass_time(HOUR)
    world.sync()
    world.fail(None)
    world.pass_time(timedelta(days=61))
    world.sync()

    assert (2, 1) == world.issued
    assert {None} == {*world.cas.at(OTHER).replaced, world.cas.at(USUAL).replaced[-1]}


def test_every_ca_fails() -> None:
    """One error names the failure of each CA; a rejected certificate postpones the next orders."""
    world = TwoCas()
    world.fail(DOWN, CertificateRejected(Text("it is for other names")))
    world.sync()
    world.pass_time(DAY)

    lines = outcome(world.sync(), Action.ISSUE)

    assert "the CA is down; zerossl: it is for other names" == str(lines.detail)
    assert world.state.remembered("img").rejected_at is not None
    assert ["letsencrypt", "zerossl"] == [facts["ca"] for facts in world.lines("ca failed")]


def test_run_that_is_killed_while_it_orders_elsewhere_is_followed_by_no_second_order() -> None:
    """After a kill at any call, the next run finishes the order at the CA of the begun order."""
    kills = 0
    for calls in spread(range(1, 200), 5):
        world = TwoCas()
        world.fail()
        world.sync()
        world.pass_time(DAY)

        report = world.run(world.wanted(), kill_after=calls)
        begun = world.state.order("img")
        world.fail(None)
        world.sync()

        assert 1 == sum(world.issued), calls
        if begun is not None and begun.directory == OTHER.directory:
            kills += 1
            assert (0, 1) == world.issued
        assert [] == world.challenge_values()
        if report is not None:
            break
    assert kills
