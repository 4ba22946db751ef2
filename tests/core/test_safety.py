"""What is refused before anything is sent, one situation each."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from certferry.core.due import Times
from certferry.core.observed import Observation
from certferry.core.planner import Issuing, make_plan
from certferry.core.reasons import ReasonCode
from certferry.core.safety import without_refused
from tests.core.strategies import NOW, certificate, version
from tests.core.test_planner import CURRENT, copy_of, wish, world

UNLIKE = replace(wish(), names=("other.example.com",))
SHORT = certificate("aa" * 32, not_before=NOW - timedelta(days=1), lifetime=timedelta(days=20))


@pytest.mark.parametrize(
    ("observed", "code"),
    [
        (world(version(3, CURRENT, key_matches=False), bound=None), ReasonCode.KEY_MISMATCH),
        (world(version(3, CURRENT, chain=False), bound=None), ReasonCode.CHAIN_INCOMPLETE),
        (
            world(version(3, SHORT), bound=None, remotes=(copy_of(1, "ff" * 32),)),
            ReasonCode.TOO_LITTLE_LIFE,
        ),
    ],
)
def test_unfit_certificate_is_refused(observed: Observation, code: ReasonCode) -> None:
    """A certificate that the target would refuse is not sent, and the hint says what to do."""
    plan = make_plan(wish(), observed, Times.at(NOW), Issuing.NEVER)

    safe = without_refused(plan, wish(), observed, NOW)

    assert () == safe.rollouts
    assert [code] == [refusal.reason.code for refusal in safe.refusals]
    assert not safe.is_settled


def test_expired_certificate_of_ours_is_not_made_anywhere_else() -> None:
    """After a failed issuance the hint leads to what went wrong, not to another client."""
    late = certificate("aa" * 32, not_before=NOW - timedelta(days=95), lifetime=timedelta(days=90))
    observed = world(version(3, late), bound=None)
    plan = make_plan(wish(), observed, Times.at(NOW), Issuing.NEVER)

    [refusal] = without_refused(plan, wish(), observed, NOW).refusals

    assert ReasonCode.EXPIRED is refusal.reason.code
    assert f"`certferry history {wish().lineage}`" in str(refusal.hint)
    assert "where it is made" not in str(refusal.hint)


def test_uncovered_domain_is_refused_before_anything_is_issued() -> None:
    """A name that the certificate would not cover is known before the CA is asked."""
    observed = world(bound=None)
    plan = make_plan(UNLIKE, observed, Times.at(NOW))

    safe = without_refused(plan, UNLIKE, observed, NOW)

    assert plan.issue is not None
    assert [ReasonCode.NAME_NOT_COVERED] == [r.reason.code for r in safe.refusals]


def test_short_certificate_that_lies_there_already_is_bound() -> None:
    """The floor is known for uploads; what is uploaded is only bound."""
    observed = world(version(3, SHORT), bound=None)
    plan = make_plan(wish(), observed, Times.at(NOW), Issuing.NEVER)

    assert () == without_refused(plan, wish(), observed, NOW).refusals


def test_missed_upload_moment_asks_for_a_new_certificate() -> None:
    """A certificate that can no longer be uploaded is replaced, not tried for ever."""
    late = certificate("aa" * 32, not_before=NOW - timedelta(days=35), lifetime=timedelta(days=64))
    observed = world(version(3, late), bound=None, remotes=(copy_of(1, "ff" * 32),))

    plan = make_plan(wish(), observed, Times.at(NOW))

    assert plan.issue is not None
    assert ReasonCode.UPLOAD_DEADLINE_PASSED == plan.issue.reason.code


def test_lifetimes_below_the_floor_are_not_ordered_again() -> None:
    """A CA whose certificates are too short from the start is not asked for more of them."""
    observed = world(version(3, SHORT), bound=None, remotes=(copy_of(1, "ff" * 32),))

    plan = make_plan(wish(), observed, Times.at(NOW))

    assert plan.issue is None
