"""Ask questions on a terminal. The operator can edit answers, and go back to earlier questions."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

import click
from msgspec import Struct

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
    """Raised if the operator goes back to the previous question, or to the step called `to`."""

    def __init__(self, to: str = "") -> None:
        super().__init__(to)
        self.to = to


class Option(Struct, frozen=True):
    """An answer to choose from a list."""

    #: The label in the list.
    label: str
    #: Other words that choose this option.
    words: frozenset[str] = frozenset()


class Interview:
    """Asks questions at the terminal. Every question raises `Interrupted` after Ctrl-C and at the
    end of input. With `may_go_back` the answer `back` to any question raises `Back`.
    """

    def __init__(self, console: Console, *, may_go_back: bool = False) -> None:
        self._console = console
        self._may_go_back = may_go_back
        #: The number of questions so far.
        self.asked = 0

    @property
    def voice(self) -> Voice:
        """The voice that asks."""
        return self._console.voice

    def print(self, text: Text) -> None:
        """Print a sentence between questions."""
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
        """Ask until `read` accepts the answer without a `ConfigError`, and return the result of
        `read`.

        An empty answer returns `kept`, an earlier result. Without `kept`, an empty answer returns
        `None`, or is refused if an answer is `needed`. `hidden` input stays off the screen; only
        the number of characters is printed.
        """
        if kept is not None:
            question = Text("{question} (Enter: as before)", question=question)
        if hidden:
            question = Text("{question} (input hidden)", question=question)
        while True:
            answer = self._prompt(question, hidden=hidden)
            if answer:
                if hidden:
                    singular, plural = (
                        Text("1 character was read."),
                        Text("{count} characters were read."),
                    )
                    self.print(one_or_many(len(answer), singular, plural))
                try:
                    return read(answer)
                except ConfigError as error:
                    self.print(error.message)
            elif kept is not None or not needed:
                return kept
            else:
                needed_here = Text("an answer is required; Ctrl-C ends the interview")
                back = Text("an answer is required; `back` returns, Ctrl-C ends the interview")
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
        """Show a list numbered from 1, and return the index (from 0) of the chosen option.

        An empty answer returns `usual`, an index or `None`. With `or_none` the operator may also
        answer `none`, which returns `None`. After a wrong answer, the sentence that `refused`
        returns is printed, and the question is repeated.
        """
        self.show_list(heading, [option.label for option in options])

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
        if usual is None:
            question = Text("Number or name (Enter to skip)")
        elif or_none:
            question = Text("Number or name, or `none` (Enter for {usual})")
        chosen = self.ask_for(question.filled(usual=(usual or 0) + 1), read)
        if chosen == len(options):
            return None
        return usual if chosen is None else chosen

    def choose_several(
        self, question: Text, names: Sequence[str], usual: frozenset[int]
    ) -> frozenset[int]:
        """Ask for some of `names`, and return their numbers (from 1); an empty answer returns
        `usual`.
        """
        shown = Text("{question} (Enter for {usual})", question=question, usual=as_ranges(usual))
        chosen = self.ask_for(shown, lambda answer: numbers_in(answer, names))
        return usual if chosen is None else chosen

    def show_list(self, heading: Text, labels: Sequence[str]) -> None:
        """Show labels to choose from, numbered, each on its own line."""
        digits, numbered = len(str(len(labels))), enumerate(labels, start=1)
        rows = [line(f"  {number:>{digits}}  ", label) for number, label in numbered]
        self.print(Text("{heading}:", heading=heading))
        self._console.print_stderr(rows)

    def confirm(self, question: Text, *, usual: bool = False) -> bool:
        """Return whether the answer is a yes. An empty answer counts as `usual`."""
        shown = Text("{question} [Y/n]") if usual else Text("{question} [y/N]")
        answer = self._prompt(shown.filled(question=question), hidden=False).lower()
        return answer in YES if answer else usual

    def _prompt(self, question: Text, *, hidden: bool) -> str:
        self._console.flush()
        self.asked += 1
        try:
            answer = _read(self.voice.say(question), hidden=hidden).strip()
        except UnicodeDecodeError:
            wrong = Text(
                "the input is not UTF-8: set the terminal to UTF-8, or type the answer again"
            )
            self.print(wrong)
            return self._prompt(question, hidden=hidden)
        except (click.Abort, KeyboardInterrupt, EOFError):
            if not hidden:
                click.echo(err=True)  # move the next output off the question's line
            raise Interrupted(Text("stopped"), hint=Text("nothing was changed")) from None
        if self._may_go_back and answer.lower() in BACK:
            raise Back
        return answer


class Step(Struct, Generic[T], frozen=True):
    """A step of an interview."""

    #: The name, for `Back`.
    name: str
    #: Takes the answers so far, may ask, and returns the answers with those of this step.
    take: Callable[[T], T]


def walk(
    steps: Sequence[Step[T]], answers: T, interview: Interview | None, *, inside: bool = False
) -> T:
    """Take steps in turn, and return the answers after the last step.

    If a step raises `Back`, the walk continues at the last step before that asked a question, or
    with `Back.to` at the first step of this name. If there is no such earlier step, a message is
    printed and the current step is taken again. A walk `inside` a step of another walk, or without
    an interview, raises `Back` instead.
    """
    passed: list[tuple[int, T, bool]] = []
    number = 0
    while number < len(steps):
        asked = 0 if interview is None else interview.asked
        try:
            after = steps[number].take(answers)
        except Back as back:
            wanted = [
                place
                for place, (at, _, has_asked) in enumerate(passed)
                if (steps[at].name == back.to if back.to else has_asked)
            ]
            if wanted:
                place = wanted[0 if back.to else -1]
                number, answers, _ = passed[place]
                del passed[place:]
            elif inside or interview is None:
                raise
            else:
                interview.print(Text("already at the first question; Ctrl-C ends the interview"))
        else:
            passed.append((number, answers, interview is not None and interview.asked != asked))
            number, answers = number + 1, after
    return answers


def numbers_in(answer: str, names: Sequence[str]) -> frozenset[int]:
    """Return the numbers (from 1) of the names chosen in `answer`. Raise `ConfigError` for an
    answer that is not understood.

    An answer is `all`, `none`, or a list of numbers, ranges such as `1-3`, names, and patterns such
    as `*.example.com`.
    """
    most = len(names)
    if answer.lower() in ALL:
        return frozenset(range(1, most + 1))
    if answer.lower() in NONE:
        return frozenset()
    chosen: set[int] = set()
    for piece in filter(None, _BETWEEN.split(answer)):
        named = {n for n, name in enumerate(names, start=1) if fnmatchcase(name, piece.lower())}
        if named:
            chosen |= named
            continue
        match = _RANGE.fullmatch(piece)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        if not 0 < first <= last <= most:
            message = Text(
                "{piece} is not understood: use numbers from 1 to {most}, ranges like 1-3, names,"
                " patterns like *.example.com, `all` or `none`"
            )
            raise ConfigError(message.filled(piece=piece, most=most))
        chosen.update(range(first, last + 1))
    return frozenset(chosen)


def as_ranges(numbers: frozenset[int]) -> str:
    """Return numbers in the form read by `numbers_in`, such as `1-3,7`; `none` without numbers."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs) or "none"


def interview_at(console: Console, *, may_go_back: bool = False) -> Interview | None:
    """Return an interview; return `None` if stdin or stderr is not a terminal."""
    there = sys.stdin is not None and sys.stdin.isatty() and console.stderr.isatty()
    return Interview(console, may_go_back=may_go_back) if there else None


def _read(question: str, *, hidden: bool) -> str:
    """Ask, and return the typed line. The operator can edit the line if stdout is a terminal, where
    readline prints the question, and if the line is not `hidden`.
    """
    if hidden or sys.stdout is None or not sys.stdout.isatty():
        return str(
            click.prompt(question, default="", show_default=False, hide_input=hidden, err=True)
        )
    with suppress(ImportError):  # a Python without readline reads plain lines
        import readline  # noqa: F401 - once imported, `input` edits lines
    return input(f"{question}: ")
