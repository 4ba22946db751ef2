"""The plan of one lineage, after safety has looked at it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.observed.observation import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
)
from certferry.core.planning.due import Times
from certferry.core.planning.plan import Weight
from certferry.core.planning.planner import Issuing
from certferry.core.reasons import ReasonCode
from certferry.errors import TargetAccessDenied
from certferry.reconcile.reconciler import plan_lineage
from tests.core.strategies import LINEAGE, NOW, situations

DENIED = ObservedTarget("qiniu", failure=TargetAccessDenied("bad token"))
WISH = DesiredCertificate(
    lineage=LINEAGE,
    names=("img.example.com",),
    dns="dnspod",
    deployments=(DesiredDeployment("qiniu"),),
)


@given(situations(), st.sampled_from(Issuing))
def test_nothing_is_issued_that_no_place_could_take(
    situation: tuple[DesiredCertificate, Observation], issuing: Issuing
) -> None:
    """Where something is to be served, a certificate is issued only if one domain can take it."""
    desired, observed = situation

    plan = plan_lineage(desired, observed, Times.at(NOW), issuing)

    assert plan.issue is None or plan.rollouts or not desired.deployments


def test_denied_access_leaves_an_empty_plan() -> None:
    """With wrong keys nothing is to be done, and what stands in the way is told."""
    plan = plan_lineage(WISH, Observation((), (DENIED,)), Times.at(NOW), Issuing.ALWAYS)

    assert plan.is_empty
    assert [DENIED.failure] == [obstacle.error for obstacle in plan.having(Weight.BLOCKED)]


def test_certificate_without_a_deployment_is_issued() -> None:
    """What is only kept, to be exported, needs no target."""
    plan = plan_lineage(
        replace(WISH, deployments=()),
        Observation(),
        Times.at(NOW),
        Issuing.IF_DUE,
    )

    assert plan.issue is not None
    assert ReasonCode.MISSING is plan.issue.reason.code


def test_one_place_that_can_take_it_is_enough() -> None:
    """A target that denies access does not keep the others waiting."""
    desired = replace(WISH, deployments=(DesiredDeployment("cdn"), *WISH.deployments))
    ready = replace(_without_https(), label="cdn")

    plan = plan_lineage(desired, Observation((), (ready, DENIED)), Times.at(NOW), Issuing.IF_DUE)

    assert plan.issue is not None
    assert ["cdn"] == [rollout.target for rollout in plan.rollouts]


def _without_https() -> ObservedTarget:
    return ObservedTarget(domains=(ObservedDomain("img.example.com", Kind.CDN, DomainState.READY),))
