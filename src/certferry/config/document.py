"""Read the configuration file as TOML, and find the lines of its tables and keys for messages."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from msgspec import Struct

from certferry.config.files import OTHERS_READ, decode_text, read_file
from certferry.config.mistakes import Mistake, config_error, mistake_at
from certferry.errors import ConfigError
from certferry.file_trust import NotTrusted
from certferry.text import Text, verbatim
from certferry.values import replace

Trail = tuple[str | int, ...]
"""The position of a value in a document: names of tables and keys, and numbers (from 0) of items in
lists.
"""

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


class TableLines(Struct, frozen=True):
    """The lines (from 1) of one table, from the header to the last value, without tables below."""

    #: The table's position in the document.
    trail: Trail
    #: The line of the header.
    first: int
    #: The last line of the last value; the header's line for an empty table.
    last: int


class LineIndex:
    """The lines of all tables, keys and list items in a valid TOML text. `tomllib` returns values
    without lines, so this class is a small reader of TOML that finds the lines.
    """

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        # The reader's position in the text.
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", self._text)]
        self._items: dict[Trail, int] = {}
        # The line (from 1) of each table header, key and list item.
        self.lines: dict[Trail, int] = {}
        # The tables with a header, in order.
        self.tables: list[TableLines] = []
        self._read()

    def _read(self) -> None:
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
                    # The position is past the line's end, so step back to the value's last
                    # character.
                    last = bisect_right(self._ends, self._at - 1) + 1
                    self.tables[-1] = replace(self.tables[-1], last=last)
            self._skip(_BLANK)

    def _header(self) -> Trail:
        line = self._line()
        is_item = self._text.startswith("[[", self._at)
        self._at += 2 if is_item else 1
        *parents, last = self._dotted_key()
        table = (*self._through_items((), parents, line), last)
        self._at += 2 if is_item else 1
        if is_item:
            number = self._items[table] = self._items.get(table, -1) + 1
            self.lines.setdefault(table, line)
            table = (*table, number)
        self.lines[table] = line
        return table

    def _through_items(self, start: Trail, names: list[str], line: int) -> Trail:
        """Return the trail from `start` along `names`. In a list of tables, the trail leads through
        the newest item.
        """
        trail = start
        for name in names:
            trail = (*trail, name)
            self.lines.setdefault(trail, line)
            if trail in self._items:
                trail = (*trail, self._items[trail])
        return trail

    def _pair(self, table: Trail) -> None:
        line = self._line()
        *parents, last = self._dotted_key()
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        trail = (*self._through_items(table, parents, line), last)
        self.lines[trail] = line
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
            number = 0
            while not self._closes("]"):
                item = (*trail, number)
                self.lines[item] = self._line()
                self._value(item)
                number += 1
        elif opening == "{":
            while not self._closes("}"):
                self._pair(trail)
        elif not self._skip(_STRING):
            self._skip(_SCALAR)

    def _closes(self, bracket: str) -> bool:
        """Step over the opening bracket or comma, and over the closing bracket if the closing
        bracket comes next. Return whether the bracket was closed.
        """
        self._skip(_BLANK)
        is_over = self._text[self._at] == bracket
        self._at += 1
        if not is_over:
            self._skip(_BLANK)
            is_over = self._text.startswith(bracket, self._at)
            self._at += is_over
        return is_over

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _line(self) -> int:
        return bisect_right(self._ends, self._at) + 1


_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_YAML = re.compile(r"---\s*$|- |[A-Za-z_][\w.-]*:(\s|$)")
_QUOTED_OR_COMMENT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|#.*")
_IN_ASCII = {
    **dict.fromkeys("“”„‟«»＂", '"'),
    **dict.fromkeys("‘’‚‛＇", "'"),
    **dict.fromkeys("，、", ","),
    **dict(zip("＝【】［］｛｝＃", "=[][]{}#", strict=True)),
}
"""Characters of Chinese keyboards and word processors, with the TOML characters meant."""
_FULL_WIDTH = re.compile("|".join(_IN_ASCII))
_PARSER_SAYS = {
    "Unclosed array": Text("a comma or a closing bracket is missing"),
    "Illegal character '\\n'": Text("a closing quote is missing"),
    "Expected '=' after a key in a key/value pair": Text("a = is missing after the key"),
    "Expected newline or end of document after a statement": Text("the line should end here"),
    "Cannot overwrite a value": Text("the key appears twice"),
    "Invalid value": Text("Invalid value"),
}
"""Clearer sentences for common mistakes, by the message of tomllib (Python's
Lib/tomllib/_parser.py).
"""
_OTHER_FORMAT = Text(
    "certferry reads TOML: `certferry init` writes a configuration file, and `certferry help"
    " config` explains the settings"
)
_NOT_THERE = Text("give the file with --config FILE, or create a file: certferry init")


@dataclass(frozen=True)
class Document:
    """A configuration as read: the values and the text."""

    #: The file; `None` for a document put together in memory.
    path: Path | None
    #: The values as `tomllib` returns them; may hold secrets, so never printed.
    values: Mapping[str, object] = field(repr=False)
    #: The text of the file, for line numbers; empty if the document was put together in memory.
    text: str = field(default="", repr=False)
    #: Whether other users can read the file, so a literal secret in the file is refused.
    readable_by_others: bool = False

    def tables(self, key: str) -> dict[str, Mapping[str, object]]:
        """Return the tables inside the table at `key`, by name. Other values are left out."""
        value = self.values.get(key)
        inside = value.items() if isinstance(value, dict) else ()
        return {label: table for label, table in inside if isinstance(table, dict)}

    def line(self, trail: Trail) -> int | None:
        """Return the line (from 1) of a value, or of the nearest table or list around the value.
        Return `None` if the text has neither.
        """
        while trail:
            if trail in self._lines:
                return self._lines[trail]
            trail = trail[:-1]
        return None

    @cached_property
    def _lines(self) -> dict[Trail, int]:
        return LineIndex(self.text).lines


class Place(Struct, frozen=True):
    """The position of a table in a document, for messages about mistakes in the table."""

    #: The document with the table.
    document: Document
    #: The table's position; empty for the keys above the first table.
    trail: Trail = ()

    def below(self, *trail: str | int) -> Place:
        """Return the place of a table inside this one."""
        return Place(self.document, (*self.trail, *trail))

    def mistake(self, key: str, problem: Text, *, item: int | None = None) -> Mistake:
        """Return the mistake of a key, or of one item (from 0) in the key's list. Without a `key`,
        return a mistake of the table.
        """
        trail: Trail = (*self.trail, key) if key else self.trail
        return mistake_at(
            path=self.document.path,
            line=self.document.line(trail if item is None else (*trail, item)),
            table=self.title,
            key=key,
            message=problem,
        )

    @property
    def line(self) -> int | None:
        """The line (from 1) of the table's header, or else of a table around; `None` if unknown."""
        return self.document.line(self.trail)

    @property
    def title(self) -> str:
        """The table's header, such as `[accounts.mine]`; empty for the keys above the first table,
        and for a document without a file.
        """
        if not self.trail or self.document.path is None:
            return ""
        dotted = ".".join(_spelled(key) for key in self.trail if isinstance(key, str))
        return f"[[{dotted}]]" if isinstance(self.trail[-1], int) else f"[{dotted}]"


def read_document(path: Path) -> Document:
    """Read a configuration file. Raises `ConfigError` for a file that cannot be read or is not
    TOML, in the latter case with the line.
    """
    try:
        data, mode = read_file(path)
        text = decode_text(path, data)
    except ConfigError as exc:
        line, problem, hint = None, exc.message, exc.hint
        match exc.__cause__:
            case NotTrusted() as open_to:
                problem, hint = open_to.problem, open_to.fix
            case FileNotFoundError():
                hint = _NOT_THERE
            case UnicodeDecodeError() as error:
                line = error.object.count(b"\n", 0, error.start) + 1
        raise config_error([mistake_at(path, line, "", "", problem, hint)]) from exc
    return Document(path, _parse(path, text), text, bool(mode & OTHERS_READ))


def document_of(path: Path, text: str) -> Document:
    """Read a text that will become a file readable only by its owner. Raises `ConfigError`."""
    return Document(path, _parse(path, text), text)


def _parse(path: Path, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        problem = Text("is nested too deeply")
        raise config_error([mistake_at(path, None, "", "", problem)]) from None
    except ValueError as exc:  # TOMLDecodeError; and ValueError for an absurdly long number
        raise config_error([_syntax_finding(path, text, str(exc))]) from None


def _syntax_finding(path: Path, text: str, message: str) -> Mistake:
    """Return a mistake for a text that is not TOML, with the line, from the parser's `message`. The
    parser quotes at most single characters of the text, so the mistake shows no secret.
    """
    place = _TOML_PLACE.search(message)
    words = message[: place.start()] if place else message
    reason = _PARSER_SAYS.get(words) or verbatim(words)
    other = _other_format(text)
    if other is not None:
        return mistake_at(
            path, 1, "", "", Text("is {format}, not TOML", format=other), _OTHER_FORMAT
        )
    if place is None or place[1] is None:
        line, problem = (
            text.rstrip().count("\n") + 1,
            Text("is not TOML: {problem}", problem=reason),
        )
    else:
        line = int(place[1])
        problem = Text("is not TOML at column {column}: {problem}", column=place[2], problem=reason)
    # A likely cause is a full-width character in place of a TOML character. The parser names the
    # line after an unclosed string or list, so the line before is searched too. Quoted text and
    # comments are left out, because they may hold any character.
    for number in (line, line - 1):
        row = "".join(text.split("\n")[number - 1 : number])
        match = _FULL_WIDTH.search(_QUOTED_OR_COMMENT.sub("", row))
        if match is not None:
            meant = _IN_ASCII[match[0]]
            fix = Text("write {ascii} instead of {character}", ascii=meant, character=match[0])
            where = Text("{problem}; the line contains {character}, but TOML allows only {ascii}")
            where = where.filled(problem=problem, character=match[0], ascii=meant)
            return mistake_at(path, number, "", "", where, fix)
    if words == "Invalid value":
        problem = Text("{problem}; strings need quotes", problem=problem)
    return mistake_at(path, line, "", "", problem)


def _other_format(text: str) -> str | None:
    """Return the format suggested by the first line with content; `None` for other text."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if first.startswith("{"):
        return "JSON"
    return "YAML" if _YAML.match(first) else None


def _spelled(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else f'"{key}"'
