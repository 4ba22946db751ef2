"""From an account's table to the settings of the adapter it names.

The adapter declares a frozen dataclass; its fields are the settings an operator writes. One without
a default is required. What may be written follows from the field's type:

- `Secret`: a reference to a secret, or a literal in a file that no other user can read
- `Secret | str`: a reference to a secret, or a plain string
- `str`: a string; where the default is an https address, an https address
- `bool`, `int`, `float`: true or false, a whole number, a number
- `timedelta`: a number, of days where the field's name ends in `_days`, otherwise of seconds
- `tuple[str, ...]`: a list of strings
- a `StrEnum`: one of its words
- `Path`: a path, from the file's directory
- `X | None`: as `X`
- `Mapping[str, Secret | str]`: every key that is no other field's, of whatever name: a reference to
  a secret, a plain string or a whole number. A literal whose key tells of a secret is one.

A field called `from_` is the setting `from`, which is no name in Python.
Beside the type may stand what the field means: `Annotated[X, Text("…")]`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import (
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from certferry.config.check import secret_reference
from certferry.config.files import Paths
from certferry.config.mistakes import Mistake, config_error
from certferry.config.model import AccountTable
from certferry.config.secrets import Resolve, SecretReference
from certferry.config.table import Table
from certferry.config.values import (
    Read,
    days,
    flag,
    flag_or_keep,
    https_url,
    number,
    one_of,
    seconds,
    whole_number,
    word,
    wrong_type,
)
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.secret import Secret, tells_a_secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Variable
from certferry.text import Text


class Dataclass(Protocol):
    """An instance of any class that is marked as a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


T = TypeVar("T", bound=Dataclass)

_READERS: Mapping[object, Read[Any]] = MappingProxyType(
    {str: word, bool: flag, int: whole_number, float: number}
)
_FURTHER = Mapping[str, Secret | str]
_AS_JSON = (bool, int, float, timedelta)
"""What TOML and JSON write in the same way."""


def bind(
    settings_class: type[T],
    account: AccountTable,
    resolve: Resolve,
    variables: Collection[Variable] = (),
) -> T:
    """Make the adapter's settings; `variables` are those of its keys that the environment may hold.
    Raises `ConfigError` with everything that is wrong in the table.

    Raises `TypeError` as `may_be_written` does.
    """
    may_be_written(settings_class)
    mistakes: list[Mistake] = []
    table = Table(account.values, account.place, mistakes)
    types = get_type_hints(settings_class)
    arguments: dict[str, object] = {}
    further = ""
    for field in dataclasses.fields(settings_class):
        key = written_as(field.name)
        if is_further(types[field.name]):
            further = field.name
            continue
        if key in table:
            read = _reader(field, types[field.name], table, resolve)
            arguments[field.name] = table.take(key, read, None)
        elif _is_required(field):
            table.report(key, _missing(key, variables))
        table.allow(key)
    table.allow("type")
    if further:
        arguments[further] = _further(table, resolve)
    table.done()
    if mistakes:
        raise config_error(mistakes)
    return settings_class(**arguments)


def _missing(key: str, variables: Collection[Variable]) -> Text:
    """Say what is missing; of what a variable may hold, also the line that takes it from there."""
    for names in (one.names for one in variables if one.key == key and one.names):
        return Text(
            "missing, and {names} is not set; write `{line}`, and `{assignment}` into one of"
            " the `env_files`",
            names=" / ".join(names),
            line=f'{key} = "env:{names[0]}"',
            assignment=f"{names[0]}=…",
        )
    return Text("missing")


def may_be_written(settings_class: type[Dataclass]) -> tuple[str, ...]:
    """Give the settings that an operator may write. Raises `TypeError` for a field that no operator
    could, and `NameError` for a type that is not there.
    """
    types = get_type_hints(settings_class)
    for field in dataclasses.fields(settings_class):
        if not _is_known(without_none(types[field.name])):
            msg = f"no operator could write {field.name}: {types[field.name]}"
            raise TypeError(msg)
    return tuple(written_as(field.name) for field in dataclasses.fields(settings_class))


def is_further(written_type: object) -> bool:
    """Tell whether a field takes the keys that are no other's."""
    return written_type == _FURTHER


def written_as(name: str) -> str:
    """Give the setting of a field."""
    return name.removesuffix("_")


def must_be_written(settings_class: type[Dataclass]) -> tuple[str, ...]:
    """Give the settings without which there is no account."""
    return tuple(written_as(f.name) for f in dataclasses.fields(settings_class) if _is_required(f))


def may_be_left_empty(settings_class: type[Dataclass]) -> tuple[str, ...]:
    """Give the settings that are empty unless an operator has something to write: names and
    secrets that some accounts have.
    """
    types = get_type_hints(settings_class)
    return tuple(
        written_as(field.name)
        for field in dataclasses.fields(settings_class)
        if field.default in (None, "") and without_none(types[field.name]) in (Secret, str)
    )


def meanings(settings_class: type[Dataclass]) -> Mapping[str, Text]:
    """Give what the fields mean, as far as they say it."""
    types = get_type_hints(settings_class, include_extras=True)
    return {
        written_as(name): said
        for name, written_type in types.items()
        for said in getattr(written_type, "__metadata__", ())
        if isinstance(said, Text)
    }


def is_secret(settings_class: type[Dataclass], key: str) -> bool:
    """Tell whether a key holds a secret, or may hold one."""
    return _type_of(settings_class, key) in (Secret, Secret | str)


def may_be_seen(settings_class: type[Dataclass], key: str) -> bool:
    """Tell whether a key that may be kept as a secret is none, such as an address."""
    return bool(_type_of(settings_class, key) == Secret | str)


def read_answer(settings_class: type[Dataclass], key: str, answer: str) -> object:
    """Give the value that stands in a file for what a person has typed; the words of a list have
    spaces between them. Raises `ConfigError` where the key cannot have it. Not for secrets.
    """
    kind = _type_of(settings_class, key)
    [field] = [f for f in dataclasses.fields(settings_class) if written_as(f.name) == key]
    value: object = answer
    if kind == tuple[str, ...]:
        value = answer.split()
    elif kind in _AS_JSON:
        with suppress(ValueError, RecursionError):  # the reader says what it must be
            value = json.loads(answer)
    _plain_reader(field, kind)(value)
    return value


def _type_of(settings_class: type[Dataclass], key: str) -> Any:
    types = get_type_hints(settings_class)
    return without_none(next(kind for name, kind in types.items() if written_as(name) == key))


def _is_known(kind: object) -> bool:
    is_enum = isinstance(kind, type) and issubclass(kind, StrEnum)
    known = (Secret, Secret | str, timedelta, tuple[str, ...], Path, _FURTHER, *_READERS)
    return is_enum or kind in known


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _reader(
    field: dataclasses.Field[Any], written_type: Any, table: Table, resolve: Resolve
) -> Read[Any]:
    kind = without_none(written_type)
    if kind is Secret:
        refer = secret_reference(table)
        return lambda value: as_a_key(resolve(refer(value)))
    if kind == Secret | str:
        return lambda value: _secret_or_plain(value, resolve)
    if kind is Path:
        return lambda value: _existing_file(word(value), table)
    return _plain_reader(field, kind)


def _plain_reader(field: dataclasses.Field[Any], kind: Any) -> Read[Any]:
    if kind is timedelta:
        return days if field.name.endswith("_days") else seconds
    if kind is str and str(field.default).startswith("https://"):
        return https_url
    if kind == tuple[str, ...]:
        return _words
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _one_of_enum(kind)
    return _READERS[kind]


def without_none(written_type: Any) -> Any:
    """Give `X` for `X | None`, and every other type as it is."""
    kinds = [kind for kind in get_args(written_type) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 and NoneType in get_args(written_type) else written_type


def _further(table: Table, resolve: Resolve) -> dict[str, Secret | str]:
    """Take every key that has not been taken."""
    found: dict[str, Secret | str] = {}
    for key in table.unknown:
        is_key = tells_a_secret(key.replace("-", "_"))
        read = partial(_option, table=table, resolve=resolve, is_key=is_key)
        value = table.take(key, read, None)
        if value is not None:
            found[key] = value
    return found


def _option(value: object, *, table: Table, resolve: Resolve, is_key: bool) -> Secret | str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if is_key:
        return as_a_key(resolve(secret_reference(table)(value)))
    return _secret_or_plain(value, resolve)


def _secret_or_plain(value: object, resolve: Resolve) -> Secret | str:
    reference = SecretReference(word(value))
    secret = resolve(reference)
    return reference.written if reference.is_literal else as_a_key(secret)


def as_a_key(secret: Secret) -> Secret:
    """Let pass what can stand in a request: what cannot was pasted with something around it.
    Raises `ConfigError`, which does not show it.
    """
    value = secret.reveal()
    if value.isascii() and value.isprintable():
        return secret
    if "\n" in value.strip():
        raise ConfigError(
            Text("holds several lines: write the key alone, and not the file that it stands in")
        )
    raise ConfigError(
        Text("holds a character that no key has: look for typographic quotes and line ends")
    )


def _existing_file(written: str, table: Table) -> Path:
    path = Paths.beside(table.place.document.path, os.environ).resolve(written)
    if not path.is_file():
        raise ConfigError(Text("there is no file {path}", path=path))
    return path


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise wrong_type(Text("a list"), value)
    return tuple(map(word, value))


def _one_of_enum(kind: type[StrEnum]) -> Read[StrEnum]:
    read = one_of([member.value for member in kind])
    return lambda value: kind(read(value))


KIND = "kind"
WISHES = tuple(field.name for field in dataclasses.fields(DesiredHttps))


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


def read_options(settings_class: Any, table: Table) -> tuple[Kind, DesiredHttps]:
    """Read the settings that a target declares; what is wrong with them is reported."""
    types = get_type_hints(settings_class)
    names = may_be_told(settings_class)
    values = {name: _taken(name, types[name], settings_class, table) for name in names}
    options = settings_class(**values)
    if hasattr(options, "wrong"):
        written = [name for name in names if name in table]
        for key, problem in cast("Judged", options).wrong(written).items():
            table.report(key, problem)
    certificates = {name: value for name, value in values.items() if name in WISHES}
    return Kind(values.get(KIND, Kind.AUTO)), DesiredHttps(**certificates)


def _taken(name: str, written_type: Any, settings_class: Any, table: Table) -> Any:
    words = choices(written_type)
    if not words:
        return table.take(name, flag_or_keep, None)
    if get_origin(written_type) is Literal:
        [field] = [field for field in dataclasses.fields(settings_class) if field.name == name]
        return table.take(name, one_of(words), field.default)
    return table.take_list(name, one_of(words), None, instead="keep")
