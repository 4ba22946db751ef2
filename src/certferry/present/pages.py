"""The pages that come with the package: its reference, the how-tos, and the help with what others
answer, in each language. In a checkout they are those of `docs/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from certferry.present.language import ENGLISH
from certferry.present.layout import Line, Span, Tone, line, width, wrapped

WIDEST = 100
"""Cells; longer lines are hard to read on."""

_LINK = re.compile(r"\[([^\]]+)\]\(([^)]*)\)")
_ASIDE = re.compile(r"<!--|\[(?:中文|English)\]\([^)]*\)$")
"""What is for other readers: a remark for authors, and the way to the other language."""
_ITEM = re.compile(r"^(?: *)(?:[-*]|\d+\.) ")
_FENCE = "```"
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_SOFT = re.compile(r"(?<![\w*`])\*([^*`\s][^*`]*)\*(?![\w*])")


def lines(text: str, cells: int) -> Iterator[Line]:
    """Write a page, in lines of so many cells at most; what stands in a block of code stays."""
    cells = min(cells, WIDEST)
    for number, block in enumerate(blocks(text)):
        if number:
            yield line()
        yield from _block(block, cells)


def blocks(text: str) -> Iterator[list[str]]:
    """Split a page at empty lines, but for those in a block of code, and leave asides out."""
    return (block for block in _blocks(text) if not _ASIDE.match(block[0]))


def _blocks(text: str) -> Iterator[list[str]]:
    block, is_code = list[str](), False
    for row in text.splitlines():
        is_code ^= row.lstrip().startswith(_FENCE)
        if row.strip() or is_code:
            block.append(row)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _block(rows: Sequence[str], cells: int) -> Iterator[Line]:
    first = rows[0].lstrip()
    if first.startswith(_FENCE):
        yield from (line("    ", row) for row in rows if not row.lstrip().startswith(_FENCE))
    elif first.startswith("#"):
        yield line(Span(_plain(first.lstrip("# ")), Tone.STRONG))
    elif first.startswith("|"):
        yield from _table(rows, cells)
    else:
        yield from _paragraphs(rows, cells)


def _paragraphs(rows: Sequence[str], cells: int) -> Iterator[Line]:
    """Write running text; each item of a list begins its own line."""
    begun = list[str]()
    for row in [*rows, "- "]:
        item = _ITEM.match(row)
        if item and begun:
            mark = _ITEM.match(begun[0])
            indent = width(mark[0]) if mark else 0
            yield from _hanging(_plain(_joined(begun)), cells, indent)
            begun = []
        begun.append(row)


def _joined(rows: Sequence[str]) -> str:
    """Put lines together; between Chinese characters stands no space."""
    words = ""
    for row in map(str.strip, rows):
        between = " " if words and not (_is_wide(words[-1]) and _is_wide(row[0])) else ""
        words += between + row
    return words


def _is_wide(character: str) -> bool:
    return width(character) > 1


def _table(rows: Sequence[str], cells: int) -> Iterator[Line]:
    headers, _, *others = (_cells(row) for row in rows)
    for number, (first, *rest) in enumerate(others):
        if number:
            yield line()
        yield from (line(Span(row, Tone.STRONG)) for row in wrapped(_plain(first), cells))
        for header, cell in zip(headers[1:], rest, strict=False):
            if cell:
                label = f"{header}: " if header else ""
                yield from _hanging(_plain(label + cell), cells, 4, first=2)


def _cells(row: str) -> list[str]:
    # `a\|b` is a bar inside a cell.
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def _hanging(words: str, cells: int, indent: int, *, first: int = 0) -> Iterator[Line]:
    rows = wrapped(words, max(cells - indent, 20))
    for number, row in enumerate(rows):
        yield line(" " * (indent if number else first), row)


def _plain(words: str) -> str:
    """Take the marks away; a link to another page becomes the command that prints it."""
    words = _BOLD.sub(r"\1", _LINK.sub(_linked, words))
    return _SOFT.sub(r"\1", words)


def _linked(link: re.Match[str]) -> str:
    words, target = link[1], link[2]
    if target.startswith("http"):
        return f"{words} ({target})"
    page = re.fullmatch(
        r"(?:\.\./(?:help|how-to|reference)/)?([a-z0-9.-]+?)(?:\.zh-CN)?\.md(?:#.*)?", target
    )
    return f"{words} (`certferry help {page[1]}`)" if page else words


PAGES = Path(__file__).parents[1] / "pages"
_HELP = "help"
FOLDERS = ("reference", "how-to", _HELP)
_OTHERS = {"zh": ".zh-CN"}
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_CODE = re.compile(r"^\| `([a-z_]+)` \|", re.MULTILINE)
_PASTED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Page:
    """One page, by the name that an operator asks for."""

    topic: str
    path: Path

    @property
    def folder(self) -> str:
        """Return the name of the folder that the page lies in, one of `FOLDERS`."""
        return self.path.parent.name

    @property
    def text(self) -> str:
        """What stands on it, as Markdown."""
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """What it is about."""
        found = _TITLE.search(self.text)
        return self.topic if found is None else found[1].replace("`", "")

    @property
    def pasted(self) -> tuple[str, ...]:
        """The words that operators paste: what stands in code in its title and first paragraph."""
        title, first, *_ = blocks(self.text)
        return tuple(_PASTED.findall(_joined([*title, *first])))


def pages(language: str) -> dict[str, Page]:
    """Return every page in a language, by its topic: the reference first."""
    return {page.topic: page for folder in FOLDERS for page in _in(PAGES / folder, language)}


def schemas() -> Mapping[str, Path]:
    """Return the files that describe the documents of `--json`, by the document's name."""
    return {path.stem: path for path in sorted((PAGES / "reference" / "schema").glob("*.json"))}


def about_code(code: str, language: str) -> str | None:
    """Return the rows about a code, each under its table's heading; `None` for an unknown one."""
    text = pages(language)["codes"].text
    found = [part for part in text.split("\n## ")[1:] if code in _CODE.findall(part)]
    return "\n\n".join(_with_one_row(part, code) for part in found) or None


def about_words(words: str, language: str) -> list[Page]:
    """Return the pages about an answer of another program's, by words or a number out of it."""
    asked = words.casefold()
    return [
        page
        for page in _in(PAGES / _HELP, language)
        if any(_stands_in(pasted.casefold(), asked) for pasted in page.pasted)
    ]


def _stands_in(pasted: str, asked: str) -> bool:
    # No part of a longer word or number: 612 is not 612345.
    return re.search(rf"(?<![a-z0-9]){re.escape(pasted)}(?![a-z0-9])", asked) is not None


def _with_one_row(part: str, code: str) -> str:
    heading, *rows = (row for row in part.splitlines() if row)
    kept = [*rows[:2], *(row for row in rows if row.startswith(f"| `{code}` |"))]
    return "\n".join([f"## {heading}", "", *kept])


def _in(folder: Path, language: str) -> Iterator[Page]:
    for path in sorted(folder.glob("*.md")):
        if path.suffixes != [".md"]:
            continue
        translated = path.with_suffix(f"{_OTHERS.get(language, '')}.md")
        yield Page(path.stem, translated if language != ENGLISH and translated.exists() else path)
