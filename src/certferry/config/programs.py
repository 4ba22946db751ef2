"""Readers of programs with arguments, and of paths on a server."""

from __future__ import annotations

import os.path
import shlex

from certferry.config import values
from certferry.errors import ConfigError
from certferry.text import Text

_OPERATORS = frozenset({"&&", "||", "|", "&", ";", ">", ">>", "<", "2>", "2>&1", "&>"})


def words_of(value: object) -> tuple[str, ...]:
    """Read a command: a list of arguments, or a string that is split as a shell splits it."""
    words = _listed(value) if isinstance(value, list) else _split(value)
    return (values.word(words[0]), *words[1:])


def arguments_on_server(value: object) -> tuple[str, ...]:
    """Read a command of a server: as `words_of`, and the program has a name or a full path."""
    program, *others = words_of(value)
    if "/" in program and not program.startswith("/"):
        raise ConfigError(Text("runs on the server: write a name, or the full path there"))
    return (program, *others)


def directory_on_server(value: object) -> str:
    """Read the full path of a directory of a server."""
    directory = values.word(value)
    if not directory.startswith("/"):
        raise ConfigError(Text("is on the server: write the full path, for example /etc/nginx/tls"))
    directory = os.path.normpath(directory).replace("//", "/")
    if directory == "/":
        raise ConfigError(Text("must be a directory for the certificate's files alone"))
    return directory


def _listed(value: list[object]) -> list[str]:
    if not value:
        raise ConfigError(Text("is an empty list"))
    words = [values.string(item) for item in value]
    if any("\0" in word for word in words):
        raise ConfigError(Text("contains a character that cannot be printed"))
    return words


def _split(value: object) -> list[str]:
    if not isinstance(value, str):
        raise values.wrong_type(Text("a string or a list"), value)
    try:
        words = shlex.split(values.word(value))
    except ValueError as exc:
        raise ConfigError(Text("cannot be read: {problem}", problem=str(exc).lower())) from None
    if not words:
        raise ConfigError(Text("is empty"))
    operator = next((part for part in words if part in _OPERATORS or part.endswith(";")), None)
    if operator is not None:
        raise ConfigError(
            Text(
                '{operator} has no meaning without a shell; write ["sh", "-c", "…"], or the path'
                " of a script",
                operator=operator,
            )
        )
    return words
