"""How certificates and domains stand, as a person reads it: a row for each, then what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.assessment.health import Recorded
from certferry.core.assessment.status import (
    WHOLE_ACCOUNT,
    DomainStatus,
    LastFailure,
    LineageStatus,
    Standing,
)
from certferry.core.certificates.certificate import short
from certferry.core.discovery.watched import within_reach
from certferry.core.observed.observation import Served
from certferry.core.planning.report import served_by
from certferry.core.planning.rules import window_in_words
from certferry.core.reasons import ReasonCode
from certferry.errors import TargetStuck
from certferry.present.language import Voice, voice_in
from certferry.present.layout import Line, Span, Table, Tone, columns, labelled, line, without_empty
from certferry.present.vocabulary import ERROR, HINT, WARNING, in_brackets, once
from certferry.problem import Problem, Severity
from certferry.text import Text

_LANGUAGE = "zh"
"""The targets that certferry knows are in China, whatever the operator reads."""


def ticket(lines: Sequence[Text]) -> str:
    """Write a ticket, ready to be sent."""
    voice = voice_in(_LANGUAGE)
    return "\n".join(voice.say(line) for line in lines)


NOTHING = Span("—", Tone.FAINT)

_HEADERS = (
    Text("NAME"),
    Text("STATE"),
    Text("LEFT"),
    Text("RENEWAL"),
    Text("UPLOAD BY"),
    Text("BOUND"),
    Text("SERVED"),
)

_ALWAYS = 3
"""Columns that are there whatever they say: name, state, and what is left."""

_TONES = {Severity.OK: Tone.GOOD, Severity.ERROR: Tone.BAD}
"""Of what is in between, it is `PENDING`."""

_CERTIFICATES = {
    Standing.VALID: (Text("valid"), Tone.GOOD),
    Standing.DUE: (Text("due"), Tone.PENDING),
    Standing.EXPIRED: (Text("expired"), Tone.BAD),
    Standing.MISSING: (Text("missing"), Tone.PENDING),
    Standing.NOT_NEEDED: (Text("not needed"), Tone.PENDING),
    Standing.UNREADABLE: (Text("files unreadable"), Tone.BAD),
}

_OfAccount = tuple[str, Text, Text | None]
"""An account, what is wrong with it, and what the last try ended in."""

_LONG = timedelta(minutes=1)
"""Between the first and the last failure, where there were several."""

_LEFT_ALONE = {TargetStuck.code, ReasonCode.FOUGHT_OVER.value}
"""Troubles in which no run writes to the domain: their hints say until when."""

_ON_ITS_WAY = {Standing.PENDING, Standing.PROCESSING}


def table(statuses: Sequence[LineageStatus], now: datetime, voice: Voice) -> Table:
    """Write a row per certificate, and below it one per domain that serves it, what needs a person
    first. A column that would say nothing is left out.
    """
    rows = [row for status in statuses for row in _rows(status, now, voice)]
    whole = Table(tuple(map(voice.say, _HEADERS)), tuple(rows), hangs=True)
    return without_empty(whole, NOTHING.words, _ALWAYS)


def remarks(statuses: Sequence[LineageStatus], voice: Voice) -> Iterator[Line]:
    """Write why a certificate would be issued now, what is wrong with a domain, and which are left
    out.
    """
    domains = _shown(statuses)
    for status in statuses:
        yield from _of_certificate(status, voice)
        for one in dict.fromkeys(status.notices):
            target, message = one.subject.target, voice.say(one.problem.message)
            if not one.subject.domain:
                yield from labelled(f"{target}: ", Tone.STRONG, once(target, message))
        for domain in domains[status.lineage]:
            yield from _problem(domain, voice)
            for said in _edge_problems(domain):
                yield from labelled(f"{domain.domain}: ", Tone.STRONG, voice.say(said))
            if domain.ticket:
                yield from _ticket(domain, voice)
        for one in status.notices:
            if one.subject.domain:
                words = voice.say(one.problem.message)
                yield from labelled(f"{one.subject.domain}: ", Tone.STRONG, words)


def _shown(statuses: Sequence[LineageStatus]) -> dict[str, list[DomainStatus]]:
    """Return the domains of each certificate that have lines of their own: an account that cannot
    be asked is named once, in place of each of its domains.
    """
    said = Counter(_of_account(one) for status in statuses for one in status.domains)
    named: set[_OfAccount] = set()
    domains: dict[str, list[DomainStatus]] = {}
    for status in statuses:
        shown = domains.setdefault(status.lineage, [])
        for one in status.domains:
            trouble = _of_account(one)
            if trouble is None or said[trouble] == 1:
                shown.append(one)
            elif trouble not in named:
                named.add(trouble)
                shown.append(replace(one, domain=WHOLE_ACCOUNT))
    return domains


def _of_account(domain: DomainStatus) -> _OfAccount | None:
    """Return what is wrong with a domain that cannot be seen: where it is the account that cannot
    be asked, the next one there has the same.
    """
    problem, failure = domain.problem, domain.last_failure
    if domain.standing is not Standing.UNKNOWN or problem is None:
        return None
    return domain.target, problem.message, None if failure is None else failure.problem.message


def _of_certificate(status: LineageStatus, voice: Voice) -> Iterator[Line]:
    if status.problem is not None:
        yield from _unreadable(status, status.problem, voice)
    if status.reason is not None:
        words = voice.say(status.reason.message)
        yield from labelled(f"{status.lineage}: ", Tone.STRONG, words)
    elif status.window is not None and status.window.page is not None:
        words = voice.say(window_in_words(status.window))
        yield from labelled(f"{status.lineage}: ", Tone.STRONG, words)
    if status.last_failure is not None:
        yield from _failed(status.lineage, status.last_failure, voice)
    for target, lineages in status.owned_elsewhere:
        words = f"{target}: {voice.say(served_by(lineages))}"
        yield from labelled(f"{status.lineage}: ", Tone.STRONG, words)


def of_runs(recorded: Recorded, voice: Voice) -> Iterator[Line]:
    """Write what is wrong with the state and with runs themselves, when the last run ended, and the
    last in which nothing failed.
    """
    yield from troubles(recorded, voice)
    last = recorded.last_run
    if last is None:
        yield line(Span(voice.say(Text("no run is recorded yet")), Tone.FAINT))
        return
    success: Text = Text("none") if last.succeeded_at is None else _moment(last.succeeded_at)
    ended = _moment(last.ended_at)
    if last.succeeded_at != last.ended_at:
        ended = Text("{moment} (failed or stopped)", moment=last.ended_at)
    rows = ((Text("last run"), ended), (Text("last success"), success))
    yield from columns(
        [(Span(voice.say(what), Tone.FAINT), Span(voice.say(when))) for what, when in rows]
    )


def troubles(recorded: Recorded, voice: Voice) -> Iterator[Line]:
    """Write what is wrong with the state and with runs themselves, and what is declared no more."""
    for gone in recorded.undeclared:
        yield from labelled(voice.say(WARNING), Tone.PENDING, voice.say(gone.problem.message))
        yield from hint_lines(gone.problem, voice)
    for one in recorded.troubles_of_runs:
        said = Text("since {moment}: {problem}", moment=one.since, problem=one.problem.message)
        yield from labelled(f"{one.subject.channel or 'sync'}: ", Tone.STRONG, voice.say(said))
        yield from hint_lines(one.problem, voice)
    if recorded.problem is not None:
        yield from labelled(voice.say(ERROR), Tone.BAD, voice.say(recorded.problem.message))
        yield from hint_lines(recorded.problem, voice)


def _moment(moment: datetime) -> Text:
    return Text("{moment}", moment=moment)


def _unreadable(status: LineageStatus, problem: Problem, voice: Voice) -> Iterator[Line]:
    """Write why the files cannot be read, and what is shown in their stead."""
    yield from labelled(f"{status.lineage}: ", Tone.STRONG, voice.say(problem.message))
    if status.version is not None:
        shown = Text(
            "shown is the certificate that was taken from them at {moment}",
            moment=status.version.saved_at,
        )
        yield line(f"  {voice.say(shown)}")
    yield from hint_lines(problem, voice)


def _problem(domain: DomainStatus, voice: Voice) -> Iterator[Line]:
    """Write what is wrong with a domain, and what the last try to mend it ended in, once."""
    name, failure, problem = _name(domain), domain.last_failure, domain.problem
    if problem is not None and (failure is None or failure.problem.message != problem.message):
        yield from labelled(f"{name}: ", Tone.STRONG, once(name, voice.say(problem.message)))
        if failure is None:
            yield from hint_lines(problem, voice)
    if failure is not None:
        yield from _failed(name, failure, voice)


def _failed(name: str, failure: LastFailure, voice: Voice) -> Iterator[Line]:
    """Write what the last try ended in, and when it is made again."""
    said = Text(
        "the last try at {moment} failed: {problem}",
        moment=failure.at,
        problem=once(name, voice.say(failure.problem.message)),
    )
    yield from labelled(f"{name}: ", Tone.STRONG, voice.say(said))
    if failure.again_at is None:
        again = Text("the next run tries it again")
    else:
        again = Text("scheduled runs try it again after {moment}", moment=failure.again_at)
    if failure.at - failure.since >= _LONG:
        again = Text("it has failed since {since}; {again}", since=failure.since, again=again)
    if failure.problem.code not in _LEFT_ALONE:
        yield line(f"  {voice.say(again)}")
    yield from hint_lines(failure.problem, voice)


def hint_lines(problem: Problem, voice: Voice) -> Iterator[Line]:
    """Write below a problem what to do."""
    if problem.hint is not None:
        yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(problem.hint), 2)


def _edge_problems(domain: DomainStatus) -> Iterator[Text]:
    """Return each thing that is wrong at addresses once, of how many; nothing of a domain that is
    to get its certificate yet.
    """
    served = () if domain.standing in _ON_ITS_WAY else domain.served
    wrong = [a.problem.message for a in within_reach(served) if a.problem is not None]
    for message, count in Counter(wrong).items():
        yield Text(
            "at {count} of {all} addresses: {problem}",
            count=count,
            all=len(served),
            problem=message,
        )


def _ticket(domain: DomainStatus, voice: Voice) -> Iterator[Line]:
    """Show what to send to the target's support, to be copied."""
    yield line(voice.say(Text("ticket for the support of {target}:", target=domain.target)))
    yield from (line(f"  {written}") for written in ticket(domain.ticket).splitlines())


def _name(domain: DomainStatus) -> str:
    return domain.target if domain.domain == WHOLE_ACCOUNT else domain.domain


def _rows(status: LineageStatus, now: datetime, voice: Voice) -> Iterator[tuple[Span, ...]]:
    yield _certificate(status, now, voice)
    yield from (_domain(domain, status, now, voice) for domain in status.domains)


def _certificate(status: LineageStatus, now: datetime, voice: Voice) -> tuple[Span, ...]:
    name = Span(status.lineage, Tone.STRONG)
    empty = Span("")
    # What comes from files is renewed by the client that writes them.
    renewal = NOTHING if status.renew_at is None else Span(voice.day(status.renew_at))
    words, tone = _CERTIFICATES[status.standing]
    if status.standing is Standing.EXPIRED and status.until is not None:
        words = Text("expired {ago} ago", ago=now - status.until)
    state = Span(voice.say(words), tone)
    return (name, state, _left(status.until, now, voice), renewal, empty, empty, empty)


def _left(until: datetime | None, now: datetime, voice: Voice) -> Span:
    if until is None or until <= now:
        return NOTHING
    return Span(voice.say(Text("{left}", left=until - now)))


def _domain(
    domain: DomainStatus, status: LineageStatus, now: datetime, voice: Voice
) -> tuple[Span, ...]:
    version = status.version
    current = None if version is None else version.certificate.fingerprint
    current = domain.fingerprint or current
    # What lies at the target already would look overdue there, from that moment to the renewal.
    deadline = None if domain.is_uploaded else domain.upload_deadline
    empty = Span("")
    return (
        Span(f"  {_name(domain)}{in_brackets(domain.kind)}"),
        Span(voice.word(domain.standing), _TONES.get(domain.standing.severity, Tone.PENDING)),
        empty if domain.not_after == status.until else _left(domain.not_after, now, voice),
        empty,
        NOTHING if deadline is None else Span(voice.day(deadline)),
        NOTHING if domain.remote_id is None else Span(short(domain.remote_id)),
        _served(domain.served, current, voice),
    )


def _served(addresses: Sequence[Served], fingerprint: str | None, voice: Voice) -> Span:
    """Count the addresses that present the current certificate, among those that answered."""
    if not addresses:
        return NOTHING
    answered = [address for address in addresses if address.answered]
    right = sum(a.valid and a.fingerprint == fingerprint for a in answered)
    silent = len(addresses) - len(answered)
    said = Text("{count} of {all}", count=right, all=len(answered))
    if silent:
        said = Text("{said}, {silent} silent", said=said, silent=silent)
    return Span(voice.say(said))
