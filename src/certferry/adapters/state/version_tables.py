"""The tables of versions: one table with the facts of a certificate, which every run reads, and one
table with the chain and the sealed private key, which are read only when needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from msgspec import Struct

from certferry.adapters.state import columns, lasting
from certferry.adapters.state.columns import Value
from certferry.adapters.state.database import Reader, Row, Table, Transaction, writes
from certferry.adapters.state.fencing import fenced
from certferry.adapters.state.order_tables import note_issued
from certferry.adapters.state.place_tables import ROLLOUTS, UPLOADS, WITHDRAWALS, PlaceTables
from certferry.adapters.state.row_proofs import ORDER, VERSION, WITHDRAWAL, ProofRule
from certferry.core.certificates.certificate import Certificate, CertificateBundle, RenewalWindow
from certferry.core.certificates.lineage import Revocation, RevocationReason, Version, Withdrawal
from certferry.core.certificates.pem import parse_bundle
from certferry.core.observed.records import Ordered, Remembered, RolloutRecord, Upload
from certferry.errors import CertificateError, StateError, StateForeign
from certferry.ports.state import Lease
from certferry.text import Text

_KIND = "version"

_VERSIONS = Table(
    "version",
    Version,
    *("lineage", "number"),
    certificate=None,
    saved_at=columns.MOMENT,
    window=None,
    ask_after=columns.MOMENT,
    revocation=None,
    issuer_not_after=columns.VALIDITY,
)
_COLUMNS = ", ".join((*VERSION.columns, "proof"))
_LEAF = Table(
    "version",
    Certificate,
    names=columns.NAMES,
    not_before=columns.VALIDITY,
    not_after=columns.VALIDITY,
)
_ORDERED = Table(
    "acme_order",
    Ordered,
    "lineage",
    at=columns.MOMENT.named("created_at"),
    names=columns.NAMES,
    key_type=columns.KEY_TYPE,
)


class _Tries(Struct, frozen=True):
    """The tries to issue a lineage's certificate since the last success."""

    #: When issuing was last tried.
    tried_at: datetime | None = None
    #: When the last try ended with a wrong certificate from the CA.
    rejected_at: datetime | None = None
    #: How many tries have failed.
    tries: int | None = None
    #: When a try first failed because of the CA.
    failing_since: datetime | None = None


_TRIES = Table(
    "issue_try",
    _Tries,
    "lineage",
    tried_at=columns.MOMENT,
    rejected_at=columns.MOMENT,
    tries=columns.NUMBER,
    failing_since=columns.MOMENT,
)


class VersionTables(PlaceTables):
    """See `VersionStore`. The table `version` has the facts, and `version_pem` the chain and the
    sealed key.
    """

    def lineages(self) -> tuple[str, ...]:
        rows = self._database.rows("SELECT DISTINCT lineage FROM version ORDER BY lineage")
        return tuple(row["lineage"] for row in rows)

    def remembered(self, lineage: str) -> Remembered:
        """See `VersionStore.remembered`; keys stay sealed."""
        return self.remembered_of((lineage,))[lineage]

    def remembered_of(self, lineages: Sequence[str]) -> dict[str, Remembered]:
        """See `VersionStore.remembered_of`; keys stay sealed. The number of queries is the same for
        any number of lineages, and all queries are sent at once.
        """
        wanted, places = tuple(lineages), ", ".join(["(CAST(? AS TEXT))"] * len(lineages))
        among = f"WHERE lineage IN ({', '.join('?' * len(wanted))})"
        of_host = f"{among} AND host IN ('', ?) ORDER BY target, domain"
        reader = self._database
        rest, versions, uploads, rollouts, withdrawals, entries = reader.each(
            (_REST.format(these=places), wanted),
            (f"SELECT {_COLUMNS} FROM version {among} ORDER BY number DESC", wanted),  # noqa: S608 - constants of this module
            UPLOADS.query(f"{among} ORDER BY target, uploaded_at DESC, remote_id DESC", *wanted),
            ROLLOUTS.query(of_host, *wanted, self.host),
            WITHDRAWALS.query(f"{among} ORDER BY target, domain, withdrawn_at", *wanted),
            lasting.entries_of(wanted),
        )
        history = lasting.read(self._sealing, reader, entries)
        versions_of = defaultdict[str, list[Version]](list)
        for row in versions:
            version = history.with_revocation(row["lineage"], self._version(reader, row))
            versions_of[row["lineage"]].append(version)
        for row in withdrawals:
            self._must_be_ours(WITHDRAWAL, reader, row)
        uploads_of = _by_lineage(UPLOADS.read(uploads))
        rollouts_of = _by_lineage(self._rollouts(rollouts))
        withdrawals_of = _by_lineage(WITHDRAWALS.read(withdrawals))
        remembered = {}
        for row in rest:
            lineage, tried = row["lineage"], _TRIES.first([row]) or _Tries()
            remembered[lineage] = Remembered(
                tuple(versions_of.get(lineage, ())),
                None if row["created_at"] is None else _ORDERED.first([row]),
                tried.tried_at,
                tried.rejected_at,
                tuple(uploads_of.get(lineage, ())),
                tuple(rollouts_of.get(lineage, ())),
                bool(row["has_records"]),
                tuple(history.with_lost(lineage, withdrawals_of.get(lineage, ()))),
                tried.tries or 0,
                tried.failing_since,
            )
        return remembered

    def versions(self, lineage: str) -> tuple[Version, ...]:
        """See `VersionStore.versions`; certificates stay unparsed, and keys sealed."""
        return self._versions(self._database, lineage)

    def versions_of(self, lineages: Iterable[str]) -> dict[str, tuple[Version, ...]]:
        versions: dict[str, tuple[Version, ...]] = {}
        for lineage in lineages:
            versions[lineage] = ()
            with suppress(StateForeign):
                versions[lineage] = self.versions(lineage)
        return versions

    def versions_in_use(self) -> dict[str, tuple[Version, ...]]:
        readable: dict[str, list[Version]] = {}
        foreign: dict[str, tuple[Version, ...]] = {}
        query = (
            f"SELECT {_COLUMNS} FROM version"  # noqa: S608 - a constant
            " WHERE number = (SELECT MAX(number) FROM version AS newer"
            " WHERE newer.lineage = version.lineage)"
            " OR NOT revocation_answered"
            " OR EXISTS (SELECT 1 FROM sighting WHERE sighting.lineage = version.lineage"
            " AND sighting.fingerprint = version.fingerprint)"
            " ORDER BY lineage, number DESC"
        )
        rows, entries = self._database.each((query, ()), lasting.every_entry())
        history = lasting.read(self._sealing, self._database, entries)
        for row in rows:
            lineage = row["lineage"]
            try:
                version = history.with_revocation(lineage, self._version(self._database, row))
                readable.setdefault(lineage, []).append(version)
            except StateForeign:
                foreign[lineage] = ()
        return {lineage: tuple(versions) for lineage, versions in readable.items()} | foreign

    def bundle(self, lineage: str, number: int) -> CertificateBundle:
        for row in self._database.rows(
            f"SELECT {_COLUMNS}, fullchain_pem, sealed_privkey_pem"  # noqa: S608 - a constant
            " FROM version JOIN version_pem USING (lineage, number)"
            " WHERE lineage = ? AND number = ?",
            lineage,
            number,
        ):
            return self._opened(lineage, row)
        raise StateError(Text("{lineage} has no version {number}", lineage=lineage, number=number))

    def _opened(self, lineage: str, row: Row) -> CertificateBundle:
        VERSION.must_be_ours(self._sealing, self._database, row)
        fingerprint = row["fingerprint"]
        bound_to = (row["sealed_privkey_pem"], _KIND, lineage, fingerprint)
        key_pem = VERSION.unseal(self._sealing, self._database, row, *bound_to)
        try:
            bundle = parse_bundle(row["fullchain_pem"], key_pem)
        except CertificateError as exc:
            raise VERSION.wrong(row, exc.message) from exc
        if bundle.certificate.fingerprint != fingerprint:
            raise VERSION.wrong(
                row,
                Text("the certificate in the row is not the certificate of the row's fingerprint"),
            )
        # Another program may have replaced the chain: the proof covers only the chain's digest.
        if row["fullchain_digest"] != bundle.fullchain_digest:
            raise VERSION.wrong(
                row, Text("the chain in the row is not the chain of the row's digest")
            )
        return bundle

    def _versions(self, reader: Reader, lineage: str) -> tuple[Version, ...]:
        query = f"SELECT {_COLUMNS} FROM version WHERE lineage = ? ORDER BY number DESC"  # noqa: S608 - a constant
        rows, entries = reader.each((query, (lineage,)), lasting.entries_of((lineage,)))
        history = lasting.read(self._sealing, reader, entries)
        return tuple(history.with_revocation(lineage, self._version(reader, row)) for row in rows)

    def _ordered_at(self, reader: Reader, lineage: str, bundle: CertificateBundle) -> str | None:
        """Return the directory of the lineage's order in progress, if the order has the
        certificate's names. Return `None` for a certificate from elsewhere.
        """
        row = ORDER.find(self._sealing, reader, lineage=lineage)
        if row is None or {*columns.NAMES.read(row["names"])} != {*bundle.certificate.names}:
            return None
        return str(row["directory"])

    def _version(self, reader: Reader, row: Row) -> Version:
        """Return the version in a row with the columns `_COLUMNS`. Raises `StateForeign` for
        another program's row.
        """
        lineage, *facts, proof = row
        if not self._sealing.is_proven(proof, VERSION.kind, lineage, *facts):
            self._must_be_ours(VERSION, reader, row)
        return _version(facts)

    def _must_be_ours(self, rule: ProofRule, reader: Reader, row: Row) -> None:
        """Raise `StateForeign` for another program's row. Without the key, return: commands that
        only read then show every row, and a run has ended earlier (`must_unseal`).
        """
        try:
            rule.must_be_ours(self._sealing, reader, row)
        except StateForeign:
            raise
        except StateError:
            if self._sealing.is_in_force:
                raise

    @fenced
    def save_version(
        self, transaction: Transaction, lease: Lease, bundle: CertificateBundle, now: datetime
    ) -> Version:
        lineage = lease.lineage
        directory = self._ordered_at(transaction, lineage, bundle)
        transaction.remove("acme_order", lineage=lineage)
        note_issued(transaction, lineage, now)
        versions = self._versions(transaction, lineage)
        leaf = bundle.certificate
        stored = [version for version in versions if version.fingerprint == leaf.fingerprint]
        if stored and not stored[0].should_replace(bundle):
            return stored[0]
        # The lease excludes other writers, so the next number is free.
        newest = max((version.number for version in versions), default=0)
        version = stored[0] if stored else Version(newest + 1, leaf, now, directory=directory)
        version = version.with_pem_of(bundle)
        VERSION.save(self._sealing, transaction, **_row_of(lineage, version))
        bound_to = (_KIND, lineage, leaf.fingerprint)
        transaction.save(
            "version_pem",
            ("lineage", "number"),
            lineage=lineage,
            number=version.number,
            fullchain_pem=bundle.fullchain_pem,
            sealed_privkey_pem=self._sealing.seal(transaction, bundle.privkey_pem, *bound_to),
        )
        return version

    @fenced
    def save_revocation(
        self, transaction: Transaction, lease: Lease, number: int, revocation: Revocation | None
    ) -> None:
        VERSION.change(
            self._sealing,
            transaction,
            {"lineage": lease.lineage, "number": number},
            **_row_of_revocation(revocation),
        )

    @writes
    def save_renewal_info(
        self,
        transaction: Transaction,
        lineage: str,
        fingerprint: str,
        window: RenewalWindow | None,
        ask_after: datetime,
    ) -> None:
        VERSION.change(
            self._sealing,
            transaction,
            {"lineage": lineage, "fingerprint": fingerprint},
            **_row_of_window(window),
            ask_after=columns.from_moment(ask_after),
        )


def _row_of(lineage: str, version: Version) -> dict[str, Value]:
    """Return the values of a version by column."""
    return _VERSIONS.values(
        version,
        lineage=lineage,
        **_LEAF.values(version.certificate),
        **_row_of_window(version.window),
        **_row_of_revocation(version.revocation),
    )


def _row_of_window(window: RenewalWindow | None) -> dict[str, Value]:
    return {
        "window_start": columns.from_moment(window.start) if window else None,
        "window_end": columns.from_moment(window.end) if window else None,
        "window_page": window.page if window else None,
    }


def _row_of_revocation(revocation: Revocation | None) -> dict[str, Value]:
    return {
        "revoked_at": columns.from_moment(revocation.at) if revocation else None,
        "revocation_reason": revocation.reason.value if revocation else None,
        "revocation_answered": revocation.is_answered if revocation else None,
    }


def _version(row: Iterable[Any]) -> Version:
    """Return the version of a row's facts. The facts are read by position, because a run reads many
    rows, and reading by name is slower.
    """
    number, fingerprint, names, common_name, serial, issuer, *rest = row
    not_before, not_after, key_type, saved_at, key_matches, chain_complete, *rest = rest
    start, end, page, digest, ask_after, directory, *revoked, issuer_end = rest
    return Version(
        number,
        Certificate(
            fingerprint,
            columns.to_names(names),
            common_name,
            serial,
            issuer,
            columns.to_validity(not_before),
            columns.to_validity(not_after),
            key_type,
        ),
        columns.to_moment(saved_at),
        bool(key_matches),
        bool(chain_complete),
        None
        if start is None
        else RenewalWindow(columns.to_moment(start), columns.to_moment(end), page),
        digest,
        None if ask_after is None else columns.to_moment(ask_after),
        directory,
        None if revoked[0] is None else _revocation(*revoked),
        None if issuer_end is None else columns.to_validity(issuer_end),
    )


def _revocation(at: str, reason: str, answered: int | None) -> Revocation:
    return Revocation(
        columns.to_moment(at), columns.read_as(RevocationReason, reason), answered in {None, True}
    )


# A single query in place of three: with many threads, the number of queries decides a run's time.
_REST = (
    "SELECT one.lineage, created_at, names, key_type, tried_at, rejected_at, tries, failing_since,"
    " EXISTS (SELECT 1 FROM challenge_record WHERE lineage = one.lineage) AS has_records"
    " FROM (SELECT column1 AS lineage FROM (VALUES {these}) AS given) AS one"
    " LEFT JOIN acme_order ON acme_order.lineage = one.lineage"
    " LEFT JOIN issue_try ON issue_try.lineage = one.lineage"
)


_Of = TypeVar("_Of", Upload, RolloutRecord, Withdrawal)


def _by_lineage(records: Iterable[_Of]) -> Mapping[str, list[_Of]]:
    grouped: dict[str, list[_Of]] = {}
    for record in records:
        grouped.setdefault(record.lineage, []).append(record)
    return grouped
