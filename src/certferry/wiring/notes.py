"""Notes of the state, which are JSON: what certferry did not write is as no note."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from certferry.adapters.state.columns import UNREADABLE
from certferry.errors import StateError

T = TypeVar("T")


def read_note(note: str | None, read: Callable[[Any], T], otherwise: T) -> T:
    """Return what `read` makes of a note's value; where there is no such note, `otherwise`."""
    if note is None:
        return otherwise
    try:
        return read(json.loads(note))
    except (*UNREADABLE, StateError):
        return otherwise
