"""Search what `certferry help` can print, by any words: sections of pages, and commands.

Every search reads the texts anew, a tenth of a second for half a megabyte: an index that is kept
would have to be made, shipped and compared.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from certferry.present.pages import Page, blocks

_RUN = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]+")
_ASKING = re.compile(
    "如何|怎么样|怎么|怎样|为什么|什么|为何|没有|哪里|哪个|是否|能否|可以|请问|[的了吗呢吧]"
)
"""The Chinese words of a question that no answer has."""
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
"""The same in English, and the words that every section has."""
_ENDINGS = ("ing", "ed", "es", "s", "e")
_LEAST_STEM = 3
"""Letters that are left before an ending which is taken away."""
_ENOUGH = 2 / 3
"""The share of the terms that a page must have: pasted words hold names of the operator's own."""
_IN_HEADING = 3
"""How many times a term counts in a heading."""
_HALF = 1.5
"""How often a section has a term when that counts half: the tenth time tells little more."""
_FEW_ROWS = 6
"""A table with more rows is cut down to those that have the terms."""
_OF_A_TEST = "`tests/"
"""How the name of a test begins. A table of tests is for developers, and is left out."""
_HEADING = re.compile(r"^#{1,4} +(.+)$")


@dataclass(frozen=True)
class Section:
    """A part of a page, from a heading to the next, or the help of a command."""

    topic: str
    """What `certferry help` prints the whole by."""
    title: str
    heading: str
    """The title, for the first part of a page."""
    blocks: Sequence[Sequence[str]]
    """Its paragraphs, tables and blocks of code, in lines of Markdown, with the heading first."""
    is_command: bool = False

    @cached_property
    def words(self) -> str:
        """Return its text as a pasted phrase is looked for in it."""
        return _words("\n".join(row for block in self.blocks for row in block))

    @cached_property
    def called(self) -> frozenset[str]:
        """Return the terms of what the whole is called; a command's sentence is no name."""
        return frozenset(terms(self.topic if self.is_command else f"{self.topic} {self.title}"))

    @cached_property
    def named(self) -> frozenset[str]:
        """Return the terms of what the whole and the part are called."""
        return self.called if self.is_command else self.called | set(terms(self.heading))

    @cached_property
    def counts(self) -> Counter[str]:
        """Return how often it has each term."""
        counted = Counter(terms(self.words))
        counted.update(dict.fromkeys(self.named, _IN_HEADING))
        return counted

    def about(self, wanted: frozenset[str]) -> str:
        """Return its text as Markdown; of a long table, the rows that have the most terms."""
        return "\n\n".join("\n".join(_cut(block, wanted)) for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Matches:
    """What has the words that were asked for, the best first, one section a topic."""

    sections: Sequence[Section]
    is_clear: bool
    """Whether the first has every word, and is the only one, or alone is called so or has the very
    phrase.
    """


_Fit = tuple[int, bool, float]
"""How well a section fits: by its names, by the very phrase, by how often it has which terms."""


def terms(words: str) -> list[str]:
    """Return the terms of a text: stems of English words, numbers, pairs of Chinese characters."""
    found = []
    for run in _RUN.findall(_ASKING.sub(" ", words.casefold())):
        if run.isascii():
            found += [] if run in _COMMON else [_stem(run)]
        else:
            found += [run[at : at + 2] for at in range(max(len(run) - 1, 1))]
    return found


def search(asked: str, sections: Iterable[Section]) -> Matches:
    """Return what answers words of an operator's; no sections where no topic has enough of them."""
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
    """Yield the sections of a page, without the tables that name its tests."""
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
    """Return a text in small letters and without marks, with one space between its words."""
    return " ".join(re.findall(r"[\w.:/*-]+", text.casefold().replace("`", "")))


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            word = word.removesuffix(ending)
    return word


def _weight(term: str, sections: Sequence[Section]) -> float:
    """Return how much a term tells: the rarer, the more."""
    having = sum(term in section.counts for section in sections)
    return math.log(1 + len(sections) / (1 + having))


def _cut(block: Sequence[str], wanted: frozenset[str]) -> Sequence[str]:
    head, rows = block[:2], block[2:]
    if not block[0].startswith("|") or len(rows) <= _FEW_ROWS:
        return block
    having = [len(wanted & set(terms(row))) for row in rows]
    most = max(having)
    return [*head, *(row for row, had in zip(rows, having, strict=True) if had == most)]
