"""Records joined with an observation of a page."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.health import Expected, Recorded, concerns_of
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.settled import Seen, as_seen, seen_by_plans, seen_by_statuses
from certferry.core.assessment.sightings import Place, Sighting
from certferry.core.assessment.status import DomainStatus, LineageStatus, Standing
from certferry.core.desired.certificate import Kind
from certferry.core.planning.plan import Plan, Rollout, Verify
from certferry.core.planning.planner import NOT_SEEN
from certferry.core.reasons import Waiting
from certferry.errors import Problem
from certferry.text import Text
from tests.core.strategies import NOW

DAY = timedelta(days=1)
PLACES = [(name, "qiniu", domain) for name in ("a", "b") for domain in ("x", "y", "")]
places = st.sampled_from(PLACES)
codes = st.sampled_from(["target_rejected", "target_access_denied", "retire_failed"])


def notice(place: Place, code: str) -> Notice:
    return Notice(Topic.TROUBLE, Subject(*place), NOW - DAY, Problem(code, Text("no")))


def lagging(place: Place) -> Sighting:
    return Sighting(*place, served=False, since=NOW - DAY, lagging=("127.0.0.3",), answered=2)


@given(
    st.lists(st.tuples(places, codes), unique_by=lambda pair: pair[0]),
    st.sets(places),
)
def test_trouble_ends_only_at_settled_places(
    left: list[tuple[Place, str]], settled: set[Place]
) -> None:
    """At other places the records stay. Trouble of a whole target ends only if the account refused
    everything. Nothing else gains or loses a concern.
    """
    records = Recorded(
        sightings=[lagging(place) for place in PLACES if place[2]],
        notices=[notice(*pair) for pair in left],
    )

    shown = as_seen(records, {place: Seen(NOW, is_in_order=True) for place in settled})

    for before, after in zip(records.sightings, shown.sightings, strict=True):
        assert (before.place in settled) is after.served
        assert (before == after) is (before.place not in settled)
    gone = [pair for pair in left if notice(*pair) not in shown.notices]
    assert gone == [
        (place, code)
        for place, code in left
        if place in settled and (place[2] or code == "target_access_denied")
    ]
    expected = [Expected("a"), Expected("b")]
    assert set(concerns_of(expected, shown, NOW)) <= set(concerns_of(expected, records, NOW))


def test_places_of_a_status() -> None:
    """A place is in order if verified, and a target if all its domains are."""
    domains = [
        DomainStatus("qiniu", Kind.AUTO, "x", Standing.VERIFIED, fingerprint="f1"),
        DomainStatus("qiniu", Kind.AUTO, "y", Standing.PROPAGATING, fingerprint="f1"),
        DomainStatus("other", Kind.AUTO, "z", Standing.VERIFIED, fingerprint="f1"),
    ]
    status = LineageStatus("a", ("x",), None, None, None, tuple(domains))

    seen = dict(seen_by_statuses([status], NOW))

    assert Seen(NOW, is_in_order=True, fingerprint="f1") == seen["a", "qiniu", "x"]
    assert {place: result.is_in_order for place, result in seen.items()} == {
        ("a", "qiniu", "x"): True,
        ("a", "qiniu", "y"): False,
        ("a", "qiniu", ""): False,
        ("a", "other", "z"): True,
        ("a", "other", ""): True,
    }


def test_places_of_a_plan() -> None:
    """A place is in order if the run has nothing to do there, or only stores that the certificate
    is served. A place whose target cannot be read, or with a wait, is not.
    """
    wait = Waiting(Text("1 of 2 addresses"), NOW, NOW + DAY)
    waits = Verify("qiniu", "late", NOT_SEEN, when=wait)
    plan = Plan(
        "a",
        ("x",),
        rollouts=(
            Rollout("qiniu", "declared", ()),
            Rollout("qiniu", "seen", (Verify("qiniu", "seen", NOT_SEEN, fingerprint="f1"),)),
            Rollout("qiniu", "late", (waits,)),
            Rollout("qiniu", "unread", (), unread=True),
        ),
    )

    seen = dict(seen_by_plans([plan], NOW))

    assert {domain: result.is_in_order for (_, _, domain), result in seen.items()} == {
        "declared": True,
        "seen": True,
        "late": False,
        "unread": False,
    }
    assert "f1" == seen["a", "qiniu", "seen"].fingerprint
