"""How bad it is: what of the declared certificates needs a person, judged by what is recorded.

Nothing is asked of any service, so a monitor may ask every few minutes. A certificate's end is
judged by shares of its life: one of 45 days that is renewed on time has fewer days left than many a
warning in days allows (docs/facts/receivers.md §3).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import TypeVar

from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.lineage import Version, is_in_progress
from certferry.core.observed.records import LastRun
from certferry.core.planning.report import CODE, Undeclared
from certferry.core.planning.rules import issuer_expired
from certferry.errors import CertferryError
from certferry.text import Text

T = TypeVar("T")

WARNING_SHARE, CRITICAL_SHARE = 6, 12
"""A certificate is renewed with a third of its life left, or a half where that is short
(`core.certificates.renewal`). With a sixth left, half of that time is over; with a twelfth, three
quarters. Of 90 days that is 15 and 7 days, of 45 days 7 and 3, of 160 hours 26 and 13 hours.
"""

UPLOAD_WARNING, UPLOAD_CRITICAL = 2, 4
"""The same shares of the time in which a target takes a new certificate: half of it is left, and a
quarter."""

RUN_WITHIN = timedelta(hours=48)
"""How long ago the last run may have ended, of two a day, before something keeps them away."""

CLOCKS_DIFFER = timedelta(hours=1)
"""A moment this far in the future was recorded by another clock."""


class Health(IntEnum):
    """How bad something is. The numbers are the exit codes of a plugin (Monitoring Plugins'
    guidelines, "Plugin Return Codes").
    """

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def gravity(self) -> int:
        """What is worse is greater: what is certainly bad comes before what is not known."""
        return (0, 1, 3, 2)[self]


@dataclass(frozen=True, slots=True)
class Expected:
    """One declared certificate: whether another client makes it (`is_imported`), how long it must
    still be valid when its targets take it in, and which of its files are not there.
    """

    lineage: str
    is_imported: bool = False
    least_life: timedelta = timedelta(0)
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """The records of all certificates: each one's newest version, and those that a place has,
    newest first; what its places were last seen to have; what operators are told of; the last run;
    the problem of a state whose keys cannot be opened: no run gets anywhere with it; and what the
    file declares no more.
    """

    versions: Mapping[str, Sequence[Version]] = field(default_factory=dict)
    sightings: Sequence[Sighting] = ()
    notices: Sequence[Notice] = ()
    last_run: LastRun | None = None
    problem: CertferryError | None = None
    undeclared: tuple[Undeclared, ...] = ()


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing that needs a person: how bad it is, a stable code, what it is and what to do, since
    when it is so, and when something ends that cannot be had back. Without a lineage it is about
    all of them, or about a `channel`: one of notifications, the heartbeat, the metrics.
    """

    health: Health
    code: str
    message: Text
    hint: Text | None = None
    lineage: str = ""
    target: str = ""
    domain: str = ""
    since: datetime | None = None
    deadline: datetime | None = None
    channel: str = ""


def worst(concerns: Iterable[Concern]) -> Health:
    """Return how bad it is on the whole."""
    return max((one.health for one in concerns), key=lambda h: h.gravity, default=Health.OK)


def concerns_of(
    expected: Collection[Expected],
    recorded: Recorded,
    now: datetime,
    run_within: timedelta = RUN_WITHIN,
) -> tuple[Concern, ...]:
    """Return what needs a person, the worst first, and of that what ends first."""
    found = [*_of_runs(recorded, now, run_within), *_of_clock(expected, recorded, now)]
    places = _by_lineage(recorded.sightings, lambda one: one.lineage)
    notices = _by_lineage(recorded.notices, lambda one: one.subject.lineage)
    found += [_undeclared(one) for one in recorded.undeclared]
    for one in expected:
        versions = recorded.versions.get(one.lineage, ())
        known = _Known(versions, places.get(one.lineage, ()), notices.get(one.lineage, ()))
        found += _of_certificate(one, known, now)
    return sorted_by_need(found)


def sorted_by_need(concerns: Iterable[Concern]) -> tuple[Concern, ...]:
    """Return the worst first, and of what is as bad, what ends first."""
    ordered = sorted(concerns, key=lambda c: (c.lineage, c.target, c.domain, c.channel, c.code))
    ordered.sort(key=lambda c: (c.deadline is None, c.deadline))
    return tuple(sorted(ordered, key=lambda c: -c.health.gravity))


def by_share_of_life(certificate: Certificate, now: datetime) -> Health:
    """Judge how much of a certificate's life is left."""
    left = certificate.not_after - now
    if left * CRITICAL_SHARE <= certificate.lifetime:
        return Health.CRITICAL
    return Health.WARNING if left * WARNING_SHARE <= certificate.lifetime else Health.OK


def by_deadline(begun: datetime, deadline: datetime, now: datetime) -> Health:
    """Judge how much is left of the time in which a target takes a certificate."""
    left, room = deadline - now, deadline - begun
    if left * UPLOAD_CRITICAL <= room:
        return Health.CRITICAL
    return Health.WARNING if left * UPLOAD_WARNING <= room else Health.OK


def _of_runs(recorded: Recorded, now: datetime, within: timedelta) -> Iterator[Concern]:
    last, problem = recorded.last_run, recorded.problem
    if problem is not None:
        yield Concern(Health.CRITICAL, problem.code, problem.message, problem.hint)
    hint = Text(
        "see by `certferry schedule show` whether the system starts it; run: certferry sync"
    )
    if last is None:
        said = Text("no run of `certferry sync` is recorded")
        yield Concern(Health.WARNING, "run_missing", said, hint)
    elif now - last.ended_at > within:
        said = Text("the last run ended at {moment}", moment=last.ended_at)
        yield Concern(Health.WARNING, "run_overdue", said, hint, since=last.ended_at)
    for notice in recorded.notices:
        if notice.topic is Topic.TROUBLE and not notice.subject.lineage:
            yield _as_concern(notice, Health.WARNING)


def _undeclared(one: Undeclared) -> Concern:
    end = one.certificate.not_after
    return Concern(Health.WARNING, CODE, one.message, one.hint, one.lineage, deadline=end)


def _of_clock(
    expected: Collection[Expected], recorded: Recorded, now: datetime
) -> Iterator[Concern]:
    """Tell of a clock that is behind what is recorded: no judgment by time holds then."""
    moments = [] if recorded.last_run is None else [recorded.last_run.ended_at]
    for one in expected:
        moments += [v.certificate.not_before for v in recorded.versions.get(one.lineage, ())[:1]]
    latest = max(moments, default=now)
    if latest - now > CLOCKS_DIFFER:
        yield Concern(
            Health.UNKNOWN,
            "clock_off",
            Text(
                "{moment} is recorded, and this machine's clock says {now}", moment=latest, now=now
            ),
            Text("set the clock; where it was wrong before and is right now: certferry sync"),
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """The records of one lineage."""

    versions: Sequence[Version]
    places: Sequence[Sighting]
    notices: Sequence[Notice]


def _by_lineage(rows: Iterable[T], lineage_of: Callable[[T], str]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = {}
    for row in rows:
        found.setdefault(lineage_of(row), []).append(row)
    return found


def _of_certificate(expected: Expected, known: _Known, now: datetime) -> Iterator[Concern]:
    lineage, versions = expected.lineage, known.versions
    is_owned_elsewhere = bool(known.places) and all(one.is_owned_elsewhere for one in known.places)
    for path in expected.gone:
        yield Concern(
            Health.WARNING,
            "files_gone",
            Text("{path} is not there", path=path),
            Text("put it back, or run: certferry sync {lineage}", lineage=lineage),
            lineage,
        )
    if not versions:
        yield from _never_issued(expected, known.notices, is_owned_elsewhere=is_owned_elsewhere)
    elif not is_owned_elsewhere:
        yield from _of_newest(expected, versions[0], now)
    yield from _half_revoked(lineage, versions[1:], now)
    for notice in known.notices:
        if notice.topic is Topic.TROUBLE:
            yield _as_concern(notice, Health.WARNING)
        elif notice.topic is Topic.FOUND and notice.subject.domain:
            yield _as_concern(notice, Health.WARNING, "drifted")
    for place in known.places:
        if versions and not place.served:
            yield from _of_place(expected, versions, place, now)


def _never_issued(
    expected: Expected, notices: Iterable[Notice], *, is_owned_elsewhere: bool
) -> Iterator[Concern]:
    """Say that there is none, and since when it fails, where that is known. None is needed where
    others serve all, and every target was looked at.
    """
    troubles = [notice for notice in notices if notice.topic is Topic.TROUBLE]
    if is_owned_elsewhere and not troubles:
        return
    trouble = next((one for one in troubles if not one.subject.target), None)
    said = Text("no certificate has been issued yet")
    if expected.is_imported:
        said = Text("no certificate has been taken from its files yet")
    hint = Text("run: certferry sync {lineage}", lineage=expected.lineage)
    since = None if trouble is None else trouble.since
    yield Concern(Health.CRITICAL, "never_issued", said, hint, expected.lineage, since=since)


def _of_newest(expected: Expected, version: Version, now: datetime) -> Iterator[Concern]:
    lineage, revocation = expected.lineage, version.revocation
    unsigned = issuer_expired(version, now)
    hint = Text("run: certferry sync {lineage}", lineage=lineage)
    if revocation is not None:
        said = revocation.why.message
        yield Concern(Health.CRITICAL, "revoked", said, hint, lineage, since=revocation.at)
    if unsigned is not None:
        if expected.is_imported:
            hint = Text("have its own client fetch it again, with the chain that its CA serves now")
        code, end = unsigned.code.value, version.issuer_not_after
        yield Concern(Health.CRITICAL, code, unsigned.message, hint, lineage, since=end)
    yield from _of_end(version.certificate, now, expected)


def _half_revoked(lineage: str, earlier: Iterable[Version], now: datetime) -> Iterator[Concern]:
    """Tell of an earlier certificate of which it is not known whether its CA has revoked it."""
    begun = (
        one.revocation
        for one in earlier
        if is_in_progress(one.revocation, one.certificate.not_after, now)
    )
    for revocation in filter(None, begun):
        yield Concern(
            Health.WARNING,
            "revocation_begun",
            Text(
                "the revocation of an earlier certificate was begun at {moment} and did not end",
                moment=revocation.at,
            ),
            Text(
                "run: certferry revoke {lineage} --reason {reason}",
                lineage=lineage,
                reason=revocation.reason.value,
            ),
            lineage,
            since=revocation.at,
        )


def _of_end(certificate: Certificate, now: datetime, expected: Expected) -> Iterator[Concern]:
    health = by_share_of_life(certificate, now)
    if health is Health.OK:
        return
    end = certificate.not_after
    is_over = end <= now
    said = Text("the certificate ends at {end}, and is not renewed", end=end)
    if is_over:
        said = Text("the certificate expired at {end}", end=end)
    hint = (
        Text("have its own client renew it; the next run takes it from the files")
        if expected.is_imported
        else Text("see what holds it up: certferry status {lineage}", lineage=expected.lineage)
    )
    code = "expired" if is_over else "ends_soon"
    yield Concern(health, code, said, hint, expected.lineage, deadline=end)


def _of_place(
    expected: Expected, versions: Sequence[Version], place: Sighting, now: datetime
) -> Iterator[Concern]:
    """Judge a place that does not have its certificate: until when the target takes it, and how
    long the earlier one that it has is valid.
    """
    newest, where = versions[0], (place.lineage, place.target, place.domain)
    hint = Text("see what holds it up: certferry status {lineage}", lineage=place.lineage)
    if expected.least_life and place.fingerprint != newest.certificate.fingerprint:
        deadline = newest.certificate.not_after - expected.least_life
        health = by_deadline(newest.saved_at, deadline, now)
        if health is not Health.OK:
            said = Text("the target takes the new certificate until {moment}", moment=deadline)
            if deadline <= now:
                said = Text("the target took the new certificate until {moment}", moment=deadline)
            yield Concern(health, "upload_deadline", said, hint, *where, place.since, deadline)
    had = next((v for v in versions[1:] if v.certificate.fingerprint == place.fingerprint), None)
    if had is not None:
        health, end = by_share_of_life(had.certificate, now), had.certificate.not_after
        if health is not Health.OK:
            said = Text("it still has an earlier certificate, which ends at {end}", end=end)
            yield Concern(health, "earlier_ends", said, hint, *where, place.since, end)


def _as_concern(notice: Notice, health: Health, code: str = "") -> Concern:
    subject: Subject = notice.subject
    return Concern(
        health,
        code or notice.code,
        notice.message,
        notice.hint,
        subject.lineage,
        subject.target,
        subject.domain,
        notice.since,
        notice.deadline,
        subject.channel,
    )


_NONE = Text("no certificate is declared")
_DECLARE = Text("declare one under [[certificates]], or name the file with --config FILE")


@dataclass(frozen=True, slots=True)
class Soonest:
    """The certificate that ends first, of those in force and those that places still have."""

    lineage: str
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Checkup:
    """All certificates at a glance. `served` counts the places that have theirs, of all `places`
    that a run has looked at.
    """

    health: Health
    concerns: tuple[Concern, ...]
    certificates: int
    served: int
    places: int
    soonest: Soonest | None = None


def checkup(
    expected: Collection[Expected],
    recorded: Recorded,
    now: datetime,
    run_within: timedelta = RUN_WITHIN,
) -> Checkup:
    """Judge all certificates that are expected."""
    concerns = concerns_of(expected, recorded, now, run_within)
    if not expected:
        concerns = (Concern(Health.UNKNOWN, "none_declared", _NONE, _DECLARE), *concerns)
    names = {one.lineage for one in expected}
    places = [
        one for one in recorded.sightings if one.lineage in names and not one.is_owned_elsewhere
    ]
    return Checkup(
        worst(concerns),
        concerns,
        len(expected),
        sum(one.served for one in places),
        len(places),
        _soonest(names, recorded),
    )


def _soonest(names: Collection[str], recorded: Recorded) -> Soonest | None:
    """Return what ends first. A certificate that has taken an earlier one's place everywhere is
    looked at alone.
    """
    missing = {(one.lineage, one.fingerprint) for one in recorded.sightings if not one.served}
    found = [
        Soonest(lineage, version.certificate)
        for lineage in names
        for number, version in enumerate(recorded.versions.get(lineage, ()))
        if number == 0 or (lineage, version.certificate.fingerprint) in missing
    ]
    return min(found, key=lambda one: (one.certificate.not_after, one.lineage), default=None)
