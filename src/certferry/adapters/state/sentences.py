"""Sentences in columns: JSON with their values, so that each reader has them in a language."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from certferry.adapters.state.columns import from_moment, spoilt, to_moment
from certferry.text import Text

_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


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
    except _UNREADABLE as problem:
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
