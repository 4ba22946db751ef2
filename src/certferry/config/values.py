"""Single values of a setting: each reader takes what TOML gave, or raises `ConfigError`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import date, time, timedelta
from typing import TypeVar

from certferry.config.findings import nearest
from certferry.errors import ConfigError
from certferry.text import Text

T = TypeVar("T")
Read = Callable[[object], T]

LONGEST = timedelta(days=3650)
"""More than a wait can mean; what lies beyond would overflow a date."""

_KINDS: tuple[tuple[type | tuple[type, ...], Text], ...] = (
    (bool, Text("true or false")),
    (str, Text("a string")),
    ((int, float), Text("a number")),
    (list, Text("a list")),
    (dict, Text("a table")),
    ((date, time), Text("a date or time")),
)


def wrong_type(wanted: Text, value: object) -> ConfigError:
    """Say what the value must be and what it is, without showing it: it may be a secret."""
    found = next((name for kind, name in _KINDS if isinstance(value, kind)), Text("something else"))
    return ConfigError(Text("must be {wanted}, and is {found}", wanted=wanted, found=found))


def with_example(wrong: ConfigError, value: object) -> ConfigError:
    """Add to what is said of a string that should be a list how its items are written as one."""
    if not isinstance(value, str) or not items_of(value):
        return wrong
    return ConfigError(
        Text("{problem}: write {items}", problem=wrong.message, items=as_list(items_of(value)))
    )


def items_of(written: str) -> list[str]:
    """Give the items that stand in one string, with commas, semicolons or spaces between them."""
    return [item for item in re.split(r"[\s,;，；、]+", written) if item]


def as_list(items: Sequence[str]) -> str:
    """Write a list as it stands in the file."""
    return json.dumps(list(items), ensure_ascii=False)


def string(value: object) -> str:
    """Take any string."""
    if not isinstance(value, str):
        raise wrong_type(Text("a string"), value)
    return value


def one_name(value: object) -> str:
    """Take the string of one name; where several stand in it, say how they are written."""
    written = string(value)
    items = items_of(written)
    if len(items) > 1 and all("." in item for item in items):
        raise ConfigError(
            Text("holds several names: write each in its own quotes: {items}", items=as_list(items))
        )
    return written


def word(value: object) -> str:
    """Take a string with something in it and no control characters."""
    written = string(value)
    if not written.strip():
        raise ConfigError(Text("is empty"))
    if not written.isprintable():
        raise ConfigError(Text("contains a character that cannot be printed"))
    return written


def flag(value: object) -> bool:
    """Take true or false."""
    if not isinstance(value, bool):
        raise wrong_type(Text("true or false"), value)
    return value


def number(value: object) -> float:
    """Take a whole or decimal number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(Text("a number"), value)
    return value


def whole_number(value: object) -> int:
    """Take a number without decimals."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(Text("a whole number"), value)
    return value


def port(value: object) -> int:
    """Take a TCP or UDP port."""
    written = whole_number(value)
    if not 1 <= written <= 65535:  # noqa: PLR2004 - RFC 768 and RFC 9293: ports have 16 bits
        raise ConfigError(Text("must be a port, from 1 to 65535"))
    return written


def seconds(value: object) -> timedelta:
    """Take a duration written as a number of seconds."""
    count = _amount(value, Text("a number of seconds"), timedelta(seconds=1))
    # TOML has `nan`, which is neither above nor below anything: asked this way, it is refused.
    if not 0 < count <= LONGEST.total_seconds():
        raise ConfigError(
            Text(
                "must be a number of seconds above 0, at most {most}",
                most=int(LONGEST.total_seconds()),
            )
        )
    return timedelta(seconds=count)


def days(value: object) -> timedelta:
    """Take a duration written as a number of days."""
    count = _amount(value, Text("a number of days"), timedelta(days=1))
    if not 0 <= count <= LONGEST.days:
        raise ConfigError(Text("must be a number of days from 0 to {most}", most=LONGEST.days))
    return timedelta(days=count)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d{1,9})\s*([smhdw]?)[a-z]*")


def _amount(value: object, wanted: Text, unit: timedelta) -> float:
    """Take a number; of a string such as "1h", say which number it would be."""
    if not isinstance(value, str):
        return number(value)
    found = _DURATION.fullmatch(value.strip().lower())
    wrong = wrong_type(wanted, value)
    if found is None:
        raise wrong
    meant = (
        timedelta(seconds=_UNITS[found[2]] * int(found[1])) if found[2] else int(found[1]) * unit
    )
    if meant % unit:
        raise wrong
    raise ConfigError(
        Text("{problem}: write {number}", problem=wrong.message, number=meant // unit)
    )


def one_of(words: Sequence[str]) -> Read[str]:
    """Make a reader that takes one of these words, spelled exactly."""

    def read(value: object) -> str:
        written = string(value)
        if written not in words:
            raise ConfigError(_not_one_of(written, words))
        return written

    return read


def flag_or_keep(value: object) -> bool | None:
    """Take true or false, or "keep", for which it gives `None`."""
    if value == "keep":
        return None
    if not isinstance(value, bool):
        raise ConfigError(Text('must be "keep", true or false'))
    return value


def _not_one_of(written: str, words: Sequence[str]) -> Text:
    meant = nearest(written, words)
    if meant is None:
        return Text("must be one of {words}", words=list(words))
    return Text("must be one of {words}; did you mean {word}?", words=list(words), word=meant)
