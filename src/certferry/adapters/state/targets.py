"""What was put where: our copies at targets, and how far each domain is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

from certferry.adapters.state.columns import (
    from_moment,
    from_moments,
    from_optional_moment,
    from_optional_settings,
    to_moment,
    to_moments,
    to_optional_moment,
    to_optional_settings,
    to_optional_wish,
)
from certferry.adapters.state.database import Connection, Database, Row
from certferry.adapters.state.sealing import Sealing
from certferry.core.certificates.lineage import Withdrawal
from certferry.core.observed.records import NO_LINEAGE, RolloutRecord, Upload

_UPLOAD: LiteralString = "lineage, target, remote_id, label, fingerprint, uploaded_at, in_use_until"

_ROLLOUT: LiteralString = (
    "lineage, target, domain, fingerprint, started_at, accepted_at, problem_before, failed_at,"
    " verified_at, sent, program_digest, fullchain_digest, settings_before, request_id,"
    " worked_before, refused_since, drift, repairs, attempts"
)

_WITHDRAWAL: LiteralString = "lineage, target, domain, fingerprint, withdrawn_at, by_hand"


class Uploads:
    """Copies of certificates that we put at targets, by target and remote id. Rows are bound, since
    by another remote id a domain would get another owner's certificate.
    """

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def uploads(self, lineage: str, target: str) -> tuple[Upload, ...]:
        """Our copies at a target that have not been retired, newest first. A row that another
        program wrote or changed is none.
        """
        found = self._found("lineage = ? AND target = ?", lineage, target)
        return tuple(upload for upload, proof in found if self._is_ours(upload, proof))

    def of_lineage(self, lineage: str) -> tuple[Upload, ...]:
        """Our copies at every target, by target and newest first, as stored: to look needs no
        key.
        """
        return tuple(upload for upload, _ in self._found("lineage = ?", lineage))

    def _found(self, condition: LiteralString, *values: str) -> Iterator[tuple[Upload, str | None]]:
        rows = self._database.rows(
            f"SELECT {_UPLOAD}, proof FROM upload WHERE {condition}"  # noqa: S608 - constant columns and conditions
            " ORDER BY target, uploaded_at DESC, remote_id DESC",
            *values,
        )
        return ((_upload(row), proof) for *row, proof in rows)

    def _is_ours(self, upload: Upload, proof: str | None) -> bool:
        return upload.lineage == NO_LINEAGE or self._sealing.is_bound(proof, *_bound_to(upload))

    def save_upload(self, upload: Upload) -> None:
        """Keep an upload, by target and remote id."""
        with self._database.transaction() as connection:
            proof = None
            if upload.lineage != NO_LINEAGE:  # of which nothing is ever bound to a domain
                proof = self._sealing.bind(connection, *_bound_to(upload))
            connection.execute(
                f"INSERT INTO upload ({_UPLOAD}, proof)"  # noqa: S608 - constant columns
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (target, remote_id) DO UPDATE"
                " SET lineage = excluded.lineage, label = excluded.label,"
                " fingerprint = excluded.fingerprint, uploaded_at = excluded.uploaded_at,"
                " in_use_until = excluded.in_use_until, proof = excluded.proof",
                (
                    upload.lineage,
                    upload.target,
                    upload.remote_id,
                    upload.label,
                    upload.fingerprint,
                    from_moment(upload.uploaded_at),
                    from_optional_moment(upload.in_use_until),
                    proof,
                ),
            )

    def drop_upload(self, target: str, remote_id: str) -> None:
        """Forget an upload that was retired."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM upload WHERE target = ? AND remote_id = ?", (target, remote_id)
            )


class Rollouts:
    """How far each domain is with the certificate that is on its way to it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_lineage(self, lineage: str) -> tuple[RolloutRecord, ...]:
        """How far each certificate of the lineage is with each domain, by target and domain."""
        return self._found("lineage = ? ORDER BY target, domain", lineage)

    def open_rollouts(self, target: str) -> tuple[RolloutRecord, ...]:
        """Whatever is on its way to a target, by lineage and domain."""
        return self._found("target = ? AND verified_at IS NULL ORDER BY lineage, domain", target)

    def _found(self, condition: LiteralString, *values: str) -> tuple[RolloutRecord, ...]:
        rows = self._database.rows(
            f"SELECT {_ROLLOUT} FROM rollout WHERE {condition}",  # noqa: S608 - constant columns and conditions
            *values,
        )
        return tuple(map(_rollout, rows))

    def save_rollout(self, rollout: RolloutRecord) -> None:
        """Keep a rollout, by lineage, target and domain: a new certificate takes its place."""
        with self._database.transaction() as connection:
            _keep(rollout, connection)

    def replace_rollout(self, before: RolloutRecord | None, after: RolloutRecord) -> bool:
        """Keep a rollout if what is known of its domain is still `before`; tell whether it was."""
        with self._database.transaction(serializable=True) as connection:
            place = (after.lineage, after.target, after.domain)
            found = self._found("lineage = ? AND target = ? AND domain = ?", *place)
            if found != (() if before is None else (before,)):
                return False
            _keep(after, connection)
            return True


class Withdrawals:
    """Certificates that are not to be bound to a domain again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def withdrawals(self, lineage: str) -> tuple[Withdrawal, ...]:
        """What was withdrawn of a lineage, by target and domain, oldest first."""
        rows = self._database.rows(
            f"SELECT {_WITHDRAWAL} FROM withdrawal WHERE lineage = ?"  # noqa: S608 - constant columns
            " ORDER BY target, domain, withdrawn_at",
            lineage,
        )
        return tuple(
            Withdrawal(lineage, target, domain, fingerprint, to_moment(at), by_hand=bool(by_hand))
            for lineage, target, domain, fingerprint, at, by_hand in rows
        )

    def save_withdrawal(self, withdrawal: Withdrawal) -> None:
        """Keep that a certificate is not to be bound to a domain again."""
        with self._database.transaction() as connection:
            connection.execute(
                f"INSERT INTO withdrawal ({_WITHDRAWAL}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 - constant columns
                " ON CONFLICT (lineage, target, domain, fingerprint) DO NOTHING",
                (*_place_of(withdrawal), from_moment(withdrawal.at), int(withdrawal.by_hand)),
            )

    def drop_withdrawal(self, withdrawal: Withdrawal) -> None:
        """Forget a withdrawal that could not be carried out."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM withdrawal"
                " WHERE lineage = ? AND target = ? AND domain = ? AND fingerprint = ?",
                _place_of(withdrawal),
            )


def _place_of(withdrawal: Withdrawal) -> tuple[str, str, str, str]:
    return withdrawal.lineage, withdrawal.target, withdrawal.domain, withdrawal.fingerprint


def _keep(rollout: RolloutRecord, connection: Connection) -> None:
    connection.execute(
        "DELETE FROM rollout WHERE lineage = ? AND target = ? AND domain = ?",
        (rollout.lineage, rollout.target, rollout.domain),
    )
    connection.execute(
        f"INSERT INTO rollout ({_ROLLOUT})"  # noqa: S608 - constant columns
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            rollout.lineage,
            rollout.target,
            rollout.domain,
            rollout.fingerprint,
            from_moment(rollout.started_at),
            from_optional_moment(rollout.accepted_at),
            rollout.problem_before,
            from_optional_moment(rollout.failed_at),
            from_optional_moment(rollout.verified_at),
            from_optional_settings(rollout.sent),
            rollout.program_digest,
            rollout.fullchain_digest,
            from_optional_settings(rollout.settings_before),
            rollout.request_id,
            int(rollout.worked_before),
            from_optional_moment(rollout.refused_since),
            rollout.drift,
            from_moments(rollout.repairs),
            rollout.tries,
        ),
    )


def _bound_to(upload: Upload) -> tuple[str, ...]:
    return "upload", upload.target, upload.remote_id, upload.lineage, upload.fingerprint


def _upload(row: Sequence[Any]) -> Upload:
    lineage, target, remote_id, label, fingerprint, uploaded_at, in_use_until = row
    return Upload(
        lineage,
        target,
        remote_id,
        label,
        fingerprint,
        to_moment(uploaded_at),
        to_optional_moment(in_use_until),
    )


def _rollout(row: Row) -> RolloutRecord:
    lineage, target, domain, fingerprint, started_at, *tries = row
    accepted_at, problem_before, failed_at, verified_at, *sent_along = tries
    sent, program_digest, fullchain_digest, settings_before, *since = sent_along
    request_id, worked_before, refused_since, drift, repairs, tries = since
    return RolloutRecord(
        lineage,
        target,
        domain,
        fingerprint,
        to_moment(started_at),
        to_optional_moment(accepted_at),
        problem_before,
        to_optional_moment(failed_at),
        to_optional_moment(verified_at),
        to_optional_wish(sent),
        program_digest,
        fullchain_digest,
        to_optional_settings(settings_before),
        request_id,
        bool(worked_before),
        to_optional_moment(refused_since),
        drift,
        to_moments(repairs),
        tries,
    )
