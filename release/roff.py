"""The source of a manual page, as man(7) has it, from Markdown as `docs/` is written.

A table becomes a list of terms: each row begins with its first cell, and the others stand below it
under their headings, so that it fits 80 columns in either language. A Chinese line may be broken
between any two characters that punctuation does not hold together; man's programs break at spaces
alone, so each such place is marked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from certferry.present.layout import width, wrapped

ROMAN, BOLD, ITALIC = "\ue000", "\ue001", "\ue002"
"""Where a font begins, in text that is not escaped yet."""
_FONT = re.compile(f"[{ROMAN}{BOLD}{ITALIC}]")
_BREAK = "\ue003"
_ESCAPES = str.maketrans(
    {
        "\\": r"\(rs",
        "-": r"\-",
        "'": r"\(aq",
        "`": r"\(ga",
        '"': r"\(dq",
        "^": r"\(ha",
        "~": r"\(ti",
        "\N{NO-BREAK SPACE}": r"\ ",
        ROMAN: r"\fR",
        BOLD: r"\fB",
        ITALIC: r"\fI",
        _BREAK: r"\:",
    }
)
"""What roff reads otherwise: a hyphen is to be copied as one, a quotation mark as it was typed."""
_INDENT = 4
_LONG = 50  # columns: the narrowest text, in a list of terms on a screen of 80, has some more
_MARK = re.compile(r"[/&,?_](?=.)")
_REFERENCE = re.compile(r"(?<![\w.-])(certferry[a-z.-]*)\((\d)\)")
"""Another manual page."""

Link = Callable[[str], str]
"""Return what a link's target is called in a manual, such as `certferry-backup(7)`; empty where a
manual cannot lead there."""


def escaped(words: str) -> str:
    """Return text as roff prints it. What is not ASCII stays: the page is in UTF-8."""
    return words.translate(_ESCAPES)


def flowing(words: str) -> str:
    """Return one line of running text, whose Chinese may be broken."""
    named = _REFERENCE.sub(rf"{BOLD}\1{ROMAN}(\2)", words)
    line = escaped(" ".join(_breakable(word) for word in named.split()))
    return rf"\&{line}" if line.startswith(".") else line


def _breakable(word: str) -> str:
    """Mark where a line may be broken. A font changes nothing about that. An address or a name that
    is as long as a line may be broken after its marks.
    """
    plain = _FONT.sub("", word)
    ends = list(accumulate(len(piece) for piece in wrapped(plain, 1)))
    if width(plain) > _LONG:
        ends += [match.end() for match in _MARK.finditer(plain)]
    written, place = "", 0
    for character in word:
        if _FONT.match(character) is None:
            if place in ends:
                written += _BREAK
            place += 1
        written += character
    return written


def bold(words: str) -> str:
    """Return words in bold, among words that are not."""
    return f"{BOLD}{words}{ROMAN}"


def of_help(words: str) -> str:
    """Return a sentence of the help, with what stands in backquotes in bold."""
    parts = words.split("`")
    return "".join(bold(part) if place % 2 else part for place, part in enumerate(parts))


def tree_of(markdown: str) -> SyntaxTreeNode:
    """Return what a document is made of."""
    return SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(markdown))


class Manual:
    """A manual page while it is written."""

    def __init__(self, title: str, section: int, day: str, version: str, link: Link) -> None:
        self._link = link
        self._lines = [
            "'\\\" -*- coding: UTF-8 -*-",
            f'.TH {title.upper()} {section} {day} "certferry {version}" certferry',
            # What is to be copied is not divided, and Chinese lines are not filled up; groff reads
            # both anew at each paragraph, since 1.23 from these two names.
            *(".nh", ".nr HY 0", ".ad l", ".ds AD l"),
        ]
        self._begins = True

    @property
    def text(self) -> str:
        """The page."""
        return "\n".join([*self._lines, ""])

    def heading(self, words: str, *, within: bool = False) -> None:
        """Begin a section, or one within a section."""
        self._lines.append(f".{'SS' if within else 'SH'} {escaped(words)}")
        self._begins = True

    def name(self, name: str, what: str) -> None:
        """Say in one line what the page is about, as mandb(8) reads it."""
        self._lines.append(rf"{escaped(name)} \- {escaped(what)}")

    def paragraph(self, words: str) -> None:
        """Write a paragraph of running text; one without words, such as a picture, is none."""
        if not words:
            return
        self._apart()
        self._lines.append(flowing(words))

    def lines(self, rows: Iterable[str]) -> None:
        """Write lines as they are."""
        self._apart()
        shown = (escaped(row) for row in rows)
        kept = (rf"\&{row}" if row.startswith(".") else row for row in shown)
        self._lines += [f".RS {_INDENT}", ".EX", *kept, ".EE", ".RE"]

    def term(self, words: str, meanings: Sequence[str]) -> None:
        """Write an item of a list of terms, and below it a line or more for each meaning."""
        below = [flowing(meaning) for meaning in meanings if meaning] or [r"\&"]
        self._lines += [".TP", flowing(words), below[0]]
        for line in below[1:]:
            self._lines += [".br", line]
        self._begins = False

    def document(self, nodes: Iterable[SyntaxTreeNode]) -> None:
        """Write parts of a document, but its title, remarks, pictures, and the other language."""
        for node in nodes:
            match node.type:
                case "heading" if node.tag != "h1":
                    self.heading(_inline(node, self._link), within=node.tag != "h2")
                case "paragraph" if not _leads_to_the_other_language(node):
                    self.paragraph(_inline(node, self._link))
                case "fence" | "code_block":
                    self.lines(node.content.rstrip("\n").split("\n"))
                case "bullet_list" | "ordered_list":
                    self._list(node)
                case "table":
                    self._table(node)
                case _:
                    pass

    def _apart(self) -> None:
        if not self._begins:
            self._lines.append(".PP")
        self._begins = False

    def _list(self, node: SyntaxTreeNode) -> None:
        first = int(node.attrs.get("start", 1))
        for number, item in enumerate(node.children, first):
            mark = r"\(bu 2" if node.type == "bullet_list" else f"{number}. {_INDENT}"
            head, *rest = item.children
            self._lines += [f".IP {mark}", flowing(_inline(head, self._link))]
            self._begins = False
            if rest:
                self._lines.append(f".RS {2 if node.type == 'bullet_list' else _INDENT}")
                self.document(rest)
                self._lines.append(".RE")

    def _table(self, node: SyntaxTreeNode) -> None:
        columns, rows = table_of(node, self._link)
        for first, *others in rows:
            named = first if BOLD in first else bold(first)
            is_pair = len(columns) == 2  # noqa: PLR2004 - a term and its meaning
            self.term(
                named,
                [
                    said if is_pair or not column else f"{ITALIC}{column}{ROMAN}: {said}"
                    for column, said in zip(columns[1:], others, strict=True)
                    if said
                ],
            )


def table_of(node: SyntaxTreeNode, link: Link = str) -> tuple[list[str], list[list[str]]]:
    """Return a table's headings, and its rows."""
    rows = [row for part in node.children for row in part.children]
    columns, *others = ([_inline(cell, link) for cell in row.children] for row in rows)
    return columns, others


def _inline(node: SyntaxTreeNode, link: Link, font: str = ROMAN) -> str:
    """Return running text. Where a line ends between Chinese characters stands no space."""
    words, is_end = "", False
    for part in _parts(node, link, font):
        if is_end and not (_is_wide(words) and _is_wide(part[::-1])):
            words += " "
        is_end = part == "\n"
        words += "" if is_end else part
    return words


def _parts(node: SyntaxTreeNode, link: Link, font: str) -> Iterator[str]:
    for part in node.children:
        match part.type:
            case "text":
                yield part.content
            case "code_inline":
                yield f"{BOLD}{part.content}{font}"
            case "strong":
                yield f"{BOLD}{_inline(part, link, BOLD)}{font}"
            case "em":
                yield f"{ITALIC}{_inline(part, link, ITALIC)}{font}"
            case "link":
                yield _linked(_inline(part, link, font), link(str(part.attrs["href"])))
            case "softbreak" | "hardbreak":
                yield "\n"
            case "image" | "html_inline":
                pass
            case _:
                yield _inline(part, link, font)


def _linked(words: str, target: str) -> str:
    if not target or target in words:
        return words
    if target.startswith("https:"):
        return f"{words} ({target})"
    between = "，" if _is_wide(words) else ", "
    return between.join(filter(None, [words, target]))


def _is_wide(words: str) -> bool:
    """Return whether the last character that is no font is a Chinese one."""
    return width(_FONT.sub("", words)[-1:]) > 1


def _leads_to_the_other_language(node: SyntaxTreeNode) -> bool:
    [inline] = node.children
    return [child.type for child in inline.children] == ["link"]
