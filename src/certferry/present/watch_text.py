"""What hosts serve, as a person reads it: a row per address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from certferry.core.identifiers import is_wildcard, normalise
from certferry.core.observed import Served
from certferry.errors import ConfigError
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Table, Tone, labelled
from certferry.present.status_text import NOTHING, days
from certferry.present.vocabulary import once
from certferry.text import Text

_SHORT = 16
"""Hex digits of a fingerprint that a person compares; the whole is in `--json`."""

_HEADERS = (
    Text("HOST"),
    Text("ADDRESS"),
    Text("FINGERPRINT"),
    Text("VALID"),
    Text("UNTIL"),
    Text("LEFT"),
)


def host_name(written: str) -> str:
    """Give the host that is meant. Raises `ConfigError` for what is none, a wildcard among it."""
    host, colon, port = written.rpartition(":")
    if colon and port.isdigit():
        raise ConfigError(
            Text("{written} is not a host name", written=written),
            hint=Text("run `certferry watch --port {port} {host}`", port=port, host=host),
        )
    name = normalise(written)
    if is_wildcard(name):
        raise ConfigError(
            Text("{name} stands for many hosts", name=name),
            hint=Text("name one of them, such as {host}", host=name.replace("*", "www", 1)),
        )
    return name


def table(looks: Mapping[str, Sequence[Served]], now: datetime, voice: Voice) -> Table:
    """Write a row per address."""
    rows = [row for host, served in looks.items() for row in _rows(host, served, now, voice)]
    return Table(tuple(map(voice.say, _HEADERS)), tuple(rows))


def remarks(looks: Mapping[str, Sequence[Served]], voice: Voice) -> Iterator[Line]:
    """Say what is wrong at an address."""
    for host, served in looks.items():
        for address in served:
            if address.problem is not None:
                where = f"{host} {address.address}".rstrip()
                words = once(host, voice.say(address.problem))
                yield from labelled(f"{where}: ", Tone.STRONG, words)


def _rows(
    host: str, served: Sequence[Served], now: datetime, voice: Voice
) -> Iterator[tuple[Span, ...]]:
    for address in served:
        yield (
            Span(host, Tone.STRONG),
            Span(address.address) if address.address else NOTHING,
            NOTHING if address.fingerprint is None else Span(address.fingerprint[:_SHORT]),
            _validity(address, voice),
            NOTHING if address.not_after is None else Span(days(address.not_after)),
            _left(address, now, voice),
        )


def _validity(address: Served, voice: Voice) -> Span:
    if not address.answered:
        return NOTHING
    if address.valid:
        return Span(voice.say(Text("yes")), Tone.GOOD)
    return Span(voice.say(Text("no")), Tone.BAD)


def _left(address: Served, now: datetime, voice: Voice) -> Span:
    if address.not_after is None:
        return NOTHING
    return Span(voice.say(Text("{left}", left=address.not_after - now)))
