"""Questions on a terminal: one line each, an answer that can be edited, and a way back."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import click

from certferry.errors import ConfigError, Interrupted
from certferry.present.console import Console
from certferry.present.language import Voice, one_or_many
from certferry.present.layout import line
from certferry.text import Text

T = TypeVar("T")

YES = frozenset({"y", "yes", "是", "好"})
BACK = frozenset({"back", "返回"})
ALL, NONE = frozenset({"all", "全部"}), frozenset({"none", "无"})
_BETWEEN = re.compile(r"[\s,，、;；]+")
_RANGE = re.compile(r"(\d{1,6})(?:[-–~](\d{1,6}))?")


class Back(Exception):
    """The operator goes back: to the question before, or to the step that is named."""

    def __init__(self, to: str = "") -> None:
        super().__init__(to)
        self.to = to


@dataclass(frozen=True, slots=True)
class Option:
    """One of several answers: how it is called in the list, and the `words` that mean it beside its
    number.
    """

    label: str
    words: frozenset[str] = frozenset()


class Interview:
    """Asks the operator at the terminal. Raises `Interrupted` when they end it, and, where an
    interview `may_go_back`, `Back` when they say so.
    """

    def __init__(self, console: Console, *, may_go_back: bool = False) -> None:
        self._console = console
        self._may_go_back = may_go_back
        self.asked = 0

    @property
    def voice(self) -> Voice:
        """Who asks."""
        return self._console.voice

    def print(self, text: Text) -> None:
        """Print something between questions."""
        self._console.print_stderr([line(self.voice.say(text))])

    def ask_for(
        self,
        question: Text,
        read: Callable[[str], T],
        *,
        needed: bool = False,
        kept: T | None = None,
        hidden: bool = False,
    ) -> T | None:
        """Ask until the answer can be read, and give it. No answer gives what was `kept` of an
        earlier one, or `None` where none is `needed`. Of what is `hidden` while it is typed, it is
        printed how many characters have arrived.

        `read` raises `ConfigError`, which is printed.
        """
        if kept is not None:
            question = Text("{question} (Enter: as before)", question=question)
        if hidden:
            question = Text("{question} (input hidden)", question=question)
        while True:
            answer = self._prompt(question, hidden=hidden)
            if answer:
                if hidden:
                    one, many = Text("1 character was read."), Text("{count} characters were read.")
                    self.print(one_or_many(len(answer), one, many))
                try:
                    return read(answer)
                except ConfigError as error:
                    self.print(error.message)
            elif kept is not None or not needed:
                return kept
            else:
                needed_here = Text("a value is needed here; Ctrl-C ends the interview")
                back = Text("a value is needed here; `back` returns, Ctrl-C ends the interview")
                self.print(back if self._may_go_back else needed_here)

    def choose(
        self,
        heading: Text,
        options: Sequence[Option],
        usual: int | None,
        refused: Callable[[str], Text],
        *,
        or_none: bool = False,
    ) -> int | None:
        """Show a list with numbers, and ask for one of it by its number or one of its words; no
        answer is the `usual` one, or `None`, as `none` is where it may be one of them, `or_none`.
        `refused` says what is wrong with an answer.
        """
        self.show_list(heading, [option.label for option in options])
        of_nothing: Text | int = Text("none") if usual is None else usual + 1

        def read(answer: str) -> int:
            if or_none and answer.casefold() in NONE:
                return len(options)
            if answer.isascii() and answer.isdigit() and 0 < int(answer) <= len(options):
                return int(answer) - 1
            for number, option in enumerate(options):
                if answer.casefold() in {option.label.casefold(), *option.words}:
                    return number
            raise ConfigError(refused(answer))

        question = Text("Number or name (Enter for {usual})")
        if or_none and usual is not None:
            question = Text("Number or name, or `none` (Enter for {usual})")
        chosen = self.ask_for(question.filled(usual=of_nothing), read)
        if chosen == len(options):
            return None
        return usual if chosen is None else chosen

    def choose_several(self, question: Text, most: int, usual: frozenset[int]) -> frozenset[int]:
        """Ask for numbers from 1 to `most`; no answer gives the `usual` ones."""
        shown = Text("{question} (Enter for {usual})", question=question, usual=as_ranges(usual))
        chosen = self.ask_for(shown, lambda answer: numbers_in(answer, most))
        return usual if chosen is None else chosen

    def show_list(self, heading: Text, labels: Sequence[str]) -> None:
        """Show what there is to choose from, a line each with its number."""
        digits, numbered = len(str(len(labels))), enumerate(labels, start=1)
        rows = [line(f"  {number:>{digits}}  ", label) for number, label in numbered]
        self.print(Text("{heading}:", heading=heading))
        self._console.print_stderr(rows)

    def confirm(self, question: Text, *, usual: bool = False) -> bool:
        """Ask for a yes; everything else is a no, and no answer is the `usual` one."""
        shown = Text("{question} [Y/n]") if usual else Text("{question} [y/N]")
        answer = self._prompt(shown.filled(question=question), hidden=False).lower()
        return answer in YES if answer else usual

    def _prompt(self, question: Text, *, hidden: bool) -> str:
        self._console.flush()
        self.asked += 1
        try:
            answer = _read(self.voice.say(question), hidden=hidden).strip()
        except UnicodeDecodeError:
            wrong = Text("what was typed is not UTF-8: set the terminal to UTF-8, or type it again")
            self.print(wrong)
            return self._prompt(question, hidden=hidden)
        except (click.Abort, KeyboardInterrupt, EOFError):
            if not hidden:
                click.echo(err=True)  # what comes next is no answer to the question
            raise Interrupted(Text("stopped"), hint=Text("nothing was changed")) from None
        if self._may_go_back and answer.lower() in BACK:
            raise Back
        return answer


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """One step of an interview: from what is known before it to what is known after it. It may ask
    nothing.
    """

    name: str
    take: Callable[[T], T]


def walk(
    steps: Sequence[Step[T]], known: T, interview: Interview | None, *, inside: bool = False
) -> T:
    """Take the steps one after the other; `Back` goes to the last one that asked something, or to
    the first one that it names. From the first question of all there is no way back; `inside`
    another step it leads out of this one.
    """
    passed: list[tuple[int, T, bool]] = []
    number = 0
    while number < len(steps):
        asked = 0 if interview is None else interview.asked
        try:
            after = steps[number].take(known)
        except Back as back:
            wanted = [
                place
                for place, (at, _, has_asked) in enumerate(passed)
                if (steps[at].name == back.to if back.to else has_asked)
            ]
            if wanted:
                place = wanted[0 if back.to else -1]
                number, known, _ = passed[place]
                del passed[place:]
            elif inside or interview is None:
                raise
            else:
                interview.print(Text("this is the first question; Ctrl-C ends the interview"))
        else:
            passed.append((number, known, interview is not None and interview.asked != asked))
            number, known = number + 1, after
    return known


def numbers_in(answer: str, most: int) -> frozenset[int]:
    """Read numbers and ranges such as `1-3,7`, `all` or `none`. Raises `ConfigError`."""
    if answer.lower() in ALL:
        return frozenset(range(1, most + 1))
    if answer.lower() in NONE:
        return frozenset()
    chosen: set[int] = set()
    for piece in filter(None, _BETWEEN.split(answer)):
        found = _RANGE.fullmatch(piece)
        first = int(found[1]) if found else 0
        last = int(found[2] or first) if found else 0
        if not 0 < first <= last <= most:
            said = Text(
                "{piece} is not understood: numbers from 1 to {most}, ranges such as 1-3,"
                " `all` or `none`"
            )
            raise ConfigError(said.filled(piece=piece, most=most))
        chosen.update(range(first, last + 1))
    return frozenset(chosen)


def as_ranges(numbers: frozenset[int]) -> str:
    """Write numbers as `numbers_in` reads them."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs) or "none"


def interview_at(console: Console, *, may_go_back: bool = False) -> Interview | None:
    """Return the interview; `None` without a terminal."""
    there = sys.stdin is not None and sys.stdin.isatty() and console.stderr.isatty()
    return Interview(console, may_go_back=may_go_back) if there else None


def _read(question: str, *, hidden: bool) -> str:
    """Read a line; the arrow keys edit it where the whole terminal is ours: readline writes its
    prompt to stdout.
    """
    if hidden or sys.stdout is None or not sys.stdout.isatty():
        return str(
            click.prompt(question, default="", show_default=False, hide_input=hidden, err=True)
        )
    with suppress(ImportError):  # a Python without it reads plain lines
        import readline  # noqa: F401 - `input` edits lines once it is there
    return input(f"{question}: ")
