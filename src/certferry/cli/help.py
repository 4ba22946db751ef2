"""Help in the reader's language, in lines that are as wide as they look."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

import click

from certferry.cli.lines import padded, width, wrapped
from certferry.cli.words import Voice
from certferry.text import Text

# What click itself says in a help.
_HEADINGS = {word.template: word for word in (Text("Options"), Text("Commands"))}
_ENDINGS = {
    word.template: word
    for word in (Text("Show this message and exit."), Text("Show the version and exit."))
}
_EXTRAS = re.compile(r"(?P<said>.*?)(?:  \[(?P<extras>[^\]]*)\])?", re.DOTALL)
_UNBROKEN = "\b\n"
"""How a paragraph begins whose lines stay as they are: click's own mark."""


def paragraphs(help_: str) -> list[str]:
    """Give the paragraphs of a help, each as one sentence for the catalogue.

    One whose lines stay as they are keeps its line ends.
    """
    text = inspect.cleandoc(help_).partition("\f")[0]
    return [_paragraph(block) for block in re.split(r"\n\s*\n", text) if block.strip()]


def _paragraph(block: str) -> str:
    if block.startswith(_UNBROKEN):
        return block.removeprefix(_UNBROKEN)
    return " ".join(block.split())


class SpokenContext(click.Context):
    """A context whose help speaks as the run does: its root's object has the voice.

    Every mistake of a command line knows its command: click's parser leaves that out of some.
    """

    @contextmanager
    def scope(self, cleanup: bool = True) -> Iterator[Self]:  # noqa: FBT001, FBT002 - click's own
        """Enter the context, as click does."""
        with super().scope(cleanup):
            try:
                yield self
            except click.UsageError as error:
                error.ctx = error.ctx or self
                raise

    def make_formatter(self) -> click.HelpFormatter:
        """Give the formatter of this run's language."""
        voice = getattr(self.find_root().obj, "voice", None)
        return SpokenFormatter(voice or Voice(), self.terminal_width, self.max_content_width)


def spoken(command: click.Command) -> click.Command:
    """Let a command, and the commands of a group, have their help in the run's language."""
    command.context_class = SpokenContext
    if isinstance(command, click.Group):
        for part in command.commands.values():
            spoken(part)
    return command


class SpokenFormatter(click.HelpFormatter):
    """Writes help as click does, translated, and counted in cells."""

    def __init__(self, voice: Voice, cells: int | None, most: int | None) -> None:
        super().__init__(width=cells, max_width=most)
        self._voice = voice

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write how a command is called."""
        usage = self._voice.say(Text("Usage: "))
        args = args.replace("COMMAND [ARGS]...", self._voice.say(Text("COMMAND [ARGS]...")))
        args = args.replace("[OPTIONS]", self._voice.say(Text("[OPTIONS]")))
        super().write_usage(prog, args, usage if prefix is None else prefix)

    def write_heading(self, heading: str) -> None:
        """Write what stands above a list."""
        said = self._voice.say(_HEADINGS.get(heading, Text(heading)))
        self.write(f"{'':>{self.current_indent}}{self._voice.say(Text('{what}:', what=said))}\n")

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        indent = " " * self.current_indent
        blocks = []
        for paragraph in paragraphs(text):
            said = self._say(paragraph)
            rows = said.splitlines() if "\n" in paragraph else self._wrapped(said, len(indent))
            blocks.append("\n".join(indent + row for row in rows))
        self.write("\n\n".join(blocks) + "\n")

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write terms and what they mean, in two columns."""
        rows = list(rows)
        widest = max((width(term) for term, _ in rows), default=0)
        first = min(widest, col_max) + col_spacing
        for term, meaning in rows:
            indent = " " * self.current_indent
            below = indent + " " * first
            said = self._wrapped(self._with_extras(meaning), len(below))
            if width(term) + col_spacing > first or not said:
                self.write(f"{indent}{term}\n")
            else:
                self.write(f"{indent}{padded(term, first)}{said.pop(0)}\n")
            self.write("".join(f"{below}{row}\n" for row in said))

    def _wrapped(self, words: str, indent: int) -> list[str]:
        return wrapped(words, max(self.width - indent, 10))

    def _say(self, sentence: str) -> str:
        return self._voice.say(_ENDINGS.get(sentence, Text(sentence))) if sentence else ""

    def _with_extras(self, meaning: str) -> str:
        """Translate an option's help, and what click adds to it in brackets."""
        found = _EXTRAS.fullmatch(meaning)
        if found is None or found["extras"] is None:
            return self._say(" ".join(meaning.split()))
        extras = "; ".join(map(self._extra, found["extras"].split("; ")))
        return f"{self._say(found['said'])}  [{extras}]".strip()

    def _extra(self, words: str) -> str:
        kind, _, value = words.partition(": ")
        match kind:
            case "default":
                return self._voice.say(Text("default: {value}", value=value))
            case "required":
                return self._voice.say(Text("required"))
            case _:
                return words
