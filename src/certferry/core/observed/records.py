"""What the state stores of a lineage and of a domain: uploads, rollouts, orders, runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certferry.core.certificates.certificate import KeyType, same_names
from certferry.core.certificates.lineage import Version, Withdrawal
from certferry.core.desired.certificate import DesiredCertificate, DesiredHttps, HttpsSettings


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """How far one certificate is with one domain: since when it is needed there, when the target
    took it, what the target said of the domain before that, when a try failed for good, when it was
    first seen served by all. `sent` are the settings that the target took with it, `None` where
    that is unknown; `settings_before` are those that the domain showed before. At a receiver,
    `program_digest` is that of the program which was run, and `fullchain_digest` that of leaf and
    issuers. `request_id` is the target's own of the change that it took. `worked_before`: every
    address that was reached completed a handshake just before that; `refused_since`: addresses have
    refused the certificate since then. `tries` counts how often the certificate was sent there
    without success or is on its way. `drift` names what another tool changed, as it was last
    reported; `repairs` are the moments at which that was repaired, newest first.
    """

    lineage: str
    target: str
    domain: str
    fingerprint: str
    started_at: datetime
    accepted_at: datetime | None = None
    problem_before: str | None = None
    failed_at: datetime | None = None
    verified_at: datetime | None = None
    sent: DesiredHttps | None = None
    program_digest: str | None = None
    fullchain_digest: str | None = None
    settings_before: HttpsSettings | None = None
    request_id: str | None = None
    worked_before: bool = False
    refused_since: datetime | None = None
    drift: str | None = None
    repairs: tuple[datetime, ...] = ()
    tries: int = 0

    @property
    def asked_at(self) -> datetime:
        """When the target took the change, or the rollout began where it has not."""
        return self.accepted_at or self.started_at


LAG = timedelta(minutes=1)
"""How long a target may go on telling of what was before a change that it accepted."""


NO_LINEAGE = ""
"""The lineage of an `Upload` that is not ours: the state holds of it only that it is used."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A copy that we put at a target; until `in_use_until` something uses it."""

    lineage: str
    target: str
    remote_id: str
    label: str
    fingerprint: str
    uploaded_at: datetime
    in_use_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ordered:
    """What was ordered, and when; `key_type` is `None` where it was not stored."""

    at: datetime
    names: tuple[str, ...]
    key_type: KeyType | None = None

    def is_for(self, desired: DesiredCertificate) -> bool:
        """Return whether it is what is declared now: nothing waits for any other order."""
        return (
            desired.files is None
            and same_names(self.names, desired.names)
            and self.key_type in {None, desired.key_type}
        )


@dataclass(frozen=True, slots=True)
class OtherCertificate:
    """A certificate at a target that is not this lineage's, as the target lists it: another
    lineage's, another tool's, or one uploaded by hand. `label` may be empty, and no identity.
    `in_use_until` is as for our own.
    """

    remote_id: str
    label: str
    not_after: datetime | None = None
    in_use_until: datetime | None = None
    not_before: datetime | None = None


TRIED_AGAIN = timedelta(days=1)
"""How long an account that refused an upload is taken at its word: it may have been given more."""


@dataclass(frozen=True, slots=True)
class Quota:
    """An account that refused an upload when it held as many as `most`: `held` is how many it holds
    now. After `until` it is tried again.
    """

    held: int
    most: int
    until: datetime

    def is_full(self, now: datetime) -> bool:
        """Return whether an upload would be refused, as far as that is known."""
        return self.held >= self.most and now < self.until


@dataclass(frozen=True, slots=True)
class TargetTask:
    """A change as its target tells of it: its `state` and `operation` in the target's own words,
    when it began, and the target's number for it.
    """

    state: str
    operation: str | None = None
    since: datetime | None = None
    number: str | None = None


@dataclass(frozen=True, slots=True)
class LastRun:
    """When the last run over declared certificates ended, and the last that left no failure."""

    ended_at: datetime
    succeeded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run that began and has not ended yet; `number` tells it from those at the same time."""

    number: int
    began_at: datetime
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One thing that happened, for ever. `who` is the operator or host that ran certferry, `number`
    grows with every entry: `None` before the store has given one.
    """

    at: datetime
    lineage: str
    event: str
    who: str
    facts: Mapping[str, str] = field(default_factory=dict)
    number: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the store knows of a lineage at one moment, without keys. `versions` are newest first,
    `ordered` is the order in progress, `issue_tried_at` when a certificate was last ordered or
    adopted, `issue_tries` how often that failed since one came, `failing_since` when a CA first
    failed since then, `rejected_at` when what came was not what was ordered; `uploads` are by
    target and newest first, `rollouts` by target and domain; `withdrawals` are bound nowhere again.
    With `has_challenge_records`, TXT values of ours may still be in DNS.
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
