"""Add a certificate to the text of a configuration, or take one out: every other line stays as
it is. Pure.

What has come out is read again, and compared with what was meant: a text in which it is not so is
refused, so that no spelling of TOML has to be thought of here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from certferry.config.document import Document, TableLines, tables_in_order
from certferry.errors import ConfigError
from certferry.text import Text

_CERTIFICATES = "certificates"


@dataclass(frozen=True, slots=True)
class Edited:
    """A file's new text, and what is otherwise in it: blocks of lines that come (`+`) or go (`-`),
    each with the number of its first line, in the text in which it stands.
    """

    text: str
    sign: str
    blocks: tuple[tuple[int, tuple[str, ...]], ...]


def with_certificates(document: Document, tables: str) -> Edited:
    """Give the text with more certificates, below those that it has. `tables` is their TOML.

    Raises `ConfigError` where the file is written so that they cannot be added.
    """
    rows = document.text.split("\n")
    ends = [
        _end(rows, table.last)
        for table in tables_in_order(document.text)
        if table.trail[0] == _CERTIFICATES
    ]
    at = max(ends) if ends else _without_blanks_at_the_end(rows)
    return_ = "\r" if "\r\n" in document.text else ""
    added = [row + return_ for row in tables.rstrip("\n").split("\n")]
    above, below = rows[:at], rows[at:]
    between = [return_] if above and above[-1].strip() else []
    if above and return_ and not above[-1].endswith(return_):
        above[-1] += return_  # the last line had no end
    if not any(row.strip() for row in below):
        below = [""]
    elif below[0].strip():
        below = [return_, *below]
    meant = [*_declared(document), *tomllib.loads(tables)[_CERTIFICATES]]
    text = _checked(document, "\n".join([*above, *between, *added, *below]), meant)
    return Edited(text, "+", ((len(above) + len(between) + 1, tuple(added)),))


def without_certificate(document: Document, number: int) -> Edited:
    """Give the text without the certificate of that number (from 0), its deployments, and the
    comment that stands directly above each.

    Raises `ConfigError` where it stands in no table of its own.
    """
    rows = document.text.split("\n")
    found = list(_blocks(rows, document, number))
    gone = tuple((first + 1, tuple(rows[first:last])) for first, last in found)
    for first, last in reversed(found):
        del rows[first:last]
        if first == len(rows) or not any(row.strip() for row in rows[first:]):
            rows[_without_blanks_at_the_end(rows) :] = [""]
        while first < len(rows) - 1 and _is_blank(rows, first) and _is_blank(rows, first - 1):
            del rows[first]
    meant = [one for n, one in enumerate(_declared(document)) if n != number]
    return Edited(_checked(document, "\n".join(rows), meant), "-", gone)


def _blocks(rows: Sequence[str], document: Document, number: int) -> Iterator[tuple[int, int]]:
    """Give where the lines of a certificate are, from 0, the end not included. Tables of others may
    stand between them.
    """
    tables = tables_in_order(document.text)
    begun: int | None = None
    for table, following in pairwise([*tables, None]):
        if table is None or not _is_of(table, number):
            continue
        begun = _beginning(rows, table.first - 1) if begun is None else begun
        if following is None or not _is_of(following, number):
            yield begun, _end(rows, table.last)
            begun = None


def _is_of(table: TableLines, number: int) -> bool:
    return table.trail[:2] == (_CERTIFICATES, number)


def _beginning(rows: Sequence[str], header: int) -> int:
    """Give where the comment begins that stands directly above a header."""
    while header > 0 and _is_comment(rows[header - 1]):
        header -= 1
    return header


def _end(rows: Sequence[str], last: int) -> int:
    """Give where a table ends whose values end before this line (from 0): behind the comments that
    follow, unless these stand directly above another table.
    """
    end = last
    while end < len(rows) and _is_comment(rows[end]):
        end += 1
    return end if end == len(rows) or not rows[end].strip() else last


def _is_comment(row: str) -> bool:
    return row.lstrip().startswith("#")


def _is_blank(rows: Sequence[str], at: int) -> bool:
    return at < 0 or not rows[at].strip()


def _without_blanks_at_the_end(rows: Sequence[str]) -> int:
    return next((n for n in range(len(rows), 0, -1) if rows[n - 1].strip()), 0)


def _declared(document: Document) -> Sequence[object]:
    found = document.values.get(_CERTIFICATES, [])
    return found if isinstance(found, list) else []


def _checked(document: Document, text: str, meant: Sequence[object]) -> str:
    """Let a text pass that says what is meant, and of all else the same as before."""
    values = {**document.values, _CERTIFICATES: list(meant)}
    if not meant:
        del values[_CERTIFICATES]
    try:
        found = tomllib.loads(text)
    except ValueError:
        found = {}
    if found != values:
        raise ConfigError(
            Text(
                "{path} does not have each certificate under a [[certificates]] of its own",
                path=document.path,
            ),
            hint=Text("change it with an editor; nothing was changed"),
        )
    return text
