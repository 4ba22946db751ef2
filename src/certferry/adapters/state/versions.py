"""The lineages and their versions: the facts for every run, chain and sealed key for deploying."""

from __future__ import annotations

from datetime import datetime

from certferry.adapters.state.columns import (
    from_moment,
    from_names,
    from_optional_moment,
    spoilt,
    to_moment,
    to_names,
    to_optional_key_type,
    to_optional_moment,
    to_validity,
)
from certferry.adapters.state.database import Connection, Database, Row
from certferry.adapters.state.failures import damaged
from certferry.adapters.state.leases import must_be_in_force
from certferry.adapters.state.ledger import note_issued
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.targets import Rollouts, Uploads, Withdrawals
from certferry.core.certificates.certificate import Certificate, CertificateBundle
from certferry.core.certificates.lineage import Revocation, RevocationReason, Version
from certferry.core.certificates.pem import parse_bundle
from certferry.core.certificates.renewal import RenewalWindow
from certferry.core.observed.records import Ordered, Remembered
from certferry.errors import CertificateError, StateError
from certferry.ports.state import Lease
from certferry.text import Text

_KIND = "version"

_FACTS = (
    "number, saved_at, key_matches, chain_complete, window_start, window_end, window_page,"
    " ask_after, fullchain_digest, directory, revoked_at, revocation_reason, revocation_answered,"
    " issuer_not_after,"
    " fingerprint, names, common_name, serial, issuer, not_before, not_after, key_type"
)


class Versions:
    """Two tables: `version` with the facts, `version_pem` with chain and sealed key."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def lineages(self) -> tuple[str, ...]:
        """Every lineage with at least one version, by name."""
        rows = self._database.rows("SELECT DISTINCT lineage FROM version ORDER BY lineage")
        return tuple(lineage for (lineage,) in rows)

    def versions(self, lineage: str) -> tuple[Version, ...]:
        """The versions of a lineage, newest first; no certificate is parsed, nothing unsealed."""
        rows = self._database.rows(
            f"SELECT {_FACTS} FROM version WHERE lineage = ? ORDER BY number DESC",  # noqa: S608 - constant columns
            lineage,
        )
        return tuple(map(_version, rows))

    def versions_in_use(self) -> dict[str, tuple[Version, ...]]:
        """See `StateStore.versions_in_use`."""
        rows = self._database.rows(
            f"SELECT lineage, {_FACTS} FROM version"  # noqa: S608 - constant columns
            " WHERE number = (SELECT MAX(number) FROM version AS newer"
            " WHERE newer.lineage = version.lineage)"
            " OR NOT revocation_answered"
            " OR EXISTS (SELECT 1 FROM sighting WHERE sighting.lineage = version.lineage"
            " AND sighting.fingerprint = version.fingerprint)"
            " ORDER BY lineage, number DESC"
        )
        found: dict[str, tuple[Version, ...]] = {}
        for lineage, *facts in rows:
            found[lineage] = (*found.get(lineage, ()), _version(tuple(facts)))
        return found

    def bundle(self, lineage: str, number: int) -> CertificateBundle:
        """One version with its key. Raises `StateError`."""
        rows = self._database.rows(
            "SELECT version.fingerprint, fullchain_pem, sealed_privkey_pem"
            " FROM version JOIN version_pem USING (lineage, number)"
            " WHERE lineage = ? AND number = ?",
            lineage,
            number,
        )
        if not rows:
            raise StateError(
                Text("{lineage} has no version {number}", lineage=lineage, number=number)
            )
        ((fingerprint, fullchain_pem, sealed),) = rows
        privkey_pem = self._sealing.unseal(sealed, _KIND, lineage, fingerprint)
        try:
            bundle = parse_bundle(fullchain_pem, privkey_pem)
        except CertificateError as exc:
            raise damaged(self._database.place, exc.message) from exc
        if bundle.certificate.fingerprint != fingerprint:
            raise damaged(self._database.place, Text("a certificate stands in another's place"))
        return bundle

    def save_version(self, lease: Lease, bundle: CertificateBundle, now: datetime) -> Version:
        """Keep a new certificate and forget the order it came from."""
        with self._database.transaction(serializable=True) as connection:
            must_be_in_force(connection, lease)
            directory = _ordered_at(connection, lease.lineage, bundle)
            connection.execute("DELETE FROM acme_order WHERE lineage = ?", (lease.lineage,))
            note_issued(connection, lease.lineage, now)
            known = _find(connection, lease.lineage, bundle.certificate.fingerprint)
            if known is None:
                return self._insert(connection, lease.lineage, bundle, now, directory)
            if not known.should_replace(bundle):
                return known
            return self._replace(connection, lease.lineage, bundle, known)

    def save_revocation(self, lease: Lease, number: int, revocation: Revocation | None) -> None:
        """See `StateStore.save_revocation`."""
        at, reason, answered = (
            (None,) * 3
            if revocation is None
            else (from_moment(revocation.at), revocation.reason.value, revocation.is_answered)
        )
        with self._database.transaction(serializable=True) as connection:
            must_be_in_force(connection, lease)
            connection.execute(
                "UPDATE version SET revoked_at = ?, revocation_reason = ?, revocation_answered = ?"
                " WHERE lineage = ? AND number = ?",
                (at, reason, answered, lease.lineage, number),
            )

    def save_renewal_info(
        self, lineage: str, fingerprint: str, window: RenewalWindow | None, ask_after: datetime
    ) -> None:
        """See `StateStore.save_renewal_info`."""
        start, end, page = (
            (None,) * 3 if window is None else (window.start, window.end, window.page)
        )
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE version SET window_start = ?, window_end = ?, window_page = ?,"
                " ask_after = ? WHERE lineage = ? AND fingerprint = ?",
                (
                    from_optional_moment(start),
                    from_optional_moment(end),
                    page,
                    from_moment(ask_after),
                    lineage,
                    fingerprint,
                ),
            )

    def _insert(
        self,
        connection: Connection,
        lineage: str,
        bundle: CertificateBundle,
        now: datetime,
        directory: str | None,
    ) -> Version:
        ((newest,),) = connection.execute(
            "SELECT COALESCE(MAX(number), 0) FROM version WHERE lineage = ?", (lineage,)
        )
        leaf = bundle.certificate
        connection.execute(
            f"INSERT INTO version (lineage, {_FACTS})"  # noqa: S608 - constant columns
            " VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL, NULL, ?, ?, NULL, NULL, NULL, ?,"
            " ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                lineage,
                newest + 1,
                from_moment(now),
                bundle.key_matches,
                bundle.chain_complete,
                bundle.fullchain_digest,
                directory,
                from_optional_moment(bundle.issuer_not_after),
                leaf.fingerprint,
                from_names(leaf.names),
                leaf.common_name,
                leaf.serial,
                leaf.issuer,
                from_moment(leaf.not_before),
                from_moment(leaf.not_after),
                leaf.key_type,
            ),
        )
        self._keep_pem(connection, lineage, newest + 1, bundle)
        return Version(newest + 1, leaf, now, directory=directory).with_pem_of(bundle)

    def _replace(
        self,
        connection: Connection,
        lineage: str,
        bundle: CertificateBundle,
        known: Version,
    ) -> Version:
        connection.execute(
            "UPDATE version SET key_matches = ?, chain_complete = ?, fullchain_digest = ?,"
            " issuer_not_after = ? WHERE lineage = ? AND number = ?",
            (
                bundle.key_matches,
                bundle.chain_complete,
                bundle.fullchain_digest,
                from_optional_moment(bundle.issuer_not_after),
                lineage,
                known.number,
            ),
        )
        self._keep_pem(connection, lineage, known.number, bundle)
        return known.with_pem_of(bundle)

    def _keep_pem(
        self, connection: Connection, lineage: str, number: int, bundle: CertificateBundle
    ) -> None:
        bound_to = (_KIND, lineage, bundle.certificate.fingerprint)
        sealed = self._sealing.seal(connection, bundle.privkey_pem, *bound_to)
        connection.execute(
            "INSERT INTO version_pem (lineage, number, fullchain_pem, sealed_privkey_pem)"
            " VALUES (?, ?, ?, ?)"
            " ON CONFLICT (lineage, number) DO UPDATE SET fullchain_pem = excluded.fullchain_pem,"
            " sealed_privkey_pem = excluded.sealed_privkey_pem",
            (lineage, number, bundle.fullchain_pem, sealed),
        )


def _ordered_at(connection: Connection, lineage: str, bundle: CertificateBundle) -> str | None:
    """Return the directory of the order that a certificate came from, `None` where it came from
    elsewhere.
    """
    found = connection.execute(
        "SELECT directory, names FROM acme_order WHERE lineage = ?", (lineage,)
    ).fetchone()
    if found is None or set(to_names(found[1])) != set(bundle.certificate.names):
        return None
    return str(found[0])


def _find(connection: Connection, lineage: str, fingerprint: str) -> Version | None:
    found = connection.execute(
        f"SELECT {_FACTS} FROM version WHERE lineage = ? AND fingerprint = ?",  # noqa: S608 - constant columns
        (lineage, fingerprint),
    ).fetchone()
    return None if found is None else _version(found)


def _version(row: Row) -> Version:
    number, saved_at, key_matches, chain_complete, start, end, page, ask_after, *rest = row
    digest, directory, revoked_at, reason, answered, issuer_end, *leaf = rest
    return Version(
        number,
        _certificate(*leaf),
        to_moment(saved_at),
        bool(key_matches),
        bool(chain_complete),
        None if start is None else RenewalWindow(to_moment(start), to_moment(end), page),
        digest,
        to_optional_moment(ask_after),
        directory,
        _revocation(revoked_at, reason, answered),
        None if issuer_end is None else to_validity(issuer_end),
    )


def _revocation(at: str | None, reason: str | None, answered: int | None) -> Revocation | None:
    if at is None or reason is None:
        return None
    try:
        return Revocation(to_moment(at), RevocationReason(reason), answered in {None, 1})
    except ValueError as problem:
        raise spoilt() from problem


def _certificate(
    fingerprint: str,
    names: str,
    common_name: str,
    serial: str,
    issuer: str,
    not_before: str,
    not_after: str,
    key_type: str,
) -> Certificate:
    return Certificate(
        fingerprint,
        to_names(names),
        common_name,
        serial,
        issuer,
        to_validity(not_before),
        to_validity(not_after),
        key_type,
    )


# One question instead of three: each costs more than its answer, with many threads at it.
_MOMENTS = (
    "SELECT (SELECT created_at FROM acme_order WHERE lineage = ?),"
    " (SELECT names FROM acme_order WHERE lineage = ?),"
    " (SELECT key_type FROM acme_order WHERE lineage = ?),"
    " (SELECT tried_at FROM issue_try WHERE lineage = ?),"
    " (SELECT rejected_at FROM issue_try WHERE lineage = ?),"
    " (SELECT tries FROM issue_try WHERE lineage = ?),"
    " (SELECT failing_since FROM issue_try WHERE lineage = ?),"
    " EXISTS (SELECT 1 FROM challenge_record WHERE lineage = ?),"
    " EXISTS (SELECT 1 FROM withdrawal WHERE lineage = ?)"
)


class Lineages:
    """What every table with a lineage in it says of one."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._versions = Versions(database, sealing)
        self._uploads = Uploads(database, sealing)
        self._rollouts = Rollouts(database)
        self._withdrawals = Withdrawals(database)

    def remembered(self, lineage: str) -> Remembered:
        """All that is remembered of a lineage; nothing is unsealed."""
        with self._database.snapshot():
            [row] = self._database.rows(_MOMENTS, *[lineage] * 9)
            *order, tried_at, rejected_at, tries, failing_since, has_records, has_withdrawals = row
            return Remembered(
                self._versions.versions(lineage),
                _ordered(*order),
                to_optional_moment(tried_at),
                to_optional_moment(rejected_at),
                self._uploads.of_lineage(lineage),
                self._rollouts.of_lineage(lineage),
                bool(has_records),
                self._withdrawals.withdrawals(lineage) if has_withdrawals else (),
                tries or 0,
                to_optional_moment(failing_since),
            )


def _ordered(at: str | None, names: str | None, key_type: str | None) -> Ordered | None:
    if at is None or names is None:
        return None
    return Ordered(to_moment(at), to_names(names), to_optional_key_type(key_type))
