"""All that the state holds of one lineage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from certferry.core.lineage import Version
from certferry.core.ordered import Ordered
from certferry.core.rollout_record import RolloutRecord
from certferry.core.upload import Upload
from certferry.core.withdrawal import Withdrawal


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the store knows of a lineage at one moment, without keys: a lineage that it does not
    know has nothing of it.

    `versions` are newest first; `ordered` is the order under way, `issue_tried_at` when a
    certificate was last ordered or adopted, `issue_tries` how often in vain since one came,
    `failing_since` when a CA first failed since then, `rejected_at` when what came was not what was
    ordered; `uploads` are those at every target, by target and newest first; `rollouts`
    are by target and domain; `withdrawals` say what is bound nowhere again. With
    `has_challenge_records`, TXT values of ours may still be in DNS.
    """

    versions: tuple[Version, ...] = ()
    ordered: Ordered | None = None
    issue_tried_at: datetime | None = None
    rejected_at: datetime | None = None
    uploads: tuple[Upload, ...] = ()
    rollouts: tuple[RolloutRecord, ...] = ()
    has_challenge_records: bool = False
    withdrawals: tuple[Withdrawal, ...] = ()
    issue_tries: int = 0
    failing_since: datetime | None = None
