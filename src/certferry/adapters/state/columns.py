"""Conversions between fields and the columns of the schema.

certferry can read every value that certferry wrote. A value that cannot be read was written by
another program, and raises `StateError`; an unreadable sentence is replaced instead (`to_text`). A
field is stored unchanged, unless the `Table` names a conversion for the field::

    Table("issue_try", Try, "lineage", tried_at=MOMENT, names=NAMES)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from string import Formatter
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import asdict

from certferry.core.certificates.certificate import KeyType
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings
from certferry.errors import StateError
from certferry.text import Text

T = TypeVar("T")

Value = str | int | None
"""A value in a column. A `bool` is an `int`, and needs no conversion."""

UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


class NoText(str):
    """Bytes stored in SQLite by another program, shown as a text.

    Reading a `NoText` as a field raises `StateError`. The stored proof of a row (`row_proofs`)
    never fits a `NoText`, so the row counts as changed by another program. A `NoText` passed to a
    query as a parameter becomes the bytes again.
    """

    __slots__ = ("raw",)

    #: The stored bytes.
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> NoText:
        """Return a text that stands for bytes, and shows the first bytes in hex."""
        named = cls(f"x'{raw[:_NAMED_BYTES].hex()}'")
        named.raw = raw
        return named

    def __conform__(self, _: object) -> bytes:
        """Return the bytes (`sqlite3`, "How to adapt custom Python types to SQLite values")."""
        return self.raw


_NAMED_BYTES = 32


class Column(Struct, frozen=True):
    """The conversion between a field and the field's column; `None` is NULL in both directions."""

    #: Converts the field's value; without a function the value is stored unchanged.
    to_value: Callable[[Any], Value] | None = None
    #: Converts the column's value; raises `StateError` for another program's value.
    from_value: Callable[[Any], Any] | None = None
    #: The column's name, if different from the field's name.
    name: str | None = None

    def write(self, value: Any) -> Value:
        """Return the column's value for a field's value."""
        held: Value = value if value is None or self.to_value is None else self.to_value(value)
        return held

    def read(self, held: Any) -> Any:
        """Return the field's value for a column's value. Raises `StateError`."""
        if isinstance(held, NoText):
            raise corrupt()
        return held if held is None or self.from_value is None else self.from_value(held)

    def can_read(self, held: Any) -> bool:
        """Return whether `read` can read a column's value."""
        try:
            return self.read(held) is not _UNREADABLE_TEXT
        except StateError:
            return False

    def named(self, name: str) -> Column:
        """Return the same conversion for a column with another name."""
        return Column(self.to_value, self.from_value, name)


def from_moment(moment: datetime) -> str:
    """Return a moment as RFC 3339 text in UTC with microseconds. Texts sort in order of time."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def to_moment(text: str) -> datetime:
    """Read a moment that certferry wrote. Raises `StateError` outside the years 1970 to 8999, so
    that sums stay within the calendar.
    """
    return _moment(text, range(1970, 9000))


def to_validity(text: str) -> datetime:
    """Read the start or end of a certificate's validity. The year 9999 is allowed, because it
    stands for a validity without an end (RFC 5280 §4.1.2.5). Raises `StateError`.
    """
    return _moment(text, range(1950, 10_000))


def _moment(text: str, years: range) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except UNREADABLE as problem:
        raise corrupt() from problem
    if moment.tzinfo is None or moment.year not in years:
        raise corrupt()
    return moment


def from_names(names: Iterable[str]) -> str:
    """Return names as JSON, in the given order."""
    return json.dumps(list(names))


def to_names(text: str) -> tuple[str, ...]:
    """Return the names in JSON. Raises `StateError`."""
    return _read_json(text, _strings)


def _strings(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError
    return tuple(values)


def _plain_facts(facts: Mapping[str, str | Text]) -> dict[str, object]:
    return {name: as_plain(fact) for name, fact in facts.items()}


def _facts(facts: Any) -> dict[str, str | Text]:
    return {name: _fact(fact) for name, fact in facts.items()}


def _fact(plain: object) -> str | Text:
    fact = from_plain(plain)
    if not isinstance(fact, str | Text):
        raise ValueError
    return fact


def _number(held: object) -> int:
    if not isinstance(held, int):
        raise corrupt()
    return held


def _flag(held: object) -> bool:
    if held not in {0, 1}:
        raise corrupt()
    return bool(held)


def _seconds(held: object) -> timedelta:
    try:
        return timedelta(seconds=_number(held))
    except OverflowError as problem:
        raise corrupt() from problem


def _settings(kind: type[T]) -> Column:
    def read(settings: dict[str, Any]) -> T:
        versions = settings["tls_versions"]
        listed = None if versions is None else tuple(versions)
        return kind(**settings | {"tls_versions": listed})

    return Column(
        lambda settings: json.dumps(asdict(settings)), lambda text: _read_json(text, read)
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # so Chinese stays readable in the database


def _read_json(text: str, convert: Callable[[Any], T]) -> T:
    try:
        return convert(json.loads(text))
    except UNREADABLE as problem:
        raise corrupt() from problem


def read_as(kind: Callable[[Any], T], value: object) -> T:
    """Return a value as `kind`, such as an enumeration. Raises `StateError` for unknown values."""
    try:
        return kind(value)
    except ValueError as problem:
        raise corrupt() from problem


def corrupt() -> StateError:
    """Return the error for data written by another program."""
    return StateError(
        Text("the state contains data that certferry did not write"),
        hint=Text("put the state back from a backup, and check who else can write to the database"),
    )


def from_text(text: Text) -> str:
    """Return a sentence, with the sentence's values, as JSON."""
    return _json(as_plain(text))


_UNREADABLE_TEXT = Text("the state contains a sentence that certferry did not write")
_LONGEST_TEXT = 1_000_000
"""The most characters of a filled sentence, far more than certferry stores."""
_DEEPEST_TEXT = 20
"""How deep sentences may be nested: an error that quotes another error has three levels."""


def to_text(written: str) -> Text:
    """Return the sentence that a JSON text holds. If another program wrote the text, return
    `_UNREADABLE_TEXT`, so neither reading nor rendering raises an error.
    """
    try:
        text = _read_json(written, from_plain)
    except StateError:
        text = None
    return text if isinstance(text, Text) else _UNREADABLE_TEXT


def as_plain(value: object) -> object:
    """Return a sentence, or a sentence's value, as a value for JSON."""
    if isinstance(value, Text):
        values = {name: as_plain(filled) for name, filled in value.values.items()}
        return {"text": value.template, "values": values}
    if isinstance(value, datetime):
        return {"moment": from_moment(value)}
    if isinstance(value, timedelta):
        return {"seconds": value.total_seconds()}
    if isinstance(value, int | float):
        return value
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [as_plain(item) for item in value]
    return str(value)


def from_plain(value: object) -> object:
    """Return the sentence, or the value of a sentence, from the JSON value made by `as_plain`.

    Raises `ValueError` for a sentence that lacks values or becomes too long, and `StateError` or an
    error of `UNREADABLE` for any other malformed value.
    """
    text = _from_plain(value, _DEEPEST_TEXT)
    if _length(text) > _LONGEST_TEXT:
        raise ValueError
    return text


def _from_plain(value: object, depth: int) -> object:
    if depth == 0:
        raise ValueError
    if isinstance(value, list):
        return [_from_plain(item, depth - 1) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "moment" in value:
        return to_moment(value["moment"])
    if "seconds" in value:
        return timedelta(seconds=value["seconds"])
    values = {name: _from_plain(plain, depth - 1) for name, plain in value["values"].items()}
    if not isinstance(value["text"], str):
        raise ValueError
    text = Text(value["text"], **values)
    if values and not {*_places(text)} <= values.keys():
        raise ValueError
    return text


def _places(text: Text) -> Iterator[str]:
    """Return the placeholders of a sentence, with repetitions. Raises `ValueError` for a
    placeholder with a format, because a width could make the sentence arbitrarily long.
    """
    for _, place, form, conversion in Formatter().parse(text.template):
        if place is not None:
            if form or conversion or not place.isidentifier():
                raise ValueError
            yield place


def _length(value: object) -> int:
    """Return how many characters a value has at most when rendered."""
    if isinstance(value, Text):
        lengths = {name: _length(filled) for name, filled in value.values.items()}
        filled = _places(value) if lengths else ()
        return len(value.template) + sum(lengths[place] for place in filled)
    if isinstance(value, list):
        return sum(_length(item) + len(", ") for item in value)
    return len(str(value))


PLAIN = Column()
NUMBER = Column(from_value=_number)
FLAG = Column(from_value=_flag)
SECONDS = Column(from_value=_seconds)
MOMENT = Column(from_moment, to_moment)
VALIDITY = Column(from_moment, to_validity)
MOMENTS = Column(
    lambda moments: from_names(map(from_moment, moments)),
    lambda text: tuple(map(to_moment, to_names(text))),
)
NAMES = Column(from_names, to_names)
KEY_TYPE = Column(from_value=lambda value: read_as(KeyType, value))
FACTS = Column(lambda facts: _json(_plain_facts(facts)), lambda text: _read_json(text, _facts))
DESIRED, SETTINGS = _settings(DesiredHttps), _settings(HttpsSettings)
TEXT = Column(from_text, to_text)
