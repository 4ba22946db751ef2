"""The extraction of sentences from the sources, and the catalogues of their translations.

`scripts/translations` runs this module: `extract` writes the template; `update` brings each
language's catalogue up to date, with empty translations for new sentences and without guesses;
`compile` writes the catalogues that certferry reads.

Click has no Chinese of its own, so its sentences for operators are translated in `click.po`, from
the installed version.
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
"""The calls with sentences, and the positions of the sentences among the arguments."""

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
"""Sentences of click's sources that operators never see, by the reason: modules, and sentences (the
singular, if there are two).
"""

NOT_MARKED = ("required",)
"""Sentences that click looks up by a variable, so that a search of its sources misses them."""

_WRITTEN = datetime(2026, 11, 25, tzinfo=UTC)
"""The date in every catalogue: the same sentences give the same file at any time."""


class _Lasting(Catalog):
    """A catalogue whose header leaves out the version of Babel.

    The next version would otherwise write another file for the same sentences, and the check of the
    shipped files would fail.
    """

    def __iter__(self) -> Iterator[Message]:
        header, *messages = super().__iter__()
        lines = str(header.string).splitlines(keepends=True)
        other_lines = "".join(line for line in lines if not line.startswith("Generated-By:"))
        yield Message("", other_lines, flags=header.flags)
        yield from messages


def catalogue(language: str, domain: str = OURS) -> Path:
    return LOCALE / language / "LC_MESSAGES" / f"{domain}.po"


def extract() -> Catalog:
    """Return every sentence of the sources, with its files."""
    all_sentences = _empty(None)
    for where, sentence in (*_written_in_modules(), *_written_in_templates(), *help_sentences()):
        _add(all_sentences, sentence, where)
    return all_sentences


@cache  # parsing every module takes more than a second
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
    """Yield the sentences in a template's calls of `say`. A call with another argument raises an
    error, since its sentence could not be found.
    """
    for call in jinja2.Environment(autoescape=True).parse(source).find_all(jinja2.nodes.Call):
        if isinstance(call.node, jinja2.nodes.Name) and call.node.name == "say":
            match call.args[:1]:
                case [jinja2.nodes.Const(value=str(sentence))]:
                    yield sentence
                case _:
                    raise ValueError(f"line {call.lineno}: say() without a sentence")


def _place(path: Path) -> str:
    """Return a module's path below its room's folder. The sandbox shares the catalogue, so that
    `certferry demo` has every language.
    """
    within = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else SANDBOX.parent)
    return within.as_posix()


def extract_click() -> Catalog:
    all_sentences, unmet = _empty(None), set(itertools.chain.from_iterable(UNMET.values()))
    for path, _, sentence, _, _ in extract_from_dir(str(Path(click.__file__).parent)):
        first = sentence if isinstance(sentence, str) else sentence[0]
        if not {path, first} & unmet:
            all_sentences.add(sentence, locations=[(f"click/{path}", 0)])
    for sentence in NOT_MARKED:
        all_sentences.add(sentence)
    return all_sentences


def sentences(tree: ast.Module) -> Iterator[str]:
    """Yield the sentences of a module; strings written in pieces are joined."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            for place in SENTENCES.get(node.func.id, ()):
                match node.args[place : place + 1]:
                    case [ast.Constant(value=str(sentence))] if sentence:
                        yield sentence


def help_sentences() -> Iterator[tuple[str, str]]:
    """Yield the sentences in the help of every command, with their places."""
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
    """Return a language's catalogue with exactly the sentences of the sources."""
    earlier_catalogue = read(language, domain)
    fresh = _empty(language)
    for message in DOMAINS[domain]():
        if message.id:
            earlier = earlier_catalogue.get(message.id)
            translation = "" if earlier is None else earlier.string
            fresh.add(message.id, translation, locations=message.locations)
    return fresh


DOMAINS = {OURS: extract, CLICK: extract_click}
"""The text domains, and the functions that find their sentences."""


def read(language: str, domain: str = OURS) -> Catalog:
    """Read a language's catalogue; a missing catalogue is empty."""
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
    """Carry out the given tasks (extract, update, compile), or all of them."""
    for task in tasks or ["extract", "update", "compile"]:
        match task:
            case "extract":
                TEMPLATE.write_bytes(po_of(extract()))
            case "update":
                for language, domain in itertools.product(LANGUAGES, DOMAINS):
                    catalogue_bytes = po_of(updated(language, domain))
                    catalogue(language, domain).write_bytes(catalogue_bytes)
            case "compile":
                for language, domain in itertools.product(LANGUAGES, DOMAINS):
                    shipped = catalogue(language, domain).with_suffix(".mo")
                    shipped.write_bytes(mo_of(read(language, domain)))
            case _:
                sys.exit(f"translations: unknown task {task}; there are extract, update, compile")


if __name__ == "__main__":
    main(sys.argv[1:])
