"""Read an account's table into the settings of the account's adapter. Also make the questions that
ask an operator for these settings, and read the options that a target declares for deployments.

The adapter declares its settings as a frozen dataclass. The fields are the keys of the account's
table; a field without a default is required. The field's type decides the allowed values:

- `Secret`: a reference to a secret, or a literal in a file that no other user can read
- `Secret | str`: a reference to a secret, or a plain string
- `str`: a string; if the default is an https address, an https address
- `bool`, `int`, `float`: true or false, a whole number, a number
- `timedelta`: a number, of days if the field's name ends in `_days`, otherwise of seconds
- `tuple[str, ...]`: a list of strings
- a `StrEnum`: a word of the enumeration
- `Path`: the path of an existing file; a relative path starts at the configuration's directory
- `X | None`: as `X`
- `Mapping[str, Secret | str]`: all keys without a field of their own. Each value is a reference to
  a secret, a plain string or a whole number. A literal is a secret if the key's name says so.

A field called `from_` is the setting `from`, because `from` is a keyword of Python. The field's
meaning may stand beside the type: `Annotated[X, Text("…")]`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

from msgspec import Struct

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
from certferry.ports.adapter import Adapter, PrivateKey, Variable
from certferry.text import Text


class Dataclass(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


T = TypeVar("T", bound=Dataclass)

_READERS: Mapping[object, Read[Any]] = MappingProxyType(
    {str: values.word, bool: values.flag, int: values.whole_number, float: values.number}
)
FURTHER = Mapping[str, Secret | str]
"""The type of the field that takes all keys without a field of their own."""
_KNOWN = (Secret, PrivateKey, Secret | str, timedelta, tuple[str, ...], Path, FURTHER, *_READERS)
_AS_JSON = (bool, int, float, timedelta)
"""Types whose values look alike in TOML and JSON, so an answer can be read as JSON."""


class _Setting(Struct, frozen=True):
    """A field of an adapter's settings."""

    #: The key in the account's table.
    key: str
    #: The field's type without `None`.
    type: Any
    #: The field of the adapter's dataclass.
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
    """Read an account's table, and return the adapter's settings. Raises `ConfigError` with all
    mistakes, and `TypeError` as `may_be_written` does.

    `variables` are the environment variables that may hold keys; the message for a missing key
    names the key's variable.
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
    """Return the message for a missing key. If one of `variables` may hold the key, the message
    shows the line to write, which refers to the variable.
    """
    for names in (
        variable.names for variable in variables if variable.key == key and variable.names
    ):
        return Text(
            "missing, and {names} is not set; write `{line}`, and `{assignment}` into a file of"
            " `env_files`",
            names=" / ".join(names),
            line=f'{key} = "env:{names[0]}"',
            assignment=f"{names[0]}=…",
        )
    return Text("missing")


def may_be_written(settings_class: type[Dataclass]) -> tuple[str, ...]:
    """Return the keys of an account's table that have a field. Raises `TypeError` for a field whose
    type is not in the module's list.
    """
    settings = _settings_of(settings_class)
    for setting in settings:
        if not (_is_enum(setting.type) or setting.type in _KNOWN):
            msg = f"no operator could write {setting.field.name}: {setting.field.type}"
            raise TypeError(msg)
    return tuple(setting.key for setting in settings)


def written_as(name: str) -> str:
    """Return the key for the field called `name`."""
    return name.removesuffix("_")


def without_none(written_type: Any) -> Any:
    """Return `X` for `X | None`, and any other type unchanged."""
    kinds = [kind for kind in get_args(written_type) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 and NoneType in get_args(written_type) else written_type


def must_be_written(settings_class: type[Dataclass]) -> tuple[str, ...]:
    """Return the keys that an account's table must have."""
    return tuple(setting.key for setting in _settings_of(settings_class) if setting.is_required)


def meanings(settings_class: type[Dataclass]) -> Mapping[str, Text]:
    """Return the meanings written beside the types of fields, by key."""
    types = get_type_hints(settings_class, include_extras=True)
    return {
        written_as(name): meaning
        for name, written_type in types.items()
        for meaning in getattr(written_type, "__metadata__", ())
        if isinstance(meaning, Text)
    }


def _is_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _reader(setting: _Setting, table: TomlTable, resolve: Resolve) -> Read[Any]:
    if setting.type is Secret:
        refer = secret_reference(table)
        return lambda value: as_a_key(resolve(refer(value)))
    if setting.type is PrivateKey:
        refer = secret_reference(table)
        return lambda value: PrivateKey(resolve(refer(value)))
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
        read_word = values.one_of([member.value for member in kind])
        return lambda value: kind(read_word(value))
    return _READERS[kind]


def _further(table: TomlTable, resolve: Resolve) -> dict[str, Secret | str]:
    """Return the values of all keys of an account's table without a field of their own. Mistakes
    are reported to `table`.
    """
    options: dict[str, Secret | str] = {}
    for key in table.unknown:
        is_key = names_a_secret(key.replace("-", "_"))
        reader = partial(_option, table=table, resolve=resolve, is_key=is_key)
        value = table.take(key, reader, None)
        if value is not None:
            options[key] = value
    return options


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
    """Check that a secret is one line of printable ASCII, as a request needs, and return the
    secret. Raises `ConfigError`, which does not show the secret.
    """
    value = secret.reveal()
    if value.isascii() and value.isprintable():
        return secret
    if "\n" in value.strip():
        raise ConfigError(
            Text("contains several lines: write only the key, not the file around it")
        )
    problem = Text(
        "contains a character that no key has: check for typographic quotes and line ends"
    )
    raise ConfigError(problem)


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise values.wrong_type(Text("a list"), value)
    return tuple(map(values.word, value))


# questions to ask for an account


class Question(Struct, frozen=True):
    """A key of an account to ask an operator for."""

    #: The key in the account's table.
    key: str
    #: The meaning of the key.
    what: Text
    #: The environment variables that may hold the answer. A typed answer is stored under the first
    #: name, and the file refers to it. Empty: the answer is written into the file itself.
    names: tuple[str, ...] = ()
    #: Returns the value to write in the file, or raises `ConfigError`; used for keys without
    #: variables.
    read: Callable[[str], object] = str
    #: Whether to show the answer while the operator types.
    may_be_seen: bool = False
    #: Whether an empty answer is allowed, because the key has a default.
    may_be_empty: bool = False
    #: A regular expression for the whole answer; empty: any answer.
    pattern: str = ""


def questions_of(type_: str, adapter: Adapter) -> tuple[Question, ...]:
    """Return the questions for an account: for each key with an environment variable, then for each
    other required key.
    """
    questions: list[Question] = []
    kinds = {setting.key: setting.type for setting in _settings_of(adapter.Settings)}
    for variable in adapter.ENVIRONMENT:
        seen = bool(variable.is_public or kinds[variable.key] == Secret | str)
        names = tuple(variable.names)
        questions.append(
            Question(
                variable.key,
                variable.description,
                names,
                may_be_seen=seen,
                pattern=variable.pattern,
            )
        )
    asked = {question.key for question in questions}
    others = (setting for setting in _settings_of(adapter.Settings) if setting.is_required)
    return (
        *questions,
        *_asked_for(type_, adapter, (setting for setting in others if setting.key not in asked)),
    )


def questions_of_channel(type_: str, adapter: Adapter) -> tuple[Question, ...]:
    """Return the questions for a channel: for each required key, then for each string or secret
    that is empty by default. The latter may be left empty.
    """
    settings = _settings_of(adapter.Settings)
    must = (setting for setting in settings if setting.is_required)
    may = (
        setting
        for setting in settings
        if setting.field.default in (None, "") and setting.type in (Secret, str)
    )
    return (*_asked_for(type_, adapter, must), *_asked_for(type_, adapter, may, may_be_empty=True))


def _asked_for(
    type_: str, adapter: Adapter, settings: Iterable[_Setting], *, may_be_empty: bool = False
) -> Iterator[Question]:
    known_meanings = meanings(adapter.Settings)
    for setting in settings:
        usual = Text("{key} of the account at {service}", key=setting.key, service=adapter.SERVICE)
        meaning = known_meanings.get(setting.key, usual)
        if setting.type in (Secret, Secret | str):
            # The adapter names no environment variable for this secret, so a name is made of the
            # account's type and the key.
            variable = "".join(
                character if character.isalnum() else "_" for character in f"{type_}_{setting.key}"
            ).upper()
            yield Question(setting.key, meaning, (variable,), may_be_empty=may_be_empty)
        else:
            reader = partial(_read_answer, setting)
            yield Question(setting.key, meaning, read=reader, may_be_empty=may_be_empty)


def _read_answer(setting: _Setting, answer: str) -> object:
    """Return the value to write in the file for an answer. For a list of strings, the answer is
    split at spaces. Raises `ConfigError`.
    """
    value: object = answer
    if setting.type == tuple[str, ...]:
        value = answer.split()
    elif setting.type in _AS_JSON:
        with suppress(ValueError, RecursionError):  # the reader below reports the wrong value
            value = json.loads(answer)
    _plain_reader(setting)(value)
    return value


# options that a target declares for deployments

KIND = "kind"
_HTTPS = DesiredHttps.__struct_fields__


def deployment_settings(settings_class: Any) -> tuple[str, ...]:
    """Return the names of the options that a target declares for deployments. Raises `TypeError` if
    the target declares an option that deployments lack, an option without a default, or a `kind`
    that stands for a receiver (files, a command).
    """
    types = get_type_hints(settings_class)
    for field in dataclasses.fields(settings_class):
        if field.name not in {KIND, *_HTTPS} or field.default is dataclasses.MISSING:
            msg = f"no deployment has {field.name}: {types[field.name]}"
            raise TypeError(msg)
        words = choices(types[field.name]) if field.name == KIND else ()
        if receivers := [kind for kind in words if Kind(kind).is_receiver]:
            msg = f"no domain is any of {', '.join(receivers)}"
            raise TypeError(msg)
    return tuple(types)


def choices(written_type: Any) -> tuple[str, ...]:
    """Return the words that a field's type lists in `Literal`, also inside another type. Return an
    empty tuple for a type without `Literal`.
    """
    if get_origin(written_type) is Literal:
        return get_args(written_type)
    return tuple(member for part in get_args(written_type) for member in choices(part))


def read_options(settings_class: Any, table: TomlTable) -> tuple[Kind, DesiredHttps]:
    """Return the kind and the HTTPS settings in a deployment's table. `settings_class` is the
    target's dataclass of options. If the class has a method `wrong`, the method gets the keys in
    the table, and the problems that it returns by key are reported.
    """
    types = get_type_hints(settings_class)
    names = deployment_settings(settings_class)
    chosen = {name: _taken(name, types[name], settings_class, table) for name in names}
    options = settings_class(**chosen)
    if hasattr(options, "wrong"):
        written_keys = [name for name in names if name in table]
        for key, problem in options.wrong(written_keys).items():
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
