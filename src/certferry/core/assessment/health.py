"""The judgments of `certferry check`: concerns (matters for a person), found in the records that
runs stored.

`checkup` asks no service, so a monitor may run a check every few minutes. A certificate's end is
judged by the share of the lifetime that is left. The usual warnings a fixed number of days before
the end would also come for a certificate of 45 days that is renewed on time
(docs/facts/receivers.md §3).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct, field

from certferry.core.assessment.notices import OF_ALL, REFUSED, Notice, Subject, Topic
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.certificate import Certificate, first_of
from certferry.core.certificates.lineage import Version, Versions, is_in_progress
from certferry.core.observed.records import LastRun
from certferry.core.planning.renewal import expired_issuer
from certferry.core.planning.report import Undeclared
from certferry.errors import (
    DnsAccessDenied,
    Problem,
    Severity,
    StateForeign,
    TargetAccessDenied,
)
from certferry.text import Text
from certferry.values import replace

if TYPE_CHECKING:
    from certferry.core.assessment.watching import Watching

WARNING_SHARE, CRITICAL_SHARE = 6, 12
"""A certificate's end is a warning with 1/`WARNING_SHARE` of the lifetime left, and critical with
1/`CRITICAL_SHARE` left.

A certificate is renewed with a third of the lifetime left, or half of a short lifetime
(`renew_at`). If renewal begins with a third left, half of the time for renewing is over with a
sixth left, and three quarters with a twelfth left. For 90 days the shares are 15 and 7 whole days,
for 45 days 7 and 3, for 160 hours 26 and 13 whole hours.
"""

UPLOAD_WARNING, UPLOAD_CRITICAL = 2, 4
"""A missing upload is a warning with 1/`UPLOAD_WARNING` of the time for the upload left, and
critical with 1/`UPLOAD_CRITICAL` left.
"""

RUN_WITHIN = timedelta(hours=48)
"""If the last run ended longer ago than this, missing runs are reported."""

CLOCKS_DIFFER = timedelta(hours=1)
"""A recorded moment further in the future shows that a clock was or is wrong."""

MOST_ADDRESSES = 3
"""A message names at most this many addresses."""

UPLOAD_DEADLINE = "upload_deadline"
"""The code of a concern about an upload that is due."""

EARLIER_ENDS = "earlier_ends"
"""The code of the concern that a certificate in use ends, and the successor is not served yet."""

UNTIL_CORRECTED = frozenset({DnsAccessDenied.code, TargetAccessDenied.code})
"""Codes of troubles that are errors at once: every run fails until an operator corrects the keys.
"""

UNJUDGED = frozenset({"clock_off", "none_declared"})
"""Codes of warnings that make all other judgments uncertain."""


class Expected(Struct, frozen=True):
    """A declared certificate."""

    lineage: str  #: The lineage's name.
    #: Whether another client makes the certificate.
    is_imported: bool = False
    #: The longest remaining validity that a target demands at upload.
    least_life: timedelta = timedelta(0)
    #: Paths of delivered files missing from the disk.
    gone: tuple[str, ...] = ()
    #: Target and name of each receiver that no handshake proves.
    unproven: frozenset[tuple[str, str]] = frozenset()


class Recorded(Struct, frozen=True):
    """The state's records of certificates and runs."""

    #: The versions by lineage, newest first; `()` for a lineage with a row of another program.
    versions: Mapping[str, Versions] = field(default_factory=dict)
    sightings: Sequence[Sighting] = ()  #: The last observation of each place.
    notices: Sequence[Notice] = ()  #: The standing notices.
    last_run: LastRun | None = None  #: The end of the last run; `None` before the first end.
    #: Why the state cannot be used; runs then do nothing.
    problem: Problem | None = None
    undeclared: tuple[Undeclared, ...] = ()  #: Stored certificates that the file lacks.
    #: Lineages with files of another client, if the files are on another host.
    sources_elsewhere: frozenset[str] = frozenset()
    #: The watched hosts (`[[watch]]`); `None` if none are watched.
    watching: Watching | None = None
    #: When this host's last run began, if no run of the host has ever ended.
    begun_at: datetime | None = None

    @property
    def foreign(self) -> frozenset[str]:
        """The lineages with a version written or changed by another program."""
        return frozenset(lineage for lineage, versions in self.versions.items() if not versions)

    @property
    def troubles(self) -> dict[Subject, Notice]:
        """The trouble left by runs, by subject."""
        return {notice.subject: notice for notice in self.notices if notice.topic is Topic.TROUBLE}

    @property
    def troubles_of_runs(self) -> tuple[Notice, ...]:
        """The troubles that concern no certificate (of runs, hosts, the heartbeat and the metrics),
        except those of channels that refuse messages, and of watched hosts.
        """
        of_runs = (notice for notice in self.troubles.values() if not notice.subject.lineage)
        return tuple(
            notice
            for notice in of_runs
            if notice.problem.code != REFUSED and not notice.subject.watch
        )


class Concern(Struct, frozen=True):
    """A matter for a person."""

    problem: Problem  #: The problem, with a hint and the severity.
    subject: Subject = OF_ALL  #: The subject of the problem.
    #: When a certificate ends, or when the time for an upload ends.
    deadline: datetime | None = None
    #: Whether no address of the place serves a certificate, so visitors get an error now.
    serves_nothing: bool = False

    @property
    def is_upload(self) -> bool:
        """Whether `deadline` is the last moment for an upload, and not the end of a certificate."""
        return self.problem.code == UPLOAD_DEADLINE

    @property
    def is_unjudged(self) -> bool:
        """Whether the concern makes all other judgments uncertain."""
        return self.problem.code in UNJUDGED


class Soonest(Struct, frozen=True):
    """The first certificate to end, among the newest of each lineage and those still served at
    places.
    """

    lineage: str  #: The lineage's name.
    certificate: Certificate  #: The certificate's facts.


class Checkup(Struct, frozen=True):
    """The result of a check of all declared certificates."""

    #: The concerns, the worst first.
    concerns: tuple[Concern, ...]
    #: The number of declared certificates.
    certificates: int
    #: The number of `places` with the wanted certificate.
    served: int
    #: The number of places observed by runs, without `receivers`.
    places: int
    soonest: Soonest | None = None  #: The first certificate to end; `None` without a certificate.
    delivered: int = 0  #: The number of `receivers` with the wanted certificate.
    receivers: int = 0  #: The number of observed receivers that no handshake proves.


def checkup(
    expected: Sequence[Expected], recorded: Recorded, now: datetime, within: timedelta = RUN_WITHIN
) -> Checkup:
    """Return the checkup of all declared certificates.

    The last run should have ended less than `within` ago.
    """
    concerns = concerns_of(expected, recorded, now, within)
    if not expected:
        message = Text("no certificate is declared")
        hint = Text(
            "declare a certificate under [[certificates]], or give the file with --config FILE"
        )
        concerns = (_warning("none_declared", message, hint), *concerns)
    names = {certificate.lineage for certificate in expected}
    places = [place for place in recorded.sightings if place.lineage in names and place.domain]
    unproven = {
        (certificate.lineage, *receiver)
        for certificate in expected
        for receiver in certificate.unproven
    }
    proven = [place.served for place in places if place.place not in unproven]
    receivers = [place.served for place in places if place.place in unproven]
    return Checkup(
        concerns,
        len(expected),
        sum(proven),
        len(proven),
        _soonest(names, recorded),
        sum(receivers),
        len(receivers),
    )


def _soonest(names: Collection[str], recorded: Recorded) -> Soonest | None:
    """Return the first certificate to end. A version that was replaced at every place does not
    count.
    """
    missing = {
        (sighting.lineage, sighting.fingerprint)
        for sighting in recorded.sightings
        if not sighting.served
    }
    candidates = [
        Soonest(lineage, version.certificate)
        for lineage in names
        for number, version in enumerate(recorded.versions.get(lineage, ()))
        if number == 0 or (lineage, version.fingerprint) in missing
    ]
    return min(
        candidates,
        key=lambda soonest: (soonest.certificate.not_after, soonest.lineage),
        default=None,
    )


def concerns_of(
    expected: Sequence[Expected], recorded: Recorded, now: datetime, within: timedelta = RUN_WITHIN
) -> tuple[Concern, ...]:
    """Return the concerns about the runs, the clock and each certificate, in the order of
    `worst_first`.
    """
    concerns = [*_of_runs(recorded, now, within), *_of_clock(expected, recorded, now)]
    places, notices = defaultdict[str, list[Sighting]](list), defaultdict[str, list[Notice]](list)
    for place in recorded.sightings:
        places[place.lineage].append(place)
    for notice in recorded.notices:
        notices[notice.subject.lineage].append(notice)
    foreign = recorded.foreign
    for certificate in expected:
        stored = recorded.versions.get(certificate.lineage, ())
        versions = None if certificate.lineage in foreign else stored
        facts = (versions, places[certificate.lineage], notices[certificate.lineage], now)
        concerns += _of_certificate(certificate, *facts, has_run=recorded.last_run is not None)
    return worst_first(concerns)


def worst_first(concerns: Iterable[Concern]) -> tuple[Concern, ...]:
    """Return the concerns sorted by severity. Among equals, concerns that make all other judgments
    uncertain come first, then places that serve no certificate, and the others by deadline.

    Concerns without a deadline come after those with a deadline.
    """
    return tuple(sorted(concerns, key=urgency))


def urgency(concern: Concern) -> tuple[object, ...]:
    """Return the key by which `worst_first` sorts."""
    return (
        -concern.problem.severity.rank,
        not concern.is_unjudged,
        not concern.serves_nothing,
        concern.deadline is None,
        concern.deadline,
        concern.subject,
        concern.problem.code,
    )


def by_share_of_life(certificate: Certificate, now: datetime) -> Severity:
    """Return the severity of a certificate's end, by the share of the lifetime left."""
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
        "check with `certferry schedule show` whether the system starts the runs; run:"
        " certferry sync"
    )
    if last is None:
        message = Text("no run of `certferry sync` is recorded")
        if recorded.begun_at is not None:
            message = Text("no run of `certferry sync` has ended: one started at {moment}")
            message = message.filled(moment=recorded.begun_at)
        yield _warning("run_missing", message, hint)
    elif now - last.ended_at > within:
        message = Text("the last run ended at {moment}", moment=last.ended_at)
        yield _warning("run_overdue", message, hint, since=last.ended_at)
    for notice in recorded.notices:
        if notice.topic is Topic.TROUBLE and not notice.subject.lineage:
            yield _left_by_runs(notice, notice.problem.code)
    for certificate in recorded.undeclared:
        yield Concern(
            certificate.problem, Subject(certificate.lineage), certificate.certificate.not_after
        )


def _of_clock(expected: Iterable[Expected], recorded: Recorded, now: datetime) -> Iterator[Concern]:
    """Yield a warning if a stored moment is more than `CLOCKS_DIFFER` in the future, so judgments
    by time cannot be trusted. The moments are the end of the last run, and the beginning of each
    declared certificate's newest version.
    """
    moments = [] if recorded.last_run is None else [recorded.last_run.ended_at]
    for certificate in expected:
        moments += [
            v.certificate.not_before for v in recorded.versions.get(certificate.lineage, ())[:1]
        ]
    latest = max(moments, default=now)
    if latest - now > CLOCKS_DIFFER:
        message = Text(
            "the state records {moment}, but this host's clock says {now}", moment=latest, now=now
        )
        hint = Text("set the clock; if the clock was wrong before and is right now: certferry sync")
        yield _warning("clock_off", message, hint)


_FOREIGN_ROW = Problem(
    StateForeign.code,
    Text("the state contains data about the certificate that certferry did not write"),
    Text("to see the row and the fix: certferry state check"),
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
    is_owned_elsewhere = bool(places) and all(place.is_owned_elsewhere for place in places)
    for path in expected.gone:
        message = Text("{path} is missing", path=path)
        hint = Text("put the file back, or run: certferry sync {lineage}", lineage=lineage)
        yield _warning("files_gone", message, hint, Subject(lineage))
    is_troubled = any(notice.topic is Topic.TROUBLE for notice in notices)
    if versions is None:
        yield Concern(_FOREIGN_ROW, Subject(lineage))
        versions = ()
    elif not versions and (is_troubled or not is_owned_elsewhere):
        yield from _never_issued(expected, notices, has_run=has_run)
    elif versions and not is_owned_elsewhere:
        yield from _of_newest(expected, versions[0], now)
    yield from _half_revoked(lineage, versions[1:], now)
    without_https = {place.place for place in places if place.serves_nothing}
    for notice in notices:
        about = notice.subject
        if notice.topic is Topic.TROUBLE:
            is_dark = (about.lineage, about.target, about.domain) in without_https
            yield _left_by_runs(notice, notice.problem.code, serves_nothing=is_dark)
        elif notice.topic is Topic.FOUND and notice.subject.domain:
            yield _left_by_runs(notice, "drifted")
    for place in places:
        if versions and not place.served:
            yield from _of_place(expected, versions, place, now)


def _never_issued(
    expected: Expected, notices: Iterable[Notice], *, has_run: bool
) -> Iterator[Concern]:
    """Yield the concern that a certificate was never issued, with the moment since which tries
    fail.

    Once a run has ended, the hint says how to find the reason, and no longer asks for a run,
    because the CA may hold the order.
    """
    troubles = [notice for notice in notices if notice.topic is Topic.TROUBLE]
    since = next((trouble.since for trouble in troubles if not trouble.subject.target), None)
    message = Text("no certificate has been issued yet")
    if expected.is_imported:
        message = Text("no certificate has been read from the files yet")
    hint = Text("run: certferry sync {lineage}", lineage=expected.lineage)
    if has_run:
        hint = _what_holds_it_up(expected.lineage)
    yield Concern(Problem("never_issued", message, hint, since=since), Subject(expected.lineage))


def _of_newest(expected: Expected, version: Version, now: datetime) -> Iterator[Concern]:
    subject, revocation = Subject(expected.lineage), version.revocation
    unsigned, end = expired_issuer(version, now), version.certificate.not_after
    hint = Text("run: certferry sync {lineage}", lineage=expected.lineage)
    if revocation is not None:
        message = revocation.why.message
        yield Concern(Problem("revoked", message, hint, since=revocation.at), subject)
    if unsigned is not None:
        if expected.is_imported:
            hint = Text(
                "have the certificate's client fetch the certificate again, with the chain that"
                " the CA serves now"
            )
        code, since = unsigned.code.value, version.issuer_not_after
        yield Concern(Problem(code, unsigned.message, hint, since=since), subject)
    message, code = Text("the certificate ends at {end}, and is not renewed", end=end), "ends_soon"
    if end <= now:
        message, code = Text("the certificate expired at {end}", end=end), "expired"
    hint = _what_holds_it_up(expected.lineage)
    if expected.is_imported:
        hint = Text("have the certificate's client renew it; the next run reads the files")
    severity = by_share_of_life(version.certificate, now)
    if severity is not Severity.OK:
        since = end if end <= now else end - version.certificate.lifetime / WARNING_SHARE
        yield Concern(Problem(code, message, hint, severity, since=since), subject, end)


def _half_revoked(lineage: str, earlier: Iterable[Version], now: datetime) -> Iterator[Concern]:
    """Yield a warning for each earlier certificate with an unanswered revocation."""
    for version in earlier:
        begun = version.revocation
        if begun is not None and is_in_progress(begun, version.certificate.not_after, now):
            message = Text(
                "the revocation of an earlier certificate started at {moment} and did not finish",
                moment=begun.at,
            )
            hint = Text("run: certferry sync {lineage}, to ask the CA again", lineage=lineage)
            yield _warning("revocation_begun", message, hint, Subject(lineage), begun.at)


def _of_place(
    expected: Expected, versions: Versions, place: Sighting, now: datetime
) -> Iterator[Concern]:
    """Yield concerns about a place that lacks the wanted certificate: about the deadline for the
    upload, and about the end of the certificate now at the place.
    """
    newest, where = versions[0], Subject(place.lineage, place.target, place.domain)
    hint, dark = _what_holds_it_up(place.lineage), place.serves_nothing
    is_missing = place.fingerprint != newest.fingerprint and not place.is_uploaded
    if expected.least_life and is_missing:
        deadline = newest.certificate.not_after - expected.least_life
        message = Text("the new certificate must be uploaded by {moment}", moment=deadline)
        if deadline <= now:
            message = Text(
                "the last moment to upload the new certificate was {moment}", moment=deadline
            )
        left, whole = deadline - now, deadline - newest.saved_at
        severity = _by_shares(left, whole, UPLOAD_WARNING, UPLOAD_CRITICAL)
        if severity is not Severity.OK:
            severity = Severity.ERROR if dark else severity
            late = Problem(UPLOAD_DEADLINE, message, hint, severity, since=place.since)
            yield Concern(late, where, deadline, dark)
    had = next((v.certificate for v in versions[1:] if v.fingerprint == place.fingerprint), None)
    end, life = place.other_until, (had or newest.certificate).lifetime
    end = had.not_after if had and not end else end
    message = Text("the domain still has another certificate, which ends at {end}", end=end)
    if place.lagging and place.is_uploaded:
        message, hint = _of_lagging(place, end)
    severity = _by_shares(end - now, life, WARNING_SHARE, CRITICAL_SHARE) if end else Severity.OK
    if severity is not Severity.OK:
        yield Concern(Problem(EARLIER_ENDS, message, hint, severity, since=place.since), where, end)


def _of_lagging(place: Sighting, end: datetime | None) -> tuple[Text, Text]:
    """Return the message about addresses that lag, and the hint. The message does not name the
    domain: `causes_of` joins domains with equal messages.
    """
    message = Text(
        "{count} of {all} addresses ({addresses}) still serve another certificate, which ends at"
        " {end}"
    )
    if len(place.lagging) == 1:
        message = Text(
            "{count} of {all} addresses ({addresses}) still serves another certificate, which ends"
            " at {end}"
        )
    message = message.filled(
        count=len(place.lagging),
        all=place.answered,
        addresses=first_of(place.lagging, MOST_ADDRESSES),
        end=end,
    )
    hint = Text(
        "each run looks at the addresses again; if they still lag after a day, give the addresses"
        " to the support of {target}",
        target=place.target,
    )
    return message, hint


def _what_holds_it_up(lineage: str) -> Text:
    return Text("to see the cause: certferry status {lineage}", lineage=lineage)


def _warning(
    code: str, message: Text, hint: Text, subject: Subject = OF_ALL, since: datetime | None = None
) -> Concern:
    return Concern(Problem(code, message, hint, Severity.WARNING, since=since), subject)


def _left_by_runs(notice: Notice, code: str, *, serves_nothing: bool = False) -> Concern:
    """Return trouble left by a run; usually as a warning, because the next run may end the trouble.
    `UNTIL_CORRECTED`, trouble at a place that serves nothing, and errors of a watched host, which
    no run ends, are errors.
    """
    is_of_host = bool(notice.subject.watch) and notice.problem.is_error
    is_error = serves_nothing or is_of_host or code in UNTIL_CORRECTED
    severity = Severity.ERROR if is_error else Severity.WARNING
    left = replace(notice.problem, code=code, severity=severity, since=notice.since)
    return Concern(left, notice.subject, notice.deadline, serves_nothing)
