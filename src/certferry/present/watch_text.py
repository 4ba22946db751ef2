"""What hosts serve: a row per address, then what is wrong; and the same for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from certferry.core.certificates.certificate import short
from certferry.core.discovery.watched import Changes, HostLook
from certferry.core.observed.observation import Served
from certferry.present.discover_text import left
from certferry.present.documents import Document, moment, of_problem, problem_or_none
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Table, Tone, labelled
from certferry.present.status_text import NOTHING
from certferry.present.vocabulary import HINT, once
from certferry.text import Text

_HEADERS = (
    *(Text("HOST"), Text("ADDRESS"), Text("FINGERPRINT"), Text("CHAIN")),
    *(Text("VALID"), Text("UNTIL"), Text("LEFT")),
)


def table(looks: Sequence[HostLook], now: datetime, voice: Voice) -> Table:
    """Render a row per address."""
    rows = [_row(look, address, now, voice) for look in looks for address in look.served]
    return Table(tuple(map(voice.say, _HEADERS)), tuple(rows))


def below(looks: Sequence[HostLook], voice: Voice) -> Iterator[Line]:
    """Render what is wrong at an address, what differs between those of a host, and what to do."""
    hints = list[Text]()
    for look in looks:
        found = [(_where(look, one), one.problem) for one in look.served]
        found += [(str(look.host), one.problem) for one in look.problems]
        for where, problem in found:
            if problem is not None:
                yield from _line(where, look, problem.message, voice)
                hints += [] if problem.hint is None else [problem.hint]
    for hint in dict.fromkeys(hints):
        yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(hint))


def news(changes: Changes, look: HostLook, now: datetime, voice: Voice) -> Iterator[Line]:
    """Render what changed at a host, a line for each."""
    at = voice.say(Text("{moment}", moment=now))
    for one, before in changes.addresses:
        yield from _line(f"{at} {_where(look, one)}", look, _changed(one, before), voice)
    if changes.problems:
        in_order = Text("the addresses of the host are in order again")
        for message in [one.problem.message for one in look.problems] or [in_order]:
            yield from _line(f"{at} {look.host}", look, message, voice)


def of_looks(looks: Sequence[HostLook], now: datetime, voice: Voice) -> Document:
    """Return what `watch --json` prints."""
    hosts = [_host(look, now, voice) for look in looks]
    return {"ok": all(look.ok for look in looks), "at": moment(now), "hosts": hosts}


def of_change(look: HostLook, now: datetime, voice: Voice) -> Document:
    """Return what `--follow` prints on one line for a host: how it stands since a change."""
    return {"at": moment(now), **_host(look, now, voice)}


def _changed(now: Served, before: Served | None) -> Text:
    if now.problem is not None:
        return now.problem.message
    until = now.not_after or Text("unknown")
    serves = Text("serves {fingerprint} (until {until})", fingerprint=_short(now), until=until)
    if before is None or before.fingerprint in {None, now.fingerprint}:
        return serves
    return Text("{now}, before {fingerprint}", now=serves, fingerprint=_short(before))


def _short(address: Served) -> str:
    return short(address.fingerprint or "")


def _where(look: HostLook, address: Served) -> str:
    return f"{look.host} {address.address}".rstrip()


def _line(where: str, look: HostLook, message: Text, voice: Voice) -> Iterator[Line]:
    words = once(look.host.name, voice.say(message))
    return labelled(f"{where}: ", Tone.STRONG, words)


def _row(look: HostLook, address: Served, now: datetime, voice: Voice) -> tuple[Span, ...]:
    issuers, until = ", ".join(issuer.subject for issuer in address.chain[1:]), address.not_after
    words, tone = (Text("yes"), Tone.GOOD) if address.valid else (Text("no"), Tone.BAD)
    return (
        Span(str(look.host), Tone.STRONG),
        Span(address.address) if address.address else NOTHING,
        Span(_short(address)) if address.fingerprint else NOTHING,
        Span(issuers) if issuers else NOTHING,
        Span(voice.say(words), tone) if address.answered else NOTHING,
        NOTHING if until is None else Span(voice.day(until)),
        left(until, now, voice),
    )


def _host(look: HostLook, now: datetime, voice: Voice) -> Document:
    """Return one host. It is ok when each address presents a certificate that is valid there, and
    no problem of all addresses together has the severity `error`.
    """
    return {
        "host": look.host.name,
        "port": look.host.port,
        "ok": look.ok,
        "addresses": [_address(address, now, voice) for address in look.served],
        "problems": [
            {
                "severity": one.problem.severity.value,
                **of_problem(one.problem, voice),
                "addresses": list(one.addresses),
            }
            for one in look.problems
        ],
    }


def _address(address: Served, now: datetime, voice: Voice) -> Document:
    leaf = address.chain[0] if address.chain else None
    ends = address.not_after
    return {
        "address": address.address,
        "fingerprint": address.fingerprint,
        "ok": address.answered and address.valid,
        "not_after": moment(ends),
        "problem": problem_or_none(address.problem, voice),
        "not_before": None if leaf is None else moment(leaf.not_before),
        "days_left": None if ends is None else (ends - now) // timedelta(days=1),
        "names": None if leaf is None else list(leaf.names),
        "issuer": None if leaf is None else leaf.issuer,
        "chain": [
            {
                "subject": issuer.subject,
                "issuer": issuer.issuer,
                "fingerprint": issuer.fingerprint,
                "not_after": moment(issuer.not_after),
            }
            for issuer in address.chain[1:]
        ],
    }
