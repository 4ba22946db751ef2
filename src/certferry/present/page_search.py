"""Search for words in the sections of pages and in the help of commands, for `certferry help`.

A search reads all given texts, which takes a tenth of a second for half a megabyte. A stored index
would be faster, but would have to be built, shipped and kept up to date.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from msgspec import Struct

from certferry.present.pages import Page, blocks

_RUN = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]+")
_ASKING = re.compile(
    "如何|怎么样|怎么|怎样|为什么|什么|为何|没有|哪里|哪个|是否|能否|可以|请问|[的了吗呢吧]"
)
"""Matches Chinese question words and particles, which a search ignores."""
_COMMON = frozenset(
    {
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "can",
        "do",
        "does",
        "for",
        "from",
        "has",
        "have",
        "how",
        "i",
        "in",
        "is",
        "it",
        "its",
        "my",
        "of",
        "on",
        "or",
        "so",
        "that",
        "the",
        "this",
        "to",
        "was",
        "what",
        "when",
        "where",
        "which",
        "why",
        "will",
        "with",
    }
)
"""English words that a search ignores: question words, and words of every section."""
_ENDINGS = ("ing", "ed", "es", "s", "e")
_LEAST_STEM = 3
"""The fewest letters left after removing an ending."""
_ENOUGH = 2 / 3
"""The share of the searched terms that a page must have. The share is below 1, because pasted words
include the operator's own names.
"""
_IN_HEADING = 3
"""The number of mentions that a term in a section's names (`Section.named`) counts for, beside the
mentions in the text.
"""
_HALF = 1.5
"""The number of mentions of a term for which a section gets half of the term's weight. Each further
mention adds less.
"""
_FEW_ROWS = 6
"""Of a table with more rows than this, only the rows with the most searched terms are shown."""
_OF_A_TEST = "`tests/"
"""The text before a test's name in a table. Tables of tests are for developers, so the search skips
them.
"""
_HEADING = re.compile(r"^#{1,4} +(.+)$")


@dataclass(frozen=True)
class Section:
    """A part of a page, from a heading to the next, or the help of a command."""

    topic: str
    """The word or words after `certferry help` for the whole page, or for the command's help."""
    title: str
    """The page's title; for a command, the first sentence of its help."""
    heading: str
    """The section's heading; for the first section, the page's title."""
    blocks: Sequence[Sequence[str]]
    """Paragraphs, tables and code blocks as lines of Markdown; the first block is the heading."""
    is_command: bool = False
    """Whether the section is the help of a command."""

    @cached_property
    def words(self) -> str:
        """Return the section's words in lower case, as `search` compares them with a phrase."""
        return _words("\n".join(row for block in self.blocks for row in block))

    @cached_property
    def called(self) -> frozenset[str]:
        """Return the terms of the topic and of the page's title; for a command, of the topic."""
        return frozenset(terms(self.topic if self.is_command else f"{self.topic} {self.title}"))

    @cached_property
    def named(self) -> frozenset[str]:
        """Return the terms in `called` and in the section's heading; for a command, `called`."""
        return self.called if self.is_command else self.called | set(terms(self.heading))

    @cached_property
    def counts(self) -> Counter[str]:
        """Return how often the section has each term, with `_IN_HEADING` added for a term in
        `named`.
        """
        counted = Counter(terms(self.words))
        counted.update(dict.fromkeys(self.named, _IN_HEADING))
        return counted

    def about(self, wanted: frozenset[str]) -> str:
        """Return the section as Markdown. Of a long table, only the rows with the most terms of
        `wanted` stay (`_FEW_ROWS`).
        """
        return "\n\n".join("\n".join(_cut(block, wanted)) for block in self.blocks)


class Matches(Struct, frozen=True):
    """The sections that match some words."""

    #: The best section of each topic, the best first.
    sections: Sequence[Section]
    is_clear: bool
    """Whether the first section clearly matches: it has every searched term, and it is the only
    section or beats the second by its names or the exact phrase.
    """


_Fit = tuple[int, bool, float]
"""How well a section fits a search. Three values, compared in this order: how many of `called` and
`named` have all searched terms, whether the section has the exact phrase, and the weighted count of
terms.
"""


def terms(words: str) -> list[str]:
    """Return the terms of a text: stems of English words, numbers, and pairs of adjacent Chinese
    characters (or a single character that stands alone). Words that a search ignores are left out.
    """
    collected = []
    for run in _RUN.findall(_ASKING.sub(" ", words.casefold())):
        if run.isascii():
            collected += [] if run in _COMMON else [_stem(run)]
        else:
            collected += [run[at : at + 2] for at in range(max(len(run) - 1, 1))]
    return collected


def search(asked: str, sections: Iterable[Section]) -> Matches:
    """Return the sections that match the words `asked`, the best first: of each topic the best
    section. A topic matches if its sections together have enough of the terms (`_ENOUGH`).
    """
    everything = list(sections)
    wanted, phrase = frozenset(terms(asked)), _words(asked)
    weights = {term: _weight(term, everything) for term in wanted}
    had = {section.topic: set[str]() for section in everything}
    for section in everything:
        had[section.topic] |= wanted & section.counts.keys()

    def fit(section: Section) -> _Fit:
        counts = section.counts
        score = sum(
            weight * counts[term] / (counts[term] + _HALF) for term, weight in weights.items()
        )
        share = len(wanted & counts.keys()) / len(wanted)
        is_phrase = len(wanted) > 1 and phrase in section.words
        names = (wanted <= section.called) + (wanted <= section.named)
        return names, is_phrase, score * share

    fits = [
        (fit(section), section)
        for section in everything
        if wanted and len(had[section.topic]) >= _ENOUGH * len(wanted)
    ]
    best = dict[str, tuple[_Fit, Section]]()
    for each in sorted(fits, key=lambda each: each[0], reverse=True):
        best.setdefault(each[1].topic, each)
    ranked = list(best.values())
    is_whole = bool(ranked) and wanted <= ranked[0][1].counts.keys()
    is_alone = len(ranked) == 1 or (len(ranked) > 1 and ranked[0][0][:2] > ranked[1][0][:2])
    return Matches([section for _, section in ranked], is_whole and is_alone)


def sections_of(page: Page) -> Iterator[Section]:
    """Yield the sections of a page, without the tables that name test files (`_OF_A_TEST`). A
    heading without content is no section.
    """
    heading, part = page.title, list[Sequence[str]]()
    for block in blocks(page.text):
        begun = _HEADING.match(block[0])
        if begun:
            if len(part) > 1:
                yield Section(page.topic, page.title, heading, part)
            heading, part = begun[1].replace("`", ""), []
        if not (block[0].startswith("|") and any(_OF_A_TEST in row for row in block)):
            part.append(block)
    if len(part) > 1:
        yield Section(page.topic, page.title, heading, part)


def _words(text: str) -> str:
    """Return the words of a text in lower case, without Markdown and punctuation, with one space
    between them.
    """
    return " ".join(re.findall(r"[\w.:/*-]+", text.casefold().replace("`", "")))


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            word = word.removesuffix(ending)
    return word


def _weight(term: str, sections: Sequence[Section]) -> float:
    """Return the weight of a term: the fewer sections have the term, the greater is the weight."""
    having = sum(term in section.counts for section in sections)
    return math.log(1 + len(sections) / (1 + having))


def _cut(block: Sequence[str], wanted: frozenset[str]) -> Sequence[str]:
    head, rows = block[:2], block[2:]
    if not block[0].startswith("|") or len(rows) <= _FEW_ROWS:
        return block
    having = [len(wanted & set(terms(row))) for row in rows]
    most = max(having)
    return [*head, *(row for row, had in zip(rows, having, strict=True) if had == most)]
