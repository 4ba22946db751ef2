"""Where in a TOML text each table, key and list item begins, so that messages can name the line.

The parser of the standard library keeps no positions. This reads the text a second time, knowing
already that it is valid, and therefore looks only at structure (https://toml.io/en/v1.0.0).
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass

Trail = tuple[str | int, ...]
"""What leads to a value: names in tables, and numbers (from 0) of items in lists."""

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""(?:"{0,2})'
    r"|'''(?:[^']|'(?!''))*'''(?:'{0,2})"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")  # a number, a truth value, or a date, which may hold a space


def index_lines(text: str) -> dict[Trail, int]:
    """Give the line (from 1) of everything in a valid TOML text.

    A table counts from its header, a key from its name, an item of a list from its value.
    """
    return _Reader(text.replace("\r\n", "\n")).read()


@dataclass(frozen=True, slots=True)
class TableLines:
    """The lines (from 1) of one table: from its header to the end of its last value, without what
    stands in other tables.
    """

    trail: Trail
    first: int
    last: int


def tables_in_order(text: str) -> list[TableLines]:
    """Give the tables of a valid TOML text that begin with a header, as they stand."""
    reader = _Reader(text.replace("\r\n", "\n"))
    reader.read()
    return reader.tables


class _Reader:
    """One pass over the text; `_at` is where it has come to."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[Trail, int] = {}
        self._items: dict[Trail, int] = {}
        self.tables: list[TableLines] = []

    def read(self) -> dict[Trail, int]:
        table: Trail = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text.startswith("[", self._at):
                first = self._line()
                table = self._header()
                self.tables.append(TableLines(table, first, first))
            else:
                self._pair(table)
                if self.tables:
                    begun = self.tables.pop()
                    # A value ends before the line end that follows it.
                    last = bisect_right(self._ends, self._at - 1) + 1
                    self.tables.append(TableLines(begun.trail, begun.first, last))
            self._skip(_BLANK)
        return self._lines

    def _header(self) -> Trail:
        line = self._line()
        is_item = self._text.startswith("[[", self._at)
        self._at += 2 if is_item else 1
        *parents, last = self._dotted_key()
        table = (*self._through_items((), parents, line), last)
        self._at += 2 if is_item else 1
        if is_item:
            number = self._items[table] = self._items.get(table, -1) + 1
            self._lines.setdefault(table, line)
            table = (*table, number)
        self._lines[table] = line
        return table

    def _through_items(self, start: Trail, names: list[str], line: int) -> Trail:
        """Follow the names; where one is a list of tables, its newest item is meant."""
        trail = start
        for name in names:
            trail = (*trail, name)
            self._lines.setdefault(trail, line)
            if trail in self._items:
                trail = (*trail, self._items[trail])
        return trail

    def _pair(self, table: Trail) -> None:
        line = self._line()
        *parents, last = self._dotted_key()
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        trail = (*self._through_items(table, parents, line), last)
        self._lines[trail] = line
        self._value(trail)

    def _dotted_key(self) -> list[str]:
        names = []
        while True:
            self._skip(_SPACE)
            quoted = self._skip(_STRING)
            names.append(tomllib.loads(f"key={quoted}")["key"] if quoted else self._skip(_BARE_KEY))
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return names
            self._at += 1

    def _value(self, trail: Trail) -> None:
        opening = self._text[self._at]
        if opening == "[":
            self._list(trail)
        elif opening == "{":
            self._inline_table(trail)
        elif not self._skip(_STRING):
            self._skip(_SCALAR)

    def _list(self, trail: Trail) -> None:
        number = 0
        while not self._closes("]"):
            item = (*trail, number)
            self._lines[item] = self._line()
            self._value(item)
            number += 1

    def _inline_table(self, trail: Trail) -> None:
        while not self._closes("}"):
            self._pair(trail)

    def _closes(self, bracket: str) -> bool:
        """Step over the opening bracket or comma, and over the closing bracket if it comes next."""
        self._skip(_BLANK)
        if self._text.startswith(bracket, self._at):
            self._at += 1
            return True
        self._at += 1
        self._skip(_BLANK)
        if self._text.startswith(bracket, self._at):
            self._at += 1
            return True
        return False

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _line(self) -> int:
        return bisect_right(self._ends, self._at) + 1
