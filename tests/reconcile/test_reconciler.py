"""The engine from above, with its threads: plan, sync, status."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from certferry.core.assessment.health import Recorded
from certferry.core.assessment.status import Standing
from certferry.core.desired.certificate import DesiredCertificate, PemFiles
from certferry.core.events import StepEnded
from certferry.core.observed.observation import ObservedTarget
from certferry.core.planning.report import Result, of_run
from certferry.core.planning.rollouts import Claims
from certferry.errors import Interrupted, StateUnavailable
from certferry.ports.state import ChallengeRecord
from certferry.ports.target import Scope
from certferry.reconcile.status import plans_of, statuses_of
from certferry.reconcile.work_queue import WORKERS, WaitLimit
from certferry.text import Text
from certferry_sandbox.testing.interruptions import Altered, failing
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.reconcile.company import Company, now


class SlowCdn(MemoryCdn):
    """A CDN whose answer comes when as many have asked as may at once."""

    asked = threading.Barrier(WORKERS, timeout=20)

    def observe(self, scope: Scope) -> ObservedTarget:
        """See `ports.target.DeployTarget.observe`."""
        self.asked.wait()
        return super().observe(scope)


class StoppedCdn(MemoryCdn):
    """A CDN during whose first answer Ctrl-C is typed."""

    trouble: BaseException = KeyboardInterrupt()

    def observe(self, scope: Scope) -> ObservedTarget:
        """See `ports.target.DeployTarget.observe`."""
        raise self.trouble


class InterruptedCdn(StoppedCdn):
    """A CDN that is asked by a run which is being stopped once every worker is at a visit."""

    trouble = Interrupted(Text("stopped"))

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.all_ask = threading.Barrier(WORKERS, timeout=30)

    def observe(self, scope: Scope) -> ObservedTarget:
        """Raise, in all of them."""
        self.all_ask.wait()
        return super().observe(scope)


class BrokenCdn(StoppedCdn):
    """A CDN during whose first answer the state's disk is gone."""

    trouble = StateUnavailable(Text("it cannot be read"))


def test_lineages_are_looked_at_side_by_side() -> None:
    """A thousand answers, one after the other, would take many minutes."""
    company = Company(2 * WORKERS, cdn=SlowCdn)
    reconciler = company.reconciler()

    plans = plans_of(reconciler.ports, company.certificates)
    statuses = statuses_of(reconciler.ports, company.certificates, Recorded())

    lineages = [wish.lineage for wish in company.certificates]
    assert lineages == [plan.lineage for plan in plans]
    assert lineages == [status.lineage for status in statuses]


@pytest.mark.parametrize("cdn", [StoppedCdn, BrokenCdn])
def test_what_ends_one_look_ends_them_all(cdn: type[StoppedCdn]) -> None:
    """What waits in another thread is told to stop: on Ctrl-C, and where there will be no answer
    whatever it finds.
    """
    company = Company(1, cdn=cdn)

    with pytest.raises(type(cdn.trouble)):
        plans_of(company.ports(), company.certificates)

    assert company.run.is_stopped


def test_run_that_is_stopped_does_not_tell_of_what_it_did_not_come_to() -> None:
    """The visits that had begun say that they were stopped, and the others were not made."""
    company = Company(WORKERS + 2, cdn=InterruptedCdn)

    report = company.reconciler().sync(company.certificates, WaitLimit())

    assert [True] * WORKERS + [False] * 2 == [one.looked_at for one in report.lineages]
    assert not any(one.ok or one.is_unchanged for one in report.lineages)


def test_company_is_synced_and_stays_so() -> None:
    """Every certificate ends served; the second run is unchanged; status and plan agree."""
    company = Company(30)
    reconciler = company.reconciler()
    assert 30 * 3 == sum(
        len(plan.steps) for plan in plans_of(reconciler.ports, company.certificates)
    )

    first = reconciler.sync(company.certificates, WaitLimit())
    second = reconciler.sync(company.certificates, WaitLimit())

    assert first.ok
    assert first.complete
    assert all(lineage.is_unchanged for lineage in second.lineages)
    assert [wish.lineage for wish in company.certificates] == [
        one.lineage for one in first.lineages
    ]
    assert all(plan.is_settled for plan in plans_of(reconciler.ports, company.certificates))
    standings = {
        d.standing
        for s in statuses_of(reconciler.ports, company.certificates, Recorded())
        for d in s.domains
    }
    assert {Standing.VERIFIED} == standings
    assert {wish.lineage for wish in company.certificates} == {
        event.lineage for event in company.events if isinstance(event, StepEnded)
    }


@pytest.mark.parametrize("files", [None, PemFiles("/gone/fullchain.pem", "/gone/privkey.pem")])
def test_records_of_a_lineage_that_is_issued_no_more_are_removed(files: PemFiles | None) -> None:
    """A run was killed over it, and then it was declared as ferried, or not at all: the account
    that can do it does, and those of lineages at work or declared are left alone.
    """
    company = Company(2)
    run_for, beside = company.certificates
    ferried = DesiredCertificate("gone", (), files=files)
    wishes = [run_for, *([ferried] if files else [])]
    company.claims = Claims([*wishes, beside])
    for lineage in ("gone", "held", beside.lineage):
        name = f"_acme-challenge.{lineage}.example.com"
        handle = company.dns.add_txt(name, "left")
        record = ChallengeRecord(lineage, name, "left", now(), handle)
        company.state.save_challenge_record(record)

    with company.lease("held"):
        company.reconciler().sync(wishes, WaitLimit())

    assert [] == company.dns.values("_acme-challenge.gone.example.com")
    assert {beside.lineage, "held"} == set(company.state.lineages_in_challenge_records())


def test_record_that_cannot_be_removed_spoils_no_run(caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and what is declared is served."""
    company = Company(1)
    name = "_acme-challenge.gone.example.net"
    company.state.save_challenge_record(ChallengeRecord("gone", name, "left", now(), "handle"))

    report = company.reconciler().sync(company.certificates, WaitLimit())

    assert report.ok
    assert "gone: a challenge record of an earlier run is left in DNS" in caplog.text
    assert ("gone",) == company.state.lineages_in_challenge_records()


@pytest.mark.parametrize(
    ("trouble", "complete"),
    [(StateUnavailable(Text("the disk is gone")), True), (KeyboardInterrupt(), False)],
)
def test_clean_up_that_fails_leaves_the_report(
    trouble: BaseException, caplog: pytest.LogCaptureFixture, *, complete: bool
) -> None:
    """What has become of the certificates is told, whatever comes after: a state that fails when it
    is asked whose challenge records there are, or Ctrl-C while it answers.
    """
    company = Company(1)
    company.state = Altered(company.state, lineages_in_challenge_records=failing(trouble))

    report = company.reconciler().sync(company.certificates, WaitLimit())

    assert complete == report.complete
    assert [True] == [lineage.ok for lineage in report.lineages]
    assert complete == (
        "could not look for challenge records of earlier runs: the disk is gone" in caplog.text
    )
    assert complete != company.run.is_stopped


def test_end_that_cannot_be_recorded_is_in_the_report() -> None:
    """The certificates are in order, and the run is not: no monitor knows that there was one."""
    company = Company(1)
    full = StateUnavailable(Text("the disk is full"))
    company.state = Altered(company.state, save_run=failing(full))

    report = company.reconciler().sync(company.certificates, WaitLimit())

    assert [True] == [lineage.ok for lineage in report.lineages]
    assert report.problem is not None
    assert (True, False, False) == (report.complete, report.ok, report.has_succeeded)
    assert Result.FAILED is of_run(report)


def test_renewal_is_planned_on_demand() -> None:
    """`plan --renew` shows what `sync --renew` would do."""
    company = Company(1)
    reconciler = company.reconciler()
    reconciler.sync(company.certificates, WaitLimit())

    (plan,) = plans_of(reconciler.ports, company.certificates, renew=True)

    assert plan.issue is not None


def test_hundred_waiting_domains_hold_no_thread() -> None:
    """While a hundred changes are carried out, no more threads exist than may work at once."""
    company = Company(100, processing=timedelta(milliseconds=700))
    before = threading.active_count()
    counts: list[int] = []
    company.watch = lambda _: counts.append(threading.active_count() - before)

    report = company.reconciler().sync(company.certificates, WaitLimit())

    assert report.ok
    assert max(counts) <= WORKERS
