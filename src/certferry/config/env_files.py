"""Read environment files: lines `KEY=value`, as a shell reads them, but without running anything.

Quotes, comments, `export`, a byte order mark and Windows line ends are allowed. Text that a shell
would replace or run is a mistake. If a name is assigned twice, the last assignment counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from certferry.config.document import Document, Place
from certferry.config.files import Paths, decode_text, read_file
from certferry.config.mistakes import REFERENCE, Mistake, config_error, mistake_at
from certferry.config.values import TomlTable, word
from certferry.errors import ConfigError
from certferry.text import Text

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)")
_IGNORED = re.compile(r"[ \t]*(?:#.*)?")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\$`]|\\.)*)"')
_PLAIN = re.compile(r"[^\s'\"\\$`~;&|<>()]+")
_ESCAPE = re.compile(r'\\(["\\$`])')  # inside double quotes, other backslashes stay
_COMMAND = re.compile(r'(?:"(?:[^"\\]|\\.)*?)?(?:`|\$\()')
_END = re.compile(r"(?:[ \t]+#.*|[ \t]*)")

ASSIGNMENTS_ONLY = Text("an environment file contains KEY=value lines; it is read, never executed")


@dataclass(frozen=True, slots=True)
class EnvFile:
    """An environment file as read."""

    #: The file.
    path: Path
    #: The variables set in the file; may be secrets, so never printed.
    values: Mapping[str, str] = field(repr=False)
    #: Mistakes in the file's lines.
    mistakes: tuple[Mistake, ...]


def fill_in(environ: Mapping[str, str], files: Sequence[EnvFile]) -> dict[str, str]:
    """Return `environ` with the variables set in files. Variables with a value keep the value. If
    several files set a variable, the earliest file counts.
    """
    filled = dict(environ)
    for file in files:
        filled |= {name: value for name, value in file.values.items() if not filled.get(name)}
    return filled


def environment_with(environ: Mapping[str, str], paths: Sequence[Path]) -> dict[str, str]:
    """Return `environ` with the variables set in the files at these paths. Raises `ConfigError`."""
    files = [read_env_file(path) for path in paths]
    mistakes = [mistake for file in files for mistake in file.mistakes]
    if mistakes:
        raise config_error(mistakes, ASSIGNMENTS_ONLY)
    return fill_in(environ, files)


def env_files_of(document: Document, path: Path, environ: Mapping[str, str]) -> tuple[EnvFile, ...]:
    """Read the environment files named in a document. Relative paths start beside `path`. Raises
    `ConfigError`.
    """
    paths = Paths.beside(path, environ)
    mistakes: list[Mistake] = []
    files = take_env_files(TomlTable(document.values, Place(document), mistakes), paths)
    inside = [mistake for file in files for mistake in file.mistakes]
    if mistakes or inside:
        raise config_error([*mistakes, *inside], REFERENCE if mistakes else ASSIGNMENTS_ONLY)
    return files


def take_env_files(root: TomlTable, paths: Paths) -> tuple[EnvFile, ...]:
    """Read the environment files that `env_files` names. Report an unreadable file to `root`, and
    leave it out. Mistakes inside a file are in the file's `EnvFile.mistakes`.
    """
    return root.take_list(
        "env_files", lambda value: read_env_file(paths.resolve(word(value))), (), empty=True
    )


def read_env_file(path: Path) -> EnvFile:
    """Read an environment file. Raises `ConfigError` if the file cannot be read, is not UTF-8 text,
    or is open to other users. Mistakes in lines are in the result.
    """
    try:
        text = decode_text(path, read_file(path, private=True)[0])
    except ConfigError as exc:
        problem = Text("{path} {problem}", path=path, problem=exc.message)
        usual = (
            None
            if path.is_file()
            else Text("set `env_files` to a file with KEY=value lines, of mode 0600")
        )
        raise ConfigError(problem, hint=exc.hint or usual) from exc
    values: dict[str, str] = {}
    mistakes: list[Mistake] = []
    for line, name, value in _assignments(text):
        if isinstance(value, str):
            values[name] = value
        else:
            mistakes.append(mistake_at(path, line, "", name, value))
    return EnvFile(path, values, tuple(mistakes))


def _assignments(text: str) -> Iterator[tuple[int, str, str | Text]]:
    """Yield the line, name and value of every assignment. For a wrong line, yield the problem in
    place of the value.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if _IGNORED.fullmatch(line):
            continue
        parts = _ASSIGNMENT.fullmatch(line)
        if parts is None:
            # The problem does not show the line, because the line may hold a part of a secret.
            yield number, "", Text("is not KEY=value (no spaces around the equals sign)")
        else:
            yield number, parts["name"], _value(parts["value"])


def _value(text: str) -> str | Text:
    """Return a value, joined from quoted and plain pieces up to the line's end or a comment. For a
    wrong value return the problem, a `Text`.
    """
    value, at = "", 0
    while True:
        if single := _SINGLE.match(text, at):
            value, at = value + single[1], single.end()
        elif double := _DOUBLE.match(text, at):
            value, at = value + _ESCAPE.sub(r"\1", double[1]), double.end()
        elif plain := _PLAIN.match(text, at):
            value, at = value + plain[0], plain.end()
        elif _END.fullmatch(text, at):
            return value
        else:
            return _problem(text[at:])


def _problem(rest: str) -> Text:
    """Return the reason why reading stopped, judging by the next character."""
    if rest[0] == "'" or (rest[0] == '"' and not re.search(r"(?<!\\)[$`]", rest)):
        return Text("a quote is not closed on the same line")
    if _COMMAND.match(rest):
        return Text(
            "a shell would run a command here; write the value itself in single quotes, or refer to"
            " the command in the configuration: command:…"
        )
    if rest[0] in '"$':
        return Text("a shell would replace `$`; write the value itself in single quotes")
    if rest[0].isspace():
        return Text("more text follows after a space; put a value with spaces in quotes")
    return Text("{character} outside quotes; put the value in single quotes", character=rest[0])
