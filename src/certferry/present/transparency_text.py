"""Certificates in public logs for operators: the table of `certferry ct`, and its document."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from certferry.core.assessment.transparency import (
    SILENT,
    JudgedCertificate,
    LogStanding,
    Transparency,
    counts_by_issuer,
    is_silent,
    line_for,
    problem_of,
    silence_of,
)
from certferry.core.certificates.certificate import first_of
from certferry.core.observed.public_logs import WatchedDomain
from certferry.errors import Problem
from certferry.present.documents import Document, moment, of_problem, problem_or_none
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, TextTable, Tone, line
from certferry.text import Text

_HEADERS = (
    *(Text("STANDING"), Text("NAMES"), Text("ISSUER")),
    *(Text("VALID FROM"), Text("VALID UNTIL"), Text("FOUND")),
)
_STANDINGS = {
    LogStanding.ALARM: Text("alarm"),
    LogStanding.WAITING: Text("waits for the next run"),
    LogStanding.BASELINE: Text("baseline"),
    LogStanding.EXPECTED: Text("expected"),
}
_TONES = {LogStanding.ALARM: Tone.BAD, LogStanding.WAITING: Tone.PENDING}
_MOST_NAMES = 2
"""The most names of a certificate in a row of the table; the document has all names."""

NOT_WATCHED = Text(
    "certferry does not look at public logs: write `watch = true` under [ct], then run `certferry"
    " sync`"
)


def is_in_order(shown: Transparency, now: datetime) -> bool:
    """Return whether no certificate raises an alarm, and no domain is silent."""
    return not shown.alarms and not shown.silent(now)


def table(shown: Transparency, voice: Voice) -> TextTable:
    """Write a row for each certificate that certferry did not order."""
    rows = tuple(_row(judged, voice) for judged in shown.certificates)
    return TextTable(tuple(map(voice.say, _HEADERS)), rows, hangs=True)


def _row(judged: JudgedCertificate, voice: Voice) -> tuple[Span, ...]:
    logged, found_at = judged.found.logged, judged.found.found_at
    names = first_of(logged.names, _MOST_NAMES) or [judged.found.domain]
    issuer = logged.ca or "?"
    if logged.is_revoked:
        issuer = voice.say(Text("{issuer} (revoked)", issuer=issuer))
    return (
        Span(voice.say(_STANDINGS[judged.standing]), _TONES.get(judged.standing, Tone.PLAIN)),
        Span(voice.say(Text("{names}", names=names))),
        Span(issuer),
        *(
            Span("?" if each is None else voice.day(each))
            for each in (logged.not_before, logged.not_after, found_at)
        ),
    )


def below(shown: Transparency, now: datetime, voice: Voice) -> Iterator[Line]:
    """Write each alarm with the advice, then how far each domain has been looked at."""
    for certificate in shown.alarms:
        problem = problem_of(certificate)
        yield from voice.warning(problem.message)
        yield from voice.hint(problem.hint, 2)
    for watched in shown.domains:
        yield from voice.about(watched.domain, _last_look(watched))
        yield from _of_baseline(watched, shown, voice)
        problem_now = _problem(watched, now)
        if problem_now is not None:
            yield line(f"  {voice.say(problem_now.message)}")
            yield from voice.hint(problem_now.hint, 2)
    if not any(watched.tried_at for watched in shown.domains):
        yield line(voice.say(Text("certferry has not looked at public logs yet: certferry sync")))


def _last_look(watched: WatchedDomain) -> Text:
    if watched.tried_at is None:
        return Text("not looked at yet")
    if watched.looked_at is None:
        return Text("not looked at completely since {moment}", moment=watched.since)
    return Text("last complete look at {moment}", moment=watched.looked_at)


def _of_baseline(watched: WatchedDomain, shown: Transparency, voice: Voice) -> Iterator[Line]:
    baseline = [
        judged.found
        for judged in shown.certificates
        if judged.found.is_baseline and judged.found.domain == watched.domain
    ]
    if baseline:
        message = Text(
            "certificates of the first look: {issuers}",
            issuers=[f"{issuer or '?'} {n}" for issuer, n in counts_by_issuer(baseline).items()],
        )
        yield line(f"  {voice.say(message)}")
    if watched.left_out:
        message = Text("further certificates, not stored: {count}", count=watched.left_out)
        yield line(f"  {voice.say(message)}")


def _problem(watched: WatchedDomain, now: datetime) -> Problem | None:
    """Return why a domain's looks fail, or are missing for too long; `None` if all is in order."""
    if is_silent(watched, now):
        return silence_of(watched)
    return None if watched.problem is None else Problem(SILENT, watched.problem)


def document(shown: Transparency, now: datetime) -> Document:
    """Return the document of `ct`. `ok` is true as `is_in_order`."""
    return {
        "ok": is_in_order(shown, now),
        "domains": [_domain(watched, now) for watched in shown.domains],
        "certificates": [_certificate(judged) for judged in shown.certificates],
    }


def _domain(watched: WatchedDomain, now: datetime) -> Document:
    return {
        "domain": watched.domain,
        "since": moment(watched.since),
        "looked_at": moment(watched.looked_at),
        "tried_at": moment(watched.tried_at),
        "baseline_at": moment(watched.baseline_at),
        "left_out": watched.left_out,
        "silent": is_silent(watched, now),
        "problem": problem_or_none(_problem(watched, now)),
    }


def _certificate(judged: JudgedCertificate) -> Document:
    found, logged = judged.found, judged.found.logged
    is_alarm = judged.standing is LogStanding.ALARM
    return {
        "standing": judged.standing.value,
        "domain": found.domain,
        "names": list(logged.names),
        "other_names": found.other_names,
        "issuer": logged.issuer or None,
        "issuer_name": logged.issuer_name or None,
        "not_before": moment(logged.not_before),
        "not_after": moment(logged.not_after),
        "found_at": moment(found.found_at),
        "revoked": logged.is_revoked,
        "key_sha256": logged.key_digest or None,
        "tbs_sha256": logged.tbs_digest or None,
        "link": logged.link or None,
        "expected": line_for(found) or None,
        "problem": of_problem(problem_of(found)) if is_alarm else None,
    }
