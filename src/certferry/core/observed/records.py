"""The records that the state stores: rollouts, uploads, orders, hosts, runs, history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from certferry.core.certificates.certificate import KeyType, same_names
from certferry.core.certificates.lineage import Version, Withdrawal
from certferry.core.desired.certificate import DesiredCertificate, DesiredHttps, HttpsSettings
from certferry.text import Text


class RolloutRecord(Struct, frozen=True):
    """How far the rollout of one certificate has come at one domain or receiver."""

    lineage: str  #: The lineage's name.
    target: str  #: The account's name; for a receiver, the kind.
    domain: str  #: The domain's name; for a receiver, the directory or label.
    fingerprint: str  #: The certificate's fingerprint.
    #: When a run first stored this rollout; for a receiver, when the last delivery began.
    started_at: datetime
    #: When the target accepted the change; `None` before.
    accepted_at: datetime | None = None
    #: The domain's problem at the target before the change, as a string ("None" for no problem).
    problem_before: str | None = None
    #: When the last try failed; `None` if no try has failed since the target last accepted a
    #: change.
    failed_at: datetime | None = None
    #: When every answering address was first seen to serve the certificate, or the delivery ended.
    verified_at: datetime | None = None
    #: The HTTPS settings last sent to the target and accepted; `None` if unknown.
    sent: DesiredHttps | None = None
    #: For a command, `Program.digest`.
    program_digest: str | None = None
    #: For a receiver, the `fullchain_digest` of the delivered certificate.
    fullchain_digest: str | None = None
    #: The domain's settings at the target before the change.
    settings_before: HttpsSettings | None = None
    request_id: str | None = None  #: The target's id of the request, for tickets to the support.
    #: Whether every answering address presented a certificate before the change. Only recorded if a
    #: rollback is declared; else false.
    worked_before: bool = False
    #: Since when addresses refuse handshakes with the certificate; `None` if none refuses.
    refused_since: datetime | None = None
    #: Another tool's change, as `observation.in_one_line` writes the change; `None` without drift.
    drift: str | None = None
    #: When certferry repaired drift under this certificate, newest first.
    repairs: tuple[datetime, ...] = ()
    #: How often runs tried to change the domain in this rollout. A try at a busy target does not
    #: count.
    tries: int = 0

    @property
    def asked_at(self) -> datetime:
        """When the target accepted the change. If no change was accepted yet, when the rollout
        began.
        """
        return self.accepted_at or self.started_at


LAG = timedelta(minutes=1)
"""How long a target may still report the old state after accepting a change."""

NO_LINEAGE = ""
"""The `lineage` of an `Upload` that another tool made. The state stores such a copy only if the
target refused the removal because the copy is in use.
"""


class Upload(Struct, frozen=True):
    """A copy of a certificate at a target, uploaded by certferry (but see `NO_LINEAGE`)."""

    lineage: str  #: The lineage's name.
    target: str  #: The account's name.
    remote_id: str  #: The target's id of the copy.
    label: str  #: The copy's name at the target.
    fingerprint: str  #: The certificate's fingerprint.
    uploaded_at: datetime  #: When the copy was uploaded.
    #: The moment until which the copy counts as in use, after the target refused a removal.
    in_use_until: datetime | None = None


class Ordered(Struct, frozen=True):
    """The order in progress of a lineage."""

    at: datetime  #: When the order was made.
    names: tuple[str, ...]  #: The names in the order.
    key_type: KeyType | None = None  #: The ordered kind of key; `None` if not stored.

    def is_for(self, desired: DesiredCertificate) -> bool:
        """Return whether the order is for the certificate as declared now. If not, a run abandons
        the order.
        """
        return (
            desired.files is None
            and same_names(self.names, desired.names)
            and self.key_type in {None, desired.key_type}
        )


class OtherCertificate(Struct, frozen=True):
    """A certificate at a target that is not among the lineage's stored versions."""

    remote_id: str  #: The target's id of the certificate.
    #: The certificate's name at the target, which need not be unique.
    label: str
    not_after: datetime | None = None  #: The end of validity, if reported.
    in_use_until: datetime | None = None  #: See `Upload.in_use_until`.
    not_before: datetime | None = None  #: The beginning of validity, if reported.


TRIED_AGAIN = timedelta(days=1)
"""How long an account counts as full after a refused upload. Later a run tries an upload again,
because the service may have raised the quota.
"""


class Quota(Struct, frozen=True):
    """How full an account is, after the target refused an upload because the account was full."""

    #: The number of certificates at the account now.
    held: int
    #: The number at which the account refused.
    most: int
    #: The moment from which an upload is worth another try.
    until: datetime

    def is_full(self, now: datetime) -> bool:
        """Return whether the account still counts as full."""
        return self.held >= self.most and now < self.until


class TargetTask(Struct, frozen=True):
    """A change of a domain as described by the target."""

    #: The state of the change, in the target's word.
    state: str
    #: The kind of change, in the target's word, if reported.
    operation: str | None = None
    since: datetime | None = None  #: When the change began, if reported.
    number: str | None = None  #: The target's number of the change, if reported.


class LastRun(Struct, frozen=True):
    """The end of the last run over declared certificates."""

    ended_at: datetime  #: When the last run ended.
    #: When the last run without a failure ended.
    succeeded_at: datetime | None = None

    @property
    def is_success(self) -> bool:
        """Whether the last run ended without a failure."""
        return self.succeeded_at == self.ended_at


class HostRecord(Struct, frozen=True):
    """A host that uses the state. The fields from `machine` to `clock_ahead` were stored when the
    host's last run began.
    """

    name: str  #: The host's name in the state.
    #: A digest that identifies the machine.
    machine: str | None = None
    #: The release of certferry.
    release: str | None = None
    #: When the last run began.
    seen_at: datetime | None = None
    #: How far the machine's clock was ahead of the state's clock (negative: behind).
    clock_ahead: timedelta | None = None
    last_run: LastRun | None = None  #: The end of the host's last run.
    #: When the host's oldest run in progress began.
    running_since: datetime | None = None


class HostWork(Struct, frozen=True):
    """A host's lineages."""

    #: The number of lineages declared by the host, as far as stored.
    declares: int = 0
    #: Lineages that another host declares differently, and later.
    outdated: tuple[str, ...] = ()
    #: Lineages leased by the host now.
    holds: tuple[str, ...] = ()


class BegunRun(Struct, frozen=True):
    """A run that began and has not ended yet."""

    #: Distinguishes the run from simultaneous runs of the host.
    number: int
    began_at: datetime  #: The beginning of the run.
    host: str  #: The host of the run.
    pid: int  #: The process's number on the host.


ACCESS = "console/access"
"""The `lineage` of history entries about users and tokens. No certificate has this name, because
certificates' names have no slash.
"""


FAILED, REFUSED = "failed", "refused"
"""The events of a failed and of a refused step. A run that began the step stores another event."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An event in the history, kept for ever."""

    at: datetime  #: When the event happened.
    lineage: str  #: The lineage's name, or `ACCESS`.
    event: str  #: The event's name, such as "deployed".
    #: The person or program that acted.
    who: str
    #: The event's facts by name. A fact that is a sentence is a `Text`, shown in each reader's
    #: language. In old entries, sentences are English strings.
    facts: Mapping[str, str | Text] = field(default_factory=dict)
    #: The entry's number in the history; added by the store.
    number: int | None = field(default=None, compare=False)
    #: The host that stored the entry; added by the store, and `None` in old entries.
    host: str | None = field(default=None, compare=False)


class HistoryFilter(Struct, frozen=True):
    """Conditions on history entries; a `None` sets no condition."""

    #: The host that stored the entry.
    host: str | None = None
    #: The person or program that acted.
    who: str | None = None
    #: The first moment, included.
    since: datetime | None = None
    #: The end of the period, excluded.
    until: datetime | None = None
    #: The event, such as "deployed".
    event: str | None = None
    #: A name whose entries are left out, such as `ACCESS`.
    without: str | None = None


UNFILTERED = HistoryFilter()


class Damage(StrEnum):
    """The kinds of damage that another program can do to the history."""

    #: The entry was changed or inserted.
    CHANGED = "changed"
    #: Entries after the entry were removed.
    REMOVED = "removed"
    #: The entry does not continue the entry before.
    UNCONNECTED = "unconnected"
    #: The histories of whole lineages are gone; the names of these lineages are unknown.
    GONE = "gone"


class HistoryBreak(Struct, frozen=True):
    """The first damage found in the history of a lineage."""

    lineage: str  #: The lineage's name; "" with `Damage.GONE`.
    damage: Damage  #: The kind of damage.
    #: The number of the damaged entry; `None` if the first entries, or all, are gone.
    number: int | None = None
    at: datetime | None = None  #: The moment in the damaged entry, if readable.


class VerifiedHistory(Struct, frozen=True):
    """The result of a check of the history. Each entry has a digest over the entry and the digest
    before, so the entries form a chain.
    """

    #: The number of entries in the chain.
    entries: int
    #: The number of lineages in the chain, counting `ACCESS` as a lineage.
    lineages: int
    breaks: tuple[HistoryBreak, ...] = ()  #: The damages, at most one for each lineage.
    #: The number of `entries` under `ACCESS`.
    of_console: int = 0


class Remembered(Struct, frozen=True):
    """The state's records of a lineage at one moment, without private keys."""

    #: The lineage's versions, newest first.
    versions: tuple[Version, ...] = ()
    #: The order in progress.
    ordered: Ordered | None = None
    #: When the last try to order or adopt a certificate ended, with or without success.
    issue_tried_at: datetime | None = None
    #: When the last try ended, if the CA sent a wrong certificate; `None` after any other end.
    rejected_at: datetime | None = None
    #: certferry's copies, sorted by target; at each target, newest first.
    uploads: tuple[Upload, ...] = ()
    #: The record of each domain's last rollout, sorted by target and domain.
    rollouts: tuple[RolloutRecord, ...] = ()
    has_challenge_records: bool = False  #: Whether an earlier run left challenge records in DNS.
    withdrawals: tuple[Withdrawal, ...] = ()  #: The certificates withdrawn from domains.
    #: How many tries to order or adopt have failed since the last success.
    issue_tries: int = 0
    #: When a try first failed because of a CA, since the last success.
    failing_since: datetime | None = None
