"""A run that is bound to the plans that an operator was shown."""

from __future__ import annotations

from certferry.core.observed.observation import ObservedTarget
from certferry.core.planning.digest import digest_of_plans
from certferry.core.planning.report import Outcome
from certferry.errors import PlanChanged
from certferry.ports.target import Scope
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import WaitLimit
from certferry.reconcile.status import plans_of, plans_to_confirm
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.reconcile.company import Company

FIRST, LAST = "img0.example.com", "img2.example.com"


def run_as_confirmed(company: Company, confirmed: dict[str, str]) -> dict[str, list[object]]:
    """Sync, and return what is the matter with each lineage: the codes of what is refused."""
    report = Reconciler(company.ports(), confirmed).sync(company.certificates, WaitLimit())
    assert report.complete
    return {
        one.lineage: [step.code for step in one.having(Outcome.REFUSED)] for one in report.lineages
    }


class TouchedCdn(MemoryCdn):
    """Another tool binds its certificate to the first domain when that has been looked at."""

    looks = 0

    def observe(self, scope: Scope) -> ObservedTarget:
        """Observe, and let the other tool have its turn."""
        observed = super().observe(scope)
        if scope.lineage == FIRST:
            self.looks += 1
            if self.looks == 2:
                touch(self)
        return observed


def touch(cdn: MemoryCdn) -> None:
    cdn.set_by_others(FIRST, cdn.put_foreign(FIRST))


def test_what_was_confirmed_is_carried_out_to_its_end() -> None:
    """Also what only a later pass can plan: the deployment of what was issued, and the wait."""
    company = Company(3)
    shown, first = plans_to_confirm(company.ports(), company.certificates)

    assert {one.lineage: digest_of_plans([one]) for one in shown} == first
    assert {one.lineage: [] for one in company.certificates} == run_as_confirmed(company, first)
    assert all(plan.is_settled for plan in plans_of(company.ports(), company.certificates))


def test_plan_that_changed_is_refused_and_the_others_go_on() -> None:
    """Nothing is ordered or bound for it; the same run without a confirmed plan does it."""
    company = Company(3)
    _, first = plans_to_confirm(company.ports(), company.certificates)
    touch(company.cdn)
    bound = company.cdn.bound_to(FIRST)

    found = run_as_confirmed(company, first)

    assert {FIRST: [PlanChanged.code], "img1.example.com": [], LAST: []} == found
    assert bound == company.cdn.bound_to(FIRST)
    assert () == company.state.versions(FIRST)
    assert not any(run_as_confirmed(company, {}).values())
    assert company.state.versions(FIRST)


def test_plan_that_changes_before_the_lease_is_refused() -> None:
    """The plan that counts is the one that is made under the lease."""
    company = Company(3, cdn=TouchedCdn)
    _, first = plans_to_confirm(company.ports(), company.certificates)

    found = run_as_confirmed(company, first)

    assert {FIRST: [PlanChanged.code], "img1.example.com": [], LAST: []} == found
    assert () == company.state.versions(FIRST)
