"""How certificates and domains stand, as a person reads it: a row for each, then what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.assessment.status import (
    WHOLE_ACCOUNT,
    Condition,
    DomainStatus,
    LineageStatus,
    Remembering,
    Standing,
)
from certferry.core.assessment.trouble import LastFailure, Trouble
from certferry.core.certificates.certificate import short
from certferry.core.discovery.watched import within_reach
from certferry.core.observed.observation import Served
from certferry.core.planning.report import CODE, served_by
from certferry.core.planning.rules import window_in_words
from certferry.core.reasons import ReasonCode
from certferry.errors import TargetStuck
from certferry.present.language import Voice, voice_in
from certferry.present.layout import Line, Span, Table, Tone, columns, labelled, line, without_empty
from certferry.present.vocabulary import ERROR, HINT, WARNING, in_brackets, once
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

_TONES = {
    Standing.VERIFIED: Tone.GOOD,
    Standing.PROPAGATING: Tone.PENDING,
    Standing.PROCESSING: Tone.PENDING,
    Standing.BOUND: Tone.PENDING,
    Standing.PENDING: Tone.PENDING,
    Standing.DRIFTED: Tone.PENDING,
    Standing.FAILED: Tone.BAD,
    Standing.UNKNOWN: Tone.BAD,
}


_CONDITIONS = {
    Condition.VALID: (Text("valid"), Tone.GOOD),
    Condition.DUE: (Text("due"), Tone.PENDING),
    Condition.EXPIRED: (Text("expired"), Tone.BAD),
    Condition.MISSING: (Text("missing"), Tone.PENDING),
    Condition.NOT_NEEDED: (Text("not needed"), Tone.PENDING),
    Condition.UNREADABLE: (Text("files unreadable"), Tone.BAD),
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
    """Say why a certificate would be issued now, what is wrong with a domain, and which are left
    out.
    """
    domains = _told_once(statuses)
    for status in statuses:
        yield from _of_certificate(status, voice)
        for target, error in dict.fromkeys(status.notices):
            words = once(target, voice.say(error.message))
            yield from labelled(f"{target}: ", Tone.STRONG, words)
        for domain in domains[status.lineage]:
            yield from _problem(domain, voice)
            for told in _edge_problems(domain):
                yield from labelled(f"{domain.domain}: ", Tone.STRONG, voice.say(told))
            if domain.ticket:
                yield from _ticket(domain, voice)
        for one in status.left_out:
            yield from labelled(f"{one.domain}: ", Tone.STRONG, voice.say(one.problem.message))


def _told_once(statuses: Sequence[LineageStatus]) -> dict[str, list[DomainStatus]]:
    """Give what each certificate's domains are told by: an account that cannot be asked is named
    once, in place of each of its domains.
    """
    said = Counter(_of_account(one) for status in statuses for one in status.domains)
    told: set[_OfAccount] = set()
    domains: dict[str, list[DomainStatus]] = {}
    for status in statuses:
        shown = domains.setdefault(status.lineage, [])
        for one in status.domains:
            trouble = _of_account(one)
            if trouble is None or said[trouble] == 1:
                shown.append(one)
            elif trouble not in told:
                told.add(trouble)
                shown.append(replace(one, domain=WHOLE_ACCOUNT))
    return domains


def _of_account(domain: DomainStatus) -> _OfAccount | None:
    """Give what is said of a domain that cannot be seen: of the next one at the account the same is
    said, where it is the account that cannot be asked.
    """
    problem, failure = domain.problem, domain.last_failure
    if domain.standing is not Standing.UNKNOWN or problem is None:
        return None
    return domain.target, problem.message, None if failure is None else failure.trouble.message


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


def of_runs(remembering: Remembering, voice: Voice) -> Iterator[Line]:
    """Say what is wrong with the state and with runs themselves, when the last run ended, and the
    last in which nothing failed.
    """
    yield from troubles(remembering, voice)
    last = remembering.last_run
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


def troubles(remembering: Remembering, voice: Voice) -> Iterator[Line]:
    """Say what is wrong with the state and with runs themselves, and what is declared no more."""
    for gone in remembering.undeclared:
        yield from labelled(voice.say(WARNING), Tone.PENDING, voice.say(gone.message))
        yield from _hint(Trouble(CODE, gone.message, gone.hint), voice)
    for one in remembering.troubles:
        said = Text("since {moment}: {problem}", moment=one.since, problem=one.message)
        yield from labelled(f"{one.subject.channel or 'sync'}: ", Tone.STRONG, voice.say(said))
        yield from _hint(Trouble(one.code, one.message, one.hint), voice)
    if remembering.problem is not None:
        yield from labelled(voice.say(ERROR), Tone.BAD, voice.say(remembering.problem.message))
        yield from _hint(remembering.problem, voice)


def _moment(moment: datetime) -> Text:
    return Text("{moment}", moment=moment)


def _unreadable(status: LineageStatus, problem: Trouble, voice: Voice) -> Iterator[Line]:
    """Say why the files cannot be read, and what is shown in their stead."""
    yield from labelled(f"{status.lineage}: ", Tone.STRONG, voice.say(problem.message))
    if status.version is not None:
        shown = Text(
            "shown is the certificate that was taken from them at {moment}",
            moment=status.version.saved_at,
        )
        yield line(f"  {voice.say(shown)}")
    yield from _hint(problem, voice)


def _problem(domain: DomainStatus, voice: Voice) -> Iterator[Line]:
    """Say what is wrong with a domain, and what the last try to mend it ended in, once."""
    name, failure, problem = _name(domain), domain.last_failure, domain.problem
    if problem is not None and (failure is None or failure.trouble.message != problem.message):
        yield from labelled(f"{name}: ", Tone.STRONG, once(name, voice.say(problem.message)))
        if failure is None:
            yield from _hint(problem, voice)
    if failure is not None:
        yield from _failed(name, failure, voice)


def _failed(name: str, failure: LastFailure, voice: Voice) -> Iterator[Line]:
    """Say what the last try ended in, and when it is made again."""
    said = Text(
        "the last try at {moment} failed: {problem}",
        moment=failure.at,
        problem=once(name, voice.say(failure.trouble.message)),
    )
    yield from labelled(f"{name}: ", Tone.STRONG, voice.say(said))
    if failure.again_at is None:
        again = Text("the next run tries it again")
    else:
        again = Text("scheduled runs try it again after {moment}", moment=failure.again_at)
    if failure.at - failure.since >= _LONG:
        again = Text("it has failed since {since}; {again}", since=failure.since, again=again)
    if failure.trouble.code not in _LEFT_ALONE:
        yield line(f"  {voice.say(again)}")
    yield from _hint(failure.trouble, voice)


def _hint(trouble: Trouble, voice: Voice) -> Iterator[Line]:
    if trouble.hint is not None:
        yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(trouble.hint), 2)


def _edge_problems(domain: DomainStatus) -> Iterator[Text]:
    """Say each thing that is wrong at addresses once, of how many; not of a domain that is to get
    its certificate yet.
    """
    served = () if domain.standing in _ON_ITS_WAY else domain.served
    told = [a.problem.message for a in within_reach(served) if a.problem is not None]
    for message, count in Counter(told).items():
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
    words, tone = _CONDITIONS[status.condition]
    if status.condition is Condition.EXPIRED and status.until is not None:
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
        Span(voice.word(domain.standing), _TONES[domain.standing]),
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
