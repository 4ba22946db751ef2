"""The law: applying a plan leaves nothing to plan; nothing that is bound or served is retired; and
an interruption between any two calls changes neither.
"""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.core.desired import HttpsWish
from certferry.core.observed import DomainState
from tests.reconcile.model import ModelWorld

DOMAINS = ("img.example.com", "a.img.example.com", "b.img.example.com", "*.img.example.com")

worlds = st.builds(
    ModelWorld,
    processing=st.sampled_from([timedelta(0), timedelta(minutes=10), timedelta(minutes=50)]),
    lags=st.lists(
        st.sampled_from([timedelta(0), timedelta(minutes=2), timedelta(minutes=8)]),
        min_size=1,
        max_size=3,
    ).map(tuple),
    lifetime=st.sampled_from([timedelta(days=90), timedelta(days=64), timedelta(days=45)]),
)
domains = st.lists(
    st.tuples(st.sampled_from(DOMAINS), st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda domain: domain[0],
)
kills = st.lists(st.integers(0, 120), max_size=4)
pauses = st.sampled_from(
    [timedelta(0), timedelta(minutes=1), timedelta(days=20), timedelta(days=70)]
)


@settings(max_examples=80)
@given(
    world=worlds,
    there=domains,
    phases=st.lists(st.tuples(pauses, kills, st.booleans()), min_size=1, max_size=3),
    failures=st.lists(st.sampled_from(DOMAINS), max_size=3),
)
def test_any_world_ends_as_declared(
    world: ModelWorld,
    there: list[tuple[str, bool]],
    phases: list[tuple[timedelta, list[int], bool]],
    failures: list[str],
) -> None:
    """Whatever was there, whenever it was killed, however often a change failed: the plan ends
    empty, with one copy of the current certificate, no challenge record, and no broken promise.
    """
    for name, foreign in there:
        world.cdn.add_domain(name, foreign=foreign)
    for name in failures:
        world.cdn.fail_next(name, "verify https crt fail")
    wish = world.wish(https=HttpsWish(http2=True))

    for pause, positions, renew in phases:
        world.pass_time(pause)
        issued = world.issuer.issued
        for position in positions:
            world.run(wish, kill_after=position, renew=renew)
        for _ in range(len(failures) + 1):
            world.run(wish)

        assert world.plan(wish).is_settled
        assert [] == world.cdn.broken
        assert [] == world.challenge_values()
        current = world.state.versions("img")[0].certificate
        assert 1 == world.cdn.copies(current.fingerprint)
        assert world.issuer.issued - issued <= 1 + len(positions) * renew
        writes = world.cdn.writes
        world.run(wish)
        assert writes == world.cdn.writes


@settings(max_examples=40)
@given(world=worlds, domain=st.sampled_from(DOMAINS), position=st.integers(0, 160))
def test_one_kill_costs_nothing(world: ModelWorld, domain: str, position: int) -> None:
    """Killed once, anywhere: the next run ends with one certificate and one upload."""
    world.cdn.add_domain(domain)
    wish = world.wish()

    world.run(wish, kill_after=position)
    report = world.run(wish)

    assert report is not None
    assert report.ok
    assert 1 == world.issuer.issued
    assert 1 == world.cdn.uploads
    assert [] == world.challenge_values()


def test_every_position_of_a_first_run_is_killed_once() -> None:
    """Not a sample: each gap between two calls, in turn."""
    calm = ModelWorld()
    calm.cdn.add_domain("img.example.com", foreign=True)
    calm.run(calm.wish())

    for position in range(1, calm.calls):
        world = ModelWorld()
        world.cdn.add_domain("img.example.com", foreign=True)
        assert world.run(world.wish(), kill_after=position) is None
        report = world.run(world.wish())

        assert report is not None
        assert report.ok, position
        assert (1, 1) == (world.issuer.issued, world.cdn.uploads), position
        assert [] == world.challenge_values(), position
        assert world.plan(world.wish()).is_settled, position


def test_every_position_of_a_renewal_is_killed_once() -> None:
    """A renewal ends with one new certificate, the previous one kept, older ones gone."""

    def aged() -> ModelWorld:
        world = ModelWorld()
        world.cdn.add_domain("img.example.com")
        for _ in range(2):
            world.run(world.wish())
            world.pass_time(timedelta(days=61))
        return world

    calm = aged()
    calm.run(calm.wish())
    assert 3 == calm.issuer.issued

    for position in range(1, calm.calls):
        world = aged()
        assert world.run(world.wish(), kill_after=position) is None
        world.run(world.wish())

        assert (3, 3) == (world.issuer.issued, world.cdn.uploads), position
        assert [] == world.challenge_values(), position
        assert world.plan(world.wish()).is_settled, position
        assert [] == world.cdn.broken, position
        assert 2 == len(world.cdn.remote_labels), position


def test_frozen_domain_stops_only_itself() -> None:
    """The others are served, the frozen one is told of, and nothing is retired meanwhile."""
    world = ModelWorld()
    world.cdn.add_domain("img.example.com")
    world.cdn.add_domain("a.img.example.com", state=DomainState.UNAVAILABLE)

    report = world.run(world.wish())

    assert report is not None
    assert not report.ok
    assert (("qiniu", "img.example.com"),) == world.plan(world.wish()).unchanged
