"""The tables about places: copies at targets, the rollout of each domain, withdrawals, and the last
sighting of each place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from certferry.adapters.state import columns
from certferry.adapters.state.database import Reader, Row, Table, Tables, Transaction, writes
from certferry.adapters.state.row_proofs import ROLLOUT, UPLOAD, WITHDRAWAL
from certferry.adapters.state.sealing import Sealing
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.lineage import Withdrawal
from certferry.core.desired.certificate import Kind
from certferry.core.observed.records import NO_LINEAGE, RolloutRecord, Upload

UPLOADS = Table(
    "upload", Upload, "target", "remote_id", uploaded_at=columns.MOMENT, in_use_until=columns.MOMENT
)
ROLLOUTS = Table(
    "rollout",
    RolloutRecord,
    *("lineage", "target", "domain", "host"),
    started_at=columns.MOMENT,
    accepted_at=columns.MOMENT,
    failed_at=columns.MOMENT,
    verified_at=columns.MOMENT,
    refused_since=columns.MOMENT,
    repairs=columns.MOMENTS,
    sent=columns.DESIRED,
    settings_before=columns.SETTINGS,
    worked_before=columns.FLAG,
    tries=columns.NUMBER.named("attempts"),
)
WITHDRAWALS = Table(
    "withdrawal",
    Withdrawal,
    *("lineage", "target", "domain", "fingerprint"),
    at=columns.MOMENT.named("withdrawn_at"),
    by_hand=columns.FLAG,
)
_SIGHTINGS = Table(
    "sighting",
    Sighting,
    *("lineage", "target", "domain", "host"),
    served=columns.FLAG,
    since=columns.MOMENT,
    other_until=columns.VALIDITY,
    is_uploaded=columns.FLAG.named("uploaded"),
    answered=columns.NUMBER,
    lagging=columns.NAMES,
    serves_nothing=columns.FLAG,
)


class PlaceTables(Tables):
    """See `PlaceStore`.

    Two kinds of rows have a proof (`row_proofs`). Uploads have a proof, because a changed remote id
    would bind a domain to another owner's certificate. Rollouts of commands have a proof, because
    nothing but the row shows that a command ran.

    A row about a receiver belongs to a single host. All other rows belong to all hosts.
    """

    _sealing: Sealing

    def uploads(self, lineage: str, target: str) -> tuple[Upload, ...]:
        """See `PlaceStore.uploads`. Rows written or changed by another program are left out. Copies
        without a lineage have no proof, and are all returned.
        """
        condition = "WHERE lineage = ? AND target = ? ORDER BY uploaded_at DESC, remote_id DESC"
        if lineage == NO_LINEAGE:  # copies without a lineage are never bound to a domain
            return UPLOADS.found(self._database, condition, lineage, target)
        ours = UPLOAD.ours(self._sealing, self._database, condition, lineage, target)
        return UPLOADS.read(ours)

    @writes
    def save_upload(self, transaction: Transaction, upload: Upload) -> None:
        if upload.lineage == NO_LINEAGE:
            UPLOADS.save(transaction, upload)
        else:
            UPLOAD.save(self._sealing, transaction, **UPLOADS.values(upload))

    @writes
    def drop_upload(self, transaction: Transaction, target: str, remote_id: str) -> None:
        transaction.remove("upload", target=target, remote_id=remote_id)

    def open_rollouts(self, target: str) -> tuple[RolloutRecord, ...]:
        query, values = ROLLOUTS.query(
            "WHERE target = ? AND host = ? AND verified_at IS NULL ORDER BY lineage, domain",
            target,
            self._host_of(target),
        )
        return self._rollouts(self._database.rows(query, *values))

    def _rollouts(self, rows: Iterable[Row]) -> tuple[RolloutRecord, ...]:
        """Return the rollouts in rows. A command's row with a wrong proof is ignored, so the
        command counts as not run.
        """
        return ROLLOUTS.read(
            row for row in rows if not ROLLOUT.covers(row) or ROLLOUT.is_shown(self._sealing, row)
        )

    @writes
    def save_rollout(self, transaction: Transaction, rollout: RolloutRecord) -> None:
        self._save_rollout(transaction, rollout)

    def _save_rollout(self, transaction: Transaction, rollout: RolloutRecord) -> None:
        row = ROLLOUTS.values(rollout, host=self._host_of(rollout.target))
        if ROLLOUT.covers(row):
            ROLLOUT.save(self._sealing, transaction, **row)
        else:
            transaction.save("rollout", ROLLOUT.key, **row)

    @writes
    def replace_rollout(
        self, transaction: Transaction, before: RolloutRecord | None, after: RolloutRecord
    ) -> bool:
        query, values = ROLLOUTS.query(
            "WHERE lineage = ? AND target = ? AND domain = ? AND host = ?",
            after.lineage,
            after.target,
            after.domain,
            self._host_of(after.target),
        )
        stored = self._rollouts(transaction.rows(query, *values))
        if stored != (() if before is None else (before,)):
            return False
        self._save_rollout(transaction, after)
        return True

    @writes
    def save_withdrawal(self, transaction: Transaction, withdrawal: Withdrawal) -> None:
        """See `PlaceStore.save_withdrawal`: an earlier withdrawal stays."""
        row = WITHDRAWALS.values(withdrawal)
        key = {name: row[name] for name in WITHDRAWAL.key}
        if WITHDRAWAL.find(self._sealing, transaction, **key) is None:
            WITHDRAWAL.save(self._sealing, transaction, **row)

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
        before = {sighting.place: sighting for sighting in self._sightings(transaction)}
        after = {sighting.place: sighting for sighting in change(tuple(before.values()))}
        for place in before.keys() - after.keys():
            gone = before[place]
            _SIGHTINGS.remove(transaction, gone, host=self._host_of(gone.target))
        for place, sighting in after.items():
            if before.get(place) != sighting:
                _SIGHTINGS.save(transaction, sighting, host=self._host_of(sighting.target))
        return tuple(after[place] for place in sorted(after))

    def _host_of(self, target: str) -> str:
        return self.host if Kind(target).is_receiver else ""
