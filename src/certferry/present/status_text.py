"""How certificates and domains stand, as a person reads it: a row for each, then what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from certferry.core.observed import Served
from certferry.core.ownership import served_by
from certferry.core.rules import window_in_words
from certferry.core.status import WHOLE_ACCOUNT, DomainStatus, LineageStatus, Standing
from certferry.core.watched import within_reach
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Table, Tone, labelled, line
from certferry.present.tickets import ticket
from certferry.present.vocabulary import in_brackets, once
from certferry.text import Text

SHORT = 8
"""Characters of a remote id that a person compares; the whole is in `--json`."""

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


_ON_ITS_WAY = {Standing.PENDING, Standing.PROCESSING}


def table(statuses: Sequence[LineageStatus], now: datetime, voice: Voice) -> Table:
    """Write a row per certificate, and below it one per domain that serves it."""
    rows = [row for status in statuses for row in _rows(status, now, voice)]
    return Table(tuple(map(voice.say, _HEADERS)), tuple(rows))


def remarks(statuses: Sequence[LineageStatus], voice: Voice) -> Iterator[Line]:
    """Say why a certificate would be issued now, and what is wrong with a domain."""
    for status in statuses:
        if status.reason is not None:
            words = voice.say(status.reason.message)
            yield from labelled(f"{status.lineage}: ", Tone.STRONG, words)
        elif status.window is not None and status.window.page is not None:
            words = voice.say(window_in_words(status.window))
            yield from labelled(f"{status.lineage}: ", Tone.STRONG, words)
        for target, lineages in status.ceded:
            words = f"{target}: {voice.say(served_by(lineages))}"
            yield from labelled(f"{status.lineage}: ", Tone.STRONG, words)
        for target, error in dict.fromkeys(status.notices):
            words = once(target, voice.say(error.message))
            yield from labelled(f"{target}: ", Tone.STRONG, words)
        for domain in status.domains:
            if domain.problem is not None:
                name = _name(domain)
                words = once(name, voice.say(domain.problem))
                yield from labelled(f"{name}: ", Tone.STRONG, words)
            for told in _edge_problems(domain):
                yield from labelled(f"{domain.domain}: ", Tone.STRONG, voice.say(told))
            if domain.ticket:
                yield from _ticket(domain, voice)


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


def days(moment: datetime) -> str:
    """Write a moment by its day, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def _rows(status: LineageStatus, now: datetime, voice: Voice) -> Iterator[tuple[Span, ...]]:
    yield _certificate(status, now, voice)
    yield from (_domain(domain, status, voice) for domain in status.domains)


def _certificate(status: LineageStatus, now: datetime, voice: Voice) -> tuple[Span, ...]:
    name = Span(status.lineage, Tone.STRONG)
    empty = Span("")
    if status.version is None:
        words = Text("not needed") if status.ceded and status.reason is None else Text("missing")
        state = Span(voice.say(words), Tone.PENDING)
        return (name, state, NOTHING, NOTHING, empty, empty, empty)
    certificate = status.version.certificate
    left = Span(voice.say(Text("{left}", left=certificate.remaining(now))))
    # What comes from files is renewed by the client that writes them.
    renewal = NOTHING if status.renew_at is None else Span(days(status.renew_at))
    return (name, _validity(status, now, voice), left, renewal, empty, empty, empty)


def _validity(status: LineageStatus, now: datetime, voice: Voice) -> Span:
    version = status.version
    if version is not None and version.certificate.remaining(now).total_seconds() <= 0:
        return Span(voice.say(Text("expired")), Tone.BAD)
    if status.reason is not None:
        return Span(voice.say(Text("due")), Tone.PENDING)
    return Span(voice.say(Text("valid")), Tone.GOOD)


def _domain(domain: DomainStatus, status: LineageStatus, voice: Voice) -> tuple[Span, ...]:
    version = status.version
    current = None if version is None else version.certificate.fingerprint
    current = domain.fingerprint or current
    deadline = domain.upload_deadline
    empty = Span("")
    return (
        Span(f"  {_name(domain)}{in_brackets(domain.kind)}"),
        Span(voice.word(domain.standing), _TONES[domain.standing]),
        empty,
        empty,
        NOTHING if deadline is None else Span(days(deadline)),
        NOTHING if domain.remote_id is None else Span(domain.remote_id[:SHORT]),
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
