"""Certificates in public logs that another client ordered ("of others"): alarms and notices.

A certificate is certferry's own if the state knows the public key or the TBSCertificate without
SCTs. A serial proves nothing, because any CA may choose the same serial. Of the other certificates,
those of the first look are the baseline, those that the file expects are accepted, and a young
certificate waits for the next run, which may bring another client's certificate into the state.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from certferry.core.assessment.notices import Notice, Notices, Subject, Topic
from certferry.core.certificates.names import matches, registered_domain
from certferry.core.observed.public_logs import (
    LOOK_AGAIN,
    MOST_NAMES,
    FoundCertificate,
    LoggedCertificate,
    WatchedDomain,
)
from certferry.errors import Problem, Severity
from certferry.text import Text
from certferry.values import replace

FOREIGN = "certificate_not_ordered"
"""The code of the problem of another's certificate for a domain."""

SILENT = "logs_not_read"
"""The code of the problem of a domain whose certificates have not been read for `SILENCE`."""

SILENCE = timedelta(days=3)
"""After this time without a complete look, a domain's missing looks are a trouble."""

MOST_KEPT = 500
"""The most certificates of the first look, and the most later certificates, stored for a domain.
More are counted (`WatchedDomain.left_out`).
"""

BACKDATED = timedelta(hours=1)
"""How much earlier than the issuance CAs date the beginning of validity
(docs/facts/transparency.md §3).
"""


class ExpectedCertificate(Struct, frozen=True):
    """Certificates that the operator expects from elsewhere: an entry of `expected` in the file.

    Patterns may contain `*`, which stands for any text.
    """

    #: A pattern for the issuer's organisation (`LoggedCertificate.issuer`) or whole name.
    issuer: str
    #: Patterns for the names; each name of the certificate needs a pattern.
    names: tuple[str, ...]

    def covers(self, certificate: FoundCertificate) -> bool:
        """Return whether an entry covers a certificate. A certificate without readable names, or
        with names left out, is covered by no entry, because such a name could be any name.
        """
        names = certificate.logged.names
        if not names or certificate.is_cut:
            return False
        issuers = _issuers(certificate.logged)
        return any(matches(self.issuer.lower(), issuer) for issuer in issuers) and all(
            any(matches(pattern, name) for pattern in self.names) for name in names
        )


def _issuers(logged: LoggedCertificate) -> tuple[str, ...]:
    """Return the spellings of the issuer in lower case; for an unreadable issuer, none."""
    spellings = (logged.issuer, logged.issuer_name)
    return tuple(spelling.lower() for spelling in spellings if spelling)


class LogStanding(StrEnum):
    """How another's certificate counts."""

    BASELINE = "baseline"  #: Found by the first look.
    EXPECTED = "expected"  #: Covered by `expected` in the file.
    WAITING = "waiting"  #: Young: the next run judges the certificate.
    ALARM = "alarm"  #: Nothing explains the certificate.


class JudgedCertificate(Struct, frozen=True):
    """Another's certificate, with the judgement."""

    found: FoundCertificate  #: The stored certificate.
    standing: LogStanding  #: The judgement.


class Transparency(Struct, frozen=True):
    """What the logs show about the domains that this host's file declares."""

    #: How far each domain's list has been read, by domain.
    domains: tuple[WatchedDomain, ...] = ()
    #: The unexpired certificates of others, the newest discovery first.
    certificates: tuple[JudgedCertificate, ...] = ()

    @property
    def alarms(self) -> tuple[FoundCertificate, ...]:
        """The certificates that raise an alarm, the newest discovery first."""
        judged = self.certificates
        return tuple(each.found for each in judged if each.standing is LogStanding.ALARM)

    def silent(self, now: datetime) -> tuple[WatchedDomain, ...]:
        """Return the domains without a complete look for `SILENCE`."""
        return tuple(each for each in self.domains if is_silent(each, now))


def domains_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the registered domains of names, sorted, each domain once."""
    return tuple(sorted({registered_domain(name) for name in names}))


def after_read(
    watched: WatchedDomain,
    listed: Sequence[LoggedCertificate],
    own: Collection[str],
    stored: int,
    now: datetime,
) -> tuple[WatchedDomain, tuple[FoundCertificate, ...]]:
    """Return the domain and the certificates to store after a part of the list was read.

    `own` are the digests that the state knows. `stored` is the number of the domain's stored
    certificates of the same kind: of the first look, or later. Own, expired and other owners'
    certificates are left out.
    """
    by_identity: dict[str, FoundCertificate] = {}
    for logged in listed:
        ours = logged.names_within(watched.domain)
        is_foreign = bool(logged.names) and not ours and not logged.is_partial
        is_expired = logged.not_after is not None and logged.not_after <= now
        if is_foreign or is_expired or not logged.digests.isdisjoint(own):
            continue
        kept = ours[:MOST_NAMES]
        by_identity[logged.identity] = FoundCertificate(
            watched.domain,
            replace(logged, names=kept, is_partial=False),
            now,
            watched.baseline_at is None,
            other_names=len({*logged.names}) - len(kept),
            is_cut=len(kept) < len(ours) or logged.is_partial,
        )
    new = tuple(by_identity.values())
    fitting = new[: max(0, MOST_KEPT - stored)]
    cursor = listed[-1].id if listed else watched.cursor
    left_out = watched.left_out + len(new) - len(fitting)
    return replace(watched, cursor=cursor, left_out=left_out), fitting


def judged(
    certificates: Iterable[FoundCertificate],
    domains: Iterable[WatchedDomain],
    own: Collection[str],
    expected: Sequence[ExpectedCertificate],
    now: datetime,
) -> Transparency:
    """Return what the logs show: the judgement of each stored certificate of these domains. Expired
    certificates, and certificates that became certferry's own, are left out.
    """
    watched = {each.domain: each for each in domains}
    shown = [
        JudgedCertificate(each, standing_of(each, expected, now))
        for each in certificates
        if each.domain in watched and each.logged.digests.isdisjoint(own) and not is_over(each, now)
    ]
    shown.sort(key=lambda each: (each.found.found_at, each.found.key), reverse=True)
    return Transparency(tuple(watched[name] for name in sorted(watched)), tuple(shown))


def is_over(certificate: FoundCertificate, now: datetime) -> bool:
    """Return whether a stored certificate has expired. A certificate with an unreadable end counts
    as expired after 400 days, because no public CA issues for longer (398 days at most).
    """
    end = certificate.logged.not_after
    return (certificate.found_at + _LONGEST_LIFE if end is None else end) <= now


_LONGEST_LIFE = timedelta(days=400)


def standing_of(
    certificate: FoundCertificate, expected: Iterable[ExpectedCertificate], now: datetime
) -> LogStanding:
    """Return how another's certificate counts."""
    if any(entry.covers(certificate) for entry in expected):
        return LogStanding.EXPECTED
    if certificate.is_baseline:
        return LogStanding.BASELINE
    return LogStanding.WAITING if is_waiting(certificate, now) else LogStanding.ALARM


def is_waiting(certificate: FoundCertificate, now: datetime) -> bool:
    """Return whether a certificate was issued less than a run before the discovery, and no run has
    begun since. Another client's certificate may come into the state with the next run.
    """
    issued = certificate.logged.not_before
    is_young = issued is not None and certificate.found_at - issued <= LOOK_AGAIN + BACKDATED
    return is_young and timedelta(0) <= now - certificate.found_at < LOOK_AGAIN


def is_silent(watched: WatchedDomain, now: datetime) -> bool:
    """Return whether the last complete look is at least `SILENCE` ago. Without a complete look, the
    time counts from the first try.
    """
    return now - watched.unread_since >= SILENCE


def line_for(certificate: FoundCertificate) -> str:
    """Return the entry of `expected` that covers exactly such certificates, as TOML; empty if no
    entry can cover the certificate.
    """
    issuer, names = certificate.logged.ca, certificate.logged.names
    if not names or not issuer or certificate.is_cut:
        return ""
    written = _toml(names[0]) if len(names) == 1 else f"[{', '.join(map(_toml, names))}]"
    return f"{{ issuer = {_toml(issuer)}, names = {written} }}"


def _toml(words: str) -> str:
    """Return a string in TOML: as in JSON, but with DEL escaped."""
    return json.dumps(words, ensure_ascii=False).replace("\x7f", "\\u007f")


def problem_of(certificate: FoundCertificate) -> Problem:
    """Return the alarm about a certificate: issuer, names, validity, when found, and what to do."""
    logged = certificate.logged
    names = logged.names
    message = Text(
        "{issuer} issued a certificate for {name} that certferry did not order: valid from {start}"
        " to {end}, found at {found}"
    )
    if len(names) > 1:
        message = Text(
            "{issuer} issued a certificate for {name} and other names ({count} in all) that"
            " certferry did not order: valid from {start} to {end}, found at {found}"
        )
    message = message.filled(
        issuer=logged.ca or Text("an unknown CA"),
        name=names[0] if names else certificate.domain,
        count=len(names),
        start=_known(logged.not_before),
        end=_known(logged.not_after),
        found=certificate.found_at,
    )
    return Problem(
        FOREIGN, message, _what_to_do(certificate), Severity.WARNING, since=certificate.found_at
    )


def _known(moment: datetime | None) -> datetime | Text:
    return Text("an unknown moment") if moment is None else moment


def _what_to_do(certificate: FoundCertificate) -> Text:
    line = line_for(certificate)
    hint = Text(
        "find out who ordered the certificate: {link}. If the certificate is yours or your CDN's,"
        " add to `expected` under [ct]: {line}. Otherwise ask the CA to revoke the certificate, and"
        " limit the CAs by a CAA record"
    )
    if not line:
        hint = Text(
            "find out who ordered the certificate: {link}. If the certificate is neither yours nor"
            " your CDN's, ask the CA to revoke the certificate, and limit the CAs by a CAA record"
        )
    return hint.filled(link=certificate.logged.link or "certferry ct", line=line)


def silence_of(watched: WatchedDomain) -> Problem:
    """Return the problem of a domain without a complete look for `SILENCE`."""
    since = watched.unread_since
    message = Text(
        "the certificates issued for {domain} have not been looked at since {moment}: {problem}",
        domain=watched.domain,
        moment=since,
        problem=watched.problem or Text("the list has not come to an end"),
    )
    hint = Text(
        "each run of all certificates tries again; until then certferry cannot tell whether another"
        " certificate was issued. To see the last looks: `certferry ct`"
    )
    return Problem(SILENT, message, hint, Severity.WARNING, since=since)


CODES = frozenset({FOREIGN, SILENT})
"""The codes of the notices of this module."""


def with_alarms(
    before: Iterable[Notice], shown: Transparency, now: datetime, elsewhere: Collection[str] = ()
) -> Notices:
    """Return the notices of `before`, with new notices about the domains in `shown`: one for each
    certificate that raises an alarm, and one for each silent domain.

    Of the earlier notices about logs, only those about the domains `elsewhere` stay, which other
    hosts declare and judge.
    """
    kept = (
        notice
        for notice in before
        if notice.problem.code not in CODES or notice.subject.domain in elsewhere
    )
    return (*kept, *_notices(shown, now))


def _notices(shown: Transparency, now: datetime) -> Iterator[Notice]:
    for certificate in shown.alarms:
        problem = problem_of(certificate)
        subject = Subject(domain=certificate.domain, logged=certificate.logged.identity)
        yield Notice(Topic.TROUBLE, subject, certificate.found_at, problem)
    for watched in shown.silent(now):
        problem = silence_of(watched)
        since = watched.unread_since + SILENCE
        yield Notice(Topic.TROUBLE, Subject(domain=watched.domain), since, problem)


def counts_by_issuer(certificates: Iterable[FoundCertificate]) -> Mapping[str, int]:
    """Return the number of certificates of each issuer, the most frequent issuer first."""
    counts: dict[str, int] = {}
    for each in certificates:
        counts[each.logged.ca] = counts.get(each.logged.ca, 0) + 1
    return dict(sorted(counts.items(), key=lambda count: (-count[1], count[0])))
