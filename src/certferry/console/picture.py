"""Draw the lives of certificates: a bar for each certificate in use, from issue to expiry, and
beside this bar the newer certificate that is not in use everywhere. All bars have the same time
scale. A template draws the bars as SVG in the cells of a table.

Positions and widths on the scale are percentages of the scale's width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from certferry.core.assessment.agenda import Life
from certferry.core.assessment.watching import is_trouble
from certferry.core.certificates.lineage import Version
from certferry.core.observed.watched_hosts import WatchedHost
from certferry.errors import Severity
from certferry.values import replace

PAST, FUTURE = timedelta(days=120), timedelta(days=200)
"""How far the scale reaches at most before and after now. Without a limit, an imported certificate
that is valid for years would make all other bars tiny.
"""

_DAY = timedelta(days=1)
_LABEL = 36.0
"""The width of a label below the scale, in percent. The narrowest picture is 140 pixels wide, and a
label of seven characters takes 50 pixels there.
"""


class Tick(Struct, frozen=True):
    """A mark on the scale at the beginning of a month."""

    #: The position.
    x: float
    #: The beginning of the month.
    at: datetime
    #: Whether there is room for a label.
    is_labelled: bool = False
    #: Whether the label ends at the tick, near the end of the scale. Otherwise the label begins at
    #: the tick.
    is_at_end: bool = False


class Stretch(Struct, frozen=True):
    """A part of the scale."""

    x: float  #: The left end.
    width: float  #: The width.


class Bar(Struct, frozen=True):
    """The bar of a certificate. Stretches are cut off at the ends of the scale. The position of a
    moment outside the scale is `None`.
    """

    #: The facts behind the bar.
    life: Life
    #: The certificate in use, from issue to expiry; `None` if no place has a certificate. If the
    #: issue is unknown, the stretch begins with the scale.
    used: Stretch | None
    #: The part of `used` before now.
    passed: Stretch | None
    #: The newest certificate, if it is not the certificate in use.
    newer: Stretch | None
    #: The window of time in which the CA wants the certificate renewed.
    window: Stretch | None
    #: The planned renewal.
    renewal: float | None
    #: The last moment to upload the certificate.
    upload: float | None
    #: Whether no run has observed the domains, so the certificate in use is only assumed.
    is_unseen: bool = False


class WatchedBar(Struct, frozen=True):
    """The bar of the certificate that a watched host presents."""

    #: The facts behind the bar.
    look: WatchedHost
    #: The certificate, from issue to expiry.
    used: Stretch
    #: The part of `used` before now.
    passed: Stretch
    #: The severity of the trouble; `OK` without trouble.
    severity: Severity


class Picture(Struct, frozen=True):
    """The bars of certificates, in the order of the given lives."""

    #: The bars.
    bars: tuple[Bar, ...]
    #: The beginnings of months.
    ticks: tuple[Tick, ...]
    #: The position of the current time.
    now: float
    #: The bars of watched hosts, below the others.
    watched: tuple[WatchedBar, ...] = ()


def picture_of(
    lives: Sequence[Life],
    now: datetime,
    deployed: Collection[str] = (),
    watched: Sequence[WatchedHost] = (),
) -> Picture | None:
    """Return the picture of the lives that have a certificate; `None` if there are none.
    `deployed` are the lineages with domains, of which a run should know the certificate in use.
    `watched` are the looks at watched hosts to draw below.
    """
    drawn = [life for life in lives if life.until is not None]
    if not drawn:
        return None
    ours = [version.certificate for life in drawn for version in _versions(life)]
    ends = [look.not_after for look in watched if look.not_after is not None]
    begins = [look.not_before for look in watched if look.not_before is not None]
    scale = _Scale(
        max(now - PAST, min([now, *begins, *(one.not_before for one in ours)])),
        min(
            now + FUTURE,
            max(
                [
                    now + _DAY,
                    *ends,
                    *(one.not_after for one in ours),
                    *(life.until or now for life in drawn),
                ]
            ),
        ),
    )
    bars = tuple(
        replace(
            _bar(life, scale, now),
            is_unseen=life.lineage in deployed and not (life.places or life.is_owned_elsewhere),
        )
        for life in drawn
    )
    below = tuple(_watched_bars(watched, scale, now))
    return Picture(bars, tuple(_ticks(scale)), scale.at(now), below)


def _versions(life: Life) -> Iterator[Version]:
    """Yield the versions drawn for a life."""
    yield from (version for version in (life.version, life.in_use) if version is not None)


class _Scale(Struct, frozen=True):
    begin: datetime  #: The moment at the left end.
    end: datetime  #: The moment at the right end.

    def at(self, moment: datetime) -> float:
        share = (moment - self.begin) / (self.end - self.begin)
        return round(100 * min(max(share, 0), 1), 2)

    def mark(self, moment: datetime | None) -> float | None:
        is_seen = moment is not None and self.begin <= moment <= self.end
        return self.at(moment) if moment is not None and is_seen else None

    def span(self, begin: datetime, end: datetime) -> Stretch:
        x = self.at(begin)
        return Stretch(x, round(max(self.at(end) - x, 0), 2))


def _bar(life: Life, scale: _Scale, now: datetime) -> Bar:
    window, end = life.window, life.in_use_until
    used = passed = newer = None
    if end is not None:
        begin = scale.begin if life.in_use is None else life.in_use.certificate.not_before
        used = scale.span(begin, end)
        passed = scale.span(begin, min(max(now, begin), end))
    if life.certificate is not None and life.version is not life.in_use:
        newer = scale.span(life.certificate.not_before, life.certificate.not_after)
    return Bar(
        life,
        used,
        passed,
        newer,
        window=None if window is None else scale.span(window.start, window.end),
        renewal=scale.mark(life.renew_at),
        upload=scale.mark(life.upload_until),
    )


def _watched_bars(
    looks: Iterable[WatchedHost], scale: _Scale, now: datetime
) -> Iterator[WatchedBar]:
    """Yield a bar for each look that found a certificate."""
    for look in looks:
        end = look.not_after
        if end is None:
            continue
        begin = scale.begin if look.not_before is None else look.not_before
        passed = scale.span(begin, min(max(now, begin), end))
        is_troubled = look.problem is not None and is_trouble(look)
        severity = look.problem.severity if look.problem and is_troubled else Severity.OK
        yield WatchedBar(look, scale.span(begin, end), passed, severity)


def _ticks(scale: _Scale) -> Iterator[Tick]:
    """Yield a tick for each month. A tick gets a label only if the label would not cover another
    label.
    """
    free_from = 0.0
    for month in _months(scale):
        x = scale.at(month)
        is_at_end = x > 100 - _LABEL
        begin = x - _LABEL if is_at_end else x
        is_labelled = begin >= free_from
        if is_labelled:
            free_from = begin + _LABEL
        yield Tick(x, month, is_labelled, is_at_end)


def _months(scale: _Scale) -> Iterator[datetime]:
    month = scale.begin.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month <= scale.end:
        if month >= scale.begin:
            yield month
        month = (month + timedelta(days=32)).replace(day=1)
