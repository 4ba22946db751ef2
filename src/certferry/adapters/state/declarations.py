"""The tables of declarations: a digest of each host's declaration of each lineage, with the moment
of the first appearance by the database's clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from certferry.adapters.state.columns import MOMENT, to_moment
from certferry.adapters.state.database import Reader, Row, Table, Tables, Transaction
from certferry.core.desired.declaration import Declaration

_DECLARATIONS = Table("host_declaration", Declaration, since=MOMENT, first_seen_at=MOMENT)
_DECLARED = (
    "SELECT host, lineage, digest, since, first_seen_at FROM host_declaration"
    " JOIN declaration USING (lineage, digest) WHERE lineage IN"
)
_SEEN = "SELECT lineage, digest, first_seen_at FROM declaration WHERE lineage IN"
_OF_HOST = "SELECT lineage, digest, file FROM host_declaration WHERE host = ?"
_SUPERSEDED = (
    "SELECT DISTINCT mine.lineage FROM host_declaration AS mine"
    " JOIN declaration AS old ON old.lineage = mine.lineage AND old.digest = mine.digest"
    " JOIN declaration AS newer ON newer.lineage = mine.lineage AND newer.digest <> mine.digest"
    " AND newer.first_seen_at >= old.first_seen_at WHERE mine.host = ?"
)
_AT_ONCE = 200
"""The most rows or lineages in a statement."""


class DeclarationTables(Tables):
    """See `DeclarationStore`."""

    def declare(
        self, digests: Mapping[str, str], file: str, is_gone: Callable[[str], bool]
    ) -> None:
        """See `DeclarationStore.declare`. If nothing has changed, nothing is written."""
        changes = partial(_changes, digests, file, is_gone)

        def write(transaction: Transaction) -> None:
            new, gone = changes(transaction.rows(_OF_HOST, self.host))
            for lineage in gone:
                transaction.remove("host_declaration", host=self.host, lineage=lineage)
            for some in _batches(new):
                self._add(transaction, {lineage: digests[lineage] for lineage in some}, file)

        if any(changes(self._database.rows(_OF_HOST, self.host))):
            self._database.run(write)

    def _add(self, transaction: Transaction, digests: Mapping[str, str], file: str) -> None:
        clock = self._database.dialect.clock
        rows = ", ".join([f"(?, ?, {clock})"] * len(digests))
        transaction.execute(
            f"INSERT INTO declaration (lineage, digest, first_seen_at) VALUES {rows}"  # noqa: S608 - a dialect's constant
            " ON CONFLICT (lineage, digest) DO NOTHING",
            *(value for row in digests.items() for value in row),
        )
        rows = ", ".join([f"(?, ?, ?, ?, {clock})"] * len(digests))
        transaction.execute(
            "INSERT INTO host_declaration AS known (host, file, lineage, digest, since)"  # noqa: S608 - a dialect's constant
            f" VALUES {rows} ON CONFLICT (host, lineage) DO UPDATE SET since = CASE WHEN"
            " known.digest = excluded.digest THEN known.since ELSE excluded.since END,"
            " digest = excluded.digest, file = excluded.file",
            *(value for row in digests.items() for value in (self.host, file, *row)),
        )

    def contested(self, digests: Mapping[str, str]) -> tuple[Declaration, ...]:
        return self._database.read(partial(self._contested, digests))

    def _contested(self, digests: Mapping[str, str], reader: Reader) -> tuple[Declaration, ...]:
        own = {row["lineage"]: row["digest"] for row in reader.rows(_OF_HOST, self.host)}
        new = {name: digest for name, digest in digests.items() if own.get(name) != digest}
        old = {row["lineage"] for row in reader.rows(_SUPERSEDED, self.host)} & digests.keys()
        stored = _DECLARATIONS.read(_among(reader, _DECLARED, old | new.keys()))
        others = [row for row in stored if row.host != self.host or row.lineage not in new]
        return (*others, *self._as_if_declared(reader, new))

    def _as_if_declared(self, reader: Reader, new: Mapping[str, str]) -> Iterator[Declaration]:
        """Yield this host's new declarations, as if stored now."""
        seen = {
            (row["lineage"], row["digest"]): to_moment(row["first_seen_at"])
            for row in _among(reader, _SEEN, new)
            if MOMENT.can_read(row["first_seen_at"])
        }
        [row] = reader.rows(f"SELECT {self._database.dialect.clock} AS now")
        now = to_moment(row["now"])
        for lineage, digest in new.items():
            first = seen.get((lineage, digest), now)
            yield Declaration(lineage, self.host, digest, now, first)

    def declared_among(
        self, lineages: Collection[str], besides: str = ""
    ) -> Mapping[str, tuple[str, ...]]:
        query = "SELECT host, file, lineage FROM host_declaration WHERE lineage IN"
        hosts = defaultdict[str, set[str]](set)
        for row in _among(self._database, query, lineages):
            if (row["host"], row["file"]) != (self.host, besides):
                hosts[row["lineage"]].add(row["host"])
        return {lineage: tuple(sorted(names)) for lineage, names in hosts.items()}


def declared_unlike(reader: Reader) -> tuple[Declaration, ...]:
    """Return all declarations of the lineages that hosts declare differently."""
    unlike = (
        "SELECT lineage FROM host_declaration GROUP BY lineage HAVING COUNT(DISTINCT digest) > 1"
    )
    return _DECLARATIONS.read(reader.rows(f"{_DECLARED} ({unlike})"))


def _changes(
    digests: Mapping[str, str], file: str, is_gone: Callable[[str], bool], stored: Iterable[Row]
) -> tuple[list[str], list[str]]:
    """Return two lists: the lineages that a host's file declares for the first time or differently,
    and the lineages to delete. A lineage missing in `digests` is deleted if the stored declaration
    was in the same file, or in a file that is gone.
    """
    before = {row["lineage"]: (row["digest"], row["file"]) for row in stored}
    new = [name for name, digest in digests.items() if before.get(name) != (digest, file)]
    left = before.keys() - digests.keys()
    return new, [name for name in left if before[name][1] == file or is_gone(before[name][1])]


def _among(reader: Reader, query: str, lineages: Iterable[str]) -> Iterator[Row]:
    for some in _batches(sorted(lineages)):
        yield from reader.rows(f"{query} ({', '.join('?' * len(some))})", *some)


def _batches(lineages: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(lineages), _AT_ONCE):
        yield lineages[start : start + _AT_ONCE]
