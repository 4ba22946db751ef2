"""How many certificates go in one run."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.observed.observation import Observation
from certferry.core.planning.plan import Plan
from certferry.core.planning.removals import MOST_SUPERSEDED, MOST_UNMANAGED, in_one_run
from certferry.core.planning.report import Outcome, standings
from certferry.core.planning.steps import Action, Retire
from certferry.core.reasons import Reason, ReasonCode
from certferry.text import Text

WHY = Reason(ReasonCode.SUPERSEDED, Text("superseded"))

steps = st.lists(
    st.builds(
        Retire,
        target=st.sampled_from(["qiniu", "other"]),
        remote_id=st.uuids().map(str),
        label=st.just("certferry"),
        reason=st.just(WHY),
        unmanaged=st.booleans(),
        again=st.booleans(),
    ),
    max_size=300,
)


@given(steps)
def test_a_run_removes_few_and_forgets_none(asked: list[Retire]) -> None:
    """Twenty of the lineage's own, fifty of each account's others; the rest is counted."""
    chosen, left = in_one_run(asked)

    own = [step for step in chosen if not step.unmanaged]
    others = Counter(step.target for step in chosen if step.unmanaged)
    assert len(own) <= MOST_SUPERSEDED
    assert all(count <= MOST_UNMANAGED for count in others.values())
    assert Counter(step.target for step in asked) == Counter(s.target for s in chosen) + left
    assert set(chosen) <= set(asked)


@given(steps)
def test_what_was_refused_before_takes_no_turn_from_others(asked: list[Retire]) -> None:
    """An account full of certificates that are used is rid of the others all the same."""
    chosen, _ = in_one_run(asked)

    def own(some: list[Retire], *, again: bool) -> set[str]:
        return {s.remote_id for s in some if not s.unmanaged and s.again is again}

    if own(list(chosen), again=True):
        assert own(asked, again=False) == own(list(chosen), again=False)


@given(st.lists(st.just(WHY), max_size=MOST_SUPERSEDED))
def test_a_few_are_left_in_their_order(reasons: list[Reason]) -> None:
    """Nothing is held back that a run may remove."""
    asked = [Retire("qiniu", str(n), "certferry", why) for n, why in enumerate(reasons)]

    assert (tuple(asked), Counter()) == in_one_run(asked)


def test_a_run_tells_what_it_leaves() -> None:
    """By its count, at each target."""
    plan = Plan("img", ("img.example.com",), retire_later=(("qiniu", 3),))

    [told] = standings(plan, Observation())

    assert (Action.RETIRE, Outcome.UNCHANGED, "qiniu") == (told.action, told.outcome, told.target)
    assert "certificates that later runs remove: 3" == str(told.detail)
