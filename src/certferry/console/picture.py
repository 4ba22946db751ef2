"""The lives of certificates as a picture: a bar from issue to expiry for each certificate, all on
the same time scale. A template draws the bars as SVG in the cells of a table.

Positions on the scale are percentages of the scale's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from certferry.core.assessment.agenda import Life
from certferry.core.certificates.certificate import Certificate

PAST, FUTURE = timedelta(days=120), timedelta(days=200)
"""How far the scale reaches at most before and after now. An imported certificate may be valid for
years.
"""

_DAY = timedelta(days=1)
_MOST_TICKS = 8


class Tick(Struct, frozen=True):
    """The beginning of a month."""

    x: float
    at: datetime


class Stretch(Struct, frozen=True):
    """A part of the scale."""

    x: float  #: The left end.
    width: float


class Bar(Struct, frozen=True):
    """The bar of a certificate. Parts outside the scale are `None`."""

    life: Life
    #: From issue to expiry.
    valid: Stretch
    #: The part of `valid` before now.
    passed: Stretch
    #: When the CA wants the certificate replaced.
    window: Stretch | None
    #: The planned renewal.
    renewal: float | None
    #: The last moment to upload the certificate.
    upload: float | None


class Picture(Struct, frozen=True):
    """The bars of certificates, in the order of the given lives."""

    bars: tuple[Bar, ...]
    #: The beginnings of months.
    ticks: tuple[Tick, ...]
    #: The position of the current time.
    now: float


def picture_of(lives: Sequence[Life], now: datetime) -> Picture | None:
    """Return the picture of lives with a certificate; `None` if no life has a certificate."""
    drawn = [(life, life.certificate) for life in lives if life.certificate is not None]
    if not drawn:
        return None
    scale = _Scale(
        max(now - PAST, min(now, *(certificate.not_before for _, certificate in drawn))),
        min(now + FUTURE, max(now + _DAY, *(certificate.not_after for _, certificate in drawn))),
    )
    bars = tuple(_bar(life, certificate, scale, now) for life, certificate in drawn)
    return Picture(bars, tuple(_ticks(scale)), scale.at(now))


class _Scale(Struct, frozen=True):
    begin: datetime
    end: datetime

    def at(self, moment: datetime) -> float:
        share = (moment - self.begin) / (self.end - self.begin)
        return round(100 * min(max(share, 0), 1), 2)

    def mark(self, moment: datetime | None) -> float | None:
        is_seen = moment is not None and self.begin <= moment <= self.end
        return self.at(moment) if moment is not None and is_seen else None

    def span(self, begin: datetime, end: datetime) -> Stretch:
        x = self.at(begin)
        return Stretch(x, round(max(self.at(end) - x, 0), 2))


def _bar(life: Life, certificate: Certificate, scale: _Scale, now: datetime) -> Bar:
    begin, end, window = certificate.not_before, certificate.not_after, life.window
    return Bar(
        life,
        valid=scale.span(begin, end),
        passed=scale.span(begin, min(max(now, begin), end)),
        window=None if window is None else scale.span(window.start, window.end),
        renewal=scale.mark(life.renew_at),
        upload=scale.mark(life.upload_until),
    )


def _ticks(scale: _Scale) -> Iterator[Tick]:
    months = list(_months(scale))
    apart = -(-len(months) // _MOST_TICKS)
    for month in months[:: max(apart, 1)]:
        yield Tick(scale.at(month), month)


def _months(scale: _Scale) -> Iterator[datetime]:
    month = scale.begin.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month <= scale.end:
        if month >= scale.begin:
            yield month
        month = (month + timedelta(days=32)).replace(day=1)
