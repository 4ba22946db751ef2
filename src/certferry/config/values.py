"""Readers of single values, which raise `ConfigError`, and of tables, which collect mistakes."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, time, timedelta
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from certferry.config.document import Place
from certferry.config.mistakes import Mistake, instead_of, nearest, said_below
from certferry.core.network import is_loopback
from certferry.errors import ConfigError
from certferry.text import Text

DNS_PORT = 53  # RFC 1035 §4.2

DIRECTORIES: Mapping[str, str] = MappingProxyType(
    {
        "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
        "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
        "zerossl": "https://acme.zerossl.com/v2/DV90",
        "google": "https://dv.acme-v02.api.pki.goog/directory",
    }
)
"""Directories by the names operators know them under, as their owners publish them (2026)."""

STAGING: Mapping[str, str] = MappingProxyType(
    {DIRECTORIES["letsencrypt"]: DIRECTORIES["letsencrypt-staging"]}
)
"""Where a directory's configuration can be tried, as its owner publishes it."""

_SERVER = re.compile(
    r"\[(?P<v6>[^\]]+)\](?::(?P<v6_port>\d{1,5}))?|(?P<v4>[^:]+)(?::(?P<v4_port>\d{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A name server: its IP address and port."""

    host: str
    port: int = DNS_PORT


def server_address(value: object) -> ServerAddress:
    """Take `address`, `address:port` or `[IPv6]:port`: a name would need another name server."""
    written = word(value).strip()
    parts = _SERVER.fullmatch(written)
    host = (parts["v6"] or parts["v4"]) if parts else written
    port = int((parts and (parts["v6_port"] or parts["v4_port"])) or DNS_PORT)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not 1 <= port <= 65535:  # noqa: PLR2004 - RFC 768: ports have 16 bits
        problem = Text(
            "{server} is not the address of a name server; write 192.0.2.1, 192.0.2.1:5353 or"
            " [2001:db8::1]:5353"
        )
        raise ConfigError(problem.filled(server=repr(written)))
    return ServerAddress(str(address), port)


def email_address(value: object) -> str:
    """Accept what a CA or a vendor would accept as a mail address."""
    written = word(value)
    name, at, host = written.rpartition("@")
    if not (name and at and "." in host) or " " in written or ":" in written:
        raise ConfigError(Text("must be an address such as ops@example.com"))
    return written


def https_url(value: object) -> str:
    """Take an https address; plain http only on loopback, where no other machine can listen in."""
    written = word(value)
    parts = split_url(written)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(Text("must not hold a user name or password"))
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        problem = Text("must begin with https://; http:// is for addresses of this machine only")
        raise ConfigError(problem)
    return written


def proxy_url(value: object) -> str:
    """Take the address of a proxy; what is asked through it is encrypted to its end anyway."""
    written = word(value)
    scheme = written.partition("://")[0].lower()
    if scheme.startswith("socks"):
        raise ConfigError(
            Text("certferry does not support SOCKS proxies; write the proxy's http:// address")
        )
    if split_url(written).username is not None:
        raise ConfigError(
            Text("must not hold a user name or password; a proxy with one goes into HTTPS_PROXY")
        )
    return written


def directory_url(value: object) -> str:
    """Take the name of a well-known directory, or the URL of another (RFC 8555 §7.1.1)."""
    written = word(value)
    if written in DIRECTORIES:
        return DIRECTORIES[written]
    if "://" in written:
        return https_url(written)
    meant, known = nearest(written, DIRECTORIES), list(DIRECTORIES)
    if meant is None:
        raise ConfigError(Text("must be an https URL or one of {names}", names=known))
    problem = Text("must be an https URL or one of {names}; did you mean {word}?")
    raise ConfigError(problem.filled(names=known, word=meant))


def split_url(written: str) -> SplitResult:
    """Take a URL of http or https apart. Raises `ConfigError`."""
    try:
        parts = urlsplit(written)
        complete = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # an unclosed bracket, or a port that is no port
        complete = False
    if not complete or " " in written:
        raise ConfigError(Text("must be a URL such as https://host/path"))
    return parts


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
    """Return what the value must be and what it is, without showing it: it may be a secret."""
    found = next((name for kind, name in _KINDS if isinstance(value, kind)), Text("something else"))
    return ConfigError(Text("must be {wanted}, and is {found}", wanted=wanted, found=found))


def _items_of(written: str) -> list[str]:
    """Return the items that stand in one string, with commas, semicolons or spaces between them."""
    return [item for item in re.split(r"[\s,;，；、]+", written) if item]


def _typed(kind: type[T], wanted: Text) -> Read[T]:
    """Make a reader of one type; true and false are no numbers."""

    def read(value: object) -> T:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise wrong_type(wanted, value)
        return value

    return read


string = _typed(str, Text("a string"))
flag = _typed(bool, Text("true or false"))
whole_number = _typed(int, Text("a whole number"))
_a_table: Read[Mapping[str, object]] = _typed(dict, Text("a table"))


def one_name(value: object) -> str:
    """Take the string of one name; where several stand in it, report how they are written."""
    written = string(value)
    items = _items_of(written)
    if len(items) > 1 and all("." in item for item in items):
        problem = Text("holds several names: write each in its own quotes: {items}")
        raise ConfigError(problem.filled(items=json.dumps(items, ensure_ascii=False)))
    return written


def word(value: object) -> str:
    """Take a string with something in it and no control characters."""
    written = string(value)
    if not written.strip():
        raise ConfigError(Text("is empty"))
    if not written.isprintable():
        raise ConfigError(Text("contains a character that cannot be printed"))
    return written


def number(value: object) -> float:
    """Take a whole or decimal number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(Text("a number"), value)
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
    most = int(LONGEST.total_seconds())
    # TOML has `nan`, which is neither above nor below anything: asked this way, it is refused.
    if not 0 < count <= most:
        raise ConfigError(Text("must be a number of seconds above 0, at most {most}", most=most))
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
    """Take a number; of a string such as "1h", report which number it would be."""
    if not isinstance(value, str):
        return number(value)
    found = _DURATION.fullmatch(value.strip().lower())
    wrong = wrong_type(wanted, value)
    if found is None:
        raise wrong
    amount, letter = int(found[1]), found[2]
    meant = timedelta(seconds=_UNITS[letter] * amount) if letter else amount * unit
    if meant % unit:
        raise wrong
    problem = Text("{problem}: write {number}")
    raise ConfigError(problem.filled(problem=wrong.message, number=meant // unit))


def one_of(words: Sequence[str]) -> Read[str]:
    """Make a reader that takes one of these words, spelled exactly."""

    def read(value: object) -> str:
        written = string(value)
        if written in words:
            return written
        meant = nearest(written, words)
        if meant is None:
            raise ConfigError(Text("must be one of {words}", words=list(words)))
        problem = Text("must be one of {words}; did you mean {word}?")
        raise ConfigError(problem.filled(words=list(words), word=meant))

    return read


def flag_or_keep(value: object) -> bool | None:
    """Take true or false, or "keep" as `None`."""
    if value == "keep":
        return None
    if not isinstance(value, bool):
        raise ConfigError(Text('must be "keep", true or false'))
    return value


D = TypeVar("D")


class TomlTable:
    """Takes each key once. `done` reports those that were not taken."""

    def __init__(self, values: Mapping[str, object], place: Place, mistakes: list[Mistake]) -> None:
        self.place = place
        self._values = values
        self._mistakes = mistakes
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def holds(self, kind: type, key: str) -> bool:
        """Return whether a value of this type stands under the key."""
        return isinstance(self._values.get(key), kind)

    @property
    def written(self) -> Sequence[str]:
        """The settings that are there, known or not."""
        return list(self._values)

    @property
    def unknown(self) -> Sequence[str]:
        """The settings that are there and were neither taken nor allowed."""
        return [key for key in self._values if key not in self._known]

    def take(self, key: str, read: Read[T], default: D) -> T | D:
        """Return the key's value; the default when it is absent or wrong."""
        self.allow(key)
        if key not in self._values:
            return default
        try:
            return read(self._values[key])
        except ConfigError as exc:
            self._complain(key, exc)
            return default

    def take_list(
        self, key: str, read: Read[T], default: D, *, instead: str = "", empty: bool = False
    ) -> tuple[T, ...] | D:
        """Return a list's items without the wrong ones, which are reported at their lines. The word
        `instead` means the default; `empty` allows an empty list.
        """
        written = self.take(key, _list_or(instead, empty=empty), None)
        if written is None:
            return default
        found = []
        for number, value in enumerate(written):
            try:
                found.append(read(value))
            except ConfigError as exc:
                self._complain(key, exc, number)
        return tuple(found)

    def table(self, key: str) -> TomlTable:
        """Return a table inside this one; an empty one when it is absent or is no table."""
        return TomlTable(self.take(key, _a_table, {}), self.place.below(key), self._mistakes)

    def tables(self, key: str) -> Iterator[TomlTable]:
        """Yield the tables under `[[key]]`, in order; what is not one is reported."""
        items = self.take(key, lambda value: value, [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            header = self.place.below(key, 0).title
            said = Text("must be tables, each under its own {header}")
            if isinstance(items, dict):
                said = Text("needs two pairs of brackets: write {header}")
            self.report(key, said.filled(header=header))
            items = []
        for number, values in enumerate(items):
            yield TomlTable(values, self.place.below(key, number), self._mistakes)

    def named_tables(self, usual: str) -> Iterator[tuple[str, TomlTable, Mapping[str, object]]]:
        """Yield every key of this table that holds a table, with its values as they stand; without
        a name, `usual` is what one would be.
        """
        if "type" in self._values and not isinstance(self._values["type"], dict):
            header = self.place.below(usual).title
            self.allow(*self._values)
            self.report("", Text("lacks a name: write {header}", header=header))
            return
        for key in self._values:
            values = self.take(key, _a_table, None)
            if values is not None:
                yield key, self.table(key), values

    def allow(self, *settings: str) -> None:
        """Count these settings as known."""
        self._known += settings

    def report(self, key: str, problem: Text, *, item: int | None = None) -> None:
        """Store what is wrong with a key, or with one item of its list."""
        self._mistakes.append(self.place.mistake(key, problem, item=item))

    def _complain(self, key: str, exc: ConfigError, item: int | None = None) -> None:
        """Store an error of a key, with what is to be done."""
        if said_below(exc.hint):
            found = self.place.mistake(key, exc.message, item=item)
            self._mistakes.append(replace(found, hint=exc.hint))
        else:
            self.report(key, message_and_hint(exc), item=item)

    def done(self) -> None:
        """Report every key that was not taken, with the nearest one that could be meant."""
        known = list(dict.fromkeys(self._known))
        for key in self._values:
            if key not in known:
                self.report(key, Text("unknown key; {meant}", meant=instead_of(key, known)))


def message_and_hint(exc: ConfigError) -> Text:
    """Return an error's message with its hint behind it, for one line in a list of mistakes."""
    if exc.hint is None:
        return exc.message
    return Text("{problem}; {hint}", problem=exc.message, hint=exc.hint)


def _list_or(instead: str, *, empty: bool) -> Read[list[object] | None]:
    def read(value: object) -> list[object] | None:
        if instead and value == instead:
            return None
        if not isinstance(value, list):
            wanted = Text('"{word}" or a list', word=instead) if instead else Text("a list")
            wrong = wrong_type(wanted, value)
            items = _items_of(value) if isinstance(value, str) else []
            if items:  # how they are written as a list
                problem = Text("{problem}: write {items}")
                shown = json.dumps(items, ensure_ascii=False)
                raise ConfigError(problem.filled(problem=wrong.message, items=shown))
            raise wrong
        if not value and not empty:
            raise ConfigError(Text("is an empty list"))
        return value

    return read
