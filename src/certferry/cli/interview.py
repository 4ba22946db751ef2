"""Questions on a terminal: asked on stderr, and a secret's answer is never echoed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import click

from certferry.core.secret import Secret
from certferry.errors import ConfigError, Interrupted
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.text import Text

T = TypeVar("T")

_NEEDED = Text("a value is needed here; Ctrl-C ends the interview")

YES = frozenset({"y", "yes", "是", "好"})


class Interview:
    """Asks the operator at the terminal. Raises `Interrupted` when they end it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def ask(self, question: Text) -> str:
        """Give the answer; it may be empty."""
        return self._prompt(question, hidden=False)

    def tell(self, text: Text) -> None:
        """Say something between questions."""
        self._console.remark([line(self._console.voice.say(text))])

    def ask_for(
        self, question: Text, read: Callable[[str], T], *, needed: bool = False
    ) -> T | None:
        """Ask until the answer can be read, and give it; `None` when there is none, which is taken
        where none is `needed`.

        `read` raises `ConfigError`, which is told.
        """
        while True:
            answer = self.ask(question)
            if answer:
                try:
                    return read(answer)
                except ConfigError as error:
                    self.tell(error.message)
            elif needed:
                self.tell(_NEEDED)
            else:
                return None

    def ask_secret(self, question: Text, *, needed: bool = False) -> Secret:
        """Give an answer that is not seen while it is typed; empty only where none is `needed`."""
        hidden = Text("{question} (input hidden)", question=question)
        while not (answer := self._prompt(hidden, hidden=True)) and needed:
            self.tell(_NEEDED)
        return Secret(answer)

    def confirm(self, question: Text) -> bool:
        """Ask for a yes; everything else is a no."""
        answer = self._prompt(Text("{question} [y/N]", question=question), hidden=False)
        return answer.lower() in YES

    def _prompt(self, question: Text, *, hidden: bool) -> str:
        self._console.flush()
        said = self._console.voice.say(question)
        try:
            answer = click.prompt(said, default="", show_default=False, hide_input=hidden, err=True)
        except click.Abort:
            if not hidden:
                click.echo(err=True)  # what comes next is no answer to the question
            raise Interrupted(Text("stopped"), hint=Text("nothing was written")) from None
        return str(answer).strip()


def interview_at(console: Console) -> Interview | None:
    """Give the interview, `None` where there is no terminal."""
    there = sys.stdin is not None and sys.stdin.isatty() and console.stderr.isatty()
    return Interview(console) if there else None
