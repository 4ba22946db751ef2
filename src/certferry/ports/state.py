"""The port to what certferry remembers.

Every call is one transaction: it has happened whole when it returns, or not at all when it
raises. All of them may be called from several threads and processes at once. Moments are aware.
All raise `StateError` (`StateUnavailable`, `StateTooNew`) when the store cannot be used; calls
that take a lease raise `LeaseLost` when it is no longer in force, and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from certferry.core.assessment.notices import ChannelState, Notice
from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.certificates.lineage import Revocation, Version, Withdrawal
from certferry.core.certificates.renewal import RenewalWindow
from certferry.core.observed.records import (
    BegunRun,
    HistoryEntry,
    LastRun,
    Remembered,
    RolloutRecord,
    Upload,
)
from certferry.core.planning.limits import Hold, Limits, PlannedOrder, Spent
from certferry.core.secret import Secret
from certferry.ports.progress import Sightings

Edit = Callable[[str | None], str | None]
"""From what a note says to what it is to say; `None` is no note."""


class AccountMemory(Protocol):
    """Short notes about one account. Nothing in them is secret, and losing them costs a few
    requests: an adapter works with none, and never believes one against what it sees.
    """

    def note(self, name: str) -> str | None:
        """Return what a note says, `None` where there is none."""
        ...

    def update(self, name: str, change: Edit) -> str | None:
        """Edit a note and return what it says now. Whole: no other run changes it in between."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a lineage. `token` grows with every new holder (fencing)."""

    lineage: str
    holder: str
    token: int


@dataclass(frozen=True, slots=True)
class AcmeAccount:
    """An account at one directory. `url` is `None` until the CA has answered the registration,
    so that a run that was killed in between registers the same key again. `next_key_pem` is the key
    that is to take its key's place, from before the CA is asked until it has answered.
    """

    directory: str
    key_pem: Secret
    url: str | None = None
    next_key_pem: Secret | None = None

    def has_only(self, key_pem: Secret) -> bool:
        """Tell whether this is its key, and none is to take its place."""
        return self.key_pem == key_pem and self.next_key_pem is None


@dataclass(frozen=True, slots=True)
class AcmeOrder:
    """An order under way. The key of its certificate is kept before the CA is asked to finalize,
    so that the next run can still use what the CA issued. `key_type` is `None` in one that was
    kept before it was written down.
    """

    lineage: str
    directory: str
    url: str
    names: tuple[str, ...]
    key_pem: Secret
    created_at: datetime
    key_type: KeyType | None = None


@dataclass(frozen=True, slots=True)
class ChallengeRecord:
    """A TXT value of ours in DNS, written down before it is sent. `handle` is `None` until the
    provider has answered. One that a store gives and that is not `is_ours` was written or changed
    by another program; it is no reason to remove anything.
    """

    lineage: str
    name: str
    value: str
    created_at: datetime
    handle: str | None = None
    is_ours: bool = True


class StateStore(Sightings, Protocol):
    """Remembers lineages, accounts, orders, challenge records, uploads, rollouts, history."""

    # leases

    def acquire(self, lineage: str, now: datetime) -> Lease:
        """Take the lease of a lineage. Raises `LeaseHeld` while another holder has it, which may
        be a thread of this process: until it is released, the holder's store is closed, or its
        process has ended. A process that is at work keeps it whatever the clock says.

        Each store decides how a lease ends with its process: by a lock of the system's, or by a
        time that the store extends.
        """
        ...

    def extend(self, lease: Lease) -> None:
        """Make sure, before something is changed elsewhere, that a lease is still in force, and
        hold on to it. Raises `LeaseLost`.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Give a lease back. A lost one is let go silently."""
        ...

    # the seal

    def must_unseal(self) -> None:
        """Raise `StateError` when the state can only be read, or what is sealed cannot be opened:
        the key file is gone, or another one. Where nothing is sealed yet, all is in order.
        """
        ...

    # lineages and versions

    def lineages(self) -> tuple[str, ...]:
        """Every lineage with at least one version, by name."""
        ...

    def remembered(self, lineage: str) -> Remembered:
        """All that is remembered of a lineage, read at one moment. Its rollouts are ordered by
        target and domain.
        """
        ...

    def versions(self, lineage: str) -> tuple[Version, ...]:
        """The versions of a lineage, newest first, without keys."""
        ...

    def bundle(self, lineage: str, number: int) -> CertificateBundle:
        """One version with its key. Raises `StateError` when there is none or the key file does
        not fit.
        """
        ...

    def save_version(self, lease: Lease, bundle: CertificateBundle, now: datetime) -> Version:
        """Keep a new certificate and forget the order it came from, in one transaction.

        The same fingerprint twice is the same version. Its directory is that of the order, if that
        was for its names.
        """
        ...

    def save_revocation(self, lease: Lease, number: int, revocation: Revocation | None) -> None:
        """Keep that a version was revoked, or is about to be; `None` takes that back."""
        ...

    def save_renewal_info(
        self, lineage: str, fingerprint: str, window: RenewalWindow | None, ask_after: datetime
    ) -> None:
        """Keep what the CA says of a certificate's renewal with the version it belongs to, and when
        the CA may be asked again. A certificate that the lineage does not have gets nothing.
        """
        ...

    # ACME

    def account(self, directory: str) -> AcmeAccount | None:
        """The account at a directory."""
        ...

    def accounts(self) -> tuple[AcmeAccount, ...]:
        """Every account, by directory."""
        ...

    def save_account(self, account: AcmeAccount) -> AcmeAccount:
        """Keep an account, and give the one that is in force: when two runs begin at once, the
        first key wins.
        """
        ...

    def forget_account(self, directory: str, key_pem: Secret) -> None:
        """Forget an account that the server no longer knows, if it still has this key and is to
        have no other.
        """
        ...

    def replace_account(self, before: AcmeAccount, after: AcmeAccount | None) -> bool:
        """Keep an account as it is now, or nothing of it, if what is known of it is still `before`,
        and tell whether it was.
        """
        ...

    def order(self, lineage: str) -> AcmeOrder | None:
        """The order under way for a lineage."""
        ...

    def save_order(self, lease: Lease, order: AcmeOrder) -> None:
        """Keep the order under way, in place of an earlier one."""
        ...

    def drop_order(self, lease: Lease, *, issued_at: datetime | None = None) -> None:
        """Forget the order under way. It leads to no certificate, unless it has done so at
        `issued_at` to one that is not kept.
        """
        ...

    # the budget

    def spent(self, directory: str, wanted: PlannedOrder) -> Spent:
        """What is remembered of a directory, as far as it decides whether this may be ordered."""
        ...

    def claim_order(
        self, lease: Lease, directory: str, wanted: PlannedOrder, limits: Limits, now: datetime
    ) -> None:
        """Write down that an order is about to be made, which takes the place of the lineage's
        earlier one there. Saving the version says that it was issued. Raises `OrderHeldBack`, with
        nothing written, when the limits allow none now (`core.planning.limits.rate_limit_hold`):
        however many runs ask at once, no more than these may order.
        """
        ...

    def save_failed_proofs(self, directory: str, names: tuple[str, ...], now: datetime) -> None:
        """Keep which names' proofs the CA did not accept; a wildcard counts as its base name."""
        ...

    def save_hold(self, directory: str, hold: Hold) -> None:
        """Keep that the CA asked to be left alone, in place of what it asked for these names."""
        ...

    def challenge_records(self, lineage: str) -> tuple[ChallengeRecord, ...]:
        """Our TXT values that may still be in DNS, oldest first."""
        ...

    def lineages_in_challenge_records(self) -> tuple[str, ...]:
        """Every lineage with a TXT value that may still be in DNS, by name."""
        ...

    def save_challenge_record(self, record: ChallengeRecord) -> None:
        """Keep a TXT value, or its handle once it is known. Needs no lease: it must work also
        when the lease is lost, or the record would be orphaned.
        """
        ...

    def drop_challenge_record(self, record: ChallengeRecord) -> None:
        """Forget a TXT value that is gone from DNS."""
        ...

    def save_issue_try(
        self,
        lineage: str,
        at: datetime,
        *,
        failed: bool = False,
        rejected: bool = False,
        by_ca: bool = False,
    ) -> None:
        """Keep when a certificate was ordered or adopted, whether that `failed`, which is counted
        until one comes, whether what came was `rejected`, and whether it was a CA that failed.
        """
        ...

    # targets

    def uploads(self, lineage: str, target: str) -> tuple[Upload, ...]:
        """Our copies at a target that have not been retired, newest first."""
        ...

    def save_upload(self, upload: Upload) -> None:
        """Keep an upload, by target and remote id."""
        ...

    def drop_upload(self, target: str, remote_id: str) -> None:
        """Forget an upload that was retired."""
        ...

    def open_rollouts(self, target: str) -> tuple[RolloutRecord, ...]:
        """Whatever is on its way to a target and has not been seen served, of every lineage."""
        ...

    def replace_rollout(self, before: RolloutRecord | None, after: RolloutRecord) -> bool:
        """Keep a rollout if what is known of its domain is still `before`, and tell whether it was:
        without a lease, another run may have written meanwhile.
        """
        ...

    def save_rollout(self, rollout: RolloutRecord) -> None:
        """Keep a rollout, by lineage, target and domain: a new certificate takes its place."""
        ...

    def save_withdrawal(self, withdrawal: Withdrawal) -> None:
        """Keep that a certificate is not to be bound to a domain again."""
        ...

    def drop_withdrawal(self, withdrawal: Withdrawal) -> None:
        """Forget a withdrawal that could not be carried out."""
        ...

    # accounts

    def account_note(self, account: str, name: str) -> str | None:
        """Return what is remembered of an account under a name; see `AccountMemory`."""
        ...

    def update_account_note(self, account: str, name: str, change: Edit) -> str | None:
        """Change a note in one transaction, and return what it says now."""
        ...

    # what operators are told of

    def notices(self) -> tuple[Notice, ...]:
        """What stands now, by what it is about."""
        ...

    def update_notices(
        self, change: Callable[[tuple[Notice, ...]], tuple[Notice, ...]]
    ) -> tuple[Notice, ...]:
        """Change what stands in one transaction, and return what stands now."""
        ...

    def channel(self, name: str) -> ChannelState:
        """Return what is remembered of a channel; nothing of one that is not known."""
        ...

    def update_channel(
        self, name: str, change: Callable[[ChannelState], ChannelState]
    ) -> ChannelState:
        """Change what is remembered of a channel in one transaction, and return it. `change` may
        ask for the notices, which are of the same moment.
        """
        ...

    def save_run(self, ended_at: datetime, *, succeeded: bool) -> None:
        """Keep when a run ended, and whether nothing failed in it."""
        ...

    def last_run(self) -> LastRun | None:
        """When the last run ended, `None` before the first."""
        ...

    def begin_run(self, now: datetime) -> BegunRun:
        """Keep that a run is under way, until `end_run`, and forget those of `unended_runs`."""
        ...

    def end_run(self, run: BegunRun) -> None:
        """Keep that a run is not under way any more."""
        ...

    def unended_runs(self) -> tuple[BegunRun, ...]:
        """Runs that began, and whose process is gone without `end_run`; the first one first."""
        ...

    def append_history(self, entry: HistoryEntry) -> None:
        """Write down what happened. Never changed, never removed."""
        ...

    def history(self, lineage: str | None, limit: int) -> tuple[HistoryEntry, ...]:
        """What happened, newest first, of one lineage or of all."""
        ...

    def close(self) -> None:
        """Let go of every resource and lease. The store is not used afterwards."""
        ...
