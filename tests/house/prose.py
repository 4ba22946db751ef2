"""Plain words, measured: pronouns, openings, negations and vague names of each room and page, and
of the sentences for operators.

`scripts/check` runs this module, which prints a line for each limit that a room exceeds and exits
with 1. `python -m tests.house.prose --worst` prints the sentences with most pronouns instead.

Docstrings, comments and pages of well-kept projects (httpx, pip-audit, octoDNS, healthchecks) have
2.4 to 3.6 pronouns per 100 words; certferry had 11 before the limits.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from babel.messages.pofile import read_po

from tests.house.tree import PACKAGE, ROOT, modules, relative, room_of


def set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


PRONOUNS = set_of("it its itself one ones that what which whose whom this those these such")
OPENINGS = set_of("what where of one those that which whose who whatever")
NEGATIONS = set_of("not no never none nothing nobody neither nor without cannot")
VAGUE = set_of("one found said known written read got it that this thing these those")

FEWEST_WORDS = 3
"""Shorter passages are headings and names."""


@dataclass(frozen=True)
class Limits:
    """The highest counts of a room or a page."""

    pronouns: float = 5.5  #: per 100 words
    openings: float = 1.5  #: sentences that begin with What, Where, Of …, in percent
    negations: float = 22.0  #: sentences with a negation, in percent
    vague: float = 2.5  #: names that do not say what they hold, per 1,000 lines


OF_CODE = Limits()
OF_PAGES = Limits(pronouns=6.5, openings=2.0, negations=26.0)
OF_SENTENCES = Limits(pronouns=4.0, openings=1.0, negations=30.0)
"""For messages and help. Errors say what failed, so every third sentence has a negation."""

PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "STYLE.md")
FOLDERS_OF_PAGES = ("how-to", "explanation", "help", "facts")


@dataclass
class Measure:
    """The counts of some files."""

    words: int = 0
    pronouns: int = 0
    sentences: int = 0
    openings: int = 0
    negations: int = 0
    lines: int = 0
    vague: int = 0
    #: The share of pronouns of each sentence, its place, and the sentence.
    shares: list[tuple[float, str, str]] = field(default_factory=list)

    def add(self, place: str, passage: str) -> None:
        """Count the sentences of a passage."""
        plain = re.sub(r"`[^`]*`", "X", passage)
        for sentence in re.split(r"(?<=[.!?:])\s+|\n\s*\n|\n\s*[-*]\s", plain):
            words = re.findall(r"[a-z][a-z'’-]*", sentence.lower())
            if len(words) < FEWEST_WORDS:
                continue
            pronouns = sum(word in PRONOUNS for word in words)
            self.words += len(words)
            self.pronouns += pronouns
            self.sentences += 1
            self.openings += words[0] in OPENINGS
            self.negations += any(word in NEGATIONS or word.endswith("n't") for word in words)
            self.shares.append((pronouns / len(words), place, " ".join(sentence.split())))

    def exceeded(self, limits: Limits) -> Iterator[str]:
        """Yield a sentence for each limit that the counts exceed."""
        for name, value, most in (
            ("pronouns per 100 words", 100 * self.pronouns / max(1, self.words), limits.pronouns),
            ("% openings", 100 * self.openings / max(1, self.sentences), limits.openings),
            ("% negations", 100 * self.negations / max(1, self.sentences), limits.negations),
            ("vague names per 1,000 lines", 1000 * self.vague / max(1, self.lines), limits.vague),
        ):
            if value > most:
                yield f"{value:.1f} {name}, more than {most}"


def passages(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring and comment of a module."""
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            match statement:
                case ast.Expr(value=ast.Constant(value=str() as text_here)):
                    if not _is_help(node, statement):
                        yield statement.lineno, text_here
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or re.match(r"#\s*(noqa|type:|pragma|!)", token.string):
            continue
        if token.start[0] != last + 1:
            yield from [(first, " ".join(block))] if block else []
            block, first = [], token.start[0]
        block.append(token.string.lstrip("#: "))
        last = token.start[0]
    yield from [(first, " ".join(block))] if block else []


def _is_help(node: ast.AST, statement: ast.Expr) -> bool:
    """Return whether a docstring is the help of a command, which operators read in translation."""
    decorators = getattr(node, "decorator_list", [])
    is_first = getattr(node, "body", [None])[0] is statement
    return is_first and any("command" in ast.unparse(decorator) for decorator in decorators)


def vague_names(text: str) -> int:
    """Count the arguments and locals whose names hide what they hold."""
    return sum(
        node.arg in VAGUE
        if isinstance(node, ast.arg)
        else isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VAGUE
        for node in ast.walk(ast.parse(text))
    )


def of_modules(paths: Iterable[Path]) -> Measure:
    """Measure Python files."""
    measure = Measure()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for line, passage in passages(text):
            measure.add(f"{relative(path)}:{line}", passage)
        measure.lines += text.count("\n")
        measure.vague += vague_names(text)
    return measure


def of_pages(paths: Iterable[Path]) -> Measure:
    """Measure Markdown files, without code blocks and tables."""
    measure = Measure()
    for path in paths:
        text = re.sub(r"(?sm)^```.*?^```|^\|.*?$", "", path.read_text(encoding="utf-8"))
        measure.add(relative(path), text)
    return measure


def of_sentences() -> Measure:
    """Measure the sentences of the terminal and of messages, from the catalogues' template."""
    measure = Measure()
    with (PACKAGE / "locale" / "certferry.pot").open("rb") as template:
        for message in read_po(template):
            places = [place for place, _ in message.locations]
            if any(not place.startswith("console/") for place in places):
                measure.add(places[0], str(message.id))
    return measure


def measures() -> Iterator[tuple[str, Measure, Limits]]:
    """Yield the name, the counts and the limits of every room and page."""
    rooms: dict[str, list[Path]] = {}
    for path in modules():
        rooms.setdefault(room_of(path), []).append(path)
    for room, paths in rooms.items():
        yield f"src/certferry/{room}", of_modules(paths), OF_CODE
    for page in PAGES:
        yield page, of_pages([ROOT / page]), OF_PAGES
    for folder in FOLDERS_OF_PAGES:
        pages = (ROOT / "docs" / folder).glob("*.md")
        english = [page for page in pages if not page.name.endswith(".zh-CN.md")]
        yield f"docs/{folder}", of_pages(english), OF_PAGES
    yield "sentences for operators", of_sentences(), OF_SENTENCES


def main(arguments: list[str]) -> int:
    if arguments == ["--worst"]:
        shares = (share for _, measure, _ in measures() for share in measure.shares)
        for share, place, sentence in sorted(shares, reverse=True)[:40]:
            print(f"{share:.0%} {place}  {sentence}")
        return 0
    breaches = [
        f"{name}: {breach}"
        for name, measure, limits in measures()
        for breach in measure.exceeded(limits)
    ]
    print("\n".join(breaches) or "plain words: kept")
    return bool(breaches)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
