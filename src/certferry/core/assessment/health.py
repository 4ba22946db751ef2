"""What of the declared certificates needs a person, by what runs have recorded.

Nothing is asked of any service, so a monitor may ask every few minutes. A certificate's end is
judged by shares of its life: one of 45 days that is renewed on time has fewer days left than many a
warning in days allows (docs/facts/receivers.md §3).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from certferry.core.assessment.notices import OF_ALL, REFUSED, Notice, Subject, Topic
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.lineage import Version, Versions, is_in_progress
from certferry.core.observed.records import LastRun
from certferry.core.planning.renewal import expired_issuer
from certferry.core.planning.report import Undeclared
from certferry.errors import Problem, Severity, StateForeign
from certferry.text import Text

WARNING_SHARE, CRITICAL_SHARE = 6, 12
"""A certificate is renewed with a third of its life left, or a half where that is short
(`renew_at`). With a sixth left, half of that time is over; with a twelfth, three quarters. Of 90
days that is 15 and 7 days, of 45 days 7 and 3, of 160 hours 26 and 13 hours.
"""

UPLOAD_WARNING, UPLOAD_CRITICAL = 2, 4
"""The same shares of the time in which a target takes a new certificate: a half, a quarter."""

RUN_WITHIN = timedelta(hours=48)
"""How long ago the last run may have ended, of two a day, before something keeps them away."""

CLOCKS_DIFFER = timedelta(hours=1)
"""A moment this far in the future was recorded by another clock."""

UNJUDGED = frozenset({"clock_off", "none_declared"})
"""Codes of warnings with which nothing else can be judged for certain."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One declared certificate, its `least_life` at its targets, and its files that are `gone`."""

    lineage: str
    is_imported: bool = False
    least_life: timedelta = timedelta(0)
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the state has of certificates and runs; a state with a `problem` runs nothing. A lineage
    of which a row is another program's has no `versions`: `()`. Of some certificates that another
    client makes, other hosts have the files: `sources_elsewhere`.
    """

    versions: Mapping[str, Versions] = field(default_factory=dict)
    sightings: Sequence[Sighting] = ()
    notices: Sequence[Notice] = ()
    last_run: LastRun | None = None
    problem: Problem | None = None
    undeclared: tuple[Undeclared, ...] = ()
    sources_elsewhere: frozenset[str] = frozenset()

    @property
    def foreign(self) -> frozenset[str]:
        """The lineages of which another program wrote or changed a version."""
        return frozenset(lineage for lineage, known in self.versions.items() if not known)

    @property
    def troubles(self) -> dict[Subject, Notice]:
        """What runs have left of trouble, by what it is about."""
        return {one.subject: one for one in self.notices if one.topic is Topic.TROUBLE}

    @property
    def troubles_of_runs(self) -> tuple[Notice, ...]:
        """The trouble of runs, the heartbeat and the metrics; a channel shows its own."""
        of_runs = (one for one in self.troubles.values() if not one.subject.lineage)
        return tuple(one for one in of_runs if one.problem.code != REFUSED)


@dataclass(frozen=True, slots=True)
class Concern:
    """What needs a person, about which part of a lineage, and when something ends for good."""

    problem: Problem
    subject: Subject = OF_ALL
    deadline: datetime | None = None

    @property
    def is_unjudged(self) -> bool:
        """Whether nothing else can be judged for certain."""
        return self.problem.code in UNJUDGED


@dataclass(frozen=True, slots=True)
class Soonest:
    """The certificate that ends first, of those in force and those that places still have."""

    lineage: str
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Checkup:
    """All certificates at a glance: `served` of all `places` that a run observed have theirs."""

    concerns: tuple[Concern, ...]
    certificates: int
    served: int
    places: int
    soonest: Soonest | None = None


def checkup(
    expected: Sequence[Expected], recorded: Recorded, now: datetime, within: timedelta = RUN_WITHIN
) -> Checkup:
    """Judge all certificates that are expected."""
    concerns = concerns_of(expected, recorded, now, within)
    if not expected:
        said = Text("no certificate is declared")
        hint = Text("declare one under [[certificates]], or name the file with --config FILE")
        concerns = (_warning("none_declared", said, hint), *concerns)
    names = {one.lineage for one in expected}
    places = [one for one in recorded.sightings if one.lineage in names and one.domain]
    served = sum(one.served for one in places)
    return Checkup(concerns, len(expected), served, len(places), _soonest(names, recorded))


def _soonest(names: Collection[str], recorded: Recorded) -> Soonest | None:
    """Return what ends first, without what a later certificate has replaced everywhere."""
    missing = {(one.lineage, one.fingerprint) for one in recorded.sightings if not one.served}
    found = [
        Soonest(lineage, version.certificate)
        for lineage in names
        for number, version in enumerate(recorded.versions.get(lineage, ()))
        if number == 0 or (lineage, version.fingerprint) in missing
    ]
    return min(found, key=lambda one: (one.certificate.not_after, one.lineage), default=None)


def concerns_of(
    expected: Sequence[Expected], recorded: Recorded, now: datetime, within: timedelta = RUN_WITHIN
) -> tuple[Concern, ...]:
    """Return what needs a person, the worst first, and of that what ends first."""
    found = [*_of_runs(recorded, now, within), *_of_clock(expected, recorded, now)]
    places, notices = defaultdict[str, list[Sighting]](list), defaultdict[str, list[Notice]](list)
    for place in recorded.sightings:
        places[place.lineage].append(place)
    for notice in recorded.notices:
        notices[notice.subject.lineage].append(notice)
    foreign = recorded.foreign
    for one in expected:
        known = recorded.versions.get(one.lineage, ())
        versions = None if one.lineage in foreign else known
        facts = (versions, places[one.lineage], notices[one.lineage], now)
        found += _of_certificate(one, *facts, has_run=recorded.last_run is not None)
    return worst_first(found)


def worst_first(concerns: Iterable[Concern]) -> tuple[Concern, ...]:
    """Return the worst first, what is certain before what cannot be judged, then by deadline."""
    return tuple(
        sorted(
            concerns,
            key=lambda one: (
                -one.problem.severity.rank,
                not one.is_unjudged,
                one.deadline is None,
                one.deadline,
                one.subject,
                one.problem.code,
            ),
        )
    )


def by_share_of_life(certificate: Certificate, now: datetime) -> Severity:
    """Judge how much of a certificate's life is left."""
    left = certificate.not_after - now
    return _by_shares(left, certificate.lifetime, WARNING_SHARE, CRITICAL_SHARE)


def _by_shares(left: timedelta, whole: timedelta, warning: int, critical: int) -> Severity:
    if left * critical <= whole:
        return Severity.ERROR
    return Severity.WARNING if left * warning <= whole else Severity.OK


def _of_runs(recorded: Recorded, now: datetime, within: timedelta) -> Iterator[Concern]:
    last = recorded.last_run
    if recorded.problem is not None:
        yield Concern(recorded.problem)
    hint = Text(
        "see by `certferry schedule show` whether the system starts it; run: certferry sync"
    )
    if last is None:
        said = Text("no run of `certferry sync` is recorded")
        yield _warning("run_missing", said, hint)
    elif now - last.ended_at > within:
        said = Text("the last run ended at {moment}", moment=last.ended_at)
        yield _warning("run_overdue", said, hint, since=last.ended_at)
    for notice in recorded.notices:
        if notice.topic is Topic.TROUBLE and not notice.subject.lineage:
            yield _left_by_runs(notice, notice.problem.code)
    for one in recorded.undeclared:
        yield Concern(one.problem, Subject(one.lineage), one.certificate.not_after)


def _of_clock(expected: Iterable[Expected], recorded: Recorded, now: datetime) -> Iterator[Concern]:
    """Report a clock that is behind what is recorded: no judgment by time holds then."""
    moments = [] if recorded.last_run is None else [recorded.last_run.ended_at]
    for one in expected:
        moments += [v.certificate.not_before for v in recorded.versions.get(one.lineage, ())[:1]]
    latest = max(moments, default=now)
    if latest - now > CLOCKS_DIFFER:
        said = Text(
            "{moment} is recorded, and this machine's clock says {now}", moment=latest, now=now
        )
        hint = Text("set the clock; where it was wrong before and is right now: certferry sync")
        yield _warning("clock_off", said, hint)


_FOREIGN_ROW = Problem(
    StateForeign.code,
    Text("the state contains data about it that certferry did not write"),
    Text("see which row it is, and what to do: certferry state check"),
)


def _of_certificate(
    expected: Expected,
    versions: Versions | None,
    places: Sequence[Sighting],
    notices: Sequence[Notice],
    now: datetime,
    *,
    has_run: bool,
) -> Iterator[Concern]:
    lineage = expected.lineage
    is_owned_elsewhere = bool(places) and all(one.is_owned_elsewhere for one in places)
    for path in expected.gone:
        said = Text("{path} is not there", path=path)
        hint = Text("put it back, or run: certferry sync {lineage}", lineage=lineage)
        yield _warning("files_gone", said, hint, Subject(lineage))
    is_troubled = any(notice.topic is Topic.TROUBLE for notice in notices)
    if versions is None:
        yield Concern(_FOREIGN_ROW, Subject(lineage))
        versions = ()
    elif not versions and (is_troubled or not is_owned_elsewhere):
        yield from _never_issued(expected, notices, has_run=has_run)
    elif versions and not is_owned_elsewhere:
        yield from _of_newest(expected, versions[0], now)
    yield from _half_revoked(lineage, versions[1:], now)
    for notice in notices:
        if notice.topic is Topic.TROUBLE:
            yield _left_by_runs(notice, notice.problem.code)
        elif notice.topic is Topic.FOUND and notice.subject.domain:
            yield _left_by_runs(notice, "drifted")
    for place in places:
        if versions and not place.served:
            yield from _of_place(expected, versions, place, now)


def _never_issued(
    expected: Expected, notices: Iterable[Notice], *, has_run: bool
) -> Iterator[Concern]:
    """Report that there is none, and since when it fails; after a run that made none, the CA may
    hold it back.
    """
    troubles = [notice for notice in notices if notice.topic is Topic.TROUBLE]
    since = next((one.since for one in troubles if not one.subject.target), None)
    said = Text("no certificate has been issued yet")
    if expected.is_imported:
        said = Text("no certificate has been taken from its files yet")
    hint = Text("run: certferry sync {lineage}", lineage=expected.lineage)
    if has_run:
        hint = _what_holds_it_up(expected.lineage)
    yield Concern(Problem("never_issued", said, hint, since=since), Subject(expected.lineage))


def _of_newest(expected: Expected, version: Version, now: datetime) -> Iterator[Concern]:
    subject, revocation = Subject(expected.lineage), version.revocation
    unsigned, end = expired_issuer(version, now), version.certificate.not_after
    hint = Text("run: certferry sync {lineage}", lineage=expected.lineage)
    if revocation is not None:
        said = revocation.why.message
        yield Concern(Problem("revoked", said, hint, since=revocation.at), subject)
    if unsigned is not None:
        if expected.is_imported:
            hint = Text("have its own client fetch it again, with the chain that its CA serves now")
        code, since = unsigned.code.value, version.issuer_not_after
        yield Concern(Problem(code, unsigned.message, hint, since=since), subject)
    said, code = Text("the certificate ends at {end}, and is not renewed", end=end), "ends_soon"
    if end <= now:
        said, code = Text("the certificate expired at {end}", end=end), "expired"
    hint = _what_holds_it_up(expected.lineage)
    if expected.is_imported:
        hint = Text("have its own client renew it; the next run takes it from the files")
    severity = by_share_of_life(version.certificate, now)
    if severity is not Severity.OK:
        since = end if end <= now else end - version.certificate.lifetime / WARNING_SHARE
        yield Concern(Problem(code, said, hint, severity, since=since), subject, end)


def _half_revoked(lineage: str, earlier: Iterable[Version], now: datetime) -> Iterator[Concern]:
    """Report an earlier certificate of which it is not known whether its CA has revoked it."""
    for one in earlier:
        begun = one.revocation
        if begun is not None and is_in_progress(begun, one.certificate.not_after, now):
            said = Text(
                "the revocation of an earlier certificate was begun at {moment} and did not end",
                moment=begun.at,
            )
            hint = Text("run: certferry sync {lineage}, which asks the CA again", lineage=lineage)
            yield _warning("revocation_begun", said, hint, Subject(lineage), begun.at)


def _of_place(
    expected: Expected, versions: Versions, place: Sighting, now: datetime
) -> Iterator[Concern]:
    """Judge a place that does not have its certificate, by its deadline and by what it has."""
    newest, where = versions[0], Subject(place.lineage, place.target, place.domain)
    hint = _what_holds_it_up(place.lineage)
    if expected.least_life and place.fingerprint != newest.fingerprint:
        deadline = newest.certificate.not_after - expected.least_life
        said = Text("the new certificate must be uploaded by {moment}", moment=deadline)
        if deadline <= now:
            said = Text(
                "the last moment to upload the new certificate was {moment}", moment=deadline
            )
        left, whole = deadline - now, deadline - newest.saved_at
        severity = _by_shares(left, whole, UPLOAD_WARNING, UPLOAD_CRITICAL)
        if severity is not Severity.OK:
            late = Problem("upload_deadline", said, hint, severity, since=place.since)
            yield Concern(late, where, deadline)
    had = next((v.certificate for v in versions[1:] if v.fingerprint == place.fingerprint), None)
    end, life = place.other_until, (had or newest.certificate).lifetime
    end = had.not_after if had and not end else end
    said = Text("it still has another certificate, which ends at {end}", end=end)
    severity = _by_shares(end - now, life, WARNING_SHARE, CRITICAL_SHARE) if end else Severity.OK
    if severity is not Severity.OK:
        yield Concern(Problem("earlier_ends", said, hint, severity, since=place.since), where, end)


def _what_holds_it_up(lineage: str) -> Text:
    return Text("see what holds it up: certferry status {lineage}", lineage=lineage)


def _warning(
    code: str, said: Text, hint: Text, subject: Subject = OF_ALL, since: datetime | None = None
) -> Concern:
    return Concern(Problem(code, said, hint, Severity.WARNING, since=since), subject)


def _left_by_runs(notice: Notice, code: str) -> Concern:
    """Return what a run has left, which the next one may end, as a warning."""
    left = replace(notice.problem, code=code, severity=Severity.WARNING, since=notice.since)
    return Concern(left, notice.subject, notice.deadline)
