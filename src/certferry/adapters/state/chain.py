"""The chain of each lineage's history, by a key that the database does not have: a change to what
happened is found, and a removal, also at the end.

`history.link` is `PLACE.BEFORE.SEAL`: the entry's place in its lineage from 1 on, the seal of the
entry before, and a seal of both and of every column. The first one continues the entries that are
older than the chain, which have no link. `history_head` has how many entries there are and
`SEAL.HEAD`: the last seal, and a seal of both that is in no entry, so that none replaces it when
entries are cut off. The head of `_ALL` counts the lineages.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import groupby

from certferry.adapters.state import columns
from certferry.adapters.state.columns import Value
from certferry.adapters.state.database import Reader, Row, Transaction, insertion
from certferry.core.observed.records import Damage, HistoryBreak, VerifiedHistory
from certferry.errors import StateError

_ALL = ""
"""No lineage is called this."""

_BROKEN = "broken"
"""Stands for the seal before an entry that continues nothing, because the head was not ours: the
break stays for ever, and what happens goes on to be stored."""

_COLUMNS = ("number", "at", "lineage", "event", "who", "facts", "host")
_REPLACE = "ON CONFLICT (lineage) DO UPDATE SET entries = excluded.entries, link = excluded.link"

_LEAST = -(2**63)


def append(transaction: Transaction, head: str, key: bytes, row: dict[str, Value]) -> None:
    """Store an entry with its link; `head` is the dialect's."""
    lineage = row["lineage"]
    [found] = transaction.rows(head, lineage)
    if found["entries"]:
        place, before = _head(key, lineage, found["entries"], found["link"]) or (0, _BROKEN)
    else:
        place, before = 0, _first(transaction, head, key, lineage)
    row["number"] = found["number"]
    signed = f"{place + 1}.{before}"
    seal = _seal(key, "entry", signed, *_values(row))
    transaction.execute_all(
        insertion("history", **row, link=f"{signed}.{seal}"),
        _new_head(key, lineage, place + 1, seal),
    )


def _first(transaction: Transaction, head: str, key: bytes, lineage: Value) -> str:
    """Count a lineage whose chain begins, and return what its first entry continues."""
    [all_] = transaction.rows(head, _ALL)
    known = _head(key, _ALL, all_["entries"], all_["link"]) if all_["entries"] else (0, "")
    if known is not None:
        transaction.execute_all(_new_head(key, _ALL, known[0] + 1, ""))
    before = ""
    for row in transaction.rows("SELECT * FROM history WHERE lineage = ? ORDER BY number", lineage):
        if row["link"] is not None:  # the head was removed
            return _BROKEN
        before = _seal(key, "older", before, *_values(row))
    return before


def _new_head(key: bytes, lineage: Value, entries: int, last: str) -> tuple[str, tuple[Value, ...]]:
    link = f"{last}.{_seal(key, 'head', lineage, entries, last)}"
    return insertion("history_head", _REPLACE, lineage=lineage, entries=entries, link=link)


def _head(key: bytes, lineage: Value, entries: Value, link: Value) -> tuple[int, str] | None:
    """Return how many entries a head has and the last seal; `None` for one that is not ours."""
    last, _, seal = str(link).partition(".")
    is_ours = seal == _seal(key, "head", lineage, entries, last)
    return (int(entries or 0), last) if is_ours else None


def _values(row: Row | dict[str, Value]) -> list[Value]:
    return [row[name] for name in _COLUMNS]


def _seal(key: bytes, *sealed: Value) -> str:
    # JSON, because joined words could be cut elsewhere. Bytes are another program's, in SQLite.
    return hmac.digest(key, json.dumps(sealed, default=repr).encode(), "sha256").hex()


# --- Verifying it


def verified(
    reader: Reader, key: Callable[[], bytes], lineage: str | None = None
) -> VerifiedHistory:
    """Follow the chain of a lineage, or of all, page by page; without any, no `key` is needed."""
    key = cache(key)
    entries = lineages = older = 0
    breaks: list[HistoryBreak] = []
    for name, rows in groupby(_rows(reader, lineage), lambda row: row["lineage"]):
        chain = _Chain(key(), name)
        for row in rows:
            chain.follow(row)
        chain.end(row["entries"], row["head"])
        entries, lineages, older = entries + chain.entries, lineages + 1, older + chain.older
        breaks += chain.breaks
    for row in reader.rows(_WITHOUT_ENTRIES, _ALL):
        if lineage in {None, row["lineage"]}:
            chain = _Chain(key(), row["lineage"])
            chain.end(row["entries"], row["link"])
            breaks += chain.breaks
    breaks += [] if lineage is not None else _uncounted(reader, key)
    return VerifiedHistory(entries, lineages, older, tuple(breaks))


_ENTRIES = (
    "SELECT history.*, head.entries, head.link AS head FROM history"
    " LEFT JOIN history_head AS head ON head.lineage = history.lineage"
    " WHERE (history.lineage, history.number) > (?, ?){which}"
    " ORDER BY history.lineage, history.number LIMIT 1000"
)
_WITHOUT_ENTRIES = (
    "SELECT * FROM history_head WHERE lineage <> ? AND NOT EXISTS"
    " (SELECT 1 FROM history WHERE history.lineage = history_head.lineage) ORDER BY lineage"
)


def _rows(reader: Reader, lineage: str | None) -> Iterator[Row]:
    which, of = ("", ()) if lineage is None else (" AND history.lineage = ?", (lineage,))
    after = (lineage or "", _LEAST)
    while page := reader.rows(_ENTRIES.format(which=which), *after, *of):
        yield from page
        after = (page[-1]["lineage"], page[-1]["number"])


def _uncounted(reader: Reader, key: Callable[[], bytes]) -> list[HistoryBreak]:
    """Compare how many lineages have a chain with how many began one."""
    heads = reader.rows("SELECT COUNT(*) AS found FROM history_head WHERE lineage <> ?", _ALL)
    found = int(heads[0]["found"])
    known: tuple[int, str] | None = (0, "")
    for row in reader.rows("SELECT * FROM history_head WHERE lineage = ?", _ALL):
        known = _head(key(), _ALL, row["entries"], row["link"])
    if known is not None and known[0] == found:
        return []
    missing = known[0] - found if known is not None and known[0] > found else None
    return [HistoryBreak(_ALL, Damage.GONE, missing=missing)]


class _Chain:
    """How far a lineage's entries continue one another: up to the first break."""

    def __init__(self, key: bytes, lineage: str) -> None:
        self.entries = self.older = 0
        self.breaks: list[HistoryBreak] = []
        self._key, self._lineage = key, lineage
        self._place, self._before = 0, ""
        self._last: Row | None = None

    def follow(self, row: Row) -> None:
        """Read the next entry."""
        self.entries += row["link"] is not None
        self.older += row["link"] is None
        if self.breaks:
            return
        if row["link"] is None and not self._place:
            self._before = _seal(self._key, "older", self._before, *_values(row))
        else:
            self._continue(row)
        self._last = row

    def _continue(self, row: Row) -> None:
        signed, _, seal = str(row["link"]).rpartition(".")
        if seal != _seal(self._key, "entry", signed, *_values(row)):
            self._break(Damage.CHANGED, row)
            return
        written, _, before = signed.partition(".")
        place, missing = int(written), int(written) - self._place - 1
        if missing > 0:
            self._break(Damage.REMOVED, self._last, missing)
        elif before != self._before:
            self._break(Damage.UNCONNECTED, row)
        self._place, self._before = place, seal

    def end(self, entries: Value, link: Value) -> None:
        """Compare what was read with the head."""
        if self.breaks or (entries is None and not self._place):
            return
        head = _head(self._key, self._lineage, entries, link)
        if head is not None and head[0] > self._place:
            self._break(Damage.REMOVED, self._last, head[0] - self._place)
        elif head != (self._place, self._before):
            self._break(Damage.REMOVED, self._last)

    def _break(self, damage: Damage, row: Row | None, missing: int | None = None) -> None:
        at = None
        with suppress(StateError):
            at = None if row is None else columns.MOMENT.read(row["at"])
        number = None if row is None else row["number"]
        self.breaks.append(HistoryBreak(str(self._lineage), damage, number, at, missing))
