"""What hosts serve, as a person reads it: a row per address, and below what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from certferry.core.certificates.certificate import short
from certferry.core.discovery.watched import AddressChanged, Changes, HostLook
from certferry.core.observed.observation import Served
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Table, Tone, labelled
from certferry.present.status_text import NOTHING
from certferry.present.vocabulary import HINT, once
from certferry.problem import Problem
from certferry.text import Text

_HEADERS = (
    Text("HOST"),
    Text("ADDRESS"),
    Text("FINGERPRINT"),
    Text("CHAIN"),
    Text("VALID"),
    Text("UNTIL"),
    Text("LEFT"),
)


def table(looks: Sequence[HostLook], now: datetime, voice: Voice) -> Table:
    """Write a row per address."""
    rows = [row for look in looks for row in _rows(look, now, voice)]
    return Table(tuple(map(voice.say, _HEADERS)), tuple(rows))


def remarks(looks: Sequence[HostLook], voice: Voice) -> Iterator[Line]:
    """Say what is wrong at an address, what differs between those of a host, and what to do."""
    hints = list[Text]()
    for look in looks:
        for where, problem in _problems(look):
            yield from _told(where, look, problem.message, voice)
            if problem.hint is not None and problem.hint not in hints:
                hints.append(problem.hint)
    for hint in hints:
        yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(hint))


def _problems(look: HostLook) -> Iterator[tuple[str, Problem]]:
    for address in look.served:
        if address.problem is not None:
            yield _where(look, address), address.problem
    yield from ((str(look.host), one.problem) for one in look.problems)


def news(changes: Changes, look: HostLook, now: datetime, voice: Voice) -> Iterator[Line]:
    """Say what changed at a host, a line for each."""
    at = voice.say(Text("{moment}", moment=now))
    for changed in changes.addresses:
        yield from _told(f"{at} {_where(look, changed.now)}", look, _changed(changed), voice)
    if changes.problems:
        for told in [one.problem.message for one in look.problems] or [_IN_ORDER]:
            yield from _told(f"{at} {look.host}", look, told, voice)


_IN_ORDER = Text("the addresses of the host are in order again")


def _changed(changed: AddressChanged) -> Text:
    if changed.now.problem is not None:
        return changed.now.problem.message
    serves = Text(
        "serves {fingerprint} (until {until})",
        fingerprint=_short(changed.now),
        until=changed.now.not_after or Text("unknown"),
    )
    before = changed.before
    if before is None or before.fingerprint in {None, changed.now.fingerprint}:
        return serves
    return Text("{now}, before {fingerprint}", now=serves, fingerprint=_short(before))


def _short(address: Served) -> str:
    return short(address.fingerprint or "")


def _where(look: HostLook, address: Served) -> str:
    return f"{look.host} {address.address}".rstrip()


def _told(where: str, look: HostLook, message: Text, voice: Voice) -> Iterator[Line]:
    words = once(look.host.name, voice.say(message))
    yield from labelled(f"{where}: ", Tone.STRONG, words)


def _rows(look: HostLook, now: datetime, voice: Voice) -> Iterator[tuple[Span, ...]]:
    for address in look.served:
        yield (
            Span(str(look.host), Tone.STRONG),
            Span(address.address) if address.address else NOTHING,
            Span(_short(address)) if address.fingerprint else NOTHING,
            _chain(address),
            _validity(address, voice),
            NOTHING if address.not_after is None else Span(voice.day(address.not_after)),
            _left(address, now, voice),
        )


def _chain(address: Served) -> Span:
    """The issuers that are presented, the leaf's first."""
    issuers = [issuer.subject for issuer in address.chain[1:]]
    return Span(", ".join(issuers)) if issuers else NOTHING


def _validity(address: Served, voice: Voice) -> Span:
    if not address.answered:
        return NOTHING
    if address.valid:
        return Span(voice.say(Text("yes")), Tone.GOOD)
    return Span(voice.say(Text("no")), Tone.BAD)


def _left(address: Served, now: datetime, voice: Voice) -> Span:
    if address.not_after is None:
        return NOTHING
    if address.not_after < now:
        return Span(voice.say(Text("expired")), Tone.BAD)
    return Span(voice.say(Text("{left}", left=address.not_after - now)))
