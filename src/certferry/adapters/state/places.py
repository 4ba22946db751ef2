"""What was put where: copies at targets, how far each domain is, what each place was last seen to
have.
"""

from __future__ import annotations

from collections.abc import Callable

from certferry.adapters.state.columns import (
    DESIRED,
    FLAG,
    MOMENT,
    MOMENTS,
    PLAIN,
    SETTINGS,
    VALIDITY,
)
from certferry.adapters.state.database import Reader, Table, Tables, Transaction, writes
from certferry.adapters.state.sealing import Sealing
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.lineage import Withdrawal
from certferry.core.desired.certificate import Kind
from certferry.core.observed.records import NO_LINEAGE, RolloutRecord, Upload

UPLOADS = Table("upload", Upload, "target", "remote_id", uploaded_at=MOMENT, in_use_until=MOMENT)
ROLLOUTS = Table(
    "rollout",
    RolloutRecord,
    *("lineage", "target", "domain", "host"),
    started_at=MOMENT,
    accepted_at=MOMENT,
    failed_at=MOMENT,
    verified_at=MOMENT,
    refused_since=MOMENT,
    repairs=MOMENTS,
    sent=DESIRED,
    settings_before=SETTINGS,
    worked_before=FLAG,
    tries=PLAIN.named("attempts"),
)
WITHDRAWALS = Table(
    "withdrawal",
    Withdrawal,
    *("lineage", "target", "domain", "fingerprint"),
    at=MOMENT.named("withdrawn_at"),
    by_hand=FLAG,
)
_SIGHTINGS = Table(
    "sighting",
    Sighting,
    *("lineage", "target", "domain", "host"),
    served=FLAG,
    since=MOMENT,
    other_until=VALIDITY,
)


class PlaceTables(Tables):
    """See `PlaceStore`. Uploads are bound, since by another remote id a domain would get another
    owner's certificate. Receivers belong to this host, and everything else to none.
    """

    _sealing: Sealing

    def uploads(self, lineage: str, target: str) -> tuple[Upload, ...]:
        """See `PlaceStore.uploads`. Ignores rows that another program wrote or changed."""
        rows = self._database.rows(
            "SELECT * FROM upload WHERE lineage = ? AND target = ?"
            " ORDER BY uploaded_at DESC, remote_id DESC",
            lineage,
            target,
        )
        found = [(UPLOADS.of_row(row), row["proof"]) for row in rows]
        return tuple(one for one, proof in found if self._is_ours(one, proof))

    def _is_ours(self, upload: Upload, proof: str | None) -> bool:
        return upload.lineage == NO_LINEAGE or self._sealing.is_bound(proof, *_bound_to(upload))

    @writes
    def save_upload(self, transaction: Transaction, upload: Upload) -> None:
        proof = None
        if upload.lineage != NO_LINEAGE:  # of which nothing is ever bound to a domain
            proof = self._sealing.bind(transaction, *_bound_to(upload))
        UPLOADS.save(transaction, upload, proof=proof)

    @writes
    def drop_upload(self, transaction: Transaction, target: str, remote_id: str) -> None:
        transaction.remove("upload", target=target, remote_id=remote_id)

    def open_rollouts(self, target: str) -> tuple[RolloutRecord, ...]:
        return ROLLOUTS.found(
            self._database,
            "WHERE target = ? AND host = ? AND verified_at IS NULL ORDER BY lineage, domain",
            target,
            self._host_of(target),
        )

    @writes
    def save_rollout(self, transaction: Transaction, rollout: RolloutRecord) -> None:
        ROLLOUTS.save(transaction, rollout, host=self._host_of(rollout.target))

    @writes
    def replace_rollout(
        self, transaction: Transaction, before: RolloutRecord | None, after: RolloutRecord
    ) -> bool:
        found = ROLLOUTS.found(
            transaction,
            "WHERE lineage = ? AND target = ? AND domain = ? AND host = ?",
            after.lineage,
            after.target,
            after.domain,
            self._host_of(after.target),
        )
        if found != (() if before is None else (before,)):
            return False
        ROLLOUTS.save(transaction, after, host=self._host_of(after.target))
        return True

    @writes
    def save_withdrawal(self, transaction: Transaction, withdrawal: Withdrawal) -> None:
        first = "ON CONFLICT (lineage, target, domain, fingerprint) DO NOTHING"
        transaction.add("withdrawal", first, **WITHDRAWALS.values(withdrawal))

    @writes
    def drop_withdrawal(self, transaction: Transaction, withdrawal: Withdrawal) -> None:
        WITHDRAWALS.remove(transaction, withdrawal)

    def sightings(self) -> tuple[Sighting, ...]:
        return self._sightings(self._database)

    def _sightings(self, reader: Reader) -> tuple[Sighting, ...]:
        order = "WHERE host IN ('', ?) ORDER BY lineage, target, domain"
        return _SIGHTINGS.found(reader, order, self.host)

    @writes
    def update_sightings(
        self,
        transaction: Transaction,
        change: Callable[[tuple[Sighting, ...]], tuple[Sighting, ...]],
    ) -> tuple[Sighting, ...]:
        before = {one.place: one for one in self._sightings(transaction)}
        after = {one.place: one for one in change(tuple(before.values()))}
        for place in before.keys() - after.keys():
            one = before[place]
            _SIGHTINGS.remove(transaction, one, host=self._host_of(one.target))
        for place, one in after.items():
            if before.get(place) != one:
                _SIGHTINGS.save(transaction, one, host=self._host_of(one.target))
        return tuple(after[place] for place in sorted(after))

    def _host_of(self, target: str) -> str:
        return self.host if Kind(target).is_receiver else ""


def _bound_to(upload: Upload) -> tuple[str, ...]:
    return "upload", upload.target, upload.remote_id, upload.lineage, upload.fingerprint
