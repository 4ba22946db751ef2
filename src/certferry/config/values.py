"""Read values of the configuration file. A function here checks one value, and returns the value or
raises `ConfigError`. `TomlTable` reads a table by such functions, and collects the errors.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, time, timedelta
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from certferry.config.document import Place
from certferry.config.mistakes import Mistake, instead_of, nearest, said_below
from certferry.core.network import is_loopback
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.values import replace

DNS_PORT = 53  # RFC 1035 §4.2

DIRECTORIES: Mapping[str, str] = MappingProxyType(
    {
        "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
        "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
        "zerossl": "https://acme.zerossl.com/v2/DV90",
        "google": "https://dv.acme-v02.api.pki.goog/directory",
        "litessl": "https://acme.litessl.com/acme/v2/directory",
        "actalis": "https://acme-api.actalis.com/acme/directory",
    }
)
"""URLs of ACME directories, by the short names that operators may write, as published by the CAs
(2026).
"""

NEED_EXTERNAL_ACCOUNT = frozenset(
    DIRECTORIES[name] for name in ("zerossl", "google", "litessl", "actalis")
)
"""Directories of CAs that register an account only with an external account (RFC 8555 §7.3.4)."""

ONE_NAME_ONLY = frozenset({DIRECTORIES["actalis"]})
"""Directories of CAs that issue for a single name, and for no wildcard (2026; certd issue 545)."""

STAGING: Mapping[str, str] = MappingProxyType(
    {DIRECTORIES["letsencrypt"]: DIRECTORIES["letsencrypt-staging"]}
)
"""The URL of a CA's staging directory, by the URL of the CA's usual directory, as published by the
CA.
"""

_SERVER = re.compile(
    r"\[(?P<v6>[^\]]+)\](?::(?P<v6_port>\d{1,5}))?|(?P<v4>[^:]+)(?::(?P<v4_port>\d{1,5}))?"
)


class ServerAddress(Struct, frozen=True):
    """The address of a name server."""

    #: The IP address.
    host: str
    #: The port.
    port: int = DNS_PORT


def server_address(value: object) -> ServerAddress:
    """Read `address`, `address:port` or `[IPv6]:port`. A name is refused: resolving the name would
    need another name server.
    """
    text = word(value).strip()
    parts = _SERVER.fullmatch(text)
    host = (parts["v6"] or parts["v4"]) if parts else text
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
        raise ConfigError(problem.filled(server=repr(text)))
    return ServerAddress(str(address), port)


def email_address(value: object) -> str:
    """Read a mail address: a name, `@`, and a host with a dot. Spaces and colons are refused."""
    text = word(value)
    name, at, host = text.rpartition("@")
    if not (name and at and "." in host) or " " in text or ":" in text:
        raise ConfigError(Text("must be an address, for example ops@example.com"))
    return text


def https_url(value: object) -> str:
    """Read an https URL without user and password. Plain http is allowed only to a loopback
    address, because no other machine can read this traffic.
    """
    text = word(value)
    parts = split_url(text)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(Text("must not contain a user name or password"))
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        problem = Text("must begin with https://; http:// is only for loopback addresses")
        raise ConfigError(problem)
    return text


def proxy_url(value: object) -> str:
    """Read the URL of an HTTP proxy, without user and password. Plain http is allowed, because
    requests through the proxy are encrypted up to their destination.
    """
    text = word(value)
    scheme = text.partition("://")[0].lower()
    if scheme.startswith("socks"):
        raise ConfigError(
            Text("certferry does not support SOCKS proxies; write the proxy's http:// address")
        )
    if split_url(text).username is not None:
        raise ConfigError(
            Text(
                "must not contain a user name or password; put a proxy with a password into"
                " HTTPS_PROXY"
            )
        )
    return text


def directory_url(value: object) -> str:
    """Read the name of a well-known directory, or the URL of another directory (RFC 8555
    §7.1.1).
    """
    text = word(value)
    if text in DIRECTORIES:
        return DIRECTORIES[text]
    if "://" in text:
        return https_url(text)
    meant, names = nearest(text, DIRECTORIES), list(DIRECTORIES)
    if meant is None:
        raise ConfigError(Text("must be an https URL or one of {names}", names=names))
    problem = Text("must be an https URL or one of {names}; did you mean {word}?")
    raise ConfigError(problem.filled(names=names, word=meant))


def split_url(text: str) -> SplitResult:
    """Split a URL of http or https. Raises `ConfigError`."""
    try:
        parts = urlsplit(text)
        complete = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # an unclosed bracket, or an invalid port
        complete = False
    if not complete or " " in text:
        raise ConfigError(Text("must be a URL, for example https://host/path"))
    return parts


T = TypeVar("T")
Read = Callable[[object], T]

LONGEST = timedelta(days=3650)
"""The longest time that a setting accepts: longer waits make no sense, and would overflow a date.
"""

_KINDS: tuple[tuple[type | tuple[type, ...], Text], ...] = (
    (bool, Text("true or false")),
    (str, Text("a string")),
    ((int, float), Text("a number")),
    (list, Text("a list")),
    (dict, Text("a table")),
    ((date, time), Text("a date or time")),
)


def wrong_type(wanted: Text, value: object) -> ConfigError:
    """Return an error that names the wanted type and the value's type. The value may be a secret,
    so the error does not show the value.
    """
    actual = next(
        (name for kind, name in _KINDS if isinstance(value, kind)), Text("something else")
    )
    return ConfigError(Text("must be {wanted}, but is {found}", wanted=wanted, found=actual))


def _items_of(text: str) -> list[str]:
    """Split a string at commas, semicolons and spaces, also Chinese ones, into its items."""
    return [item for item in re.split(r"[\s,;，；、]+", text) if item]


def _typed(kind: type[T], wanted: Text) -> Read[T]:
    """Make a reader of values of one type. True and false do not count as whole numbers."""

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
    """Read a string with one name. If the string has several names, the error shows how to write
    the names as a list.
    """
    text = string(value)
    items = _items_of(text)
    if len(items) > 1 and all("." in item for item in items):
        problem = Text("contains several names: write each in its own quotes: {items}")
        raise ConfigError(problem.filled(items=json.dumps(items, ensure_ascii=False)))
    return text


def word(value: object) -> str:
    """Read a string with visible content and without control characters."""
    text = string(value)
    if not text.strip():
        raise ConfigError(Text("is empty"))
    if not text.isprintable():
        raise ConfigError(Text("contains a character that cannot be printed"))
    return text


def number(value: object) -> float:
    """Read a whole or decimal number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(Text("a number"), value)
    return value


def port(value: object) -> int:
    """Read a TCP or UDP port."""
    port_number = whole_number(value)
    if not 1 <= port_number <= 65535:  # noqa: PLR2004 - RFC 768 and RFC 9293: ports have 16 bits
        raise ConfigError(Text("must be a port, from 1 to 65535"))
    return port_number


def seconds(value: object) -> timedelta:
    """Read a duration given as a number of seconds, above 0 and at most `LONGEST`."""
    count = _amount(value, Text("a number of seconds"), timedelta(seconds=1))
    most = int(LONGEST.total_seconds())
    # Not `count <= 0 or count > most`: TOML has `nan`, and every comparison with `nan` is false.
    if not 0 < count <= most:
        raise ConfigError(Text("must be a number of seconds above 0, at most {most}", most=most))
    return timedelta(seconds=count)


def days(value: object) -> timedelta:
    """Read a duration given as a number of days, from 0 to `LONGEST`."""
    count = _amount(value, Text("a number of days"), timedelta(days=1))
    if not 0 <= count <= LONGEST.days:
        raise ConfigError(Text("must be a number of days from 0 to {most}", most=LONGEST.days))
    return timedelta(days=count)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d{1,9})\s*([smhdw]?)[a-z]*")


def _amount(value: object, wanted: Text, unit: timedelta) -> float:
    """Read a number. For a string such as "1h", the error shows the number to write."""
    if not isinstance(value, str):
        return number(value)
    parts = _DURATION.fullmatch(value.strip().lower())
    refusal = wrong_type(wanted, value)
    if parts is None:
        raise refusal
    amount, letter = int(parts[1]), parts[2]
    meant = timedelta(seconds=_UNITS[letter] * amount) if letter else amount * unit
    if meant % unit:
        raise refusal
    problem = Text("{problem}: write {number}")
    raise ConfigError(problem.filled(problem=refusal.message, number=meant // unit))


def one_of(words: Sequence[str]) -> Read[str]:
    """Make a reader of one of these words, spelled exactly."""

    def read(value: object) -> str:
        text = string(value)
        if text in words:
            return text
        meant = nearest(text, words)
        if meant is None:
            raise ConfigError(Text("must be one of {words}", words=list(words)))
        problem = Text("must be one of {words}; did you mean {word}?")
        raise ConfigError(problem.filled(words=list(words), word=meant))

    return read


def flag_or_keep(value: object) -> bool | None:
    """Read true, false, or "keep" (returned as `None`)."""
    if value == "keep":
        return None
    if not isinstance(value, bool):
        raise ConfigError(Text('must be "keep", true or false'))
    return value


D = TypeVar("D")


class TomlTable:
    """Reads the keys of a table, once each, and collects mistakes.

    Read every key, then call `done`, which reports the keys that were not read:

        table = TomlTable(values, place, mistakes)
        listen_at = table.take("port", port, 443)
        table.done()
    """

    def __init__(self, values: Mapping[str, object], place: Place, mistakes: list[Mistake]) -> None:
        self.place = place
        self._values = values
        self._mistakes = mistakes
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def holds(self, kind: type, key: str) -> bool:
        """Return whether the key has a value of this type."""
        return isinstance(self._values.get(key), kind)

    @property
    def written(self) -> Sequence[str]:
        """The keys of the table, known or unknown."""
        return list(self._values)

    @property
    def unknown(self) -> Sequence[str]:
        """The keys of the table that were neither taken nor allowed."""
        return [key for key in self._values if key not in self._known]

    def take(self, key: str, read: Read[T], default: D) -> T | D:
        """Return the key's value as read by `read`. If the key is absent, return the default. If
        `read` refuses the value, report the mistake and return the default.
        """
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
        """Return the items of a list, each as read by `read`. Report wrong items at their lines,
        and leave them out.

        If the key is absent or has the word `instead`, return the default. If the value is no list,
        or an empty list without `empty`, report the mistake and return the default.
        """
        values = self.take(key, _list_or(instead, empty=empty), None)
        if values is None:
            return default
        items = []
        for position, item in enumerate(values):
            try:
                items.append(read(item))
            except ConfigError as exc:
                self._complain(key, exc, position)
        return tuple(items)

    def take_one_or_more(self, key: str, read: Read[T]) -> tuple[T, ...]:
        """Return the items of a list, or a value of another type as the only item; empty if the key
        is absent, or after a mistake.
        """
        if self.holds(list, key):
            return self.take_list(key, read, ())
        return tuple(filter(None, [self.take(key, read, None)]))

    def table(self, key: str) -> TomlTable:
        """Return the table under a key, or an empty table if the key is absent. A value of another
        type is reported, and gives an empty table too.
        """
        return TomlTable(self.take(key, _a_table, {}), self.place.below(key), self._mistakes)

    def tables(self, key: str) -> Iterator[TomlTable]:
        """Yield the tables under `[[key]]`, in order. If the key has any other value, report a
        mistake and yield nothing.
        """
        items = self.take(key, lambda value: value, [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            header = self.place.below(key, 0).title
            message = Text("must be tables, each under its own {header}")
            if isinstance(items, dict):
                message = Text("needs two pairs of brackets: write {header}")
            self.report(key, message.filled(header=header))
            items = []
        for number, values in enumerate(items):
            yield TomlTable(values, self.place.below(key, number), self._mistakes)

    def named_tables(self, usual: str) -> Iterator[tuple[str, TomlTable, Mapping[str, object]]]:
        """Yield each table inside this table: the name, a reader of the table, and the table's
        values as written. Report keys with other values.

        If this table has a `type` itself, the operator has left out the name: report that with
        `usual` as an example of a name, and yield nothing.
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
        """Count these keys as known, so `done` does not report the keys."""
        self._known += settings

    def report(self, key: str, problem: Text, *, item: int | None = None) -> None:
        """Store a mistake of a key, or of one item in the key's list."""
        self._mistakes.append(self.place.mistake(key, problem, item=item))

    def _complain(self, key: str, exc: ConfigError, item: int | None = None) -> None:
        """Store the error of a reading function as a mistake of a key, with the error's hint."""
        if said_below(exc.hint):
            mistake = self.place.mistake(key, exc.message, item=item)
            self._mistakes.append(replace(mistake, hint=exc.hint))
        else:
            self.report(key, message_and_hint(exc), item=item)

    def done(self) -> None:
        """Report every key that was neither taken nor allowed, with the nearest known key or the
        list of known keys.
        """
        keys = list(dict.fromkeys(self._known))
        for key in self._values:
            if key not in keys:
                self.report(key, Text("unknown key; {meant}", meant=instead_of(key, keys)))


def message_and_hint(exc: ConfigError) -> Text:
    """Return an error's message followed by the hint, for one line in a list of mistakes."""
    if exc.hint is None:
        return exc.message
    return Text("{problem}; {hint}", problem=exc.message, hint=exc.hint)


def _list_or(instead: str, *, empty: bool) -> Read[list[object] | None]:
    def read(value: object) -> list[object] | None:
        if instead and value == instead:
            return None
        if not isinstance(value, list):
            wanted = Text('"{word}" or a list', word=instead) if instead else Text("a list")
            refusal = wrong_type(wanted, value)
            items = _items_of(value) if isinstance(value, str) else []
            if items:  # show the items written as a list
                problem = Text("{problem}: write {items}")
                shown = json.dumps(items, ensure_ascii=False)
                raise ConfigError(problem.filled(problem=refusal.message, items=shown))
            raise refusal
        if not value and not empty:
            raise ConfigError(Text("is an empty list"))
        return value

    return read
