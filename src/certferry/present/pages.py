"""Read the packaged pages of documentation, and render them on a terminal: the reference, the
how-tos, and help for other programs' answers. In a checkout these are the pages in `docs/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from certferry.present.language import ENGLISH
from certferry.present.layout import Line, Span, Tone, line, width, wrapped

WIDEST = 100
"""The widest line of a page, in cells. Longer lines are hard to read."""

_LINK = re.compile(r"\[([^\]]+)\]\(([^)]*)\)")
_ASIDE = re.compile(r"<!--|\[(?:中文|English)\]\([^)]*\)$")
"""Matches the start of a block to leave out: a comment for authors, or the link to the other
language.
"""
_ITEM = re.compile(r"^(?: *)(?:[-*]|\d+\.) ")
_FENCE = "```"
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_SOFT = re.compile(r"(?<![\w*`])\*([^*`\s][^*`]*)\*(?![\w*])")


def lines(text: str, cells: int) -> Iterator[Line]:
    """Write a page in lines of at most `cells`, and of at most `WIDEST`. Headings and code blocks
    are not wrapped.
    """
    cells = min(cells, WIDEST)
    for number, block in enumerate(blocks(text)):
        if number:
            yield line()
        yield from _block(block, cells)


def blocks(text: str) -> Iterator[list[str]]:
    """Split a page at empty lines outside code blocks. Leave out comments for authors, and the link
    to the other language.
    """
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
    """Write a block of running text, or the items of a list, each on a new line."""
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
    """Join lines into one line, with a space between them unless both neighbours are Chinese
    characters.
    """
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
    """Remove Markdown's marks of bold, emphasis and links. After the words of a link to another
    page, write the command that shows this page; after any other web link, its address.
    """
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


class Page(Struct, frozen=True):
    """A page, and the topic under which an operator asks for the page."""

    #: The word after `certferry help`.
    topic: str
    #: The file, in Markdown.
    path: Path

    @property
    def folder(self) -> str:
        """The name of the page's folder, one of `FOLDERS`."""
        return self.path.parent.name

    @property
    def text(self) -> str:
        """The page as Markdown."""
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """The page's heading."""
        match = _TITLE.search(self.text)
        return self.topic if match is None else match[1].replace("`", "")

    @property
    def pasted(self) -> tuple[str, ...]:
        """The answers of other programs that the page explains, as operators paste them: the text
        in backquotes in the title and the first paragraph.
        """
        title, first, *_ = blocks(self.text)
        return tuple(_PASTED.findall(_joined([*title, *first])))


def pages(language: str) -> dict[str, Page]:
    """Return every page by topic, the reference first. A page without a translation into `language`
    is in English.
    """
    return {page.topic: page for folder in FOLDERS for page in _in(PAGES / folder, language)}


def schemas() -> Mapping[str, Path]:
    """Return the schema files of JSON documents, by the document's name."""
    return {path.stem: path for path in sorted((PAGES / "reference" / "schema").glob("*.json"))}


def about_code(code: str, language: str) -> str | None:
    """Return the table rows about a code of certferry, each below the headings of its section and
    its table. Return None for an unknown code.
    """
    text = pages(language)["codes"].text
    parts = [part for part in text.split("\n## ")[1:] if code in _CODE.findall(part)]
    return "\n\n".join(_with_one_row(part, code) for part in parts) or None


def about_words(words: str, language: str) -> list[Page]:
    """Return the help pages about another program's answer: each page with a text in `Page.pasted`
    that `words` contain.
    """
    asked = words.casefold()
    return [
        page
        for page in _in(PAGES / _HELP, language)
        if any(_stands_in(pasted.casefold(), asked) for pasted in page.pasted)
    ]


def _stands_in(pasted: str, asked: str) -> bool:
    # Match whole words and numbers only: 612 is not 612345.
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
