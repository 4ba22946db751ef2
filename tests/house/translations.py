"""Find every sentence of the sources, and keep the catalogues of its translations.

`scripts/translations` runs this: `extract` writes the template, `update` brings each language's
catalogue up to it (what is new is empty, what is gone is dropped, nothing is guessed), `compile`
writes what certferry reads.

Click has no Chinese of its own, so what it says to an operator is translated beside ours, in
`click.po`. Its sentences are those of the version that is installed.
"""

from __future__ import annotations

import ast
import io
import itertools
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import click
import jinja2
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from certferry.cli.commands import CLICK, COMMANDS, IN_THE_SANDBOX, UNBROKEN, Commands, paragraphs
from certferry.cli.main import program
from tests.house.tree import PACKAGE, SANDBOX, modules, parse

LOCALE = PACKAGE / "locale"
TEMPLATE = LOCALE / "certferry.pot"
LANGUAGES = ("zh",)
OURS = "certferry"

SENTENCES = {"Text": (0,), "Meaning": (0, 1)}
"""What is called with sentences, and at which places among its arguments."""

UNSPOKEN = SANDBOX / "testing"
"""Fakes and contract suites speak to authors of adapters, in English."""

UNMET = {
    "modules that are not called, or only for a question that takes every answer": (
        *("_termui_impl.py", "_winconsole.py", "shell_completion.py", "termui.py", "utils.py"),
    ),
    "printed by `click.main`, which is not used; or said by us, in a hint": (
        *("Aborted!", "Error: {message}", "Try '{command} {option}' for help."),
        *("Did you mean {possibility}?", "No such command {name!r}."),
    ),
    "mistakes of a programmer": (
        "Name '{name}' defined twice",
        "Choice({choices})",
        "Invalid start character for option ({option})",
        "Boolean option {decl!r} cannot use the same flag for true/false.",
        "Could not determine name for option with declarations {decls!r}",
        (
            "No options defined but a name was passed ({name}). Did you mean to declare an argument"
            " instead? Did you mean to pass '--{name}'?"
        ),
        "Arguments take exactly one parameter declaration, got {length}: {decls}.",
    ),
    "kinds of parameters that no command has": (
        *("deprecated", "env var: {var}", "(dynamic)", "Positional arguments", "Missing parameter"),
        "DeprecationWarning: The command {name!r} is deprecated.{extra_message}",
        "DeprecationWarning: The {param_type} {name!r} is deprecated.{extra_message}",
        *("Missing {param_type}", "Missing parameter: {param_name}", "Value must be an iterable."),
        *("Takes {nargs} values but 1 was given.", "Argument {name!r} takes {nargs} values."),
        "{len_type} values are required, but {len_value} was given.",
        *("unknown error", "Could not open file {filename!r}: {message}"),
        "{value!r} is not a valid boolean. Recognized values: {states}",
        *("{value!r} does not match the format {format}.", "{value!r} is not a valid UUID."),
        *("Do you want to continue?", "Confirm the action without prompting."),
        "Invalid value: {message}",
    ),
    "said while a command is declared, before there is a language; ours has the first, too": (
        *("Show the version and exit.", "%(prog)s, version %(version)s"),
        *("file", "directory", "path"),
    ),
}
"""What click's sources have and no operator meets, by the reason: modules, and sentences (of two
numbers, the singular).
"""

NOT_MARKED = ("required",)
"""What click looks up by a variable, so that no reading of its sources finds it."""

_WRITTEN = datetime(2026, 11, 25, tzinfo=UTC)
"""The date in every catalogue: the same sentences make the same file, whenever it is made."""


class _Lasting(Catalog):
    """A catalogue whose header does not name the version of Babel that wrote it: the next version
    would make another file of the same sentences, and the check of what is shipped would fail.
    """

    def __iter__(self) -> Iterator[Message]:
        header, *messages = super().__iter__()
        lines = str(header.string).splitlines(keepends=True)
        kept = "".join(line for line in lines if not line.startswith("Generated-By:"))
        yield Message("", kept, flags=header.flags)
        yield from messages


def catalogue(language: str, domain: str = OURS) -> Path:
    return LOCALE / language / "LC_MESSAGES" / f"{domain}.po"


def extract() -> Catalog:
    """Return every sentence of the sources, and which files it is in."""
    found = _empty(None)
    for where, sentence in (*_written_in_modules(), *_written_in_templates(), *help_sentences()):
        _add(found, sentence, where)
    return found


@cache  # every module is parsed: a second and more
def _written_in_modules() -> tuple[tuple[str, str], ...]:
    return tuple(
        (_place(path), sentence)
        for path in (*modules(), *modules(SANDBOX))
        if not path.is_relative_to(UNSPOKEN)
        for sentence in sentences(parse(path))
    )


def _written_in_templates() -> Iterator[tuple[str, str]]:
    for path in templates():
        for sentence in template_sentences(path.read_text(encoding="utf-8")):
            yield _place(path), sentence


def templates() -> tuple[Path, ...]:
    """Return the templates of the console's pages."""
    return tuple(sorted((PACKAGE / "console" / "templates").glob("*.html")))


def template_sentences(source: str) -> Iterator[str]:
    """Return what a template has said: the sentences that are written in calls of `say`. One that
    is not written there cannot be found, so it is a mistake.
    """
    for call in jinja2.Environment(autoescape=True).parse(source).find_all(jinja2.nodes.Call):
        if isinstance(call.node, jinja2.nodes.Name) and call.node.name == "say":
            match call.args[:1]:
                case [jinja2.nodes.Const(value=str(sentence))]:
                    yield sentence
                case _:
                    raise ValueError(f"line {call.lineno}: say() without a sentence")


def _place(path: Path) -> str:
    """Return a module below its room's folder; the sandbox's sentences are in the same catalogue,
    so that `certferry demo` speaks every language.
    """
    within = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else SANDBOX.parent)
    return within.as_posix()


def extract_click() -> Catalog:
    found, unmet = _empty(None), set(itertools.chain.from_iterable(UNMET.values()))
    for path, _, sentence, _, _ in extract_from_dir(str(Path(click.__file__).parent)):
        first = sentence if isinstance(sentence, str) else sentence[0]
        if not {path, first} & unmet:
            found.add(sentence, locations=[(f"click/{path}", 0)])
    for sentence in NOT_MARKED:
        found.add(sentence)
    return found


def sentences(tree: ast.Module) -> Iterator[str]:
    """Return the sentences of a module; strings that are written in pieces are one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            for place in SENTENCES.get(node.func.id, ()):
                match node.args[place : place + 1]:
                    case [ast.Constant(value=str(sentence))] if sentence:
                        yield sentence


def help_sentences() -> Iterator[tuple[str, str]]:
    """Return what the help of every command says, and where that stands."""
    yield from (("cli/commands.py", sentence) for sentence in COMMANDS.values())
    yield from (("cli/main.py", sentence) for sentence in _said_by(program))
    for name in COMMANDS:
        command = Commands(name="certferry").get_command(click.Context(program), name)
        assert command is not None
        room = "certferry_sandbox" if name in IN_THE_SANDBOX else "cli"
        module = f"{room}/{name.replace('-', '_')}"
        place = f"{module}/__init__.py" if (PACKAGE / module).is_dir() else f"{module}.py"
        yield from ((place, sentence) for sentence in _said_by(command))


def _said_by(command: click.Command) -> Iterator[str]:
    yield from (part for part in paragraphs(command.help or "") if not part.startswith(UNBROKEN))
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.help:
            yield parameter.help
    if isinstance(command, click.Group) and not isinstance(command, Commands):
        for part in command.commands.values():
            yield from _said_by(part)


def updated(language: str, domain: str = OURS) -> Catalog:
    """Return a language's catalogue with the sentences of the sources, no more and no less."""
    known = read(language, domain)
    fresh = _empty(language)
    for message in DOMAINS[domain]():
        if message.id:
            earlier = known.get(message.id)
            said = "" if earlier is None else earlier.string
            fresh.add(message.id, said, locations=message.locations)
    return fresh


DOMAINS = {OURS: extract, CLICK: extract_click}
"""The text domains, and what finds their sentences."""


def read(language: str, domain: str = OURS) -> Catalog:
    """Read a language's catalogue; one that is not there yet is empty."""
    path = catalogue(language, domain)
    if not path.exists():
        return _empty(language)
    with path.open("rb") as file:
        read_one = read_po(file, locale=language)
    lasting = _empty(language)
    for message in read_one:
        if message.id:
            lasting[message.id] = message
    return lasting


def po_of(catalog: Catalog) -> bytes:
    return _written(
        lambda file: write_po(
            file, catalog, width=100, sort_by_file=True, include_lineno=False, ignore_obsolete=True
        )
    )


def mo_of(catalog: Catalog) -> bytes:
    return _written(lambda file: write_mo(file, catalog))


def _written(write: object) -> bytes:
    file = io.BytesIO()
    assert callable(write)
    write(file)
    return file.getvalue()


def _add(catalog: Catalog, sentence: str, where: str) -> None:
    catalog.add(sentence, locations=[(where, 0)])


def _empty(language: str | None) -> Catalog:
    return _Lasting(
        locale=language,
        project="certferry",
        copyright_holder="certferry",
        creation_date=_WRITTEN,
        revision_date=_WRITTEN,
        header_comment="# Sentences of certferry. Kept by scripts/translations.",
        fuzzy=False,
    )


def main(tasks: list[str]) -> None:
    """Do what is asked: extract, update, compile; all of them when nothing is."""
    for task in tasks or ["extract", "update", "compile"]:
        match task:
            case "extract":
                TEMPLATE.write_bytes(po_of(extract()))
            case "update":
                for language, domain in itertools.product(LANGUAGES, DOMAINS):
                    written = po_of(updated(language, domain))
                    catalogue(language, domain).write_bytes(written)
            case "compile":
                for language, domain in itertools.product(LANGUAGES, DOMAINS):
                    shipped = catalogue(language, domain).with_suffix(".mo")
                    shipped.write_bytes(mo_of(read(language, domain)))
            case _:
                sys.exit(f"translations: unknown task {task}; there are extract, update, compile")


if __name__ == "__main__":
    main(sys.argv[1:])
