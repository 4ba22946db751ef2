"""What the agenda says of all certificates, and that it says what `check` and `status` say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.agenda import (
    DAYS,
    Agenda,
    Coming,
    Life,
    Milestone,
    agenda_of,
)
from certferry.core.assessment.health import (
    Expected,
    Recorded,
    checkup,
)
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.sightings import (
    Sighting,
    after_run,
    sighted,
)
from certferry.core.assessment.status import Standing, status_of
from certferry.core.certificates.certificate import RenewalWindow
from certferry.core.certificates.lineage import Revocation, RevocationReason, Version
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import LastRun
from certferry.errors import Problem, Severity
from certferry.present.check_text import PluginStatus, plugin_status_of
from certferry.text import Text
from certferry.values import replace
from tests.core.strategies import NOW, certificate, situations, version

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NAMES = ("img", "shop", "www")
OLD, NEW = "aa" * 32, "bb" * 32
RAN = LastRun(NOW - HOUR, NOW - HOUR)

ages = st.integers(-1, 100).map(lambda days: NOW - days * DAY)


def made(fingerprint: str, begin: datetime, number: int = 1) -> Version:
    """One of 90 days."""
    return version(number, certificate(fingerprint, not_before=begin))


@st.composite
def lineages_of(draw: st.DrawFn, name: str) -> tuple[Expected, tuple[Version, ...], list[Sighting]]:
    """A lineage, with up to two certificates, and what its places were seen to have."""
    least = draw(st.sampled_from([timedelta(0), 30 * DAY]))
    expected = Expected(name, draw(st.booleans()), least)
    found = [made(NEW, draw(ages), 2), made(OLD, draw(ages), 1)][: draw(st.integers(0, 2))]
    is_revoked = draw(st.booleans())
    if found and is_revoked:
        revocation = Revocation(NOW - HOUR, RevocationReason.SUPERSEDED)
        found[0] = replace(found[0], revocation=revocation)
    places = [
        Sighting(
            name,
            draw(st.sampled_from(["qiniu", "files"])),
            f"{place}.{name}.example.com",
            draw(st.booleans()),
            NOW - DAY,
            draw(st.sampled_from([None, OLD, NEW])),
        )
        for place in range(draw(st.integers(0, 3)))
    ]
    if not places and draw(st.booleans()):
        places = [Sighting(name, "qiniu", "", served=True, since=NOW)]
    return expected, tuple(found), places


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Expected], Recorded]:
    """Some lineages, and trouble of any kind."""
    found = [draw(lineages_of(name)) for name in NAMES[: draw(st.integers(0, 3))]]
    subjects = st.sampled_from(
        [Subject(), Subject("img"), Subject("img", "qiniu"), Subject(channel="ops")]
    )
    topics = st.sampled_from([Topic.TROUBLE, Topic.FOUND])
    notices = draw(st.lists(st.tuples(topics, subjects), max_size=3, unique=True))
    return [one for one, _, _ in found], Recorded(
        {one.lineage: versions for one, versions, _ in found if versions},
        [place for _, _, places in found for place in places],
        [Notice(*one, NOW - DAY, Problem("target_rejected", Text("said no"))) for one in notices],
        draw(st.sampled_from([None, RAN, LastRun(NOW - 9 * DAY)])),
    )


def agenda(fleet: tuple[Sequence[Expected], Recorded], now: datetime = NOW) -> Agenda:
    return agenda_of(*fleet, now)


@given(fleet=fleets())
def test_it_judges_as_check_does(fleet: tuple[list[Expected], Recorded]) -> None:
    """What needs a person is what `check` lists, in its order; the verdict is as bad as its worst,
    and all is in order exactly where `check` says OK.
    """
    found, judged = agenda(fleet), checkup(*fleet, NOW)

    assert judged == found.checkup
    assert list(judged.concerns) == [one.concern for one in found.needs]
    worst = max((one.problem.severity.rank for one in judged.concerns), default=0)
    assert worst == found.verdict.severity.rank
    is_ok = plugin_status_of(judged.concerns) is PluginStatus.OK
    assert is_ok is (found.verdict.troubled + found.verdict.others == 0)


@given(fleet=fleets())
def test_nothing_is_lost_and_what_ends_first_is_on_top(
    fleet: tuple[list[Expected], Recorded],
) -> None:
    """Each certificate has one life, each life has its concerns, and what has no certificate comes
    before what ends.
    """
    found = agenda(fleet)
    ends = [one.until for one in found.lives]

    assert sorted(one.lineage for one in fleet[0]) == sorted(one.lineage for one in found.lives)
    assert sorted(ends, key=lambda end: (end is not None, end)) == ends
    for life in found.lives:
        assert life is found.life(life.lineage)
        assert life.concerns == tuple(
            one for one in found.checkup.concerns if one.subject.lineage == life.lineage
        )
        assert {life.lineage} >= {one.lineage for one in life.places}
    of_lives = sum(len(one.concerns) for one in found.lives)
    assert len(found.needs) == of_lives + found.verdict.others


@given(fleet=fleets())
def test_the_count_of_the_verdict(fleet: tuple[list[Expected], Recorded]) -> None:
    """Each certificate is in trouble, pending or in order, as its life says."""
    found = agenda(fleet)
    verdict, lives = found.verdict, found.lives

    assert len(lives) == verdict.certificates
    assert sum(life.concerns != () for life in lives) == verdict.troubled
    assert all(not life.concerns for life in lives if life.is_pending)
    assert sum(life.is_pending for life in lives) == verdict.pending
    assert 0 <= verdict.in_order


@given(fleet=fleets(), hours=st.integers(0, 23))
def test_every_milestone_of_the_next_days_has_its_day(
    fleet: tuple[list[Expected], Recorded], hours: int
) -> None:
    """Fourteen days beginning with today, and in each what happens in it, in its order."""
    now = NOW.replace(hour=hours)
    found = agenda(fleet, now)
    shown = [one for day in found.days for one in day.coming]
    coming = [one for life in found.lives for one in life.coming(now)]

    assert [now.date() + number * DAY for number in range(DAYS)] == [day.date for day in found.days]
    end = now.date() + DAYS * DAY
    assert sorted(shown, key=repr) == sorted(
        (one for one in coming if one.at.date() < end), key=repr
    )
    assert sorted(shown, key=lambda one: one.at) == shown
    assert end == found.after.date
    assert sorted((one for one in coming if one.at.date() == end), key=repr) == (
        sorted(found.after.coming, key=repr)
    )
    assert all(one.at >= now for one in shown)
    assert all(one.at.date() == day.date for day in found.days for one in day.coming)


@given(situation=situations())
def test_a_renewal_is_when_status_says(
    situation: tuple[DesiredCertificate, Observation],
) -> None:
    """By what a run stored of an observation, the agenda has the moment that `status` has by the
    observation itself, and the same certificate.
    """
    desired, observed = situation
    status = status_of(desired, observed, NOW)
    life = stored_life(desired, observed)

    assert status.version == life.version
    assert status.renew_at == life.renew_at
    assert status.window == life.window


def stored_life(desired: DesiredCertificate, observed: Observation) -> Life:
    seen = after_run((), {desired.lineage: sighted(desired.lineage, observed, NOW)})
    known = {desired.lineage: observed.versions} if observed.versions else {}
    found = agenda(([Expected(desired.lineage)], Recorded(known, seen, (), RAN)))
    return found.lives[0]


@given(
    situation=situations(),
    begun=st.integers(-30, 60),
    lasts=st.integers(1, 30),
)
def test_the_window_of_the_ca_is_the_one_of_status(
    situation: tuple[DesiredCertificate, Observation], begun: int, lasts: int
) -> None:
    """Also where it is none that a certificate could have."""
    desired, observed = situation
    start = NOW + begun * DAY
    window = RenewalWindow(start, start + lasts * DAY)
    versions = tuple(replace(one, window=window) for one in observed.versions)
    observed = replace(observed, versions=versions)
    status, life = status_of(desired, observed, NOW), stored_life(desired, observed)

    assert (status.renew_at, status.window) == (life.renew_at, life.window)


def test_a_place_that_went_back_is_renewed_sooner() -> None:
    """The certificate that it serves ends first, and decides when the next one is issued."""
    older = made(OLD, NOW - 50 * DAY)
    newer = replace(made(NEW, NOW - 10 * DAY, 2), saved_at=NOW - 10 * DAY)
    back = Sighting(
        "img", "qiniu", "img.example.com", served=True, since=NOW - DAY, fingerprint=OLD
    )

    [life] = agenda(([Expected("img")], Recorded({"img": (newer, older)}, [back], (), RAN))).lives

    assert older.certificate.not_after == life.ends_at == life.until
    assert older == life.in_use
    assert older.certificate.not_after - 14 * DAY == life.renew_at


def test_a_place_with_another_certificate_ends_with_that() -> None:
    """That end is the first one, and on its day, also where ours is yet to be issued."""
    end, newer = NOW + 5 * DAY, made(NEW, NOW - 10 * DAY)
    seen = Sighting("img", "qiniu", "img.example.com", served=False, since=NOW, other_until=end)
    for known in {}, {"img": (newer,)}:
        found = agenda(([Expected("img")], Recorded(known, [seen], (), RAN)))

        assert end == found.lives[0].ends_at == found.lives[0].until
        assert found.lives[0].in_use is None
        assert (end, Milestone.EXPIRY) in {(one.at, one.milestone) for one in found.days[5].coming}


@pytest.mark.parametrize(
    ("places", "in_use", "is_pending"),
    [
        ((), NEW, False),
        ((("a.example.com", NEW),), NEW, False),
        ((("a.example.com", NEW), ("b.example.com", OLD)), OLD, True),
        ((("a.example.com", None),), None, True),
    ],
    ids=["no place seen", "newest", "one place behind", "no certificate"],
)
def test_certificate_in_use_is_the_first_to_end_at_a_place(
    places: Sequence[tuple[str, str | None]], in_use: str | None, *, is_pending: bool
) -> None:
    """The newest version is in use once every place has it, or if no run has seen a place."""
    versions = (made(NEW, NOW - 5 * DAY, 2), made(OLD, NOW - 40 * DAY))
    seen = [
        Sighting("img", "qiniu", domain, fingerprint == NEW, NOW - DAY, fingerprint)
        for domain, fingerprint in places
    ]

    [life] = agenda(([Expected("img")], Recorded({"img": versions}, seen, (), RAN))).lives

    assert in_use == (life.in_use and life.in_use.fingerprint)
    assert is_pending is life.is_pending
    assert (life.in_use or versions[0]).certificate.not_after == life.until


# --- what a run is the fix for


def run_for(known: Recorded, *expected: Expected) -> list[tuple[str, tuple[str, ...] | None]]:
    return [(one.concern.problem.code, one.run) for one in agenda((expected, known)).needs]


IMG, OTHERS = Expected("img"), Expected("img", is_imported=True)
LATE = Recorded({"img": (made(NEW, NOW - 85 * DAY),)}, (), (), RAN)


@pytest.mark.parametrize(
    ("known", "expected", "found"),
    [
        (Recorded(last_run=RAN), IMG, ("never_issued", ("img",))),
        (
            Recorded({"img": (made(NEW, NOW - 85 * DAY),)}, (), (), RAN),
            IMG,
            ("ends_soon", ("img",)),
        ),
        (Recorded({"img": (made(NEW, NOW - 85 * DAY),)}, (), (), RAN), OTHERS, ("ends_soon", None)),
        (Recorded({"img": (made(NEW, NOW),)}), IMG, ("run_missing", ())),
        (Recorded(last_run=RAN), None, ("none_declared", None)),
    ],
)
def test_a_run_is_the_fix_where_it_can_be(
    known: Recorded, expected: Expected | None, found: tuple[str, tuple[str, ...] | None]
) -> None:
    """For one certificate, for all, or not: what another client makes, that client renews."""
    meant = [] if expected is None else [expected]

    assert [found] == run_for(known, *meant)


@pytest.mark.parametrize(
    ("topic", "subject", "expected"),
    [
        (Topic.TROUBLE, Subject("img", "qiniu", "img.example.com"), ("img",)),
        (Topic.FOUND, Subject("img", "qiniu", "img.example.com"), None),
        (Topic.TROUBLE, Subject(), ()),
        (Topic.TROUBLE, Subject(channel="ops"), None),
        (Topic.TROUBLE, Subject(host="web-2"), None),
        (Topic.TROUBLE, Subject("img", "files", "/etc/tls", host="web-2"), None),
    ],
)
def test_what_runs_left_is_for_a_run_or_not(
    topic: Topic, subject: Subject, expected: tuple[str, ...] | None
) -> None:
    """A run tries again what failed in one; what it left on purpose, a channel, or another host it
    does not mend.
    """
    notice = Notice(topic, subject, NOW - DAY, Problem("said", Text("no")))
    known = Recorded({"img": (made(NEW, NOW),)}, (), [notice], RAN)

    assert [expected] == [run for _, run in run_for(known, IMG)]


@pytest.mark.parametrize(
    ("left", "expected"), [(31 * DAY, ("img",)), (29 * DAY, None)], ids=["in time", "too late"]
)
def test_what_is_too_late_to_upload_is_for_its_client(
    left: timedelta, expected: tuple[str, ...] | None
) -> None:
    """A run brings the files of another client to a target as long as that takes them."""
    imported = Expected("img", is_imported=True, least_life=30 * DAY)
    versions = {"img": (made(NEW, NOW + left - 90 * DAY),)}
    found = run_for(Recorded(versions, [place(served=False)], (), RAN), imported)

    assert [("upload_deadline", expected)] == found


# --- milestones


def coming(*places: Sighting, age: timedelta = 55 * DAY) -> list[tuple[Milestone, datetime]]:
    known = Recorded({"img": (made(NEW, NOW - age),)}, places, (), RAN)
    [life] = agenda(([Expected("img", least_life=30 * DAY)], known)).lives
    return [(one.milestone, one.at) for one in life.coming(NOW)]


def place(*, served: bool) -> Sighting:
    return Sighting("img", "qiniu", "img.example.com", served, NOW - DAY, NEW if served else None)


def test_the_last_moment_to_upload_comes_where_a_place_lacks_it() -> None:
    """What has it everywhere has none, as in `status`; the renewal and the end come in any case."""
    renewal, end = (Milestone.RENEWAL, NOW + 5 * DAY), (Milestone.EXPIRY, NOW + 35 * DAY)

    assert [renewal, end] == coming(place(served=True))
    assert [renewal, (Milestone.UPLOAD, NOW + 5 * DAY), end] == coming(place(served=False))


def test_newer_certificate_that_no_place_has_yet() -> None:
    """The calendar counts the end of the certificate in use, and no second end; the upload counts
    until the target has a copy.
    """
    end = NOW + 9 * DAY
    lagging = replace(place(served=False), other_until=end, is_uploaded=True)

    events = coming(lagging)

    assert [(Milestone.EXPIRY, end)] == [event for event in events if event[0] is Milestone.EXPIRY]
    assert Milestone.UPLOAD not in dict(events)
    assert Milestone.UPLOAD in dict(coming(replace(lagging, is_uploaded=False)))


def test_a_renewal_that_is_due_is_one_of_now() -> None:
    """It does not vanish from the days because its moment has passed."""
    assert (Milestone.RENEWAL, NOW) == coming(place(served=True), age=70 * DAY)[0]


def test_what_others_serve_has_no_milestones() -> None:
    """Nothing is ordered for it, and nothing ends that a domain serves."""
    assert [] == coming(Sighting("img", "qiniu", "", served=True, since=NOW))


def test_the_next_of_the_verdict_is_the_first_renewal() -> None:
    """Or the first end, where certferry renews nothing."""
    known = {"img": (made(NEW, NOW - 10 * DAY),), "shop": (made(OLD, NOW - 20 * DAY),)}
    recorded = Recorded(known, (), (), RAN)
    ours = agenda(([Expected("img"), Expected("shop")], recorded)).verdict
    theirs = agenda(([OTHERS, Expected("shop", is_imported=True)], recorded)).verdict

    assert Coming(NOW + 40 * DAY, Milestone.RENEWAL, "shop") == ours.next
    assert Coming(NOW + 70 * DAY, Milestone.EXPIRY, "shop") == theirs.next
    assert Severity.OK is ours.severity
    assert Standing.VALID.severity is ours.severity
