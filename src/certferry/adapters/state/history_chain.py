"""The chain of each lineage's history: entries sealed with a key kept outside the database, so that
other programs' changes are noticed.

- `history.link` is `PLACE.BEFORE.SEAL`: the entry's place in the chain, the previous entry's seal,
  and a seal of both and of every column.
- `history_head` has a row for each lineage: the number of entries, and in `link` the text
  `SEAL.HEAD`. `SEAL` is the last entry's seal. `HEAD` is a seal of the number and of `SEAL`, made
  with another word than the seals of entries. A program without the key can delete the last
  entries, but cannot make the head that would fit.
- The head with the name `_ALL` has the number of lineages in place of entries.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from itertools import groupby

from certferry.adapters.state import columns
from certferry.adapters.state.columns import Value
from certferry.adapters.state.database import Reader, Row, Statement, Transaction, insertion
from certferry.core.observed.records import ACCESS, Damage, HistoryBreak, VerifiedHistory
from certferry.errors import StateError

_ALL = ""  # differs from every lineage's name
_BROKEN = "broken"
"""Written in place of the previous seal, if another program had changed or removed the chain's
head. The entry is stored, and the break stays visible."""

_COLUMNS = ("number", "at", "lineage", "event", "who", "facts", "host")
_REPLACE = "ON CONFLICT (lineage) DO UPDATE SET entries = excluded.entries, link = excluded.link"


def append(transaction: Transaction, head: str, key: bytes, row: dict[str, Value]) -> None:
    """Store an entry with a link to the previous entry. `head` is the query `Dialect.head`."""
    lineage = row["lineage"]
    [row_of_head] = transaction.rows(head, lineage)
    place, before = _read(key, lineage, row_of_head) or (0, _BROKEN)
    if not row_of_head["entries"]:
        before = _begin(transaction, head, key, lineage)
    row["number"], signed = row_of_head["number"], f"{place + 1}.{before}"
    seal = _seal(key, "entry", signed, *_values(row))
    transaction.execute_all(
        insertion("history", **row, link=f"{signed}.{seal}"), _head(key, lineage, place + 1, seal)
    )


def is_ours(key: bytes, row: Row) -> bool:
    """Return whether certferry wrote an entry, even if the entry no longer fits its place in the
    chain.
    """
    signed, _, seal = str(row["link"]).rpartition(".")
    return row["link"] is not None and seal == _seal(key, "entry", signed, *_values(row))


def _begin(transaction: Transaction, head: str, key: bytes, lineage: Value) -> str:
    """Begin the chain of a lineage: add one to the number of lineages. Return the text that takes
    the place of the previous seal in the first entry: usually empty, but `_BROKEN` if the lineage
    already has entries, because another program has then removed the head.
    """
    [all_] = transaction.rows(head, _ALL)
    if (counted := _read(key, _ALL, all_)) is not None:
        transaction.execute_all(_head(key, _ALL, counted[0] + 1, ""))
    return _BROKEN if transaction.rows(_FIRST, lineage) else ""


_FIRST = "SELECT number FROM history WHERE lineage = ? LIMIT 1"


def _head(key: bytes, lineage: Value, entries: int, last: str) -> Statement:
    link = f"{last}.{_seal(key, 'head', lineage, entries, last)}"
    return insertion("history_head", _REPLACE, lineage=lineage, entries=entries, link=link)


def _read(key: bytes, lineage: Value, row: Row) -> tuple[int, str] | None:
    """Return the number of entries and the last seal, or `None` for another program's head."""
    if not row["entries"]:
        return 0, ""
    last, _, seal = str(row["head"]).partition(".")
    is_ours = seal == _seal(key, "head", lineage, row["entries"], last)
    return (row["entries"], last) if is_ours else None


def _values(row: Row | Mapping[str, Value]) -> list[Value]:
    return [row[name] for name in _COLUMNS]


def _seal(key: bytes, *sealed: Value) -> str:
    # JSON, because joined words would be ambiguous. `repr` is for types that certferry never
    # writes.
    return hmac.digest(key, json.dumps(sealed, default=repr).encode(), "sha256").hex()


# --- Verification

_ENTRIES = (
    "SELECT history.*, entries, history_head.link AS head FROM history"
    " LEFT JOIN history_head ON history_head.lineage = history.lineage"
    " WHERE (history.lineage, number) > (?, ?) ORDER BY history.lineage, number LIMIT 1000"
)
_COUNTS = (
    "SELECT COUNT(link) AS entries, COUNT(DISTINCT lineage) AS lineages,"
    " COUNT(CASE WHEN lineage = ? THEN link END) AS of_console"
    " FROM history WHERE lineage = ? OR ?"
)
_WITHOUT_ENTRIES = (
    "SELECT lineage FROM history_head WHERE lineage <> ? AND (lineage = ? OR ?) AND NOT EXISTS"
    " (SELECT 1 FROM history WHERE history.lineage = history_head.lineage) ORDER BY lineage"
)
_COUNTED = (
    "SELECT (SELECT COUNT(*) FROM history_head WHERE lineage <> name) AS found, entries,"
    " link AS head FROM (SELECT ? AS name) AS one LEFT JOIN history_head ON lineage = name"
)
_ANY_VERSION = "SELECT number FROM version LIMIT 1"


def verified(
    reader: Reader, key_of: Callable[[Reader], bytes], lineage: str | None = None
) -> VerifiedHistory:
    """Check the chain of a lineage, or of all lineages. Return the first break of each chain, and
    the number of entries. The key is not needed for an empty history.
    """
    key, condition = cache(partial(key_of, reader)), (lineage, lineage is None)
    [counts] = reader.rows(_COUNTS, ACCESS, *condition)
    breaks: list[HistoryBreak | None] = []
    for name, rows in groupby(_rows(reader, lineage), lambda row: row["lineage"]):
        if lineage not in {None, name}:
            break
        breaks.append(_first_break(key(), name, rows))
    without = reader.rows(_WITHOUT_ENTRIES, _ALL, *condition)
    breaks += [HistoryBreak(row["lineage"], Damage.REMOVED) for row in without]
    [all_] = reader.rows(_COUNTED, _ALL)
    is_begun = all_["found"] or all_["entries"] is not None
    # Every version has an entry: if a version exists, an empty history was deleted.
    is_gone = not _counts_all(key(), all_) if is_begun else bool(reader.rows(_ANY_VERSION))
    if lineage is None and is_gone:
        breaks.append(HistoryBreak(_ALL, Damage.GONE))
    return VerifiedHistory(
        entries=counts["entries"],
        lineages=counts["lineages"],
        breaks=tuple(filter(None, breaks)),
        of_console=counts["of_console"],
    )


def _counts_all(key: bytes, head: Row) -> bool:
    # certferry makes this head when the first lineage is counted, so a count of zero is another
    # program's.
    return head["entries"] != 0 and _read(key, _ALL, head) == (head["found"], "")


def _rows(reader: Reader, lineage: str | None) -> Iterator[Row]:
    after: tuple[str, int] = lineage or "", -(2**63)
    while page := reader.rows(_ENTRIES, *after):
        yield from page
        after = page[-1]["lineage"], page[-1]["number"]


def _first_break(key: bytes, lineage: str, rows: Iterator[Row]) -> HistoryBreak | None:
    """Return the first break in the entries of a lineage, or `None` for a complete chain."""
    place, before, last = 0, "", None
    for row in rows:
        signed, _, seal = str(row["link"]).rpartition(".")
        if not is_ours(key, row):
            return _break(Damage.CHANGED, lineage, row)
        if signed == f"{place + 1}.{before}":
            place, before = place + 1, seal
        elif int(signed.partition(".")[0]) > place + 1:
            return _break(Damage.REMOVED, lineage, last)
        else:
            return _break(Damage.UNCONNECTED, lineage, row)
        last = row
    if last is None:
        return None
    is_end = _read(key, lineage, last) == (place, before)
    return None if is_end else _break(Damage.REMOVED, lineage, last)


def _break(damage: Damage, lineage: str, row: Row | None) -> HistoryBreak:
    if row is None:
        return HistoryBreak(lineage, damage)
    with suppress(StateError):
        return HistoryBreak(lineage, damage, row["number"], columns.MOMENT.read(row["at"]))
    return HistoryBreak(lineage, damage, row["number"])
