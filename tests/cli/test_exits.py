"""Exit codes, for every combination of what can be true of a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry import errors
from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.status import OF_DOMAINS, DomainStatus, LineageStatus, Standing
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.desired.certificate import Kind
from certferry.core.discovery.inventory import AccountLook, DiscoveredDomain, Discovery
from certferry.core.discovery.survey import FoundDomain, Survey
from certferry.core.discovery.watched import Host, judged
from certferry.core.observed.observation import Served
from certferry.core.planning.plan import Plan, PlanFinding, Weight
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.core.planning.steps import Action
from certferry.errors import Reported, TargetRejected
from certferry.problem import Problem
from certferry.text import Text
from tests.cli import values


def reports() -> st.SearchStrategy[SyncReport]:
    """Reports with any outcomes, stopped or not."""
    steps = st.sampled_from(Outcome).map(
        lambda outcome: StepOutcome(Action.DEPLOY, outcome, Text("so"), "qiniu", "img.example.com")
    )
    lineages = st.lists(steps, max_size=4).map(lambda s: LineageReport("img", None, tuple(s)))
    return st.builds(SyncReport, st.lists(lineages, max_size=3).map(tuple), st.booleans())


def outcomes(report: SyncReport) -> set[Outcome]:
    """Every outcome of a report."""
    return {step.outcome for lineage in report.lineages for step in lineage.outcomes}


@given(reports())
def test_zero_means_in_order_and_nothing_else(report: SyncReport) -> None:
    """A sync is 0 exactly when it ran to its end and every step is done or unchanged."""
    in_order = report.complete and outcomes(report) <= {Outcome.DONE, Outcome.UNCHANGED}

    assert in_order == (exits.of_report(report) == Exit.OK)


def test_what_could_not_be_read_beside_the_domains_is_in_order() -> None:
    """A notice at a target is told, and the run is 0; a step that was stopped is not."""
    notice = StepOutcome(None, Outcome.SKIPPED, Text("so"), "qiniu", notice=True)
    done = StepOutcome(Action.VERIFY, Outcome.UNCHANGED, Text("so"), "qiniu", "img.example.com")
    stopped = StepOutcome(None, Outcome.SKIPPED, Text("so"))

    report = LineageReport("img", None, (notice, done))
    assert (True, True) == (report.ok, report.is_unchanged)
    assert Exit.OK == exits.of_report(SyncReport((report,)))
    assert not LineageReport("img", None, (stopped, done)).ok


@given(reports())
def test_the_worst_outcome_decides(report: SyncReport) -> None:
    """Stopped, failed, refused, still in progress: the first that is true, whatever else is."""
    found = outcomes(report)
    ranked = [
        (not report.complete, Exit.STOPPED),
        (Outcome.FAILED in found, Exit.FAILED),
        (Outcome.REFUSED in found, Exit.REFUSED),
        (bool(found & {Outcome.WAITING, Outcome.SKIPPED}), Exit.TRY_LATER),
        (True, Exit.OK),
    ]

    assert next(code for true, code in ranked if true) == exits.of_report(report)


OBSTACLES: dict[str, tuple[PlanFinding, ...]] = {
    "none": (),
    "refused": (
        PlanFinding.of(Weight.BLOCKED, errors.PlanRefused("the key is another certificate's")),
    ),
    "failed": (values.frozen(),),
}


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from(list(OBSTACLES))).map(
            lambda parts: values.plan(
                *([values.look()] if parts[0] else []),
                findings=(*((values.too_short(),) if parts[1] else ()), *OBSTACLES[parts[2]]),
            )
        ),
        max_size=3,
    ),
    st.booleans(),
)
def test_a_plan_is_judged_by_what_stands_in_its_way(plans: Sequence[Plan], check: object) -> None:
    """Blocked before refused before pending; what is pending counts only with `--check`. A refusal
    is one wherever it stands: `sync` ends with the same code.
    """
    code = exits.of_plans(plans, check=bool(check))

    ranked = [
        (any(plan.having(Weight.BLOCKED) == OBSTACLES["failed"] for plan in plans), Exit.FAILED),
        (
            any(plan.having(Weight.REFUSED) or plan.having(Weight.BLOCKED) for plan in plans),
            Exit.REFUSED,
        ),
        (bool(check) and any(plan.steps for plan in plans), Exit.PENDING),
        (True, Exit.OK),
    ]
    assert next(expected for true, expected in ranked if true) == code


def every_error() -> list[type[Reported]]:
    """Every class of the tree."""
    found: list[type[Reported]] = [Reported]
    for kind in found:
        found += kind.__subclasses__()
    return found


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_code_that_is_not_zero(kind: type[Reported]) -> None:
    """No error looks like success; only those that say so have a code of their own."""
    special = {
        errors.ConfigError: Exit.USAGE,
        errors.PlanRefused: Exit.REFUSED,
        errors.LeaseHeld: Exit.TRY_LATER,
        errors.LeaseLost: Exit.TRY_LATER,
        errors.Interrupted: Exit.STOPPED,
    }

    expected = next((special[one] for one in kind.__mro__ if one in special), Exit.FAILED)

    assert expected == exits.of_error(kind("so it is"))


@pytest.mark.parametrize("standing", sorted(OF_DOMAINS))
def test_a_status_is_a_failure_only_where_something_failed(standing: Standing) -> None:
    """What is merely on its way is in order."""
    domain = DomainStatus("qiniu", Kind.CDN, "img.example.com", standing)
    status = LineageStatus("img", (), None, None, None, (domain,))
    failed = standing in {Standing.FAILED, Standing.UNKNOWN}

    assert (Exit.FAILED if failed else Exit.OK) == exits.of_statuses([status], Recorded())


def test_what_is_discovered_is_in_order_and_what_is_not_seen_is_not() -> None:
    """A domain in trouble is a finding; an account that cannot be looked at is a failure."""
    frozen = DiscoveredDomain(
        "qiniu", FoundDomain("img.example.com", Kind.CDN, problem=TargetRejected("frozen"))
    )
    seen, unseen = AccountLook("qiniu"), AccountLook("second", failure=TargetRejected("denied"))

    partly = AccountLook("second", survey=Survey((), (TargetRejected("not for these keys"),)))

    assert Exit.OK == exits.of_problems(Discovery((seen, partly), (frozen,)).problems)
    assert Exit.FAILED == exits.of_problems(Discovery((seen, unseen)).problems)


def problem(code: EdgeProblemCode) -> Problem:
    """Something that is wrong at an address."""
    return Problem(code, Text("wrong"))


GOOD = Served("192.0.2.1", values.NEW, valid=True, not_after=values.NOON + timedelta(days=9))
INVALID = Served("192.0.2.2", values.OLD, valid=False, problem=problem(EdgeProblemCode.EXPIRED))
SILENT = Served(
    "192.0.2.3", None, valid=False, problem=problem(EdgeProblemCode.TIMED_OUT), silent=True
)
NO_IPV6 = Served(
    "2001:db8::1", None, valid=False, problem=problem(EdgeProblemCode.NO_IPV6), silent=True
)


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([[GOOD]], Exit.OK),
        ([[GOOD, GOOD], [GOOD]], Exit.OK),
        ([[GOOD, INVALID]], Exit.FAILED),
        ([[GOOD], [SILENT]], Exit.FAILED),
        ([[]], Exit.FAILED),
        ([[GOOD, NO_IPV6]], Exit.OK),
        ([[GOOD, NO_IPV6, SILENT]], Exit.FAILED),
        ([[NO_IPV6]], Exit.FAILED),
    ],
)
def test_a_watch_is_in_order_when_every_address_is(
    looks: list[list[Served]], expected: Exit
) -> None:
    """One address without a valid certificate is enough to fail. What this machine cannot look at
    counts for nothing where another address answers.
    """
    assert expected == exits.of_looks(
        [judged(Host(values.IMG), look, values.NOON) for look in looks]
    )
