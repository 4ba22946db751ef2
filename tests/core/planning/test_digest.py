"""The digest by which a run is bound to the confirmed plan."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.observation import Observation
from certferry.core.planning.digest import digest_of_plans, is_digest
from certferry.core.planning.plan import (
    Clean,
    HeldUntil,
    Issue,
    Plan,
    Retire,
    Rollout,
    TriedInThisRun,
    Verify,
)
from certferry.core.planning.planner import make_plan
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.timing import Times
from certferry.core.reasons import Reason, ReasonCode
from certferry.text import Text
from certferry.values import replace
from tests.core.strategies import NOW, situations

WHY = Reason(ReasonCode.UNUSED, Text("for another reason"))

plans = situations().map(lambda situation: make_plan(*situation, Times.at(NOW), Issuing.IF_DUE))


@given(situations())
def test_same_world_has_the_same_digest(
    situation: tuple[DesiredCertificate, Observation],
) -> None:
    """The digest is the same a second later, in another order of plans, and beside a plan without
    steps.
    """
    desired, observed = situation
    first, later = (
        make_plan(desired, observed, Times.at(NOW + passed), Issuing.IF_DUE)
        for passed in (timedelta(0), timedelta(seconds=1))
    )
    other, settled = replace(first, lineage="other"), Plan("static", ("static.example.com",))

    digest = digest_of_plans([first, other])

    assert is_digest(digest)
    assert digest == digest_of_plans([settled, other, later])


@given(plans, st.data())
def test_any_different_step_changes_the_digest(plan: Plan, data: st.DataObject) -> None:
    """A missing step and a step with another place, certificate or reason each change the
    digest.
    """
    others = list(others_than(plan))
    if not others:
        return
    other = data.draw(st.sampled_from(others))

    assert digest_of_plans([plan]) != digest_of_plans([other])


@given(plans)
def test_same_steps_for_another_certificate_make_another_digest(plan: Plan) -> None:
    """A confirmation for a certificate covers that certificate alone."""
    plan = replace(plan, clean=Clean(WHY))

    assert digest_of_plans([plan]) != digest_of_plans([replace(plan, lineage="another")])


@given(plans)
def test_digest_has_the_domains_to_verify_without_their_standing(plan: Plan) -> None:
    """A digest of verifications alone belongs to exactly these domains. A domain that is served by
    now, or waits for another reason, keeps the digest.
    """
    looks = [step for step in plan.steps if isinstance(step, Verify)]
    later = replace(plan, rollouts=tuple(map(otherwise_verified, plan.rollouts)))

    assert digest_of_plans([plan]) == digest_of_plans([later])
    for look in looks:
        without = [
            replace(each, steps=tuple(step for step in each.steps if step is not look))
            for each in plan.rollouts
        ]
        others = replace(plan, rollouts=tuple(without))
        assert digest_of_plans([plan]) != digest_of_plans([others])


@given(plans)
def test_step_for_a_later_run_is_left_out(plan: Plan) -> None:
    """A step that failed before is carried out by a later run."""
    looks = [
        replace(rollout, steps=tuple(step for step in rollout.steps if isinstance(step, Verify)))
        for rollout in plan.rollouts
    ]
    without = replace(plan, rollouts=tuple(looks))
    for when in (HeldUntil(NOW), TriedInThisRun(NOW)):
        held = [
            replace(rollout, steps=tuple(replace(step, when=when) for step in rollout.steps))
            for rollout in plan.rollouts
        ]
        assert digest_of_plans([without]) == digest_of_plans([replace(plan, rollouts=tuple(held))])


def otherwise_verified(rollout: Rollout) -> Rollout:
    """Return a rollout whose verifications have another reason and another time."""
    later = (
        replace(step, reason=WHY, when=HeldUntil(NOW)) if isinstance(step, Verify) else step
        for step in rollout.steps
    )
    return replace(rollout, steps=tuple(later))


def others_than(plan: Plan) -> Iterator[Plan]:
    """Yield plans that differ from the given plan in a single step."""
    yield replace(plan, clean=Clean(WHY) if plan.clean is None else None)
    retirement = Retire("qiniu", "id-7", "certferry-img-07", WHY)
    yield replace(plan, retirements=(*plan.retirements, retirement))
    for copy in plan.retirements:
        left = [other for other in plan.retirements if other is not copy]
        yield replace(plan, retirements=tuple(left))
        yield replace(plan, retirements=(*left, replace(copy, remote_id="another")))
    match plan.issue_now:
        case Issue() as issue:
            yield replace(plan, issue=None)
            yield replace(plan, issue=replace(issue, names=("another.example.com",)))
            yield replace(plan, issue=replace(issue, reason=WHY))
    for rollout in plan.rollouts:
        begun = [step for step in rollout.steps if not isinstance(step, Verify)]
        if not begun:
            continue
        others = tuple(other for other in plan.rollouts if other is not rollout)
        yield replace(plan, rollouts=others)
        for step in begun:
            for other in (
                replace(step, domain="another.example.com"),
                replace(step, fingerprint="ee" * 32),
                replace(step, reason=WHY),
            ):
                changed = tuple(other if each is step else each for each in rollout.steps)
                yield replace(plan, rollouts=(*others, replace(rollout, steps=changed)))
