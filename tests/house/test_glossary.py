"""The glossary has few words, and each is carried by a type that exists."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.house.tree import ROOT

MOST_WORDS = 25
ROW = re.compile(r"^\| (\w+) \| (.+?) \| `([\w.]+)\.(\w+)` \|$", re.MULTILINE)

WORDS = ROW.findall(
    (ROOT / "docs" / "glossary.md")
    .read_text(encoding="utf-8")
    .partition("## Words")[2]
    .partition("\n## ")[0]
)


def test_the_words_are_few_and_each_has_one_line() -> None:
    """A new word is paid for with an old one."""
    assert 0 < len(WORDS) <= MOST_WORDS
    assert len({word for word, *_ in WORDS}) == len(WORDS)


@pytest.mark.parametrize(("word", "sentence", "module", "name"), WORDS)
def test_a_word_has_one_sentence_and_a_type(
    word: str, sentence: str, module: str, name: str
) -> None:
    """The type is where the line says."""
    assert sentence.endswith(".")
    assert ". " not in sentence
    assert hasattr(importlib.import_module(f"certferry.{module}"), name), word


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "STYLE.md"])
def test_what_a_newcomer_reads_leads_to_it(document: str) -> None:
    """By a link."""
    assert "(docs/glossary.md)" in (ROOT / document).read_text(encoding="utf-8")
