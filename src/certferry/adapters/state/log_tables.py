"""The tables about public logs: own digests, watched domains, certificates of others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from certferry.adapters.state import columns
from certferry.adapters.state.database import Reader, Row, Table, Tables, Transaction, writes
from certferry.adapters.state.row_proofs import OWN_DIGEST
from certferry.adapters.state.sealing import Sealing
from certferry.core.observed.public_logs import (
    FORGOTTEN_AFTER,
    FoundCertificate,
    LoggedCertificate,
    WatchedDomain,
)

_AT_ONCE = 500
"""The most digests in a query: SQLite takes 999 values at the least."""

_DOMAINS = Table(
    "watched_domain",
    WatchedDomain,
    "domain",
    since=columns.MOMENT,
    baseline_at=columns.MOMENT,
    looked_at=columns.MOMENT,
    tried_at=columns.MOMENT,
    again_at=columns.MOMENT,
    problem=columns.TEXT,
    left_out=columns.NUMBER,
)
_FOUND = Table(
    "found_certificate",
    FoundCertificate,
    *("domain", "identity"),
    logged=None,
    found_at=columns.MOMENT,
    is_baseline=columns.FLAG,
    other_names=columns.NUMBER,
    is_cut=columns.FLAG,
)
_LOGGED = Table(
    "found_certificate",
    LoggedCertificate,
    names=columns.NAMES,
    not_before=columns.VALIDITY,
    not_after=columns.VALIDITY,
    is_revoked=columns.FLAG,
    is_partial=None,  # `FoundCertificate.is_cut`
)


def save_own(sealing: Sealing, transaction: Transaction, digests: Iterable[str]) -> None:
    """Store the digests of an own key or certificate, with proofs: without a proof, another program
    could declare a stranger's certificate to be certferry's own.
    """
    for digest in sorted(digests):
        OWN_DIGEST.save(sealing, transaction, digest=digest)


class LogTables(Tables):
    """See `LogStore`.

    Domains and certificates have no proof: a program that can change the rows could as well delete
    the rows, and a deletion begins a new first look.
    """

    _sealing: Sealing

    def own_among(self, digests: Collection[str]) -> frozenset[str]:
        return self._database.read(lambda reader: frozenset(self._own(reader, digests)))

    def _own(self, reader: Reader, digests: Collection[str]) -> Iterator[str]:
        wanted = sorted(digests)
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            among = f"WHERE digest IN ({', '.join('?' * len(part))})"
            for row in OWN_DIGEST.ours(self._sealing, reader, among, *part):
                yield row["digest"]

    def watched_domains(self) -> tuple[WatchedDomain, ...]:
        return _DOMAINS.found(self._database, "ORDER BY domain")

    def found_certificates(self, domain: str | None = None) -> tuple[FoundCertificate, ...]:
        if domain is None:
            rows = self._database.rows("SELECT * FROM found_certificate ORDER BY domain, identity")
        else:
            of_domain = "SELECT * FROM found_certificate WHERE domain = ? ORDER BY identity"
            rows = self._database.rows(of_domain, domain)
        return _FOUND.read(rows, _logged_of)

    @writes
    def save_look(
        self,
        transaction: Transaction,
        before: WatchedDomain | None,
        after: WatchedDomain,
        found: Iterable[FoundCertificate] = (),
        gone: Collection[FoundCertificate] = (),
    ) -> bool:
        stored = _DOMAINS.found(transaction, "WHERE domain = ?", after.domain)
        if next(iter(stored), None) != before:
            return False
        _DOMAINS.save(transaction, after)
        for logged in gone:
            domain, identity = logged.key
            transaction.remove("found_certificate", domain=domain, identity=identity)
        for logged in found:
            row = _LOGGED.values(logged.logged, identity=logged.logged.identity)
            row = _FOUND.values(logged, **row)
            transaction.add("found_certificate", "ON CONFLICT (domain, identity) DO NOTHING", **row)
        self._forget(transaction, after)
        return True

    @staticmethod
    def _forget(transaction: Transaction, now: WatchedDomain) -> None:
        """Delete the domains last tried `FORGOTTEN_AFTER` before this domain, with certificates."""
        latest = columns.from_moment((now.tried_at or now.since) - FORGOTTEN_AFTER)
        old = "SELECT domain FROM watched_domain WHERE COALESCE(tried_at, since) < ?"
        for row in transaction.rows(old, latest):
            transaction.remove("found_certificate", domain=row["domain"])
            transaction.remove("watched_domain", domain=row["domain"])


def _logged_of(row: Row) -> dict[str, object]:
    return {"logged": _LOGGED.of_row(row)}
