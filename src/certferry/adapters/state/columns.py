"""How values are written in the columns of the schema. What cannot be read back was written by
another program, and is told as a `StateError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from certferry.core.certificates.certificate import KeyType
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings
from certferry.errors import StateError
from certferry.text import Text

T = TypeVar("T", DesiredHttps, HttpsSettings)

_UNREADABLE = (ValueError, TypeError, KeyError, RecursionError)


def from_moment(moment: datetime) -> str:
    """Write a moment as RFC 3339 text in UTC with microseconds: sorted as text, sorted in time."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def to_moment(written: str) -> datetime:
    """Read a moment of our own: to add to it or take from it leads to no end of the calendar."""
    return _moment(written, range(1970, 9000))


def to_validity(written: str) -> datetime:
    """Read when a certificate begins or ends: with the calendar, perhaps (RFC 5280 §4.1.2.5)."""
    return _moment(written, range(1950, 10_000))


def _moment(written: str, years: range) -> datetime:
    try:
        moment = datetime.fromisoformat(written)
        if moment.tzinfo is None or moment.year not in years:
            raise ValueError(written)
    except _UNREADABLE as problem:
        raise spoilt() from problem
    return moment


def from_optional_moment(moment: datetime | None) -> str | None:
    """Write a moment that may be unknown."""
    return None if moment is None else from_moment(moment)


def to_optional_moment(written: str | None) -> datetime | None:
    """Read a moment that may be unknown."""
    return None if written is None else to_moment(written)


def from_moments(moments: Sequence[datetime]) -> str:
    """Write moments, in their order."""
    return json.dumps([from_moment(moment) for moment in moments])


def to_moments(written: str) -> tuple[datetime, ...]:
    """Read moments."""
    return tuple(map(to_moment, to_names(written)))


def from_names(names: tuple[str, ...]) -> str:
    """Write names, in their order."""
    return json.dumps(names)


def to_names(written: str) -> tuple[str, ...]:
    """Read names."""
    try:
        return tuple(json.loads(written))
    except _UNREADABLE as problem:
        raise spoilt() from problem


def to_optional_key_type(written: str | None) -> KeyType | None:
    """Read a kind of key that may be unknown."""
    try:
        return None if written is None else KeyType(written)
    except ValueError as problem:
        raise spoilt() from problem


def from_facts(facts: Mapping[str, str]) -> str:
    """Write the facts of a history entry; Chinese stays readable in the database."""
    return json.dumps(dict(facts), ensure_ascii=False)


def to_facts(written: str) -> dict[str, str]:
    """Read facts."""
    try:
        return dict(json.loads(written))
    except _UNREADABLE as problem:
        raise spoilt() from problem


def from_optional_settings(settings: DesiredHttps | HttpsSettings | None) -> str | None:
    """Write settings that may be unknown."""
    return None if settings is None else json.dumps(asdict(settings))


def to_optional_wish(written: str | None) -> DesiredHttps | None:
    """Read settings that were sent, where they are known."""
    return None if written is None else _settings(written, DesiredHttps)


def to_optional_settings(written: str | None) -> HttpsSettings | None:
    """Read settings that were seen, where they are known."""
    return None if written is None else _settings(written, HttpsSettings)


def _settings(written: str, into: type[T]) -> T:
    try:
        settings: dict[str, Any] = json.loads(written)
        versions = settings["tls_versions"]
        listed = None if versions is None else tuple(versions)
        return into(**settings | {"tls_versions": listed})
    except _UNREADABLE as problem:
        raise spoilt() from problem


def spoilt() -> StateError:
    """Give the error for what certferry did not write."""
    return StateError(
        Text("the state holds what certferry did not write"),
        hint=Text("put it back from a backup, and see who else can write to it"),
    )


_UNREADABLE_SENTENCE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    OverflowError,
)


def from_text(text: Text) -> str:
    """Write a sentence; Chinese stays readable in the database."""
    return json.dumps(_written(text), ensure_ascii=False)


def from_optional_text(text: Text | None) -> str | None:
    """Write a sentence that may be missing."""
    return None if text is None else from_text(text)


def to_text(written: str) -> Text:
    """Read a sentence. Raises `StateError` for what certferry did not write."""
    try:
        text = _read(json.loads(written))
    except _UNREADABLE_SENTENCE as problem:
        raise spoilt() from problem
    if not isinstance(text, Text):
        raise spoilt()
    return text


def to_optional_text(written: str | None) -> Text | None:
    """Read a sentence that may be missing."""
    return None if written is None else to_text(written)


def _written(value: object) -> object:
    if isinstance(value, Text):
        values = {name: _written(one) for name, one in value.values.items()}
        return {"text": value.template, "values": values}
    if isinstance(value, datetime):
        return {"moment": from_moment(value)}
    if isinstance(value, timedelta):
        return {"seconds": value.total_seconds()}
    if isinstance(value, int | float):
        return value
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_written(one) for one in value]
    return str(value)


def _read(value: object) -> object:
    if isinstance(value, list):
        return [_read(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    if "moment" in value:
        return to_moment(value["moment"])
    if "seconds" in value:
        return timedelta(seconds=value["seconds"])
    values = {name: _read(one) for name, one in value["values"].items()}
    return Text(value["text"], **values)
