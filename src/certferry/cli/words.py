"""How certferry speaks on a terminal, and the one place where a `Text` becomes what a person reads.

The rules of the voice:

- Data goes to stdout; progress, warnings, errors and hints to stderr.
- A line begins with whom it is about: the lineage, then the step, then the domain.
- Errors, hints, details and reasons: lower case, no full stop, no blame. What happened to whom;
  the hint says what to do next. Closing sentences are sentences, with a capital and a full stop.
- The same words everywhere: the actions `issue deploy verify retire`, the outcomes
  `done unchanged waiting failed refused skipped`, the standings of the contract. They are
  programs' words too: translated where a person reads them, never in JSON.
- One thing per line, aligned where lines are compared. A plan ends with its count.
- One is one and two are many: no `certificate(s)`.
- Names, commands and settings as a person types them, commands in backquotes.
- Colour helps the eye and never carries meaning alone.
- Moments are told in UTC and say so; durations in one unit, rounded down.
- Nothing from outside reaches the terminal as a control character.
- What must not be seen is not said to anybody: stdout, stderr, `--json` and the log get the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from certferry.cli.lines import Line, Span, Tone, line, width
from certferry.core.redaction import redacted
from certferry.text import Text, Translate, verbatim

if TYPE_CHECKING:  # the core loads the crypto library, which `--help` must not
    from certferry.core.desired import Kind

ERROR = Text("error: ")
WARNING = Text("warning: ")
HINT = Text("hint: ")

WORDS = {
    word.template: word
    for word in (
        # actions
        Text("issue"),
        Text("adopt"),
        Text("deploy"),
        Text("verify"),
        Text("retire"),
        Text("clean"),
        Text("look"),
        # outcomes, and what stands in a plan's way
        Text("done"),
        Text("unchanged"),
        Text("waiting"),
        Text("failed"),
        Text("refused"),
        Text("skipped"),
        Text("blocked"),
        Text("unread"),
        # standings
        Text("verified"),
        Text("propagating"),
        Text("processing"),
        Text("bound"),
        Text("pending"),
        Text("drifted"),
        Text("unknown"),
        Text("overdue"),
        # what a change is about, and from what to what, where that is no setting
        Text("certificate"),
        Text("command"),
        Text("missing"),
        Text("changed"),
        Text("delivered"),
        Text("not run"),
        Text("edited"),
        Text("run"),
        # what has happened
        Text("issued"),
        Text("issue failed"),
        Text("adopted"),
        Text("adopt failed"),
        Text("uploaded"),
        Text("deployed"),
        Text("deploy failed"),
        Text("retired"),
    )
}
"""Words that programs read too, for people."""


def english(template: str) -> str:
    """Translate into the language the templates are written in."""
    return template


class Voice:
    """Says texts in one language, chosen once for a run."""

    def __init__(self, translate: Translate = english, language: str = "en") -> None:
        self._translate = translate
        self.language = language

    def say(self, text: Text) -> str:
        """Give the sentence; it may have several lines. What must not be seen is taken out while
        it is whole.
        """
        return redacted(text.render(self._translate))

    def say_on_one_line(self, text: Text) -> str:
        """Give the sentence for a place that has one line."""
        return " ".join(self.say(text).splitlines())

    def word(self, word: str) -> str:
        """Give a word that programs read too; one that is not known here stays as it is."""
        return self.say(WORDS[word]) if word in WORDS else word


def one_or_many(count: int, one: Text, many: Text) -> Text:
    """Choose between "1 deployment" and "{count} deployments"."""
    return one if count == 1 else many


def once(subject: str | None, words: str) -> str:
    """Leave out a subject that the line has named already: details often begin with theirs."""
    return words if subject is None else words.removeprefix(f"{subject}: ")


def at_target(target: str, domain: str | None) -> Text:
    """Name a domain at its target, or the target as a whole."""
    if domain is None:
        return verbatim(target)
    return Text("{target} → {domain}", target=target, domain=domain)


def in_brackets(kind: Kind) -> str:
    """Add what a domain is, where it is not what most are."""
    return f" ({kind.value})" if kind.is_peculiar else ""


def copy_at_target(label: str | None, target: str | None) -> Text:
    """Name a target's copy of a certificate."""
    return Text("{label} at {target}", label=label, target=target)


def labelled(label: str, tone: Tone, words: str, indent: int = 0) -> Iterator[Line]:
    """Write words after a label; where they have several lines, all begin in the same column."""
    first, *rest = words.split("\n")
    yield line(" " * indent, Span(label, tone), first)
    yield from (line(" " * (indent + width(label)), more) for more in rest)
