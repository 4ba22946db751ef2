"""How click speaks to an operator: in the language of the run, and in lines as wide as they look.

Click looks its own sentences up with `gettext`; `click.mo`, beside our catalogue, has them in
Chinese. Ours, the help of commands and options, are translated before click sees them.
"""

from __future__ import annotations

import copy
import gettext
import inspect
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

import click

from certferry.present.language import CATALOGUES, ENGLISH, Voice
from certferry.present.layout import padded, width, wrapped
from certferry.text import Text

CLICK = "click"
"""The text domain of click's own sentences."""

UNBROKEN = "\b\n"
"""How a paragraph begins whose lines stay as they are: click's own mark."""


@contextmanager
def click_speaks(language: str) -> Iterator[None]:
    """Let click find its sentences in a language, for a `with` block. Programs that a command
    starts speak as before: `gettext` goes by the text domain and LANGUAGE of the process.
    """
    if language == ENGLISH:
        yield
        return
    gettext.bindtextdomain(CLICK, str(CATALOGUES))
    domain, asked = gettext.textdomain(), os.environ.get("LANGUAGE")
    gettext.textdomain(CLICK)
    os.environ["LANGUAGE"] = language
    try:
        yield
    finally:
        gettext.textdomain(domain)
        if asked is None:
            del os.environ["LANGUAGE"]
        else:
            os.environ["LANGUAGE"] = asked


class WideFormatter(click.HelpFormatter):
    """Writes help as click does, but counts cells: Chinese characters are two wide."""

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        indent = " " * self.current_indent
        blocks = []
        for paragraph in paragraphs(text):
            if paragraph.startswith(UNBROKEN):
                rows = paragraph.removeprefix(UNBROKEN).splitlines()
            else:
                rows = self._wrapped(paragraph, len(indent))
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
            said = self._wrapped(meaning, len(below))
            if width(term) + col_spacing > first or not said:
                self.write(f"{indent}{term}\n")
            else:
                self.write(f"{indent}{padded(term, first)}{said.pop(0)}\n")
            self.write("".join(f"{below}{row}\n" for row in said))

    def _wrapped(self, words: str, indent: int) -> list[str]:
        return wrapped(words, max(self.width - indent, 10))


class SpokenContext(click.Context):
    """A context in the run's language; it adds the command to mistakes that click gives none."""

    formatter_class = WideFormatter

    @contextmanager
    def scope(self, cleanup: bool = True) -> Iterator[Self]:  # noqa: FBT001, FBT002 - click's own
        """Enter the context, as click does to read a command line."""
        with click_speaks(voice_of(self).language), super().scope(cleanup):
            try:
                yield self
            except click.UsageError as error:
                error.ctx = error.ctx or self
                raise


def voice_of(ctx: click.Context) -> Voice:
    """Return the voice of the run that a context belongs to."""
    return getattr(ctx.find_root().obj, "voice", None) or Voice()


def spoken(command: click.Command, voice: Voice) -> click.Command:
    """Return a copy of a command and its subcommands, with help in a language. Only copies are run:
    click keeps the first `--help` it made.
    """
    copied = copy.copy(command)
    copied.context_class = SpokenContext
    copied._help_option = None  # noqa: SLF001 - what click keeps may speak another language
    said = [_said(paragraph, voice) for paragraph in paragraphs(command.help or "")]
    copied.help, copied.short_help = "\n\n".join(said), next(iter(said), "")
    copied.options_metavar = voice.say(Text("[OPTIONS]"))
    copied.params = [_spoken_parameter(parameter, voice) for parameter in command.params]
    if isinstance(copied, click.Group):
        copied.subcommand_metavar = voice.say(Text("COMMAND [ARGS]..."))
        copied.commands = {name: spoken(part, voice) for name, part in copied.commands.items()}
    return copied


def _spoken_parameter(parameter: click.Parameter, voice: Voice) -> click.Parameter:
    if not (isinstance(parameter, click.Option) and parameter.help):
        return parameter
    copied = copy.copy(parameter)
    copied.help = _said(parameter.help, voice)
    return copied


def _said(paragraph: str, voice: Voice) -> str:
    # Lines that stay as they are are to be typed.
    return paragraph if paragraph.startswith(UNBROKEN) else voice.say(Text(paragraph))


def paragraphs(help_: str) -> list[str]:
    """Return the paragraphs of a help, each as one line, unless its lines stay as they are."""
    text = inspect.cleandoc(help_).partition("\f")[0]
    blocks = filter(str.strip, re.split(r"\n\s*\n", text))
    return [b if b.startswith(UNBROKEN) else " ".join(b.split()) for b in blocks]
