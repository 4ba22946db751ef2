"""A domain's HTTPS settings: where what was found differs from what is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields

from certferry.core.change import UNKNOWN, Change
from certferry.core.desired import HttpsWish
from certferry.core.https_settings import HttpsSettings
from certferry.core.observed import (
    DomainState,
    ObservedDomain,
)
from certferry.core.rollout_record import LAG, RolloutRecord
from certferry.text import Text

_NAMES = tuple(field.name for field in fields(HttpsWish))


def setting_changes(wish: HttpsWish, domain: ObservedDomain) -> tuple[Change, ...]:
    """List where a domain's settings differ from what is asked for.

    What the target does not tell differs until it has been sent, which is all that can be known of
    it. Where there is nothing to set, there is nothing to wish for.
    """
    if not domain.has_settings:
        return ()
    return tuple(
        _setting_change(name, domain, _in_words(getattr(wish, name)))
        for name in _differing(wish, domain)
    )


def changes_unasked(
    before: HttpsSettings, asked: HttpsWish | None, now: HttpsSettings
) -> tuple[Change, ...]:
    """List which settings differ from what they were before a change that did not ask for it, as
    far as the target told them both times.
    """
    wish = asked or HttpsWish()
    return tuple(
        Change(name, _in_words(getattr(before, name)), _in_words(getattr(now, name)))
        for name in _NAMES
        if getattr(wish, name) is None
        and None not in {getattr(before, name), getattr(now, name)}
        and _unordered(getattr(before, name)) != _unordered(getattr(now, name))
    )


def as_wished(name: str, wish: HttpsWish, sent: HttpsWish | None) -> bool:
    """Tell whether a setting was sent as it is wished now."""
    return sent is not None and _unordered(getattr(sent, name)) == _unordered(getattr(wish, name))


def in_sentences(changes: Iterable[Change]) -> list[Text]:
    """Give the changes for a sentence that lists them."""
    return [
        Text(
            "{setting} {before} → {after}",
            setting=change.what,
            before=UNKNOWN if change.was == UNKNOWN.template else change.was,
            after=change.becomes,
        )
        for change in changes
    ]


def _differing(wish: HttpsWish, domain: ObservedDomain) -> Iterator[str]:
    sent = (None if domain.bound is None else _sent(domain)) or HttpsWish()
    for name in _NAMES:
        wished, found = getattr(wish, name), getattr(domain.https, name)
        known = getattr(sent, name) if found is None else found
        if wished is not None and _unordered(wished) != _unordered(known):
            yield name


def _sent(domain: ObservedDomain) -> HttpsWish | None:
    """Return what the domain was last sent, unless it is that change which has failed."""
    record = domain.last
    if record is None or (domain.state is DomainState.FAILED and not _has_succeeded(record)):
        return None
    return record.sent


def _has_succeeded(record: RolloutRecord) -> bool:
    # What was seen at once may have been what was there before the change.
    return record.verified_at is not None and record.verified_at - record.asked_at >= LAG


def _unordered(value: object) -> object:
    """Versions are a set, whatever order they are written in."""
    return frozenset(value) if isinstance(value, tuple) else value


def _setting_change(name: str, domain: ObservedDomain, after: str) -> Change:
    found = getattr(domain.https, name)
    if found is not None:
        return Change(name, _in_words(found), after)
    return Change(name, None, after, untold=domain.bound is not None)


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
