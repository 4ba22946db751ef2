"""How values stand in the columns of the schema. A value that cannot be read back was written by
another program, and is an error of the state.
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
"""What a column holds. A `bool` is an `int`, and is bound as it is."""

UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


class NoText(str):
    """Bytes that another program stored as a value in SQLite, named by a text: parsing the text
    fails, no proof fits, and a row with such a value counts as absent. A query that has the value
    as a parameter asks for the bytes.
    """

    __slots__ = ("raw",)

    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> NoText:
        """Return the value for bytes, named by the first of them."""
        named = cls(f"x'{raw[:_NAMED_BYTES].hex()}'")
        named.raw = raw
        return named

    def __conform__(self, _: object) -> bytes:
        """Return the bytes (`sqlite3`, "How to adapt custom Python types to SQLite values")."""
        return self.raw


_NAMED_BYTES = 32


class Column(Struct, frozen=True):
    """How a field is written in its column and read from it; `None` is NULL. `name` is the
    column's, where it is not the field's.
    """

    to_value: Callable[[Any], Value] | None = None
    from_value: Callable[[Any], Any] | None = None
    name: str | None = None

    def write(self, value: Any) -> Value:
        """Return what the column is to hold."""
        held: Value = value if value is None or self.to_value is None else self.to_value(value)
        return held

    def read(self, held: Any) -> Any:
        """Return what the column says. Raises `StateError`."""
        if isinstance(held, NoText):
            raise corrupt()
        return held if held is None or self.from_value is None else self.from_value(held)

    def can_read(self, held: Any) -> bool:
        """Return whether the column holds a value of its kind."""
        try:
            return self.read(held) is not _UNREADABLE_TEXT
        except StateError:
            return False

    def named(self, name: str) -> Column:
        """Return the same under another name."""
        return Column(self.to_value, self.from_value, name)


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
    except UNREADABLE as problem:
        raise corrupt() from problem
    if moment.tzinfo is None or moment.year not in years:
        raise corrupt()
    return moment


def from_names(names: Iterable[str]) -> str:
    """Write names, in their order."""
    return json.dumps(list(names))


def to_names(written: str) -> tuple[str, ...]:
    """Read names."""
    return _read_json(written, _strings)


def _strings(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError
    return tuple(values)


def _facts(facts: Any) -> dict[str, str]:
    return dict(zip(facts.keys(), _strings([*facts.values()]), strict=True))


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
        lambda settings: json.dumps(asdict(settings)), lambda written: _read_json(written, read)
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # Chinese stays readable in the database


def _read_json(written: str, read: Callable[[Any], T]) -> T:
    try:
        return read(json.loads(written))
    except UNREADABLE as problem:
        raise corrupt() from problem


def read_as(kind: Callable[[Any], T], value: object) -> T:
    """Return a value of a kind. Raises `StateError` for a value that the kind does not have."""
    try:
        return kind(value)
    except ValueError as problem:
        raise corrupt() from problem


def corrupt() -> StateError:
    """Return the error for what certferry did not write."""
    return StateError(
        Text("the state contains data that certferry did not write"),
        hint=Text("put it back from a backup, and see who else can write to it"),
    )


def from_text(text: Text) -> str:
    """Write a sentence with its values."""
    return _json(as_plain(text))


_UNREADABLE_TEXT = Text("the state contains a sentence that certferry did not write")
_LONGEST_TEXT = 1_000_000
"""Characters of a sentence with its values, far more than any has that is stored."""
_DEEPEST_TEXT = 20
"""How deep sentences stand in one another: an error that quotes another error has three."""


def to_text(written: str) -> Text:
    """Read a sentence. Of one that certferry did not write, the sentence says that alone: it raises
    nothing, neither here nor when it is rendered, and does not grow.
    """
    try:
        text = _read_json(written, from_plain)
    except StateError:
        text = None
    return text if isinstance(text, Text) else _UNREADABLE_TEXT


def as_plain(value: object) -> object:
    """Return a sentence, or a value of one, as JSON can hold it."""
    if isinstance(value, Text):
        values = {name: as_plain(one) for name, one in value.values.items()}
        return {"text": value.template, "values": values}
    if isinstance(value, datetime):
        return {"moment": from_moment(value)}
    if isinstance(value, timedelta):
        return {"seconds": value.total_seconds()}
    if isinstance(value, int | float):
        return value
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [as_plain(one) for one in value]
    return str(value)


def from_plain(value: object) -> object:
    """Read a sentence, or a value of one. Raises what its parts raise where they are no such, and
    `ValueError` for a sentence that cannot be filled, or becomes too long.
    """
    read = _from_plain(value, _DEEPEST_TEXT)
    if _length(read) > _LONGEST_TEXT:
        raise ValueError
    return read


def _from_plain(value: object, depth: int) -> object:
    if depth == 0:
        raise ValueError
    if isinstance(value, list):
        return [_from_plain(one, depth - 1) for one in value]
    if not isinstance(value, Mapping):
        return value
    if "moment" in value:
        return to_moment(value["moment"])
    if "seconds" in value:
        return timedelta(seconds=value["seconds"])
    values = {name: _from_plain(one, depth - 1) for name, one in value["values"].items()}
    if not isinstance(value["text"], str):
        raise ValueError
    text = Text(value["text"], **values)
    if values and not {*_places(text)} <= values.keys():
        raise ValueError
    return text


def _places(text: Text) -> Iterator[str]:
    """Return the places of a sentence, each as often as it stands there. Raises `ValueError` for
    one that asks for more than its value as it is: a width would be as many characters.
    """
    for _, place, form, conversion in Formatter().parse(text.template):
        if place is not None:
            if form or conversion or not place.isidentifier():
                raise ValueError
            yield place


def _length(value: object) -> int:
    """Return how many characters a value may have when it is rendered."""
    if isinstance(value, Text):
        lengths = {name: _length(one) for name, one in value.values.items()}
        filled = _places(value) if lengths else ()
        return len(value.template) + sum(lengths[place] for place in filled)
    if isinstance(value, list):
        return sum(_length(one) + len(", ") for one in value)
    return len(str(value))


PLAIN = Column()
NUMBER = Column(from_value=_number)
FLAG = Column(from_value=_flag)
SECONDS = Column(from_value=_seconds)
MOMENT = Column(from_moment, to_moment)
VALIDITY = Column(from_moment, to_validity)
MOMENTS = Column(
    lambda moments: from_names(map(from_moment, moments)),
    lambda written: tuple(map(to_moment, to_names(written))),
)
NAMES = Column(from_names, to_names)
KEY_TYPE = Column(from_value=lambda written: read_as(KeyType, written))
FACTS = Column(lambda facts: _json(dict(facts)), lambda written: _read_json(written, _facts))
DESIRED, SETTINGS = _settings(DesiredHttps), _settings(HttpsSettings)
TEXT = Column(from_text, to_text)
