"""The port to what certferry stores between runs, by its users: leases, versions, orders, places,
notices, declarations, stored runs, and who may open the console.

Every call is one transaction: it has happened whole when it returns, or not at all when it
raises. All of them may be called from several threads and processes at once. Moments are aware.
All raise `StateError` (`StateUnavailable`, `StateTooNew`) when the store cannot be used; calls
that take a lease raise `LeaseLost` when it is no longer in force, and change nothing.

A function that a call takes may run again, where another writer came first: it changes nothing, and
calls no store.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from certferry.core.assessment.notices import ChannelState, Notices
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.certificate import CertificateBundle, KeyType, RenewalWindow
from certferry.core.certificates.lineage import Revocation, Version, Withdrawal
from certferry.core.desired.declaration import Declaration
from certferry.core.observed import records
from certferry.core.planning.limits import Hold, Limits, PlannedOrder, Spent
from certferry.core.redaction import Secret
from certferry.errors import Reported, StateError, StateForeign
from certferry.ports.access import AccessStore
from certferry.ports.runs import RunStore

T = TypeVar("T")

Edit = Callable[[str | None], str | None]
"""From what a note says to what it is to say; `None` is no note."""


class AccountMemory(Protocol):
    """Short notes about one account. Nothing in them is secret, and losing them costs a few
    requests: an adapter works with none, and prefers what it sees to what one says.
    """

    def note(self, name: str) -> str | None:
        """Return what a note says, or `None`."""

    def update(self, name: str, change: Edit) -> str | None:
        """Edit a note whole, and return what it says now. The edit may be made again."""

    def now(self) -> datetime:
        """Return this moment by the clock of all who share the notes: for moments in them."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a lineage. `token` grows with every new holder (fencing). `until` is
    when it ends by the store's clock unless it is extended, `None` for one that ends with its
    process.
    """

    lineage: str
    holder: str
    token: int
    until: datetime | None = None


_HELD: ContextVar[tuple[tuple[Lease, Callable[[Lease], None]], ...]] = ContextVar(
    "held", default=()
)
"""The leases that the work in progress needs, each with its store's `must_hold`."""


@contextmanager
def holding(store: LeaseStore, lease: Lease) -> Iterator[None]:
    """Bind to a lease what a `with` block sends, writes and runs, in its own thread and in those
    that are started with a copy of its context.
    """
    before = _HELD.set((*_HELD.get(), (lease, store.must_hold)))
    try:
        yield
    finally:
        _HELD.reset(before)


def must_still_hold() -> None:
    """Raise `LeaseLost` where a lease that this work needs may have ended. Every adapter asks it
    last before it sends anything, writes a file or runs a program; it costs a comparison.

    A process that is frozen in the instant after this still makes that one call when it wakes up.
    """
    for lease, must_hold in _HELD.get():
        must_hold(lease)


def held_leases() -> tuple[Lease, ...]:
    """Return the leases that the work in progress needs."""
    return tuple(lease for lease, _ in _HELD.get())


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
        """Return whether this is its key, and none is to take its place."""
        return self.key_pem == key_pem and self.next_key_pem is None


@dataclass(frozen=True, slots=True)
class AcmeOrder:
    """An order in progress. The key of its certificate is stored before the CA is asked to
    finalize, so that the next run can still use what the CA issued. `key_type` is `None` in one of
    a version that did not store it.
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
    """A TXT value of ours in DNS, stored before it is sent. `handle` is `None` until the provider
    has answered. One that a store returns and that is not `is_ours` was written or changed by
    another program; it is no reason to remove anything.
    """

    lineage: str
    name: str
    value: str
    created_at: datetime
    handle: str | None = None
    is_ours: bool = True


class LeaseStore(Protocol):
    """Who works on what, and which runs are in progress."""

    def acquire(self, lineage: str, now: datetime) -> Lease:
        """Take the lease of a lineage. Raises `LeaseHeld` while another holder has it, which may
        be a thread of this process: until it is released, the holder's store is closed, or its
        process has ended. A process that is at work keeps it whatever the host's clock says.

        Each store decides how a lease ends with its process: by a lock of the system's, or by a
        time that the store extends.
        """

    def extend(self, lease: Lease) -> None:
        """Check that a lease is in force, and extend it. Raises `LeaseLost`."""

    def must_hold(self, lease: Lease) -> None:
        """Raise `LeaseLost` if a lease may have ended since it was last extended, by a clock that
        no setting moves; that needs no database. Store first what must not be lost, where a write
        does not: raises `StateNotStored`.
        """

    def release(self, lease: Lease) -> None:
        """Release a lease. Releasing a lost one does nothing."""

    def begin_run(self, now: datetime) -> records.BegunRun:
        """Store that a run of this host is in progress, and with what machine, release and clock;
        delete its `unended_runs`.
        """

    def end_run(self, run: records.BegunRun) -> None:
        """Store that a run is not in progress any more."""

    def unended_runs(self) -> tuple[records.BegunRun, ...]:
        """Return this host's runs whose process is gone without `end_run`, oldest first."""


class VersionStore(Protocol):
    """Lineages and their versions."""

    def lineages(self) -> tuple[str, ...]:
        """Return every lineage with at least one version, by name."""

    def remembered(self, lineage: str) -> records.Remembered:
        """Return all that is stored of a lineage; receivers' rollouts are this host's."""

    def remembered_of(self, lineages: Sequence[str]) -> Mapping[str, records.Remembered]:
        """Return what is stored of each of some lineages, all of it of one moment: read at once,
        since each question to a database takes its way there and back.
        """

    def versions(self, lineage: str) -> tuple[Version, ...]:
        """Return the versions of a lineage, newest first, without keys. Raises `StateForeign`, as
        `remembered`, `bundle` and what changes one do, where another program wrote or changed one.
        """

    def versions_of(self, lineages: Iterable[str]) -> Mapping[str, tuple[Version, ...]]:
        """Return the versions of each of some lineages that the caller only compares with: none of
        a lineage of which `versions` raises `StateForeign`.
        """

    def versions_in_use(self) -> Mapping[str, tuple[Version, ...]]:
        """Return every lineage's newest version, those that a place of it was last seen to have,
        and those whose revocation did not end, newest first: read at once, whatever the number of
        lineages. Of a lineage one of whose rows is another program's there is none: `()`.
        """

    def bundle(self, lineage: str, number: int) -> CertificateBundle:
        """Return one version with its key. Raises `StateError` where it cannot."""

    def save_version(self, lease: Lease, bundle: CertificateBundle, now: datetime) -> Version:
        """Store a new certificate and delete the order it came from, in one transaction.

        The same fingerprint twice is the same version. Its directory is that of the order, if that
        was for its names.
        """

    def save_revocation(self, lease: Lease, number: int, revocation: Revocation | None) -> None:
        """Store that a version was revoked, or is about to be; `None` takes that back."""

    def save_renewal_info(
        self, lineage: str, fingerprint: str, window: RenewalWindow | None, ask_after: datetime
    ) -> None:
        """Store what the CA says of a certificate's renewal with the version it belongs to, and
        when the CA may be asked again. Does nothing for a certificate that the lineage does not
        have.
        """


class OrderStore(Protocol):
    """Accounts, orders, challenge records, and the order log that a CA's limits count."""

    def account(self, directory: str) -> AcmeAccount | None:
        """Return the account at a directory."""

    def accounts(self) -> tuple[AcmeAccount, ...]:
        """Return every account, by directory."""

    def save_account(self, account: AcmeAccount) -> AcmeAccount:
        """Store an account, and return the one in force: the first key wins."""

    def forget_account(self, directory: str, key_pem: Secret) -> None:
        """Delete an account unknown to its server, if it has this key and no other."""

    def replace_account(self, before: AcmeAccount, after: AcmeAccount | None) -> bool:
        """Replace or delete an account if it is still `before`; return whether it was."""

    def order(self, lineage: str) -> AcmeOrder | None:
        """Return the order in progress for a lineage."""

    def save_order(self, lease: Lease, order: AcmeOrder) -> None:
        """Store the order in progress, in place of an earlier one."""

    def drop_order(self, lease: Lease, *, issued_at: datetime | None = None) -> None:
        """Delete the order in progress; with `issued_at`, it led to one that is not stored."""

    def save_issue_try(
        self,
        lineage: str,
        at: datetime,
        *,
        failed: bool = False,
        rejected: bool = False,
        by_ca: bool = False,
    ) -> None:
        """Store when a certificate was ordered or adopted, whether that `failed`, which is counted
        until one comes, whether what came was `rejected`, and whether it was a CA that failed.
        """

    def challenge_records(self, lineage: str) -> tuple[ChallengeRecord, ...]:
        """Return our TXT values that may still be in DNS, oldest first."""

    def lineages_in_challenge_records(self) -> tuple[str, ...]:
        """Return every lineage with a TXT value that may still be in DNS, by name."""

    def save_challenge_record(self, record: ChallengeRecord) -> None:
        """Store a TXT value, or its handle: that also without the lease, since the value is in DNS
        by then, and would be orphaned.
        """

    def drop_challenge_record(self, record: ChallengeRecord) -> None:
        """Delete a TXT value that is gone from DNS."""

    def spent(self, directory: str, wanted: PlannedOrder) -> Spent:
        """Return what is stored of a directory that counts against this order."""

    def claim_order(
        self, lease: Lease, directory: str, wanted: PlannedOrder, limits: Limits, now: datetime
    ) -> None:
        """Store that an order is about to be made, which takes the place of the lineage's earlier
        one there. Saving the version says that it was issued. Raises `OrderPostponed`, with nothing
        written, when the limits allow none now (`core.planning.limits.rate_limit_hold`): however
        many runs ask at once, no more than these are allowed.
        """

    def save_failed_proofs(self, directory: str, names: tuple[str, ...], now: datetime) -> None:
        """Store which names' proofs the CA did not accept; a wildcard counts as its base name."""

    def save_hold(self, directory: str, hold: Hold) -> None:
        """Store that the CA asked to be left alone; replaces what it asked for these names."""


class PlaceStore(Protocol):
    """What was put where. What belongs to a receiver is this host's: no other host sees it."""

    def uploads(self, lineage: str, target: str) -> tuple[records.Upload, ...]:
        """Return our copies at a target that have not been retired, newest first."""

    def save_upload(self, upload: records.Upload) -> None:
        """Store an upload, by target and remote id."""

    def drop_upload(self, target: str, remote_id: str) -> None:
        """Delete an upload that was retired."""

    def open_rollouts(self, target: str) -> tuple[records.RolloutRecord, ...]:
        """Return what is on its way to a target and has not been seen served, of every lineage."""

    def save_rollout(self, rollout: records.RolloutRecord) -> None:
        """Store a rollout, by lineage, target and domain: a new certificate takes its place."""

    def replace_rollout(
        self, before: records.RolloutRecord | None, after: records.RolloutRecord
    ) -> bool:
        """Replace a rollout if it is still `before`; return whether it was."""

    def save_withdrawal(self, withdrawal: Withdrawal) -> None:
        """Store that a certificate is not to be bound to a domain again."""

    def drop_withdrawal(self, withdrawal: Withdrawal) -> None:
        """Delete a withdrawal that could not be carried out."""

    def sightings(self) -> tuple[Sighting, ...]:
        """Return what every place was last seen to have, by lineage, target and domain."""

    def update_sightings(
        self, change: Callable[[tuple[Sighting, ...]], tuple[Sighting, ...]]
    ) -> tuple[Sighting, ...]:
        """Change the sightings in one transaction, and return those that are stored now."""


class NoticeStore(Protocol):
    """What operators and monitors are to know: notices, notes, the last run, the history."""

    def notices(self) -> Notices:
        """Return what stands now, by what it is about."""

    def update_notices(self, change: Callable[[Notices], Notices]) -> Notices:
        """Change what stands in one transaction, and return what stands now."""

    def channel(self, name: str) -> ChannelState:
        """Return what is stored of a channel; nothing of one that is not known."""

    def update_channel(
        self, name: str, change: Callable[[ChannelState, Notices], tuple[ChannelState, T]]
    ) -> T:
        """Change a channel in one transaction; return what `change` adds to the new state."""

    def account_note(self, account: str, name: str) -> str | None:
        """Return what is stored of an account under a name; see `AccountMemory`."""

    def update_account_note(self, account: str, name: str, change: Edit) -> str | None:
        """Change a note in one transaction, and return what it says now."""

    def update_host_note(self, account: str, name: str, change: Edit) -> str | None:
        """Change a note of this host in one transaction, and return what it says now."""

    def save_run(self, ended_at: datetime, *, succeeded: bool) -> None:
        """Store when a run of this host ended, and whether nothing failed in it."""

    def last_run(self) -> records.LastRun | None:
        """Return when the last run of this host ended, `None` before the first."""

    def append_history(self, entry: records.HistoryEntry) -> None:
        """Store what happened, sealed with what happened before to its lineage. Never changed,
        never deleted. Raises `StateError` without the key: an entry without a seal would pass for
        another program's.
        """

    def history(
        self,
        lineage: str | None,
        limit: int,
        before: int | None = None,
        which: records.HistoryFilter = records.UNFILTERED,
    ) -> tuple[records.HistoryEntry, ...]:
        """Return what happened, newest first, `before` the entry of this number."""

    def verify_history(self, lineage: str | None = None) -> records.VerifiedHistory:
        """Find what other programs changed, removed or put in, of a lineage or of all. Raises
        `StateError` without the key.
        """


class DeclarationStore(Protocol):
    """What the files of hosts declare, by the digests of `core.desired.declaration`."""

    def declare(
        self, digests: Mapping[str, str], file: str, is_gone: Callable[[str], bool]
    ) -> None:
        """Store what a file of this host declares lineages as, in place of what it declared, and of
        what another file of this host declared that `is_gone`.
        """

    def contested(self, digests: Mapping[str, str]) -> tuple[Declaration, ...]:
        """Return what each host declares of those lineages of which this host's declaration may not
        be the one that counts; of this host, as if `digests` were stored now.
        """

    def declared_among(
        self, lineages: Collection[str], besides: str = ""
    ) -> Mapping[str, tuple[str, ...]]:
        """Return which of these lineages are declared, and by which hosts; what this host's file
        `besides` declares does not count.
        """


class HostStore(Protocol):
    """The hosts that use the state, one of which is this one, and the clock that they share.

    `host` is this one's name in the keys of what belongs to it; with `is_shared`, there may be
    others.
    """

    host: str
    is_shared: bool

    def now(self) -> datetime:
        """Return this moment by the state's clock, by which every moment in it is written. That is
        the database's where hosts share it, whatever the machine's says, and the machine's where
        they do not.
        """

    def clock_ahead(self) -> timedelta:
        """Return how far the machine's clock is ahead of the state's; 0 where it is that clock."""

    def other_machine_seen_at(self) -> datetime | None:
        """Return when another machine began a run under this host's name, after this one."""

    def hosts(self) -> tuple[records.HostRecord, ...]:
        """Return every host, by name."""

    def work_of_hosts(self) -> Mapping[str, records.HostWork]:
        """Return what each host declares and works on, of those that do. It counts every
        declaration: no run needs it.
        """

    def forget_host(self, name: str) -> tuple[str, ...]:
        """Delete a host with all that belongs to it; return the lineages that its receivers had,
        by name. Raises `LeaseHeld` while a run of it is in progress.
        """


class StateStore(
    LeaseStore,
    VersionStore,
    OrderStore,
    PlaceStore,
    NoticeStore,
    DeclarationStore,
    HostStore,
    RunStore,
    AccessStore,
    Protocol,
):
    """What certferry stores, for one host."""

    def reserve(self, account: str, name: str, interval: timedelta, count: int) -> timedelta | None:
        """Reserve `count` requests of an account to the service `name`, `interval` apart, after all
        requests that any process has reserved, by the store's clock. Return the time until the
        first; `None` if the store takes no reservations, so each process keeps a pace of its own.
        """

    def must_unseal(self) -> None:
        """Raise `StateError` when the state was moved, can only be read, or what is sealed in it
        cannot be opened: the key file is gone, or another. Where nothing is sealed, all is well.
        """

    def is_sealed(self) -> bool:
        """Return whether the key is chosen: something is sealed with it, or the state was made by
        `certferry state init`.
        """

    def unopened(self) -> tuple[tuple[str, StateError], ...]:
        """Open every key that is stored; return the lineage, or the CA's directory, of each that
        cannot be opened, and why. Raises `StateUnavailable`.
        """

    def foreign(self) -> tuple[tuple[str, StateForeign], ...]:
        """Return each row that is bound by the key and differs from the row that certferry wrote,
        each row that cannot be read, and each fact of the history that another program undid: the
        lineage, or another name of the subject, and an error that names the row.
        """

    def damage(self) -> tuple[Reported, ...]:
        """Return what is wrong with how the whole is stored, beside its rows: tables unlike those
        that certferry made, or generations that do not follow each other. Raises as `flush`.
        """

    def flush(self) -> None:
        """Store what was changed and not stored yet, as far as the store waits with what may be
        lost. Raises `StateError`, `ConfigError` and `StateOvertaken`, each time once.
        """

    def close(self) -> None:
        """Store what `flush` stores, and release every resource and lease. The store is not used
        afterwards.
        """
