"""The manual pages, in both languages, and what completes commands in a shell.

certferry(1) and a page for each command are made of the help, certferry.toml(5) of the page on the
configuration, and a page of section 7 of every other page that `certferry help` prints.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import click
from markdown_it.tree import SyntaxTreeNode

from certferry import __version__
from certferry.cli.commands import COMMANDS, GROUPS, UNBROKEN, click_speaks, paragraphs, spoken
from certferry.cli.main import program
from certferry.cli.options import PROGRAM
from certferry.cli.topics import script
from certferry.present.console import Console
from certferry.present.language import voice_in
from certferry.present.pages import pages
from certferry.text import Text
from release import Release, run_tool
from release.roff import BOLD, ROMAN, Manual, bold, of_help, table_of, tree_of

FOLDERS = {"en": "", "zh": "zh_CN"}
"""Where man looks for each language, below its folder."""
COMPLETIONS = {
    "bash": "bash-completion/completions/certferry",
    "zsh": "zsh/vendor-completions/_certferry",
    "fish": "fish/vendor_completions.d/certferry.fish",
}
"""Where Debian's shells look for each script, below /usr/share."""
CONFIGURATION = "config"
"""The page that is certferry.toml(5)."""
_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*", re.IGNORECASE)
_PAGE = re.compile(r"(?:.*/)?([a-z0-9-]+)(?:\.zh-CN)?\.md(?:#.*)?")


def make(release: Release) -> tuple[Path, ...]:
    """Make the archive of both, whose folders are those of /usr/share or ~/.local/share, for those
    who install from a package index.
    """
    share = release.work / "manuals"
    write_manuals(release.tree, share / "man", release.epoch)
    write_completions(release.tree, share)
    archive = release.dist / f"certferry-{release.version}-manuals.tar.xz"
    archive.write_bytes(_archived(share, release.epoch))
    return (archive,)


def write_manuals(tree: Path, to: Path, epoch: int) -> None:
    """Write the pages of the certferry in `tree` into a folder as /usr/share/man, uncompressed. The
    day on them is that of the epoch. Raises `CalledProcessError`.
    """
    _run_in(tree, "man", to, epoch)


def write_completions(tree: Path, to: Path) -> None:
    """Write the script of each shell into a folder as /usr/share: it starts certferry when an
    operator asks for a completion, and costs a shell's start nothing. Raises `CalledProcessError`.
    """
    _run_in(tree, "completions", to, 0)


def _run_in(tree: Path, what: str, to: Path, epoch: int) -> None:
    """Run this module as the tree has it, with the commands and the pages of the tree."""
    places = [tree, tree / "src", tree / "sandbox" / "src"]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "PYTHONDONTWRITEBYTECODE": "1",  # the tree stays what was exported
    }
    command = [sys.executable, "-m", "release.manuals", what, str(to.absolute()), str(epoch)]
    run_tool(command, cwd=tree, environ=environ)


def _archived(folder: Path, epoch: int) -> bytes:
    """Return an archive of a folder, the same for the same files."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:xz") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            one = tarfile.TarInfo(path.relative_to(folder).as_posix())
            one.mtime, one.size = epoch, path.stat().st_size
            archive.addfile(one, io.BytesIO(path.read_bytes()))
    return written.getvalue()


@dataclass(frozen=True)
class Author:
    """Writes the manual pages of one language, of the commands and pages that are imported here."""

    language: str
    day: str

    @cached_property
    def words(self) -> Mapping[str, str]:
        """What the pages say beside the help and the documents."""
        path = Path(__file__).with_suffix(".toml")
        words: Mapping[str, Mapping[str, str]] = tomllib.loads(path.read_text(encoding="utf-8"))
        return words[self.language]

    def manuals(self) -> dict[str, str]:
        """Return the source of each page by its file, such as `man1/certferry.1`."""
        console = Console(io.StringIO(), io.StringIO(), {}, voice_in(self.language))
        found = {}
        with click_speaks(self.language):
            root = program.make_context(PROGRAM, [], resilient_parsing=True, obj=console)
            found["man1/certferry.1"] = self._of_the_program(root)
            for name in COMMANDS:
                found[f"man1/certferry-{name}.1"] = self._of_a_command(name, root)
        for topic in pages(self.language):
            name, section = _called(topic)
            found[f"man{section}/{name}.{section}"] = self._of_a_page(topic)
        return found

    def _of_the_program(self, root: click.Context) -> str:
        voice = root.obj.voice
        command = spoken(program, voice)
        what, *_ = paragraphs(command.help or "")
        page = self._begun(PROGRAM, 1, what)
        page.heading(self.words["synopsis"])
        page.paragraph(_usage(command, root))
        page.heading(self.words["description"])
        page.paragraph(what)
        page.heading(self.words["options"])
        _write_options(page, command, root)
        page.heading(self.words["commands"])
        for heading, names in GROUPS:
            page.heading(voice.say(heading), within=True)
            for name in names:
                what = of_help(voice.say(Text(COMMANDS[name])))
                page.term(f"certferry-{name}(1)", [what])
        page.heading(self.words["exit_status"])
        for code, meaning, _ in table_of(self._tables_of_exit_codes()[0])[1]:
            page.term(bold(code), [meaning])
        page.document(tree_of(self.words["more"]).children)
        page.heading(self.words["see_also"])
        for topic, found in pages(self.language).items():
            page.term(_reference(topic), [of_help(found.title)])
        return page.text

    def _of_a_command(self, name: str, root: click.Context) -> str:
        group = root.command
        command = group.get_command(root, name) if isinstance(group, click.Group) else None
        if command is None:
            raise click.UsageError(name)
        page = self._begun(f"certferry-{name}", 1, root.obj.voice.say(Text(COMMANDS[name])))
        found = list(_leaves(_context(command, name, root)))
        page.heading(self.words["synopsis"])
        for inner in found:
            page.paragraph(_usage(inner.command, inner))
        page.heading(self.words["description"])
        _write_help(page, command)
        if not isinstance(command, click.Group):
            page.heading(self.words["options"])
            _write_options(page, command, found[0])
        else:
            page.heading(self.words["commands"])
            for inner in found:
                page.heading(inner.command_path, within=True)
                _write_help(page, inner.command)
                _write_options(page, inner.command, inner)
        page.heading(self.words["exit_status"])
        for meaning in self._endings(name):
            page.paragraph(meaning)
        page.paragraph(self.words["everywhere"])
        others = [_reference(name)] if name in pages(self.language) else []
        self._see(page, "certferry(1)", "certferry.toml(5)", *others)
        return page.text

    def _of_a_page(self, topic: str) -> str:
        found = pages(self.language)[topic]
        name, section = _called(topic)
        page = self._begun(name, section, found.title)
        page.heading(self.words["description"])
        page.document(tree_of(without_tests(found.text)).children)
        others = ["certferry(1)", f"certferry-{topic}(1)" if topic in COMMANDS else ""]
        self._see(page, *filter(None, others))
        return page.text

    def _begun(self, name: str, section: int, what: str) -> Manual:
        page = Manual(name, section, self.day, __version__, _manual_of)
        page.heading(self.words["name"])
        page.name(name, what.rstrip(".。").replace("`", ""))
        return page

    def _see(self, page: Manual, *names: str) -> None:
        page.heading(self.words["see_also"])
        page.paragraph(self.words["between"].join(names))

    def _tables_of_exit_codes(self) -> list[SyntaxTreeNode]:
        page = tree_of(pages(self.language)["exit-codes"].text)
        return [node for node in page.children if node.type == "table"]

    def _endings(self, name: str) -> Iterator[str]:
        """Yield what is special about the exit codes of a command."""
        _, special = self._tables_of_exit_codes()
        for commands, meaning in table_of(special)[1]:
            for command in re.split(r", |、", commands):
                said = command.replace(BOLD, "").replace(ROMAN, "")
                if said.partition(" ")[0] == name:
                    yield f"{BOLD}certferry {said}{ROMAN}: {meaning}"


_SECTION_OF_TESTS = re.compile(
    r"^## [^\n]*\n(?:(?!## |\|)[^\n]*\n)*"
    r"\| [^|\n]* \| (?:test|the tests|测试) \|\n(?:\|[^\n]*\n)+",
    re.MULTILINE,
)
_NAMED_TESTS = r"`tests/[^`]*`(?:(?:,\s+|、\s*)`tests/[^`]*`)*"
_IN_BRACKETS = re.compile(rf"\s*(?:\({_NAMED_TESTS}\)|（{_NAMED_TESTS}）)")
_AT_AN_END = re.compile(rf"(?:[:：]\s*|\s+|){_NAMED_TESTS}")


def without_tests(text: str) -> str:
    """Return a page without the names of tests, which no operator has: no line of theirs can be
    broken, either.
    """
    for pattern in (_SECTION_OF_TESTS, _IN_BRACKETS, _AT_AN_END):
        text = pattern.sub("", text)
    return text


def _called(topic: str) -> tuple[str, int]:
    """Return the name and the section of the manual page of a topic."""
    return ("certferry.toml", 5) if topic == CONFIGURATION else (f"certferry-{topic}", 7)


def _reference(topic: str) -> str:
    name, section = _called(topic)
    return f"{name}({section})"


def _manual_of(target: str) -> str:
    """Return what a link leads to: a manual page, an address, or nothing that is installed."""
    if target.startswith("https:"):
        return target
    found = _PAGE.fullmatch(target)
    return _reference(found[1]) if found and found[1] in pages("en") else ""


def _context(command: click.Command, name: str, parent: click.Context) -> click.Context:
    return command.make_context(name, [], parent=parent, resilient_parsing=True)


def _leaves(ctx: click.Context) -> Iterator[click.Context]:
    """Yield the context of what can be run: a command, or each of a group at any depth, and the
    group itself where it does something alone.
    """
    if not isinstance(ctx.command, click.Group):
        yield ctx
        return
    if ctx.command.invoke_without_command:
        yield ctx
    for name in ctx.command.list_commands(ctx):
        command = ctx.command.get_command(ctx, name)
        if command is not None:
            yield from _leaves(_context(command, name, ctx))


def _usage(command: click.Command, ctx: click.Context) -> str:
    return " ".join([bold(ctx.command_path), *command.collect_usage_pieces(ctx)])


def _write_help(page: Manual, command: click.Command) -> None:
    for paragraph in paragraphs(command.help or ""):
        if paragraph.startswith(UNBROKEN):
            page.lines(paragraph.removeprefix(UNBROKEN).splitlines())
        else:
            page.paragraph(of_help(paragraph))


def _write_options(page: Manual, command: click.Command, ctx: click.Context) -> None:
    for option in command.get_params(ctx):
        found = option.get_help_record(ctx)
        is_said_elsewhere = "--help" in option.opts and ctx.parent is not None
        if found is not None and found[1] and not is_said_elsewhere:
            page.term(_OPTION.sub(lambda one: bold(one[0]), found[0]), [of_help(found[1])])


def _main(what: str, to: Path, epoch: int) -> None:
    for path, text in _wanted(what, f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d}"):
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        (to / path).write_text(text, encoding="utf-8")


def _wanted(what: str, day: str) -> Iterator[tuple[str, str]]:
    if what == "completions":
        for shell, path in COMPLETIONS.items():
            yield path, script(shell, program)
        return
    for language, folder in FOLDERS.items():
        for path, text in Author(language, day).manuals().items():
            yield f"{folder}/{path}".lstrip("/"), text


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
