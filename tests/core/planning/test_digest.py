"""The digest that binds a run to the plan that was shown."""

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

plans = situations().map(lambda found: make_plan(*found, Times.at(NOW), Issuing.IF_DUE))


@given(situations())
def test_same_world_has_the_same_digest(
    situation: tuple[DesiredCertificate, Observation],
) -> None:
    """Planned twice, a second apart, among others in another order, or among some with nothing to
    do.
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
def test_any_step_that_is_another_makes_another_digest(plan: Plan, data: st.DataObject) -> None:
    """One that is missing, or that has another place, certificate or reason."""
    others = list(others_than(plan))
    if not others:
        return
    other = data.draw(st.sampled_from(others))

    assert digest_of_plans([plan]) != digest_of_plans([other])


@given(plans)
def test_same_steps_for_another_certificate_make_another_digest(plan: Plan) -> None:
    """What was confirmed for one is not confirmed for all."""
    plan = replace(plan, clean=Clean(WHY))

    assert digest_of_plans([plan]) != digest_of_plans([replace(plan, lineage="another")])


@given(plans)
def test_domains_to_verify_count_and_how_they_stand_does_not(plan: Plan) -> None:
    """A digest of nothing but verifications belongs to these domains alone; a domain that is served
    by now, or waits for another reason, changes no digest.
    """
    looks = [step for step in plan.steps if isinstance(step, Verify)]
    later = replace(plan, rollouts=tuple(map(otherwise_verified, plan.rollouts)))

    assert digest_of_plans([plan]) == digest_of_plans([later])
    for look in looks:
        without = [
            replace(one, steps=tuple(step for step in one.steps if step is not look))
            for one in plan.rollouts
        ]
        others = replace(plan, rollouts=tuple(without))
        assert digest_of_plans([plan]) != digest_of_plans([others])


@given(plans)
def test_what_is_not_for_this_run_does_not_count(plan: Plan) -> None:
    """A step that has failed before is carried out by a later run."""
    looks = [
        replace(one, steps=tuple(step for step in one.steps if isinstance(step, Verify)))
        for one in plan.rollouts
    ]
    without = replace(plan, rollouts=tuple(looks))
    for when in (HeldUntil(NOW), TriedInThisRun(NOW)):
        held = [
            replace(one, steps=tuple(replace(step, when=when) for step in one.steps))
            for one in plan.rollouts
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
    """Return plans that each differ from one in a single step."""
    yield replace(plan, clean=Clean(WHY) if plan.clean is None else None)
    retirement = Retire("qiniu", "id-7", "certferry-img-07", WHY)
    yield replace(plan, retirements=(*plan.retirements, retirement))
    for copy in plan.retirements:
        left = [one for one in plan.retirements if one is not copy]
        yield replace(plan, retirements=tuple(left))
        yield replace(plan, retirements=(*left, replace(copy, remote_id="another")))
    match plan.issue_now:
        case Issue() as issue:
            yield replace(plan, issue=None)
            yield replace(plan, issue=replace(issue, names=("another.example.com",)))
            yield replace(plan, issue=replace(issue, reason=WHY))
    for rollout in plan.rollouts:
        begun = [one for one in rollout.steps if not isinstance(one, Verify)]
        if not begun:
            continue
        rest = tuple(one for one in plan.rollouts if one is not rollout)
        yield replace(plan, rollouts=rest)
        for step in begun:
            for other in (
                replace(step, domain="another.example.com"),
                replace(step, fingerprint="ee" * 32),
                replace(step, reason=WHY),
            ):
                changed = tuple(other if one is step else one for one in rollout.steps)
                yield replace(plan, rollouts=(*rest, replace(rollout, steps=changed)))
