"""The agenda of all certificates, and its agreement with `check` and `status`."""

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
    """Return a version of 90 days."""
    return version(number, certificate(fingerprint, not_before=begin))


@st.composite
def lineages_of(draw: st.DrawFn, name: str) -> tuple[Expected, tuple[Version, ...], list[Sighting]]:
    """Draw a lineage with up to two certificates, and the sightings of its places."""
    least = draw(st.sampled_from([timedelta(0), 30 * DAY]))
    expected = Expected(name, draw(st.booleans()), least)
    versions = [made(NEW, draw(ages), 2), made(OLD, draw(ages), 1)][: draw(st.integers(0, 2))]
    is_revoked = draw(st.booleans())
    if versions and is_revoked:
        revocation = Revocation(NOW - HOUR, RevocationReason.SUPERSEDED)
        versions[0] = replace(versions[0], revocation=revocation)
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
    return expected, tuple(versions), places


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Expected], Recorded]:
    """Draw some lineages with trouble of any kind."""
    lineages = [draw(lineages_of(name)) for name in NAMES[: draw(st.integers(0, 3))]]
    subjects = st.sampled_from(
        [Subject(), Subject("img"), Subject("img", "qiniu"), Subject(channel="ops")]
    )
    topics = st.sampled_from([Topic.TROUBLE, Topic.FOUND])
    notices = draw(st.lists(st.tuples(topics, subjects), max_size=3, unique=True))
    return [expected for expected, _, _ in lineages], Recorded(
        {expected.lineage: versions for expected, versions, _ in lineages if versions},
        [place for _, _, places in lineages for place in places],
        [Notice(*key, NOW - DAY, Problem("target_rejected", Text("said no"))) for key in notices],
        draw(st.sampled_from([None, RAN, LastRun(NOW - 9 * DAY)])),
    )


def agenda(fleet: tuple[Sequence[Expected], Recorded], now: datetime = NOW) -> Agenda:
    return agenda_of(*fleet, now)


@given(fleet=fleets())
def test_agenda_judges_as_check_does(fleet: tuple[list[Expected], Recorded]) -> None:
    """The agenda lists the concerns of `check` in the order of `check`. The verdict has the
    severity of the worst concern, and counts no concern exactly if `check` says OK.
    """
    observed, judged = agenda(fleet), checkup(*fleet, NOW)

    assert judged == observed.checkup
    assert list(judged.concerns) == [need.concern for need in observed.needs]
    worst = max((concern.problem.severity.rank for concern in judged.concerns), default=0)
    assert worst == observed.verdict.severity.rank
    is_ok = plugin_status_of(judged.concerns) is PluginStatus.OK
    assert is_ok is (observed.verdict.troubled + observed.verdict.others == 0)


@given(fleet=fleets())
def test_lives_are_complete_and_ordered_by_their_ends(
    fleet: tuple[list[Expected], Recorded],
) -> None:
    """Each certificate has one life with all its concerns. Lives without a certificate come first,
    then the earliest end.
    """
    observed = agenda(fleet)
    ends = [life.until for life in observed.lives]

    assert sorted(expected.lineage for expected in fleet[0]) == sorted(
        life.lineage for life in observed.lives
    )
    assert sorted(ends, key=lambda end: (end is not None, end)) == ends
    for life in observed.lives:
        assert life is observed.life(life.lineage)
        assert life.concerns == tuple(
            concern
            for concern in observed.checkup.concerns
            if concern.subject.lineage == life.lineage
        )
        assert {life.lineage} >= {place.lineage for place in life.places}
    of_lives = sum(len(life.concerns) for life in observed.lives)
    assert len(observed.needs) == of_lives + observed.verdict.others


@given(fleet=fleets())
def test_counts_of_the_verdict(fleet: tuple[list[Expected], Recorded]) -> None:
    """Each certificate counts as in trouble, pending or in order, as its life says."""
    observed = agenda(fleet)
    verdict, lives = observed.verdict, observed.lives

    assert len(lives) == verdict.certificates
    assert sum(life.concerns != () for life in lives) == verdict.troubled
    assert all(not life.concerns for life in lives if life.is_pending)
    assert sum(life.is_pending for life in lives) == verdict.pending
    assert 0 <= verdict.in_order


@given(fleet=fleets(), hours=st.integers(0, 23))
def test_every_milestone_of_the_next_days_has_its_day(
    fleet: tuple[list[Expected], Recorded], hours: int
) -> None:
    """The agenda has fourteen days from today, each with its milestones in their order."""
    now = NOW.replace(hour=hours)
    observed = agenda(fleet, now)
    shown = [milestone for day in observed.days for milestone in day.coming]
    coming = [milestone for life in observed.lives for milestone in life.coming(now)]

    assert [now.date() + number * DAY for number in range(DAYS)] == [
        day.date for day in observed.days
    ]
    end = now.date() + DAYS * DAY
    assert sorted(shown, key=repr) == sorted(
        (milestone for milestone in coming if milestone.at.date() < end), key=repr
    )
    assert sorted(shown, key=lambda milestone: milestone.at) == shown
    assert end == observed.after.date
    assert sorted((milestone for milestone in coming if milestone.at.date() == end), key=repr) == (
        sorted(observed.after.coming, key=repr)
    )
    assert all(milestone.at >= now for milestone in shown)
    assert all(milestone.at.date() == day.date for day in observed.days for milestone in day.coming)


@given(situation=situations())
def test_renewal_is_at_the_moment_of_status(
    situation: tuple[DesiredCertificate, Observation],
) -> None:
    """The agenda reads a stored observation and `status` reads the observation itself: both give
    the same moment of renewal and the same certificate.
    """
    desired, observed = situation
    status = status_of(desired, observed, NOW)
    life = stored_life(desired, observed)

    assert status.version == life.version
    assert status.renew_at == life.renew_at
    assert status.window == life.window


def stored_life(desired: DesiredCertificate, observed: Observation) -> Life:
    sightings = after_run((), {desired.lineage: sighted(desired.lineage, observed, NOW)})
    versions = {desired.lineage: observed.versions} if observed.versions else {}
    return agenda(([Expected(desired.lineage)], Recorded(versions, sightings, (), RAN))).lives[0]


@given(
    situation=situations(),
    begun=st.integers(-30, 60),
    lasts=st.integers(1, 30),
)
def test_window_of_the_ca_is_the_window_of_status(
    situation: tuple[DesiredCertificate, Observation], begun: int, lasts: int
) -> None:
    """Agenda and status agree also on a window outside the certificate's life."""
    desired, observed = situation
    start = NOW + begun * DAY
    window = RenewalWindow(start, start + lasts * DAY)
    versions = tuple(
        replace(version_of_window, window=window) for version_of_window in observed.versions
    )
    observed = replace(observed, versions=versions)
    status, life = status_of(desired, observed, NOW), stored_life(desired, observed)

    assert (status.renew_at, status.window) == (life.renew_at, life.window)


def test_place_with_an_earlier_certificate_is_renewed_sooner() -> None:
    """The certificate that the place serves ends first, and sets the moment of the next order."""
    older = made(OLD, NOW - 50 * DAY)
    newer = replace(made(NEW, NOW - 10 * DAY, 2), saved_at=NOW - 10 * DAY)
    back = Sighting(
        "img", "qiniu", "img.example.com", served=True, since=NOW - DAY, fingerprint=OLD
    )

    [life] = agenda(([Expected("img")], Recorded({"img": (newer, older)}, [back], (), RAN))).lives

    assert older.certificate.not_after == life.ends_at == life.until
    assert older == life.in_use
    assert older.certificate.not_after - 14 * DAY == life.renew_at


def test_certificate_of_another_tool_at_a_place_gives_the_end() -> None:
    """Its end is the first end of the agenda, on its day, also before our certificate is issued."""
    end, newer = NOW + 5 * DAY, made(NEW, NOW - 10 * DAY)
    sighting = Sighting("img", "qiniu", "img.example.com", served=False, since=NOW, other_until=end)
    for versions in {}, {"img": (newer,)}:
        observed = agenda(([Expected("img")], Recorded(versions, [sighting], (), RAN)))

        assert end == observed.lives[0].ends_at == observed.lives[0].until
        assert observed.lives[0].in_use is None
        assert (end, Milestone.EXPIRY) in {
            (milestone.at, milestone.milestone) for milestone in observed.days[5].coming
        }


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
    sightings = [
        Sighting("img", "qiniu", domain, fingerprint == NEW, NOW - DAY, fingerprint)
        for domain, fingerprint in places
    ]

    [life] = agenda(([Expected("img")], Recorded({"img": versions}, sightings, (), RAN))).lives

    assert in_use == (life.in_use and life.in_use.fingerprint)
    assert is_pending is life.is_pending
    assert (life.in_use or versions[0]).certificate.not_after == life.until


# --- Concerns that a run fixes


def run_for(recorded: Recorded, *expected: Expected) -> list[tuple[str, tuple[str, ...] | None]]:
    return [(need.concern.problem.code, need.run) for need in agenda((expected, recorded)).needs]


IMG, OTHERS = Expected("img"), Expected("img", is_imported=True)
LATE = Recorded({"img": (made(NEW, NOW - 85 * DAY),)}, (), (), RAN)


@pytest.mark.parametrize(
    ("recorded", "expected", "answer"),
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
def test_run_as_the_fix_of_a_concern(
    recorded: Recorded, expected: Expected | None, answer: tuple[str, tuple[str, ...] | None]
) -> None:
    """A run is the fix for a single certificate or for all. A certificate of another client is
    renewed by that client.
    """
    declared = [] if expected is None else [expected]

    assert [answer] == run_for(recorded, *declared)


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
def test_run_as_the_fix_of_an_earlier_runs_notice(
    topic: Topic, subject: Subject, expected: tuple[str, ...] | None
) -> None:
    """A run tries again after a failure. Drift left on purpose, a channel and another host stay
    with the operator.
    """
    notice = Notice(topic, subject, NOW - DAY, Problem("said", Text("no")))
    recorded = Recorded({"img": (made(NEW, NOW),)}, (), [notice], RAN)

    assert [expected] == [run for _, run in run_for(recorded, IMG)]


@pytest.mark.parametrize(
    ("left", "expected"), [(31 * DAY, ("img",)), (29 * DAY, None)], ids=["in time", "too late"]
)
def test_file_that_is_too_late_to_upload_is_for_its_client(
    left: timedelta, expected: tuple[str, ...] | None
) -> None:
    """A run delivers the files of another client while the target still accepts them."""
    imported = Expected("img", is_imported=True, least_life=30 * DAY)
    versions = {"img": (made(NEW, NOW + left - 90 * DAY),)}
    answer = run_for(Recorded(versions, [place(served=False)], (), RAN), imported)

    assert [("upload_deadline", expected)] == answer


# --- Milestones


def coming(*places: Sighting, age: timedelta = 55 * DAY) -> list[tuple[Milestone, datetime]]:
    recorded = Recorded({"img": (made(NEW, NOW - age),)}, places, (), RAN)
    [life] = agenda(([Expected("img", least_life=30 * DAY)], recorded)).lives
    return [(milestone.milestone, milestone.at) for milestone in life.coming(NOW)]


def place(*, served: bool) -> Sighting:
    return Sighting("img", "qiniu", "img.example.com", served, NOW - DAY, NEW if served else None)


def test_last_moment_to_upload_comes_if_a_place_lacks_the_certificate() -> None:
    """As in `status`, the moment vanishes once every place has the certificate. The renewal and the
    end come in either case.
    """
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


def test_renewal_that_is_due_is_now() -> None:
    """An overdue renewal stays on the agenda, at the present moment."""
    assert (Milestone.RENEWAL, NOW) == coming(place(served=True), age=70 * DAY)[0]


def test_certificate_that_others_serve_has_no_milestones() -> None:
    """Nothing is ordered for the certificate, and no domain loses it at its end."""
    assert [] == coming(Sighting("img", "qiniu", "", served=True, since=NOW))


def test_next_event_of_the_verdict_is_the_first_renewal() -> None:
    """The first end takes its place if certferry renews no certificate."""
    versions = {"img": (made(NEW, NOW - 10 * DAY),), "shop": (made(OLD, NOW - 20 * DAY),)}
    recorded = Recorded(versions, (), (), RAN)
    ours = agenda(([Expected("img"), Expected("shop")], recorded)).verdict
    theirs = agenda(([OTHERS, Expected("shop", is_imported=True)], recorded)).verdict

    assert Coming(NOW + 40 * DAY, Milestone.RENEWAL, "shop") == ours.next
    assert Coming(NOW + 70 * DAY, Milestone.EXPIRY, "shop") == theirs.next
    assert Severity.OK is ours.severity
    assert Standing.VALID.severity is ours.severity
