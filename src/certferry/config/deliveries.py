"""Deployments to receivers: `to = "files"` and `to = "command"`."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, MutableMapping
from datetime import timedelta
from pathlib import PurePath
from types import MappingProxyType

from certferry.config.document import Place
from certferry.config.files import Paths
from certferry.config.table import Table
from certferry.config.values import Read, seconds, string, word, wrong_type
from certferry.core.deliveries import delivered
from certferry.core.delivery import KEY_MODE, MODE, CommandDelivery, FileDelivery, Program
from certferry.core.desired import DesiredDeployment, Kind
from certferry.errors import ConfigError
from certferry.text import Text

RELOAD_TIMEOUT = timedelta(seconds=60)
COMMAND_TIMEOUT = timedelta(minutes=5)

SETTINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        Kind.FILES.value: (
            "directory",
            "owner",
            "group",
            "mode",
            "key_mode",
            "reload",
            "timeout",
        ),
        Kind.COMMAND.value: ("command", "name", "timeout"),
    }
)
"""Words that a deployment can name in place of an account, and what it can say then."""

_OPERATORS = frozenset({"&&", "||", "|", "&", ";", ">", ">>", "<", "2>", "2>&1", "&>"})
_MODE = re.compile(r"0?[0-7]{3}")
_OWNER_READS, _OTHERS, _OTHERS_WRITE, _RUN_OR_SPECIAL = 0o400, 0o007, 0o002, ~0o666

Taken = MutableMapping[tuple[str, str], Place]
"""Which receivers are spoken for, and where: by their kind, or their lineage, and their name."""


def read_delivery(
    to: str, lineage: str, table: Table, paths: Paths, taken: Taken
) -> DesiredDeployment:
    """Read one. Where something is wrong it has a hole, and loading fails."""
    delivery: FileDelivery | CommandDelivery
    if to == Kind.FILES.value:
        delivery = _files(table, paths)
        # A directory holds one certificate, whichever lineage it belongs to and whatever leads
        # there.
        place = delivery.directory and os.path.realpath(delivery.directory)
        _must_be_free(table, "directory", (to, place), taken)
    else:
        delivery = _command(table, paths)
        _must_be_free(table, "name", (lineage, delivery.label), taken)
    return delivered(delivery)


def _files(table: Table, paths: Paths) -> FileDelivery:
    if "directory" not in table:
        table.report("directory", Text("missing: where the four PEM files are to lie"))
    if "timeout" in table and "reload" not in table:
        table.report("timeout", Text("only with `reload`, which it is for"))
    reload = table.take("reload", _arguments(paths), None)
    timeout = table.take("timeout", seconds, RELOAD_TIMEOUT)
    return FileDelivery(
        directory=table.take("directory", _directory(paths), ""),
        owner=table.take("owner", word, None),
        group=table.take("group", word, None),
        mode=table.take("mode", _mode, MODE),
        key_mode=table.take("key_mode", _key_mode, KEY_MODE),
        reload=None if reload is None else Program(reload, str(paths.directory), timeout),
    )


def _command(table: Table, paths: Paths) -> CommandDelivery:
    if "command" not in table:
        table.report("command", Text("missing: the command to run for the certificate"))
    arguments = table.take("command", _arguments(paths), ("",))
    program = Program(
        arguments, str(paths.directory), table.take("timeout", seconds, COMMAND_TIMEOUT)
    )
    return CommandDelivery(table.take("name", word, PurePath(arguments[0]).name), program)


def _must_be_free(table: Table, key: str, name: tuple[str, str], taken: Taken) -> None:
    if not name[1]:
        return
    first = taken.setdefault(name, table.place)
    if first is table.place:
        return
    if key == "directory":
        problem = Text(
            "{name} belongs to line {line} already; choose another directory",
            name=name[1],
            line=first.line,
        )
    else:
        problem = Text(
            "{name} is run for this certificate already, at line {line}; give one of them another"
            " `name`",
            name=name[1],
            line=first.line,
        )
    table.report(key if key in table else "command", problem)


def _directory(paths: Paths) -> Read[str]:
    return lambda value: os.path.normpath(paths.resolve(word(value)))


def _arguments(paths: Paths) -> Read[tuple[str, ...]]:
    """Make a reader of what is run: a list, or a string that is split as a shell would."""

    def read(value: object) -> tuple[str, ...]:
        written = _listed(value) if isinstance(value, list) else _split(value)
        program = word(written[0])
        if "/" in program:
            program = str(paths.resolve(program))
        return (program, *written[1:])

    return read


def _listed(value: list[object]) -> list[str]:
    if not value:
        raise ConfigError(Text("is an empty list"))
    return [_argument(item) for item in value]


def _argument(value: object) -> str:
    written = string(value)
    if "\0" in written:
        raise ConfigError(Text("contains a character that cannot be printed"))
    return written


def _split(value: object) -> list[str]:
    if not isinstance(value, str):
        raise wrong_type(Text("a string or a list"), value)
    try:
        written = shlex.split(word(value))
    except ValueError as exc:
        raise ConfigError(Text("cannot be read: {problem}", problem=str(exc).lower())) from None
    if not written:
        raise ConfigError(Text("is empty"))
    operator = next((part for part in written if part in _OPERATORS or part.endswith(";")), None)
    if operator is not None:
        raise ConfigError(
            Text(
                '{operator} means nothing without a shell; write ["sh", "-c", "…"], or the path of'
                " a script",
                operator=operator,
            )
        )
    return written


def _mode(value: object) -> int:
    written = string(value)
    if not _MODE.fullmatch(written):
        raise ConfigError(Text('must be an octal mode in quotes, such as "0644"'))
    mode = int(written, 8)
    if mode & _RUN_OR_SPECIAL or not mode & _OWNER_READS or mode & _OTHERS_WRITE:
        raise ConfigError(
            Text("must let the owner read, no user run and not every user write, such as 0644")
        )
    return mode


def _key_mode(value: object) -> int:
    mode = _mode(value)
    if mode & _OTHERS:
        raise ConfigError(Text("would open the private key to every user; write 0600 or 0640"))
    return mode
