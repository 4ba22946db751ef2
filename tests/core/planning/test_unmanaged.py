"""Which certificates of an account no tool looks after, and how their removal is planned."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.lineage import Version, label_of
from certferry.core.desired.certificate import Retirement
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import OtherCertificate
from certferry.core.planning.due import Times
from certferry.core.planning.planner import make_plan
from certferry.core.planning.removals import unclaimed
from certferry.core.reasons import ReasonCode
from tests.core.planning.test_planner import CURRENT, PREVIOUS, Situation, wish, world
from tests.core.strategies import NOW, certificate, fingerprints, situations, version

EXPIRED = certificate("dd" * 32, not_before=NOW - timedelta(days=100))
FOREIGN = OtherCertificate("f-1", "by hand", NOW + timedelta(days=9))
ALL = wish(retire=Retirement.ALL_UNUSED)

labels = st.one_of(
    st.sampled_from(["", "by hand", "certferry", "certferry-img"]),
    st.builds(label_of, st.sampled_from(["img", "IMG", "static", "图片"]), fingerprints),
)


def with_others(*others: OtherCertificate, unsettled: bool = False) -> Observation:
    """A world in order, with certificates that are not ours."""
    observed = world(version(3, CURRENT), version(2, PREVIOUS))
    since = NOW if unsettled else None
    return replace(
        observed, targets=(replace(observed.targets[0], others=others, unsettled_since=since),)
    )


# --- which no tool looks after --------------------------------------------------------------


@given(st.lists(labels), st.sets(st.sampled_from(["img", "static", "图片"])))
def test_what_carries_the_mark_of_a_declared_lineage_stays(
    there: list[str], declared: set[str]
) -> None:
    """It may be about to be bound; what carries no mark is of no lineage."""
    others = [OtherCertificate(str(number), label) for number, label in enumerate(there)]

    left = {other.label for other in unclaimed(others, declared, {}, NOW)}

    marks = {label_of(lineage, fp * 32) for lineage in declared for fp in ("aa", "bb", "cc")}
    assert set() == left & marks
    assert {label for label in there if not label.startswith("certferry-")} <= left


def test_a_lineage_that_is_not_declared_here_keeps_what_it_needs() -> None:
    """What is in force and what a rollback goes back to stay until they expire; older ones go."""
    versions = tuple(
        version(number, certificate(fp * 32)) for number, fp in ((4, "aa"), (3, "bb"), (2, "cc"))
    )
    others = [OtherCertificate(fp, label_of("old", fp * 32)) for fp in ("aa", "bb", "cc", "dd")]

    def left(*known: Version) -> list[str]:
        return [o.remote_id for o in unclaimed(others, set(), {"old": known}, NOW)]

    assert ["cc", "dd"] == left(*versions)
    assert ["aa", "bb", "cc", "dd"] == left()
    assert ["aa", "bb", "cc", "dd"] == left(version(1, EXPIRED))


# --- what is planned ------------------------------------------------------------------------


@given(situations(), st.lists(st.builds(OtherCertificate, st.uuids().map(str), labels)))
def test_without_the_setting_nothing_of_unmanaged_goes(
    situation: Situation, others: list[OtherCertificate]
) -> None:
    """Whatever is there, `superseded` and `never` plan nothing for it."""
    desired, observed = situation
    targets = tuple(replace(target, others=tuple(others)) for target in observed.targets)

    plan = make_plan(desired, replace(observed, targets=targets), Times.at(NOW))

    assert not any(step.unmanaged for step in plan.retirements)


def test_everything_is_listed_with_its_name_and_its_days() -> None:
    """What ends first stands first; one whose end is not told is listed as well."""
    untold, later = OtherCertificate("f-0", ""), replace(FOREIGN, remote_id="f-2", label="later")
    later = replace(later, not_after=NOW + timedelta(days=40))

    plan = make_plan(ALL, with_others(later, FOREIGN, untold), Times.at(NOW))

    assert [("f-0", "", None), ("f-1", "by hand", 9), ("f-2", "later", 40)] == [
        (step.remote_id, step.label, step.left and step.left.days) for step in plan.retirements
    ]
    assert {ReasonCode.UNUSED} == {step.reason.code for step in plan.retirements}
    assert all(step.unmanaged for step in plan.retirements)


def test_our_own_previous_certificate_is_kept_all_the_same() -> None:
    """Removing everything unused does not take away what a rollback needs."""
    plan = make_plan(ALL, with_others(), Times.at(NOW))

    assert () == plan.retirements


@pytest.mark.parametrize("hours", [0, 2])
def test_one_that_is_said_to_be_used_is_left_alone_for_its_time(hours: int) -> None:
    """Remembered like our own, and tried again afterwards."""
    used = replace(FOREIGN, in_use_until=NOW + timedelta(hours=1))

    plan = make_plan(ALL, with_others(used), Times.at(NOW + timedelta(hours=hours)))

    assert bool(hours) == bool(plan.retirements)


def test_two_deployments_of_one_account_list_it_once() -> None:
    """One of them asks for it: that is enough, and once."""
    observed = with_others(FOREIGN)
    twice = replace(ALL, deployments=(*ALL.deployments, *ALL.deployments, *wish().deployments))

    plan = make_plan(twice, replace(observed, targets=observed.targets * 3), Times.at(NOW))

    assert ["f-1"] == [step.remote_id for step in plan.retirements]


def test_what_waits_for_another_certificate_is_planned() -> None:
    """The plan tells what would go, also while it has to wait."""
    plan = make_plan(ALL, with_others(FOREIGN, unsettled=True), Times.at(NOW))

    assert ["f-1"] == [step.remote_id for step in plan.retirements]
