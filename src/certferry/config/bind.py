"""From an account's table to the settings of the adapter it names, and what is asked for them.

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
  a secret, a plain string or a whole number. A literal whose key says that it is a secret is one.

A field called `from_` is the setting `from`, which is no name in Python.
Beside the type may stand what the field means: `Annotated[X, Text("…")]`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

from certferry.config import values
from certferry.config.files import Paths
from certferry.config.mistakes import Mistake, config_error
from certferry.config.model import AccountTable
from certferry.config.secrets import Resolve, SecretReference
from certferry.config.tables import existing_file, secret_reference
from certferry.config.values import Read, TomlTable
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.redaction import Secret, names_a_secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Adapter, Variable
from certferry.text import Text


class Dataclass(Protocol):
    """An instance of any class that is marked as a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


T = TypeVar("T", bound=Dataclass)

_READERS: Mapping[object, Read[Any]] = MappingProxyType(
    {str: values.word, bool: values.flag, int: values.whole_number, float: values.number}
)
FURTHER = Mapping[str, Secret | str]
"""The type of a field that takes the keys that are no other's."""
_KNOWN = (Secret, Secret | str, timedelta, tuple[str, ...], Path, FURTHER, *_READERS)
_AS_JSON = (bool, int, float, timedelta)
"""What TOML and JSON write in the same way."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """A field, as an operator writes it; its type is without `None`."""

    key: str
    type: Any
    field: dataclasses.Field[Any]

    @property
    def is_required(self) -> bool:
        missing = dataclasses.MISSING
        return self.field.default is missing and self.field.default_factory is missing


def _settings_of(settings_class: type[Dataclass]) -> list[_Setting]:
    types = get_type_hints(settings_class)
    return [
        _Setting(written_as(field.name), without_none(types[field.name]), field)
        for field in dataclasses.fields(settings_class)
    ]


def bind(
    settings_class: type[T],
    account: AccountTable,
    resolve: Resolve,
    variables: Collection[Variable] = (),
) -> T:
    """Make the adapter's settings; the environment may hold those of `variables`. Raises
    `ConfigError` with everything that is wrong, and `TypeError` as `may_be_written` does.
    """
    may_be_written(settings_class)
    mistakes: list[Mistake] = []
    table = TomlTable(account.values, account.place, mistakes)
    arguments: dict[str, object] = {}
    further = ""
    for setting in _settings_of(settings_class):
        key, name = setting.key, setting.field.name
        if setting.type == FURTHER:
            further = name
            continue
        if key in table:
            arguments[name] = table.take(key, _reader(setting, table, resolve), None)
        elif setting.is_required:
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
    """Return what is missing; of what a variable may hold, also the line that takes it from it."""
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
    """Return the settings to write. Raises `TypeError` for a field that no operator could write."""
    settings = _settings_of(settings_class)
    for one in settings:
        if not (_is_enum(one.type) or one.type in _KNOWN):
            msg = f"no operator could write {one.field.name}: {one.field.type}"
            raise TypeError(msg)
    return tuple(one.key for one in settings)


def written_as(name: str) -> str:
    """Return the setting of a field."""
    return name.removesuffix("_")


def without_none(written_type: Any) -> Any:
    """Return `X` for `X | None`, and every other type as it is."""
    kinds = [kind for kind in get_args(written_type) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 and NoneType in get_args(written_type) else written_type


def must_be_written(settings_class: type[Dataclass]) -> tuple[str, ...]:
    """Return the settings without which there is no account."""
    return tuple(one.key for one in _settings_of(settings_class) if one.is_required)


def meanings(settings_class: type[Dataclass]) -> Mapping[str, Text]:
    """Return what the fields mean, of those that have it beside their type."""
    types = get_type_hints(settings_class, include_extras=True)
    return {
        written_as(name): said
        for name, written_type in types.items()
        for said in getattr(written_type, "__metadata__", ())
        if isinstance(said, Text)
    }


def _is_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _reader(setting: _Setting, table: TomlTable, resolve: Resolve) -> Read[Any]:
    if setting.type is Secret:
        refer = secret_reference(table)
        return lambda value: as_a_key(resolve(refer(value)))
    if setting.type == Secret | str:
        return lambda value: _secret_or_plain(value, resolve)
    if setting.type is Path:
        return existing_file(Paths.beside(table.place.document.path, os.environ))
    return _plain_reader(setting)


def _plain_reader(setting: _Setting) -> Read[Any]:
    kind, field = setting.type, setting.field
    if kind is timedelta:
        return values.days if field.name.endswith("_days") else values.seconds
    if kind is str and str(field.default).startswith("https://"):
        return values.https_url
    if kind == tuple[str, ...]:
        return _words
    if _is_enum(kind):
        read = values.one_of([member.value for member in kind])
        return lambda value: kind(read(value))
    return _READERS[kind]


def _further(table: TomlTable, resolve: Resolve) -> dict[str, Secret | str]:
    """Take every key that has not been taken."""
    found: dict[str, Secret | str] = {}
    for key in table.unknown:
        is_key = names_a_secret(key.replace("-", "_"))
        read = partial(_option, table=table, resolve=resolve, is_key=is_key)
        value = table.take(key, read, None)
        if value is not None:
            found[key] = value
    return found


def _option(value: object, *, table: TomlTable, resolve: Resolve, is_key: bool) -> Secret | str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if is_key:
        return as_a_key(resolve(secret_reference(table)(value)))
    return _secret_or_plain(value, resolve)


def _secret_or_plain(value: object, resolve: Resolve) -> Secret | str:
    reference = SecretReference(values.word(value))
    secret = resolve(reference)
    return reference.written if reference.is_literal else as_a_key(secret)


def as_a_key(secret: Secret) -> Secret:
    """Return what can stand in a request. Raises `ConfigError`, which does not show the secret."""
    value = secret.reveal()
    if value.isascii() and value.isprintable():
        return secret
    if "\n" in value.strip():
        raise ConfigError(
            Text("holds several lines: write the key alone, and not the file that it stands in")
        )
    problem = Text("holds a character that no key has: look for typographic quotes and line ends")
    raise ConfigError(problem)


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise values.wrong_type(Text("a list"), value)
    return tuple(map(values.word, value))


# what is asked for an account


@dataclass(frozen=True, slots=True)
class Question:
    """A key to ask for, and what it is. A secret is kept under the first of its variables' `names`;
    without one, `read` returns what stands in the file, or raises `ConfigError`. It `may_be_seen`
    as it is typed; it `may_be_empty` where it has a default.
    """

    key: str
    what: Text
    names: tuple[str, ...] = ()
    read: Callable[[str], object] = str
    may_be_seen: bool = False
    may_be_empty: bool = False
    pattern: str = ""


def questions_of(type_: str, adapter: Adapter) -> tuple[Question, ...]:
    """Return what to ask for an account: what the environment may hold, then required keys."""
    found: list[Question] = []
    kinds = {one.key: one.type for one in _settings_of(adapter.Settings)}
    for one in adapter.ENVIRONMENT:
        seen = bool(one.is_public or kinds[one.key] == Secret | str)
        names = tuple(one.names)
        found.append(Question(one.key, one.what, names, may_be_seen=seen, pattern=one.pattern))
    known = {one.key for one in found}
    others = (one for one in _settings_of(adapter.Settings) if one.is_required)
    return (*found, *_asked_for(type_, adapter, (one for one in others if one.key not in known)))


def questions_of_channel(type_: str, adapter: Adapter) -> tuple[Question, ...]:
    """Return what to ask for a channel: required keys, then names and secrets that may be empty."""
    settings = _settings_of(adapter.Settings)
    must = (one for one in settings if one.is_required)
    may = (one for one in settings if one.field.default in (None, "") and one.type in (Secret, str))
    return (*_asked_for(type_, adapter, must), *_asked_for(type_, adapter, may, may_be_empty=True))


def _asked_for(
    type_: str, adapter: Adapter, settings: Iterable[_Setting], *, may_be_empty: bool = False
) -> Iterator[Question]:
    said = meanings(adapter.Settings)
    for one in settings:
        unsaid = Text("{key} of the account at {service}", key=one.key, service=adapter.SERVICE)
        what = said.get(one.key, unsaid)
        if one.type in (Secret, Secret | str):
            # The adapter has no name for a variable that would hold it.
            variable = "".join(c if c.isalnum() else "_" for c in f"{type_}_{one.key}").upper()
            yield Question(one.key, what, (variable,), may_be_empty=may_be_empty)
        else:
            read = partial(_read_answer, one)
            yield Question(one.key, what, read=read, may_be_empty=may_be_empty)


def _read_answer(setting: _Setting, answer: str) -> object:
    """Return what stands in a file for an answer; a list for words. Raises `ConfigError`."""
    value: object = answer
    if setting.type == tuple[str, ...]:
        value = answer.split()
    elif setting.type in _AS_JSON:
        with suppress(ValueError, RecursionError):  # the reader says what it must be
            value = json.loads(answer)
    _plain_reader(setting)(value)
    return value


# what a target declares for its deployments

KIND = "kind"
_HTTPS = tuple(field.name for field in dataclasses.fields(DesiredHttps))


def deployment_settings(settings_class: Any) -> tuple[str, ...]:
    """Return the settings that a target declares. Raises `TypeError` for what none may."""
    types = get_type_hints(settings_class)
    for field in dataclasses.fields(settings_class):
        if field.name not in {KIND, *_HTTPS} or field.default is dataclasses.MISSING:
            msg = f"no deployment has {field.name}: {types[field.name]}"
            raise TypeError(msg)
        words = choices(types[field.name]) if field.name == KIND else ()
        if receivers := [one for one in words if Kind(one).is_receiver]:
            msg = f"no domain is any of {', '.join(receivers)}"
            raise TypeError(msg)
    return tuple(types)


def choices(written_type: Any) -> tuple[str, ...]:
    """Return the words that may be written in a field, none for one that takes no words."""
    if get_origin(written_type) is Literal:
        return get_args(written_type)
    return tuple(one for part in get_args(written_type) for one in choices(part))


def read_options(settings_class: Any, table: TomlTable) -> tuple[Kind, DesiredHttps]:
    """Read what a target declares, and report what is wrong: also what its `wrong`, where it has
    that, returns by key for the keys that are written.
    """
    types = get_type_hints(settings_class)
    names = deployment_settings(settings_class)
    chosen = {name: _taken(name, types[name], settings_class, table) for name in names}
    options = settings_class(**chosen)
    if hasattr(options, "wrong"):
        written = [name for name in names if name in table]
        for key, problem in options.wrong(written).items():
            table.report(key, problem)
    https = {name: value for name, value in chosen.items() if name in _HTTPS}
    return Kind(chosen.get(KIND, Kind.AUTO)), DesiredHttps(**https)


def _taken(name: str, written_type: Any, settings_class: Any, table: TomlTable) -> Any:
    words = choices(written_type)
    if not words:
        return table.take(name, values.flag_or_keep, None)
    if get_origin(written_type) is Literal:
        [field] = [field for field in dataclasses.fields(settings_class) if field.name == name]
        return table.take(name, values.one_of(words), field.default)
    return table.take_list(name, values.one_of(words), None, instead="keep")
