"""From a deployment's table to what its target lets be told: the adapter declares it.

The adapter's `DeploySettings` is a frozen dataclass whose fields are the settings. Each has a
default, and one of these types:

- `Literal["a", "b"]`: one of these words
- `bool | None`: true or false; `"keep"`, like nothing at all, is `None`
- `tuple[Literal["a", "b"], ...] | None`: a list of these words; `"keep"` is `None`
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, cast, get_args, get_origin, get_type_hints

from certferry.config.table import Table
from certferry.config.values import flag_or_keep, one_of
from certferry.core.desired import HttpsWish, Kind
from certferry.text import Text

KIND = "kind"
WISHES = tuple(field.name for field in dataclasses.fields(HttpsWish))


class Judged(Protocol):
    """Settings of a deployment that may not go together."""

    def wrong(self, written: Iterable[str]) -> Mapping[str, Text]:
        """Tell what is wrong with which key, of those that are written."""
        ...


def may_be_told(settings_class: Any) -> tuple[str, ...]:
    """Give the settings that a target declares. Raises `TypeError` for what none may."""
    types = get_type_hints(settings_class)
    for field in dataclasses.fields(settings_class):
        if field.name not in {KIND, *WISHES} or field.default is dataclasses.MISSING:
            msg = f"no deployment can be told {field.name}: {types[field.name]}"
            raise TypeError(msg)
        words = choices(types[field.name])
        receivers = [word for word in words if field.name == KIND and Kind(word).is_receiver]
        if receivers:
            msg = f"no domain is any of {', '.join(receivers)}"
            raise TypeError(msg)
    return tuple(types)


def choices(written_type: Any) -> tuple[str, ...]:
    """Give the words that a field lets be written, none for one that takes no words."""
    if get_origin(written_type) is Literal:
        return get_args(written_type)
    return tuple(word for part in get_args(written_type) for word in choices(part))


def read_options(settings_class: Any, table: Table) -> tuple[Kind, HttpsWish]:
    """Read the settings that a target declares; what is wrong with them is reported."""
    types = get_type_hints(settings_class)
    names = may_be_told(settings_class)
    values = {name: _taken(name, types[name], settings_class, table) for name in names}
    options = settings_class(**values)
    if hasattr(options, "wrong"):
        written = [name for name in names if name in table]
        for key, problem in cast("Judged", options).wrong(written).items():
            table.report(key, problem)
    wishes = {name: value for name, value in values.items() if name in WISHES}
    return Kind(values.get(KIND, Kind.AUTO)), HttpsWish(**wishes)


def _taken(name: str, written_type: Any, settings_class: Any, table: Table) -> Any:
    words = choices(written_type)
    if not words:
        return table.take(name, flag_or_keep, None)
    if get_origin(written_type) is Literal:
        [field] = [field for field in dataclasses.fields(settings_class) if field.name == name]
        return table.take(name, one_of(words), field.default)
    return table.take_list(name, one_of(words), None, instead="keep")
