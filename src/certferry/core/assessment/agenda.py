"""All certificates at a glance, by what runs stored: the verdict, what needs a person and whether a
run is the fix, what happens in the next days, and the life of each certificate.

What is wrong is what `certferry check` finds (`health.checkup`), and a certificate is renewed when
`certferry status` says so: nothing is judged twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

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
from certferry.core.desired.certificate import Kind
from certferry.core.planning.renewal import due_at
from certferry.core.planning.rollbacks import replaced_after
from certferry.errors import Severity

DAYS = 14
"""How many days ahead are shown, today included."""

_DAY = timedelta(days=1)


class Milestone(StrEnum):
    """What happens at a moment of a certificate's life."""

    RENEWAL = "renewal"
    UPLOAD = "upload"
    EXPIRY = "expiry"


@dataclass(frozen=True, slots=True)
class Coming:
    """A milestone of a lineage, `at` its moment."""

    at: datetime
    milestone: Milestone
    lineage: str


@dataclass(frozen=True, slots=True)
class Life:
    """The newest `version` of a lineage in time: when it is renewed (`None` where another client
    does that), the CA's `window` where that decides, the last moment to upload it (`None` where no
    target asks for a minimum), and `ends_at`, the first end of what its places have or are to have.
    `places` are those that a run observed, `concerns` what needs a person, the worst first.
    """

    lineage: str
    version: Version | None = None
    renew_at: datetime | None = None
    window: RenewalWindow | None = None
    upload_until: datetime | None = None
    ends_at: datetime | None = None
    places: tuple[Sighting, ...] = ()
    concerns: tuple[Concern, ...] = ()
    is_imported: bool = False
    is_owned_elsewhere: bool = False

    @property
    def certificate(self) -> Certificate | None:
        """The newest certificate."""
        return None if self.version is None else self.version.certificate

    @property
    def severity(self) -> Severity:
        """How bad the worst of it is."""
        found = (one.problem.severity for one in self.concerns)
        return max(found, key=lambda one: one.rank, default=Severity.OK)

    @property
    def served(self) -> int:
        """How many of its places were last seen to have their certificate."""
        return sum(one.served for one in self.places)

    @property
    def needing(self) -> int:
        """How many of its places a concern is about: one where no run observed any."""
        if not self.places:
            return min(len(self.concerns), 1)
        about = {(one.subject.target, one.subject.domain) for one in self.concerns}
        return sum(
            not about.isdisjoint({("", ""), (one.target, ""), (one.target, one.domain)})
            for one in self.places
        )

    def coming(self, now: datetime) -> Iterator[Coming]:
        """Return its milestones from this moment on: a renewal that is due is one of now, and a
        last moment to upload is one where a place does not have the certificate.
        """
        if self.is_owned_elsewhere:
            return
        if self.version is not None and self.renew_at is not None:
            is_revoked = self.version.revocation is not None
            moment = now if is_revoked else max(self.renew_at, now)
            yield Coming(moment, Milestone.RENEWAL, self.lineage)
        is_missing = self.served < len(self.places)
        if is_missing and self.upload_until is not None and self.upload_until > now:
            yield Coming(self.upload_until, Milestone.UPLOAD, self.lineage)
        newest = None if self.certificate is None else self.certificate.not_after
        for end in sorted({newest or now, self.ends_at or now}):
            if end > now:
                yield Coming(end, Milestone.EXPIRY, self.lineage)


@dataclass(frozen=True, slots=True)
class Need:
    """What needs a person. Where a run is the fix, `run` are the lineages that it is for, none for
    all; `None` where no run ends it.
    """

    concern: Concern
    run: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Day:
    """A day, in UTC, and what happens in it, in its order."""

    date: date
    coming: tuple[Coming, ...]


@dataclass(frozen=True, slots=True)
class OverallVerdict:
    """How all stands: of all `places`, how many have their certificate (`served`), and how many
    something is wrong with (`needing`), where a certificate without places counts as one; whether
    all of them `are_domains`. `others` are matters beside certificates: a run, a channel, a host.
    `next` is the first renewal, or the first end where certferry renews nothing.
    """

    severity: Severity
    certificates: int
    places: int
    served: int
    needing: int
    others: int
    are_domains: bool = True
    next: Coming | None = None

    @property
    def troubles(self) -> int:
        """How many things need a person."""
        return self.needing + self.others


@dataclass(frozen=True, slots=True)
class Agenda:
    """All of it: `lives` by what ends first, `needs` the worst first, every one of `DAYS` days; the
    day `after` these has what the last of them has where a day begins later than in UTC.
    """

    verdict: OverallVerdict
    needs: tuple[Need, ...]
    days: tuple[Day, ...]
    after: Day
    lives: tuple[Life, ...]
    checkup: Checkup

    def life(self, lineage: str) -> Life | None:
        """Return the life of a lineage that is declared."""
        return next((one for one in self.lives if one.lineage == lineage), None)


def agenda_of(
    expected: Sequence[Expected], recorded: Recorded, now: datetime, within: timedelta = RUN_WITHIN
) -> Agenda:
    """Judge all certificates that are expected."""
    found = checkup(expected, recorded, now, within)
    places, concerns = defaultdict[str, list[Sighting]](list), defaultdict[str, list[Concern]](list)
    for place in recorded.sightings:
        places[place.lineage].append(place)
    for concern in found.concerns:
        concerns[concern.subject.lineage].append(concern)
    versions = recorded.versions
    lives = sorted(
        (
            _life(one, versions.get(one.lineage, ()), places[one.lineage], concerns[one.lineage])
            for one in expected
        ),
        key=_by_end,
    )
    coming = sorted(
        (one for life in lives for one in life.coming(now)), key=lambda one: (one.at, one.lineage)
    )
    *days, after = _days(coming, now)
    return Agenda(
        verdict=_verdict(found, lives, coming),
        needs=tuple(_needs(found, expected, recorded, now)),
        days=tuple(days),
        after=after,
        lives=tuple(lives),
        checkup=found,
    )


def _by_end(life: Life) -> tuple[float, str]:
    # What has no certificate comes first: it has run out, as it were.
    return (0.0 if life.ends_at is None else life.ends_at.timestamp(), life.lineage)


def _life(
    expected: Expected,
    versions: Versions,
    sightings: Sequence[Sighting],
    concerns: Sequence[Concern],
) -> Life:
    places = tuple(one for one in sightings if not one.is_owned_elsewhere)
    ends = [one.other_until for one in places if one.other_until is not None]
    life = Life(
        expected.lineage,
        ends_at=min(ends, default=None),
        places=places,
        concerns=tuple(concerns),
        is_imported=expected.is_imported,
        is_owned_elsewhere=bool(sightings) and not places,
    )
    if not versions:
        return life
    newest, wanted = versions[0], expected.least_life
    held = {one.fingerprint for one in places if one.other_until is None}
    ends += [one.certificate.not_after for one in versions if one.fingerprint in held]
    life = replace(
        life,
        version=newest,
        upload_until=newest.certificate.not_after - wanted if wanted else None,
        ends_at=min([newest.certificate.not_after, *ends]),
    )
    if expected.is_imported:
        return life
    window = plausible_window(newest.certificate, newest.window)
    return replace(life, renew_at=renewal_of(versions, places), window=window)


def renewal_of(versions: Versions, places: Iterable[Sighting]) -> datetime:
    """Return when the newest version is replaced, sooner where a place went back to an earlier one:
    it was last seen `served` there.
    """
    newest, *earlier = versions
    serving = {one.fingerprint for one in places if one.served}
    after = [replaced_after(newest, one) for one in earlier if one.fingerprint in serving]
    return min([due_at(newest, next(iter(earlier), None)), *after])


def _verdict(found: Checkup, lives: Sequence[Life], coming: Sequence[Coming]) -> OverallVerdict:
    renewals = (one for one in coming if one.milestone is Milestone.RENEWAL)
    severities = (one.problem.severity for one in found.concerns)
    known = {life.lineage for life in lives}
    return OverallVerdict(
        severity=max(severities, key=lambda one: one.rank, default=Severity.OK),
        certificates=found.certificates,
        places=sum(len(one.places) or one.needing for one in lives),
        served=found.served,
        needing=sum(one.needing for one in lives),
        others=sum(one.subject.lineage not in known for one in found.concerns),
        are_domains=not any(
            Kind(place.target).is_receiver for one in lives for place in one.places
        ),
        next=next(renewals, None) or next(iter(coming), None),
    )


def _days(coming: Sequence[Coming], now: datetime) -> Iterator[Day]:
    by_day = defaultdict[date, list[Coming]](list)
    for one in coming:
        by_day[one.at.date()].append(one)
    for number in range(DAYS + 1):
        day = (now + number * _DAY).date()
        yield Day(day, tuple(by_day[day]))


_NO_RUN_ENDS = frozenset({"drifted"})
"""What of a certificate stays after a run: what `drift` leaves."""

_OF_CLIENTS = frozenset(
    {"ends_soon", "expired", "issuer_expired", "revoked", "certificate", "too_little_life"}
)
"""What ends when the client that makes a certificate renews it."""

_FOR_ALL = frozenset({"run_missing", "run_overdue"})
"""What a run for all certificates ends."""


def _needs(
    found: Checkup, expected: Iterable[Expected], recorded: Recorded, now: datetime
) -> Iterator[Need]:
    is_imported = {one.lineage: one.is_imported for one in expected}
    of_runs = _FOR_ALL | {one.problem.code for one in recorded.notices if one.subject == OF_ALL}
    for one in found.concerns:
        code, lineage = one.problem.code, one.subject.lineage
        run: tuple[str, ...] | None = (lineage,)
        if one.subject == OF_ALL:
            run = () if code in of_runs else None
        elif one.subject.host or lineage not in is_imported or code in _NO_RUN_ENDS:
            run = None  # what is another host's alone, a run there ends
        elif is_imported[lineage]:
            is_late = code == "upload_deadline" and one.deadline is not None and one.deadline <= now
            run = None if is_late or code in _OF_CLIENTS else run
        yield Need(one, run)
