"""The agenda of all certificates: a verdict, matters for a person, the next days, and the life of
each certificate. All facts come from the records that runs stored.

Concerns come from `health.checkup`, as in `certferry check`. Moments of renewal follow
`renewal.due_at` and `rollbacks.replaced_after`, as in `certferry status`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from certferry.core.assessment.causes import key_of
from certferry.core.assessment.health import (
    RUN_WITHIN,
    Checkup,
    Concern,
    Expected,
    Recorded,
    checkup,
)
from certferry.core.assessment.notices import OF_ALL
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.certificate import Certificate, RenewalWindow, plausible_window
from certferry.core.certificates.lineage import Version, Versions
from certferry.core.planning.renewal import due_at
from certferry.core.planning.rollbacks import replaced_after
from certferry.errors import Severity
from certferry.values import replace

DAYS = 14
"""The number of days shown, today included."""

_DAY = timedelta(days=1)


class Milestone(StrEnum):
    """An event at a moment of a certificate's life."""

    #: certferry renews the certificate.
    RENEWAL = "renewal"
    #: The last moment to upload the certificate to a target.
    UPLOAD = "upload"
    #: The certificate expires.
    EXPIRY = "expiry"


class Coming(Struct, frozen=True):
    """A coming milestone of a lineage."""

    at: datetime  #: The moment of the milestone.
    milestone: Milestone  #: The kind of milestone.
    lineage: str  #: The lineage's name.


class Life(Struct, frozen=True):
    """The moments in the life of a lineage's newest version, with places and concerns."""

    lineage: str  #: The lineage's name.
    #: The newest version; `None` before the first certificate.
    version: Version | None = None
    #: When certferry renews the version; `None` without a version, and if another client renews.
    renew_at: datetime | None = None
    #: The CA's renewal window, if plausible.
    window: RenewalWindow | None = None
    #: The last moment to upload; `None` if every target has a copy, or demands no validity left.
    upload_until: datetime | None = None
    #: The first end, even if past, among the newest certificate and all certificates at the places.
    ends_at: datetime | None = None
    #: The version in use: the first to end among the certificates at the places. `None` if another
    #: tool made that certificate, or if no place has a certificate. If no place was observed yet,
    #: the newest version.
    in_use: Version | None = None
    #: When the certificate in use ends, also if another tool made the certificate; `None` if no
    #: place has a certificate.
    in_use_until: datetime | None = None
    #: The places observed by runs.
    places: tuple[Sighting, ...] = ()
    #: The lineage's concerns, the worst first.
    concerns: tuple[Concern, ...] = ()
    #: Whether another client makes the certificate.
    is_imported: bool = False
    #: Whether other lineages serve all domains.
    is_owned_elsewhere: bool = False

    @property
    def certificate(self) -> Certificate | None:
        """The newest certificate."""
        return None if self.version is None else self.version.certificate

    @property
    def until(self) -> datetime | None:
        """When the certificate in use ends. If no place has a certificate, when the newest ends;
        `None` without a certificate.
        """
        newest = None if self.certificate is None else self.certificate.not_after
        return self.in_use_until or newest

    @property
    def serves_nothing(self) -> bool:
        """Whether no place serves a certificate, although runs have observed places."""
        return bool(self.places) and all(place.serves_nothing for place in self.places)

    @property
    def is_pending(self) -> bool:
        """Whether a place lacks the wanted certificate, and the lineage has no concern."""
        return not self.concerns and self.served < len(self.places)

    @property
    def severity(self) -> Severity:
        """The severity of the worst concern; `OK` without a concern."""
        severities = (concern.problem.severity for concern in self.concerns)
        return max(severities, key=lambda severity: severity.rank, default=Severity.OK)

    @property
    def served(self) -> int:
        """The number of places last seen with the wanted certificate."""
        return sum(place.served for place in self.places)

    def coming(self, now: datetime) -> Iterator[Coming]:
        """Yield the milestones from `now` on; none if other lineages serve all domains.

        An overdue renewal, and the renewal of a revoked certificate, count as a renewal now. The
        expiry is `ends_at`, or the end of the newest certificate if `ends_at` is past.
        """
        if self.is_owned_elsewhere:
            return
        if self.version is not None and self.renew_at is not None:
            is_revoked = self.version.revocation is not None
            moment = now if is_revoked else max(self.renew_at, now)
            yield Coming(moment, Milestone.RENEWAL, self.lineage)
        if self.upload_until is not None and self.upload_until > now:
            yield Coming(self.upload_until, Milestone.UPLOAD, self.lineage)
        newest = None if self.certificate is None else self.certificate.not_after
        ends = (end for end in (self.ends_at, newest) if end is not None and end > now)
        if (end := next(ends, None)) is not None:
            yield Coming(end, Milestone.EXPIRY, self.lineage)


class Need(Struct, frozen=True):
    """A matter for a person, and the run that ends the matter, if any."""

    concern: Concern  #: The matter.
    #: The lineages of the run that ends the matter. Empty: a run over all lineages. `None`: no run
    #: ends the matter.
    run: tuple[str, ...] | None


class Day(Struct, frozen=True):
    """A day in UTC with its milestones."""

    date: date  #: The date in UTC.
    #: The milestones of the day, in order of time.
    coming: tuple[Coming, ...]


class OverallVerdict(Struct, frozen=True):
    """The summary of all certificates."""

    severity: Severity  #: The severity of the worst concern.
    certificates: int  #: The number of declared certificates.
    #: The number of certificates with a concern.
    troubled: int
    #: The number of certificates missing at a place, without a concern (`Life.is_pending`).
    pending: int
    #: The number of causes that touch no declared certificate, such as a run, a channel or a host.
    others: int
    #: The first renewal; without a renewal, the first other milestone.
    next: Coming | None = None

    @property
    def in_order(self) -> int:
        """The number of certificates without a concern and without a place that lacks them."""
        return self.certificates - self.troubled - self.pending


class Agenda(Struct, frozen=True):
    """The agenda of all declared certificates."""

    verdict: OverallVerdict  #: The summary.
    #: The matters for a person, the worst first.
    needs: tuple[Need, ...]
    #: `DAYS` days from today.
    days: tuple[Day, ...]
    #: The day after `days`. A display in a time zone behind UTC needs this day for the last local
    #: day.
    after: Day
    #: The life of each declared lineage, the earliest `Life.until` first.
    lives: tuple[Life, ...]
    checkup: Checkup  #: The checkup behind `needs`.

    def life(self, lineage: str) -> Life | None:
        """Return the life of a declared lineage, or `None`."""
        return next((life for life in self.lives if life.lineage == lineage), None)


def agenda_of(
    expected: Sequence[Expected], recorded: Recorded, now: datetime, within: timedelta = RUN_WITHIN
) -> Agenda:
    """Return the agenda for all declared certificates."""
    judged = checkup(expected, recorded, now, within)
    places, concerns = defaultdict[str, list[Sighting]](list), defaultdict[str, list[Concern]](list)
    for place in recorded.sightings:
        places[place.lineage].append(place)
    for concern in judged.concerns:
        concerns[concern.subject.lineage].append(concern)
    versions = recorded.versions
    lives = sorted(
        (
            _life(
                declared,
                versions.get(declared.lineage, ()),
                places[declared.lineage],
                concerns[declared.lineage],
            )
            for declared in expected
        ),
        key=_by_end,
    )
    coming = sorted(
        (milestone for life in lives for milestone in life.coming(now)),
        key=lambda milestone: (milestone.at, milestone.lineage),
    )
    *days, after = _days(coming, now)
    return Agenda(
        verdict=_verdict(judged, lives, coming),
        needs=tuple(_needs(judged, expected, recorded, now)),
        days=tuple(days),
        after=after,
        lives=tuple(lives),
        checkup=judged,
    )


def _by_end(life: Life) -> tuple[float, str]:
    # A lineage without a certificate comes first, before lineages with an expired certificate.
    return (0.0 if life.until is None else life.until.timestamp(), life.lineage)


def _life(
    expected: Expected,
    versions: Versions,
    sightings: Sequence[Sighting],
    concerns: Sequence[Concern],
) -> Life:
    places = tuple(place for place in sightings if not place.is_owned_elsewhere)
    ends = [place.other_until for place in places if place.other_until is not None]
    in_use, in_use_until = _in_use(versions, places)
    life = Life(
        expected.lineage,
        ends_at=min(ends, default=None),
        places=places,
        concerns=tuple(concerns),
        is_imported=expected.is_imported,
        is_owned_elsewhere=bool(sightings) and not places,
        in_use=in_use,
        in_use_until=in_use_until,
    )
    if not versions:
        return life
    newest, wanted = versions[0], expected.least_life
    held = {place.fingerprint for place in places if place.other_until is None}
    ends += [version.certificate.not_after for version in versions if version.fingerprint in held]
    is_to_upload = not places or any(not (place.served or place.is_uploaded) for place in places)
    life = replace(
        life,
        version=newest,
        upload_until=newest.certificate.not_after - wanted if wanted and is_to_upload else None,
        ends_at=min([newest.certificate.not_after, *ends]),
    )
    if expected.is_imported:
        return life
    window = plausible_window(newest.certificate, newest.window)
    return replace(life, renew_at=renewal_of(versions, places), window=window)


def _in_use(
    versions: Versions, places: Sequence[Sighting]
) -> tuple[Version | None, datetime | None]:
    """Return `Life.in_use` and `Life.in_use_until`."""
    held = {place.fingerprint for place in places if place.other_until is None}
    ours = [version for version in versions if version.fingerprint in held]
    first = min(ours if places else versions[:1], key=_end_of, default=None)
    others = (place.other_until for place in places if place.other_until is not None)
    other = min(others, default=None)
    if first is None or (other is not None and other < _end_of(first)):
        return None, other
    return first, _end_of(first)


def _end_of(version: Version) -> datetime:
    return version.certificate.not_after


def renewal_of(versions: Versions, places: Iterable[Sighting]) -> datetime:
    """Return when certferry renews the newest version.

    After a rollback the moment may come sooner. A place was rolled back if an earlier version was
    wanted there, and was served when the place was last observed.
    """
    newest, *earlier = versions
    serving = {place.fingerprint for place in places if place.served}
    after = [
        replaced_after(newest, version) for version in earlier if version.fingerprint in serving
    ]
    return min([due_at(newest, next(iter(earlier), None)), *after])


def _verdict(judged: Checkup, lives: Sequence[Life], coming: Sequence[Coming]) -> OverallVerdict:
    renewals = (milestone for milestone in coming if milestone.milestone is Milestone.RENEWAL)
    severities = (concern.problem.severity for concern in judged.concerns)
    declared = {life.lineage for life in lives}
    return OverallVerdict(
        severity=max(severities, key=lambda severity: severity.rank, default=Severity.OK),
        certificates=judged.certificates,
        troubled=sum(bool(life.concerns) for life in lives),
        pending=sum(life.is_pending for life in lives),
        others=len(_causes_of_others(judged, declared)),
        next=next(renewals, None) or next(iter(coming), None),
    )


def _causes_of_others(judged: Checkup, declared: Collection[str]) -> set[tuple[object, ...]]:
    """Return the keys of the causes that touch no declared certificate: several watched hosts may
    share a cause.
    """
    others = (concern for concern in judged.concerns if concern.subject.lineage not in declared)
    return {key_of(concern) for concern in others}


def _days(coming: Sequence[Coming], now: datetime) -> Iterator[Day]:
    by_day = defaultdict[date, list[Coming]](list)
    for milestone in coming:
        by_day[milestone.at.date()].append(milestone)
    for number in range(DAYS + 1):
        day = (now + number * _DAY).date()
        yield Day(day, tuple(by_day[day]))


_NO_RUN_ENDS = frozenset({"drifted"})
"""The codes of concerns that no run ends: drift under `drift = "warn"` stays."""

_OF_CLIENTS = frozenset(
    {"ends_soon", "expired", "issuer_expired", "revoked", "certificate", "too_little_life"}
)
"""If another client makes the certificate: the codes of concerns that end only when the client
renews.
"""

_FOR_ALL = frozenset({"run_missing", "run_overdue"})
"""The codes of concerns ended by a run over all certificates."""


def _needs(
    judged: Checkup, expected: Iterable[Expected], recorded: Recorded, now: datetime
) -> Iterator[Need]:
    is_imported = {declared.lineage: declared.is_imported for declared in expected}
    of_runs = _FOR_ALL | {
        notice.problem.code for notice in recorded.notices if notice.subject == OF_ALL
    }
    for concern in judged.concerns:
        code, lineage = concern.problem.code, concern.subject.lineage
        run: tuple[str, ...] | None = (lineage,)
        if concern.subject == OF_ALL:
            run = () if code in of_runs else None
        elif concern.subject.host or lineage not in is_imported or code in _NO_RUN_ENDS:
            run = None  # only a run on the other host ends a concern of that host
        elif is_imported[lineage]:
            is_late = concern.is_upload and concern.deadline is not None and concern.deadline <= now
            run = None if is_late or code in _OF_CLIENTS else run
        yield Need(concern, run)
