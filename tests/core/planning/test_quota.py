"""An account that takes no more certificates: what is refused, and what is done all the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.desired.certificate import Retirement
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import OtherCertificate, Quota
from certferry.core.planning.due import Times
from certferry.core.planning.plan import Weight
from certferry.core.planning.planner import Issuing, make_plan
from certferry.core.planning.safety import without_refused
from certferry.core.reasons import ReasonCode
from tests.core.planning.test_planner import CURRENT, OLDEST, PREVIOUS, copy_of, wish, world
from tests.core.strategies import NOW, version

DAY = timedelta(days=1)
FULL = Quota(held=100, most=100, until=NOW + DAY)
ALL = wish(retire=Retirement.ALL_UNUSED)


def at(quota: Quota, *uploaded: str) -> Observation:
    """A world with one certificate that is not bound, and copies of these."""
    copies = tuple(
        copy_of(n, fingerprint) for n, fingerprint in enumerate(uploaded or ("ff" * 32,))
    )
    found = world(
        version(3, CURRENT), version(2, PREVIOUS), version(1, OLDEST), bound=None, remotes=copies
    )
    return replace(found, targets=(replace(found.targets[0], quota=quota),))


@given(st.integers(0, 200), st.integers(0, 200), st.timedeltas(-DAY, DAY))
def test_an_upload_is_refused_while_the_account_is_full(
    held: int, most: int, left: timedelta
) -> None:
    """Nothing is sent while it holds as many as it refused at, for a day."""
    observed = at(Quota(held, most, NOW + left))
    plan = make_plan(wish(), observed, Times.at(NOW), Issuing.NEVER)

    safe = without_refused(plan, wish(), observed, NOW)

    is_full = held >= most and left > timedelta(0)
    assert [ReasonCode.ACCOUNT_FULL] * is_full == [
        r.problem.code for r in safe.having(Weight.REFUSED)
    ]
    assert is_full == (safe.rollouts == ())


def test_the_hint_says_what_to_do() -> None:
    """How many of ours could go is told with the other ways out."""
    observed = at(FULL, "bb" * 32, "cc" * 32)
    plan = make_plan(wish(), observed, Times.at(NOW), Issuing.NEVER)

    [refusal] = without_refused(plan, wish(), observed, NOW).having(Weight.REFUSED)

    assert "qiniu holds 100 certificates, and refused one more" in str(refusal.problem.message)
    assert 'set retire = "all-unused"' in str(refusal.problem.hint)
    assert "superseded ones of img there: 1." in str(refusal.problem.hint)


def test_what_lies_there_already_is_bound() -> None:
    """That takes no upload."""
    observed = at(FULL, "aa" * 32)
    plan = make_plan(wish(), observed, Times.at(NOW), Issuing.NEVER)

    assert () == without_refused(plan, wish(), observed, NOW).having(Weight.REFUSED)


@pytest.mark.parametrize("issuing", [Issuing.ALWAYS, Issuing.NEVER])
def test_what_is_unused_goes_to_make_room(issuing: Issuing) -> None:
    """Else the account would stay full; of ours nothing goes, since its successor is not seen."""
    observed = at(FULL, "bb" * 32, "cc" * 32)
    other = OtherCertificate("f-1", "by hand", NOW + DAY)
    observed = replace(observed, targets=(replace(observed.targets[0], others=(other,)),))
    plan = make_plan(ALL, observed, Times.at(NOW), issuing)

    safe = without_refused(plan, ALL, observed, NOW)

    assert ["f-1"] == [step.remote_id for step in safe.retirements]
