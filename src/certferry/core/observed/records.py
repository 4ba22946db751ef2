"""What the state stores of a lineage and of a domain: uploads, rollouts, orders, runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.certificate import KeyType, same_names
from certferry.core.certificates.lineage import Version, Withdrawal
from certferry.core.desired.certificate import DesiredCertificate, DesiredHttps, HttpsSettings


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """How far one certificate is with one domain: needed there, taken by the target, failed for
    good, first seen served by all. `sent` are the settings that the target took, `None` where
    unknown; `settings_before` and `problem_before` what it showed before. `program_digest` and
    `fullchain_digest` are what a receiver ran and took. `worked_before`: all addresses completed
    handshakes before; they refuse it since `refused_since`. `tries` counts those without success.
    `drift` is what another tool changed, as last reported, `repairs` when it was repaired, newest
    first.
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
    """A target's certificate that is not this lineage's; its `label` identifies nothing."""

    remote_id: str
    label: str
    not_after: datetime | None = None
    in_use_until: datetime | None = None
    not_before: datetime | None = None


TRIED_AGAIN = timedelta(days=1)
"""How long an account that refused an upload is taken at its word: it may have been given more."""


@dataclass(frozen=True, slots=True)
class Quota:
    """An account that refused an upload at `most`: how many are `held` now; full `until` then."""

    held: int
    most: int
    until: datetime

    def is_full(self, now: datetime) -> bool:
        """Return whether an upload is known to be refused."""
        return self.held >= self.most and now < self.until


@dataclass(frozen=True, slots=True)
class TargetTask:
    """A change as its target describes it, `state` and `operation` in the target's words."""

    state: str
    operation: str | None = None
    since: datetime | None = None
    number: str | None = None


@dataclass(frozen=True, slots=True)
class LastRun:
    """When the last run over declared certificates ended, and the last that left no failure."""

    ended_at: datetime
    succeeded_at: datetime | None = None

    @property
    def is_success(self) -> bool:
        """Whether it left no failure."""
        return self.succeeded_at == self.ended_at


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host that has used the state, by its name. `machine` is a digest of the one that began a
    run under that name last, at `seen_at`, with certferry's `release`, and with a clock that was
    `clock_ahead` of the state's. `running_since` is when the oldest of its runs in progress began.
    """

    name: str
    machine: str | None = None
    release: str | None = None
    seen_at: datetime | None = None
    clock_ahead: timedelta | None = None
    last_run: LastRun | None = None
    running_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class HostWork:
    """A host's certificates: how many it `declares`, as far as that is stored, those that it
    declares unlike another host, whose declaration is newer, and those that it works on now.
    """

    declares: int = 0
    outdated: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run that began and has not ended yet; `number` tells it from those at the same time."""

    number: int
    began_at: datetime
    host: str
    pid: int


ACCESS = "console/access"
"""The lineage of what the history has of users and tokens: no certificate's name has a slash."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One event for ever, by `who`. The store adds its `number`, and the `host` that stored it,
    `None` where that was not stored yet.
    """

    at: datetime
    lineage: str
    event: str
    who: str
    facts: Mapping[str, str] = field(default_factory=dict)
    number: int | None = field(default=None, compare=False)
    host: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Which entries are meant: those that a `host` stored, of what a person or program did (`who`),
    `since` a moment, and before the moment `until`. What is `None` leaves out nothing.
    """

    host: str | None = None
    who: str | None = None
    since: datetime | None = None
    until: datetime | None = None


UNFILTERED = HistoryFilter()


class Damage(StrEnum):
    """What another program did: an entry was changed, or put in; entries after it were removed; it
    does not continue what is before it; whole histories are gone, of lineages that nothing names.
    """

    CHANGED = "changed"
    REMOVED = "removed"
    UNCONNECTED = "unconnected"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class HistoryBreak:
    """Where the history of a lineage was damaged first: at an entry, `None` for its beginning."""

    lineage: str
    damage: Damage
    number: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class VerifiedHistory:
    """What following the chain has shown: its `entries`, of how many lineages, and how many are
    `older` than it and cannot be verified. `of_console` of the entries are those of `ACCESS`, which
    is counted as a lineage, too.
    """

    entries: int
    lineages: int
    older: int
    breaks: tuple[HistoryBreak, ...] = ()
    of_console: int = 0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the store knows of a lineage at one moment, without keys: `versions` newest first, the
    order in progress, when and how often issuing failed since a certificate came, since when a CA
    fails, `rejected_at` when a wrong one came; `uploads` by target and newest first, `rollouts` by
    target and domain.
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
