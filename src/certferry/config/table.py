"""One table of the settings, taken key by key; what is wrong is collected, and reading goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from certferry.config.document import Place
from certferry.config.mistakes import Mistake, instead_of, said_below
from certferry.config.values import Read, with_example, wrong_type
from certferry.errors import ConfigError
from certferry.text import Text

T = TypeVar("T")
D = TypeVar("D")


class Table:
    """Takes each key once. `done` reports those that were not taken."""

    def __init__(self, values: Mapping[str, object], place: Place, mistakes: list[Mistake]) -> None:
        self.place = place
        self._values = values
        self._mistakes = mistakes
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def holds_table(self, key: str) -> bool:
        """Tell whether a table stands under this key."""
        return isinstance(self._values.get(key), dict)

    @property
    def written(self) -> Sequence[str]:
        """The settings that are there, known or not."""
        return list(self._values)

    @property
    def unknown(self) -> Sequence[str]:
        """The settings that are there and were neither taken nor allowed."""
        return [key for key in self._values if key not in self._known]

    def is_list(self, key: str) -> bool:
        """Tell whether a list is written there."""
        return isinstance(self._values.get(key), list)

    def take(self, key: str, read: Read[T], default: D) -> T | D:
        """Give the key's value; the default when it is absent or wrong."""
        self.allow(key)
        if key not in self._values:
            return default
        try:
            return read(self._values[key])
        except ConfigError as exc:
            self.complain(key, exc)
            return default

    def take_list(
        self, key: str, read: Read[T], default: D, *, instead: str = "", empty: bool = False
    ) -> tuple[T, ...] | D:
        """Give a list's items, without the wrong ones; each of those is reported at its line.

        The word `instead` may stand in place of a list and means the default; `empty` allows a
        list of nothing.
        """
        written = self.take(key, _list_or(instead, empty=empty), None)
        if written is None:
            return default
        found = []
        for number, value in enumerate(written):
            try:
                found.append(read(value))
            except ConfigError as exc:
                self.complain(key, exc, item=number)
        return tuple(found)

    def table(self, key: str) -> Table:
        """Give a table inside this one; an empty one when it is absent or is no table."""
        return Table(self.take(key, _a_table, {}), self.place.below(key), self._mistakes)

    def tables(self, key: str) -> Iterator[Table]:
        """Give the tables under `[[key]]`, in order; what is not one is reported."""
        header = self.place.below(key, 0).title
        items = self.take(key, _tables_under(header), [])
        for number, values in enumerate(items):
            yield Table(values, self.place.below(key, number), self._mistakes)

    def named_tables(self) -> Iterator[tuple[str, Table, Mapping[str, object]]]:
        """Give every key of this table that holds a table, with its values as they stand."""
        for key in self._values:
            values = self.take(key, _a_table, None)
            if values is not None:
                yield key, Table(values, self.place.below(key), self._mistakes), values

    def allow(self, *settings: str) -> None:
        """Count these settings as known."""
        self._known += settings

    def report(self, key: str, problem: Text, *, item: int | None = None) -> None:
        """Note what is wrong with a key, or with one item of its list."""
        self._mistakes.append(self.place.mistake(key, problem, item=item))

    def complain(self, key: str, exc: ConfigError, *, item: int | None = None) -> None:
        """Note an error of a key, with what is to be done."""
        if said_below(exc.hint):
            found = self.place.mistake(key, exc.message, item=item)
            self._mistakes.append(replace(found, hint=exc.hint))
        else:
            self.report(key, with_hint(exc), item=item)

    def done(self) -> None:
        """Report every key that was not taken, with the nearest one that could be meant."""
        known = list(dict.fromkeys(self._known))
        for key in self._values:
            if key not in known:
                self.report(key, Text("unknown key; {meant}", meant=instead_of(key, known)))


def with_hint(exc: ConfigError) -> Text:
    """Give an error's message with its hint behind it, for one line in a list of mistakes."""
    if exc.hint is None:
        return exc.message
    return Text("{problem}; {hint}", problem=exc.message, hint=exc.hint)


def _list_or(instead: str, *, empty: bool) -> Read[list[object] | None]:
    def read(value: object) -> list[object] | None:
        if instead and value == instead:
            return None
        if not isinstance(value, list):
            wanted = Text('"{word}" or a list', word=instead) if instead else Text("a list")
            raise with_example(wrong_type(wanted, value), value)
        if not value and not empty:
            raise ConfigError(Text("is an empty list"))
        return value

    return read


def _a_table(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise wrong_type(Text("a table"), value)
    return value


def _tables_under(header: str) -> Read[list[Mapping[str, object]]]:
    def read(value: object) -> list[Mapping[str, object]]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise ConfigError(Text("must be tables, each under its own {header}", header=header))
        return value

    return read
