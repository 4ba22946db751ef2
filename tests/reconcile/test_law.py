"""The law: an applied plan leaves an empty plan, no bound or served certificate is retired, and an
interruption between any two calls changes neither.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certferry.core.certificates.lineage import label_of, owner_of
from certferry.core.desired.certificate import DesiredHttps, DriftPolicy, Kind, Retirement
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.core.planning.drift import setting_changes
from certferry.core.planning.plan import Weight
from certferry.core.planning.planner import Claims
from certferry.reconcile.removals import IN_USE_PAUSE
from certferry.values import replace
from tests.reconcile.model import ModelWorld
from tests.support.tiers import examples, sampled

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
ELSEWHERE = "www.example.org"
"""A domain outside every declared certificate, bound to another tool's upload."""

labels = st.lists(
    st.sampled_from(
        ["", "by hand", "www.example.org", label_of("img", "0" * 64), label_of("old", "f" * 64)]
    ),
    max_size=3,
)
kills = st.lists(st.integers(0, 120), max_size=4)
pauses = st.sampled_from(
    [timedelta(0), timedelta(minutes=1), timedelta(days=20), timedelta(days=70)]
)


@settings(max_examples=examples(80))
@given(
    world=worlds,
    there=domains,
    phases=st.lists(st.tuples(pauses, kills, st.booleans()), min_size=1, max_size=3),
    failures=st.lists(st.sampled_from(DOMAINS), max_size=3),
    retire=st.sampled_from(Retirement),
    strangers=labels,
)
def test_any_world_ends_as_declared(
    world: ModelWorld,
    there: list[tuple[str, bool]],
    phases: list[tuple[timedelta, list[int], bool]],
    failures: list[str],
    retire: Retirement,
    strangers: list[str],
) -> None:
    """For any world, any kills and any failed changes, the plan ends empty: one copy of the current
    certificate, no challenge record, no broken promise.
    """
    for name, foreign in there:
        world.cdn.add_domain(name, foreign=foreign)
    for name in failures:
        world.cdn.fail_next(name, "verify https crt fail")
    world.cdn.add_domain(ELSEWHERE, foreign=True)
    for label in strangers:
        world.cdn.put_foreign(ELSEWHERE, label)
    theirs = world.cdn.remote_ids
    desired = world.desired(https=DesiredHttps(http2=True), retire=retire)

    for pause, positions, renew in phases:
        world.pass_time(pause)
        issued = world.issuer.issued
        for position in positions:
            world.run(desired, kill_after=position, renew=renew)
        for _ in range(len(failures) + 1):
            world.run(desired)

        assert world.plan(desired).is_settled
        assert [] == world.cdn.broken
        assert [] == world.challenge_values()
        current = world.state.versions("img")[0].certificate
        assert 1 == world.cdn.copies(current.fingerprint)
        assert world.issuer.issued - issued <= 1 + len(positions) * renew
        left = world.cdn.remote_ids & theirs
        assert left == (theirs & world.cdn.used if retire is Retirement.ALL_UNUSED else theirs)
        writes = world.cdn.writes
        world.run(desired)
        assert writes == world.cdn.writes


def test_renewal_on_demand_is_finished_by_the_next_run() -> None:
    """After a kill at any call behind the order, the next run finishes without a second `--renew`
    and without a second certificate.
    """
    finished = 0
    for position in sampled(range(120), 12):
        world = ModelWorld()
        world.cdn.add_domain("img.example.com")
        desired = world.desired()
        world.run(desired)
        if world.run(desired, kill_after=position, renew=True) is not None:
            break
        ordered = world.state.order("img") is not None
        finished += ordered

        world.run(desired)

        assert world.plan(desired).is_settled
        assert world.state.order("img") is None
        assert world.issuer.issued == len(world.state.versions("img")) <= 2
        assert 2 == world.issuer.issued or not ordered
        assert [] == world.challenge_values()
    assert finished


@settings(max_examples=examples(60))
@given(
    world=worlds,
    foreign=st.tuples(st.booleans(), st.booleans()),
    retire=st.tuples(st.sampled_from(Retirement), st.sampled_from(Retirement)),
    strangers=labels,
    phases=st.lists(st.tuples(pauses, kills, st.booleans()), min_size=1, max_size=3),
)
def test_lineages_of_one_account_spare_one_another(
    world: ModelWorld,
    foreign: tuple[bool, bool],
    retire: tuple[Retirement, Retirement],
    strangers: list[str],
    phases: list[tuple[timedelta, list[int], bool]],
) -> None:
    """Side by side, with and without kills, no lineage removes a copy that another uploaded, waits
    to bind, keeps for a rollback or still serves. Both end as declared, and unused copies are gone
    after a day.
    """
    lineages = ("img", "static")
    domains = [f"{lineage}.example.com" for lineage in lineages]
    all_desired = [
        world.desired(domain, names=(domain,), retire=kind, lineage=lineage)
        for lineage, domain, kind in zip(lineages, domains, retire, strict=True)
    ]
    world.claims = Claims(all_desired)
    for name, bound in zip(domains, foreign, strict=True):
        world.cdn.add_domain(name, foreign=bound)
    theirs = world.cdn.remote_ids
    for label in strangers:
        remote_id = world.cdn.put_foreign(ELSEWHERE, label)
        # # A copy with a lineage's mark is removed by this lineage alone.
        if owner_of(label) != "img" or retire[0] is Retirement.ALL_UNUSED:
            theirs.add(remote_id)

    for pause, positions, renew in phases:
        world.pass_time(pause)
        for position in positions:
            world.run_together(all_desired, kill_after=position, renew=renew)
        reports = world.run_together(all_desired)

        assert reports is not None
        assert all(report.ok for report in reports)
        for desired in all_desired:
            assert world.plan(desired).is_settled
            versions = world.state.versions(desired.lineage)
            kept = [v.certificate for v in versions[:2] if v.certificate.not_after > world.clock]
            uploaded = [c for c in kept if c.fingerprint in world.cdn.ever_uploaded]
            assert all(world.cdn.copies(c.fingerprint) == 1 for c in uploaded)
        assert [] == world.cdn.broken
        if Retirement.ALL_UNUSED in retire:
            # # A copy that the other lineage still had bound is tried again a day later.
            world.pass_time(IN_USE_PAUSE)
            assert world.run_together(all_desired) is not None
            assert set() == world.cdn.remote_ids & theirs


@settings(max_examples=examples(40))
@given(
    world=worlds,
    all_desired=st.lists(
        st.builds(
            DesiredHttps,
            force_https=st.sampled_from([None, True, False]),
            http2=st.sampled_from([None, True, False]),
            tls_versions=st.sampled_from([None, ("TLSv1.2",), ("TLSv1.3", "TLSv1.2")]),
        ),
        min_size=1,
        max_size=3,
    ),
    untold=st.frozensets(st.sampled_from(["force_https", "http2", "tls_versions"])),
)
def test_any_settings_end_as_settinged(
    world: ModelWorld, all_desired: list[DesiredHttps], untold: frozenset[str]
) -> None:
    """A target may report a setting always, only after it is set, or never: the plan ends empty,
    the declared settings are in force, and no setting is sent twice.
    """
    world.cdn.untold = untold
    world.cdn.add_domain("img.example.com")

    for https in all_desired:
        desired = world.desired(https=https)
        report = world.run(desired)

        assert report is not None
        assert report.ok
        assert world.plan(desired).is_settled
        in_force = world.cdn.settings("img.example.com")
        found = ObservedDomain(
            "img.example.com", Kind.CDN, DomainState.READY, "bound", https=in_force
        )
        assert () == setting_changes(https, found)
        writes = world.cdn.writes
        world.run(desired)
        assert writes == world.cdn.writes


def test_every_position_of_a_first_run_is_killed_once() -> None:
    """The thorough tier kills at each gap between two calls."""
    calm = ModelWorld()
    calm.cdn.add_domain("img.example.com", foreign=True)
    calm.run(calm.desired())

    for position in sampled(range(1, calm.calls)):
        world = ModelWorld()
        world.cdn.add_domain("img.example.com", foreign=True)
        assert world.run(world.desired(), kill_after=position) is None
        report = world.run(world.desired())

        assert report is not None
        assert report.ok, position
        assert (1, 1) == (world.issuer.issued, world.cdn.uploads), position
        assert [] == world.challenge_values(), position
        assert world.plan(world.desired()).is_settled, position


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("minutes", [0, 10])
def test_the_same_writes_follow_killed_or_not(minutes: int, *, fails: bool) -> None:
    """Decisions rest on the world and the state, never on a process's memory: after a kill, the
    later writes are the writes of an uninterrupted run.
    """

    def begun() -> ModelWorld:
        world = ModelWorld(processing=timedelta(minutes=minutes))
        for name in DOMAINS[:2]:
            world.cdn.add_domain(name, foreign=True)
        if fails:
            world.cdn.fail_next(DOMAINS[0], "verify https crt fail")
        return world

    calm = begun()
    first = calm.run(calm.desired())
    length = calm.calls
    calm.run(calm.desired())
    assert first is not None
    assert fails is not first.ok

    for position in sampled(range(1, length)):
        world = begun()
        assert world.run(world.desired(), kill_after=position) is None
        for _ in range(2):
            world.run(world.desired())

        assert calm.cdn.writes == world.cdn.writes, position
        assert calm.cdn.uploads == world.cdn.uploads, position
        assert calm.issuer.issued == world.issuer.issued, position
        assert world.plan(world.desired()).is_settled, position


@settings(max_examples=examples(60))
@example(50, [("*.img.example.com", True)], "*.img.example.com", DesiredHttps(), [78, 300])
@given(
    minutes=st.sampled_from([0, 3, 10, 50]),
    there=domains,
    failing=st.none() | st.sampled_from(DOMAINS),
    https=st.builds(DesiredHttps, force_https=st.none() | st.booleans()),
    moments=st.lists(st.integers(0, 10_000), min_size=1, max_size=3),
)
def test_the_same_writes_follow_in_any_world(
    minutes: int,
    there: list[tuple[str, bool]],
    failing: str | None,
    https: DesiredHttps,
    moments: list[int],
) -> None:
    """The same for any domains, with a failing one, killed once or several times.

    A run killed during the second request after a failure leaves the time of the first change: the
    next run waits no longer than for the first change, and a run an hour later finds the domain
    served.
    """

    def begun() -> ModelWorld:
        world = ModelWorld(processing=timedelta(minutes=minutes))
        for name, foreign in there:
            world.cdn.add_domain(name, foreign=foreign)
        if failing is not None:
            world.cdn.fail_next(failing, "verify https crt fail")
        return world

    calm = begun()
    desired = calm.desired(https=https)
    calm.run(desired)
    length = calm.calls
    calm.run(desired)

    world = begun()
    for moment in moments:
        world.run(desired, kill_after=1 + moment % max(length - 1, 1))
    world.run(desired)
    world.pass_time(timedelta(hours=1))
    world.run(desired)

    assert calm.cdn.writes == world.cdn.writes
    assert calm.cdn.uploads == world.cdn.uploads
    assert calm.issuer.issued == world.issuer.issued
    assert world.plan(desired).is_settled


def test_every_position_of_a_renewal_is_killed_once() -> None:
    """A renewal ends with one new certificate; the previous one is kept, older ones are gone."""

    def aged() -> ModelWorld:
        world = ModelWorld()
        world.cdn.add_domain("img.example.com")
        for _ in range(2):
            world.run(world.desired())
            world.pass_time(timedelta(days=61))
        return world

    calm = aged()
    calm.run(calm.desired())
    assert 3 == calm.issuer.issued

    for position in sampled(range(1, calm.calls)):
        world = aged()
        assert world.run(world.desired(), kill_after=position) is None
        world.run(world.desired())

        assert (3, 3) == (world.issuer.issued, world.cdn.uploads), position
        assert [] == world.challenge_values(), position
        assert world.plan(world.desired()).is_settled, position
        assert [] == world.cdn.broken, position
        assert 2 == len(world.cdn.remote_labels), position


def test_frozen_domain_stops_only_itself() -> None:
    """The other domains are served, the frozen one is reported, and nothing is retired
    meanwhile.
    """
    world = ModelWorld()
    world.cdn.add_domain("img.example.com")
    world.cdn.add_domain("a.img.example.com", state=DomainState.UNAVAILABLE)

    report = world.run(world.desired())

    assert report is not None
    assert not report.ok
    assert (("qiniu", "img.example.com"),) == world.plan(world.desired()).unchanged


outages = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 3), st.booleans()), min_size=1, max_size=4
)
"""Days without the target, good days afterwards, and whether the target refused uploads alone."""


@settings(max_examples=examples(60))
@given(
    lifetime=st.sampled_from([timedelta(days=90), timedelta(days=64), timedelta(days=45)]),
    spells=outages,
    kills=kills,
)
def test_upload_deadline_is_never_missed_while_the_ca_issues(
    lifetime: timedelta, spells: list[tuple[int, int, bool]], kills: list[int]
) -> None:
    """A target may be away, or refuse uploads, until an issued certificate is too old. On the
    target's first good day the domain gets an accepted certificate, and none is refused for its
    remaining life.
    """
    world = ModelWorld(lifetime=lifetime)
    world.cdn.add_domain("img.example.com")
    desired = world.desired()
    for away, back, only_uploads in spells:
        world.cdn.denies, world.cdn.denies_uploads = not only_uploads, only_uploads
        for _ in range(away):
            world.run(desired)
            world.pass_time(timedelta(days=1))
        world.cdn.denies = world.cdn.denies_uploads = False
        for position in kills:
            world.run(desired, kill_after=position)
        for _ in range(back + 1):
            world.run(desired)
            plan = world.plan(desired)
            assert plan.is_settled
            assert () == plan.having(Weight.REFUSED)
            world.pass_time(timedelta(days=1))
    assert [] == world.cdn.broken


@settings(max_examples=examples(40))
@given(
    world=worlds,
    there=domains,
    labelled=labels,
    drift=st.sampled_from(DriftPolicy),
    hours=st.lists(st.integers(1, 24 * 70), min_size=1, max_size=4),
)
def test_what_is_not_proven_ours_is_never_removed(
    world: ModelWorld,
    there: list[tuple[str, bool]],
    labelled: list[str],
    drift: DriftPolicy,
    hours: list[int],
) -> None:
    """Renewals and drift remove none of the foreign certificates, also none with a mark like
    certferry's, and no bound copy.
    """
    for name, foreign in there:
        world.cdn.add_domain(name, foreign=foreign)
    for label in labelled:
        world.cdn.put_foreign("img.example.com", label)
    theirs = world.cdn.remote_ids
    desired = world.desired()
    (deployment,) = desired.deployments
    desired = replace(desired, deployments=(replace(deployment, drift=drift),))
    for pause in hours:
        world.run(desired)
        world.cdn.set_by_others(there[0][0], min(theirs, default=None))
        world.run(desired)
        world.pass_time(timedelta(hours=pause))
        assert theirs <= world.cdn.remote_ids
        assert world.cdn.used <= world.cdn.remote_ids
    assert [] == world.cdn.broken
