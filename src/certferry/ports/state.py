"""The port to the state, which certferry keeps between runs: leases, versions, orders, places,
notices, declarations, stored runs, and access to the console.

Rules for every method:

- Each call is one transaction: a call that returns has made the whole change, a call that raises
  has changed nothing. A store may delay writing changes that may be lost (`flush`).
- Several threads and processes may call at once.
- Moments are aware datetimes.
- `StateError` (`StateUnavailable`, `StateTooNew`) says that the store cannot be used.
- Once a lease has ended, a method with the lease as argument changes nothing and raises `LeaseLost`
  (except `release`).
- If another writer comes first, a method calls its function argument again. So the function must be
  free of side effects, and must not call a store.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from msgspec import Struct

from certferry.core.assessment.notices import ChannelState, Notices
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.certificate import CertificateBundle, KeyType, RenewalWindow
from certferry.core.certificates.lineage import Revocation, Version, Withdrawal
from certferry.core.desired.declaration import Declaration
from certferry.core.observed import records
from certferry.core.planning.limits import Hold, Limits, PlannedOrder, Spent
from certferry.core.redaction import Secret
from certferry.errors import Reported, StateError, StateForeign
from certferry.ports.access_store import AccessStore
from certferry.ports.log_store import LogStore
from certferry.ports.run_store import RunStore
from certferry.ports.watch_store import WatchStore

T = TypeVar("T")

Edit = Callable[[str | None], str | None]
"""A function from a note's present text to the new text. `None` means no note."""


class AccountMemory(Protocol):
    """Short notes of an adapter about one account, kept between runs. Notes hold no secrets. An
    adapter must also work without its notes, at the price of some requests, and must trust the
    service more than a note.
    """

    def note(self, name: str) -> str | None:
        """Return a note's text, or `None`."""

    def update(self, name: str, change: Edit) -> str | None:
        """Replace a note's text by the result of `change`, and return the new text. `change` may be
        called several times.
        """

    def now(self) -> datetime:
        """Return this moment by the clock shared by all hosts, for moments written into notes."""


class Lease(Struct, frozen=True):
    """The right to work on a lineage."""

    lineage: str  #: The lineage's name.
    holder: str  #: A word that identifies the holder; new for each acquisition.
    #: A number that grows with every new holder, so writes of earlier holders can be refused.
    token: int
    #: The end of the lease as taken, by the store's clock; extending moves the end in the store.
    #: `None` for a lease that ends with the holder's process.
    until: datetime | None = None


_HELD: ContextVar[tuple[tuple[Lease, Callable[[Lease], None]], ...]] = ContextVar(
    "held", default=()
)
"""The leases on which the work in progress depends, each with the store's `must_hold`."""


@contextmanager
def holding(store: LeaseStore, lease: Lease) -> Iterator[None]:
    """Bind the work of a `with` block to a lease: everything that the block sends, writes and runs.
    The work of a thread started in the block is bound only if the thread has a copy of the context.
    """
    before = _HELD.set((*_HELD.get(), (lease, store.must_hold)))
    try:
        yield
    finally:
        _HELD.reset(before)


def must_still_hold() -> None:
    """Raise `LeaseLost` if a lease on which this work depends may have ended. Every adapter calls
    this function immediately before sending anything, writing a file or running a program. A call
    usually costs only a comparison (`LeaseStore.must_hold`).

    A process that freezes just after the check still sends, writes or runs once after waking up.
    """
    for lease, must_hold in _HELD.get():
        must_hold(lease)


def held_leases() -> tuple[Lease, ...]:
    """Return the leases on which the work in progress depends."""
    return tuple(lease for lease, _ in _HELD.get())


class AcmeAccount(Struct, frozen=True):
    """An account at one directory of a CA."""

    directory: str  #: The URL of the CA's directory.
    key_pem: Secret  #: The account's private key in PEM.
    #: The account's URL; `None` until the CA has answered the registration. If the run is killed
    #: before the answer, the next run registers the same key again.
    url: str | None = None
    #: The key that is to replace `key_pem`. The key is stored before the CA is asked for the
    #: replacement, and stays until the CA's answer.
    next_key_pem: Secret | None = None

    def has_only(self, key_pem: Secret) -> bool:
        """Return whether `key_pem` is the account's key and no replacement is stored."""
        return self.key_pem == key_pem and self.next_key_pem is None


class AcmeOrder(Struct, frozen=True):
    """An order in progress."""

    lineage: str  #: The lineage's name.
    directory: str  #: The URL of the CA's directory.
    url: str  #: The order's URL.
    names: tuple[str, ...]  #: The ordered names.
    #: The certificate's private key. The key is stored before the CA can issue, so a run after a
    #: crash can still use the certificate.
    key_pem: Secret
    created_at: datetime  #: When the order was made.
    #: The ordered kind of key; `None` in orders of a release that did not store the kind.
    key_type: KeyType | None = None


class ChallengeRecord(Struct, frozen=True):
    """One of certferry's TXT values in DNS, stored before the value is sent."""

    lineage: str  #: The lineage's name.
    name: str  #: The absolute name of the TXT record, without a final dot.
    value: str  #: The TXT value.
    created_at: datetime  #: When the value was stored.
    #: The result of `DnsProvider.add_txt`; `None` until the provider has answered.
    handle: str | None = None
    #: False if another program wrote or changed the row. Such a row must not lead to a removal.
    is_ours: bool = True


class LeaseStore(Protocol):
    """Leases on lineages, and the runs in progress."""

    def acquire(self, lineage: str, now: datetime) -> Lease:
        """Take the lease of a lineage. Raises `LeaseHeld` while another holder, possibly a thread
        of this process, has the lease.

        A lease ends when the holder releases the lease, closes the store, or dies, whatever the
        host's clock says. In some stores a lock of the operating system ends with the process.
        Other stores give a lease a time limit, and extend the limit as long as the process runs;
        there the lease of a frozen process ends as well.
        """

    def extend(self, lease: Lease) -> None:
        """Check that a lease is in force, and extend the lease's time limit, if any. Raises
        `LeaseLost`.
        """

    def must_hold(self, lease: Lease) -> None:
        """Raise `LeaseLost` if a lease with a time limit may have ended, or is about to end. The
        lease is judged without a query, by a clock that ignores changes of the system time. A store
        that keeps writes in memory stores the writes that must not be lost instead, and may raise
        `StateNotStored`.
        """

    def release(self, lease: Lease) -> None:
        """Release a lease. Releasing a lost lease does nothing."""

    def begin_run(self, now: datetime) -> records.BegunRun:
        """Store that a run of this host is in progress. Also store the id of the host's machine,
        certferry's release, and how far the host's clock is ahead. Delete the records of the
        host's `unended_runs`.
        """

    def end_run(self, run: records.BegunRun) -> None:
        """Store that a run has ended."""

    def unended_runs(self) -> tuple[records.BegunRun, ...]:
        """Return this host's runs that died before `end_run`, oldest first."""


class VersionStore(Protocol):
    """Lineages with versions."""

    def lineages(self) -> tuple[str, ...]:
        """Return every lineage with at least one version, sorted by name."""

    def remembered(self, lineage: str) -> records.Remembered:
        """Return a lineage's records. The rollouts at receivers are those of this host's
        receivers.
        """

    def remembered_of(self, lineages: Sequence[str]) -> Mapping[str, records.Remembered]:
        """Return the records of several lineages at one moment. The number of queries does not grow
        with the number of lineages, because each query costs a round trip to the database.
        """

    def versions(self, lineage: str) -> tuple[Version, ...]:
        """Return the versions of a lineage, newest first, without keys. Raises `StateForeign` if
        another program wrote or changed a version. `remembered`, `bundle` and the methods that
        change a version also raise `StateForeign` for such a version.
        """

    def versions_of(self, lineages: Iterable[str]) -> Mapping[str, tuple[Version, ...]]:
        """Return the versions of several lineages. A lineage for which `versions` would raise
        `StateForeign` has an empty tuple, so callers must not take an empty tuple for a lineage
        without versions.
        """

    def versions_in_use(self) -> Mapping[str, tuple[Version, ...]]:
        """Return some versions of every lineage, newest first: the newest version, the versions
        last seen at a place, and the versions with an unfinished revocation. If another program
        wrote or changed one of these rows, the lineage has an empty tuple.
        """

    def bundle(self, lineage: str, number: int) -> CertificateBundle:
        """Return the certificate of a version with the chain and the key. Raises `StateError` if
        there is no such version, or if the key cannot be read.
        """

    def save_version(self, lease: Lease, bundle: CertificateBundle, now: datetime) -> Version:
        """Store a certificate as the newest version, and delete the lineage's order in progress, in
        one transaction.

        If a version with the certificate's fingerprint is stored, add no version: replace the files
        if `Version.should_replace`, and return the stored version. The directory of a new version
        is the deleted order's directory, if the order was for the certificate's names.
        """

    def save_revocation(self, lease: Lease, number: int, revocation: Revocation | None) -> None:
        """Store that a version was revoked or is about to be revoked; `None` deletes the stored
        revocation.
        """

    def save_renewal_info(
        self, lineage: str, fingerprint: str, window: RenewalWindow | None, ask_after: datetime
    ) -> None:
        """Store the CA's renewal window of a certificate, and when the CA may be asked again.
        Ignore a fingerprint unknown to the lineage.
        """


class OrderStore(Protocol):
    """Accounts at CAs, orders, challenge records, and the events that count against a CA's
    limits.
    """

    def account(self, directory: str) -> AcmeAccount | None:
        """Return the account at a directory, or `None`."""

    def accounts(self) -> tuple[AcmeAccount, ...]:
        """Return every account, sorted by directory."""

    def save_account(self, account: AcmeAccount) -> AcmeAccount:
        """Store an account if the directory has none, and return the account in force. If the
        stored account has the same key, store the account's URL. If the key differs, change
        nothing.
        """

    def forget_account(self, directory: str, key_pem: Secret) -> None:
        """Delete an account that the CA does not know, if `key_pem` is the account's only key."""

    def replace_account(self, before: AcmeAccount, after: AcmeAccount | None) -> bool:
        """Replace an account, or delete the account (`after` is `None`), if the stored account
        equals `before`. Return whether the stored account was equal.
        """

    def order(self, lineage: str) -> AcmeOrder | None:
        """Return the order in progress for a lineage, or `None`."""

    def save_order(self, lease: Lease, order: AcmeOrder) -> None:
        """Store the order in progress in place of an earlier order."""

    def drop_order(self, lease: Lease, *, issued_at: datetime | None = None) -> None:
        """Delete the order in progress. Without `issued_at`, the order counts as given up.
        `issued_at` is the moment of issuance of a certificate that is not stored, but counts
        against the CA's limits.
        """

    def save_issue_try(
        self,
        lineage: str,
        at: datetime,
        *,
        failed: bool = False,
        rejected: bool = False,
        by_ca: bool = False,
    ) -> None:
        """Store when a try to order or adopt a certificate ended, and how.

        `failed`: the try failed. The store counts failures until a try succeeds. `rejected`:
        certferry refused the certificate, which differed from the order. `by_ca`: the try failed
        because of a CA.
        """

    def challenge_records(self, lineage: str) -> tuple[ChallengeRecord, ...]:
        """Return the lineage's TXT values that may still be in DNS, oldest first. Rows of another
        program are included, with `is_ours` false.
        """

    def lineages_in_challenge_records(self) -> tuple[str, ...]:
        """Return every lineage with a TXT value that may still be in DNS, sorted by name."""

    def save_challenge_record(self, record: ChallengeRecord) -> None:
        """Store a TXT value, or the handle of a stored value. A handle is stored even after the
        loss of the lease: the value is in DNS by then, and a later run must find the value.
        """

    def drop_challenge_record(self, record: ChallengeRecord) -> None:
        """Delete a TXT value that has been removed from DNS."""

    def spent(self, directory: str, wanted: PlannedOrder) -> Spent:
        """Return the stored orders, failed proofs and requests to wait that count against an
        order.
        """

    def claim_order(
        self, lease: Lease, directory: str, wanted: PlannedOrder, limits: Limits, now: datetime
    ) -> None:
        """Store that an order is about to be made, unless `wanted` is exempt from limits. The
        lineage's earlier unfinished order at the directory counts as given up. `save_version` marks
        the order as issued. Raises `OrderPostponed`, and writes nothing, if the limits forbid an
        order now (`core.planning.limits.rate_limit_hold`). Runs that claim at the same moment stay
        within the limits together.
        """

    def save_failed_proofs(self, directory: str, names: tuple[str, ...], now: datetime) -> None:
        """Store that a CA refused the proofs of these names. A wildcard is stored as the base
        name.
        """

    def save_hold(self, directory: str, hold: Hold) -> None:
        """Store the CA's request to wait, in place of an earlier request for these names."""


class PlaceStore(Protocol):
    """Uploads, rollouts and sightings. Rows about a receiver are visible to this host alone."""

    def uploads(self, lineage: str, target: str) -> tuple[records.Upload, ...]:
        """Return the stored uploads of a lineage at a target, newest first. Retired copies are not
        stored any more.
        """

    def save_upload(self, upload: records.Upload) -> None:
        """Store an upload under the target and the remote id."""

    def drop_upload(self, target: str, remote_id: str) -> None:
        """Delete a retired upload."""

    def open_rollouts(self, target: str) -> tuple[records.RolloutRecord, ...]:
        """Return the rollouts of all lineages at a target whose certificate was not seen served
        yet.
        """

    def save_rollout(self, rollout: records.RolloutRecord) -> None:
        """Store a rollout under lineage, target and domain, in place of an earlier rollout."""

    def replace_rollout(
        self, before: records.RolloutRecord | None, after: records.RolloutRecord
    ) -> bool:
        """Store `after` if the stored rollout equals `before` (`None`: no rollout is stored).
        Return whether `after` was stored.
        """

    def save_withdrawal(self, withdrawal: Withdrawal) -> None:
        """Store that a certificate must not be bound to a domain again. An earlier withdrawal of
        the certificate from the domain stays.
        """

    def drop_withdrawal(self, withdrawal: Withdrawal) -> None:
        """Delete a withdrawal that could not be carried out."""

    def sightings(self) -> tuple[Sighting, ...]:
        """Return the last sighting of every place, sorted by lineage, target and domain."""

    def update_sightings(
        self, change: Callable[[tuple[Sighting, ...]], tuple[Sighting, ...]]
    ) -> tuple[Sighting, ...]:
        """Change the sightings in one transaction, and return the new sightings."""


class NoticeStore(Protocol):
    """Records for operators and monitors: notices, notes, the last run, the history."""

    def notices(self) -> Notices:
        """Return the standing notices, at most one for a topic and a subject."""

    def update_notices(self, change: Callable[[Notices], Notices]) -> Notices:
        """Change the standing notices in one transaction, and return the new notices."""

    def channel(self, name: str) -> ChannelState:
        """Return the state of a channel; an empty state for an unknown channel."""

    def update_channel(
        self, name: str, change: Callable[[ChannelState, Notices], tuple[ChannelState, T]]
    ) -> T:
        """Change a channel's state in one transaction; return the second value of `change`."""

    def account_note(self, account: str, name: str) -> str | None:
        """Return the text of an account's note; see `AccountMemory`."""

    def update_account_note(self, account: str, name: str, change: Edit) -> str | None:
        """Change a note in one transaction, and return the new text."""

    def update_host_note(self, account: str, name: str, change: Edit) -> str | None:
        """Change a note of this host in one transaction, and return the new text."""

    def save_run(self, ended_at: datetime, *, succeeded: bool) -> None:
        """Store when a run of this host ended. `succeeded` says that the run left no failure."""

    def last_run(self) -> records.LastRun | None:
        """Return the end of this host's last run; `None` before the first run."""

    def append_history(self, entry: records.HistoryEntry) -> None:
        """Store an event for ever. A seal joins the entry to the lineage's earlier entries. Raises
        `StateError` without the state's key, because an entry without a seal would look like an
        entry of another program.
        """

    def history(
        self,
        lineage: str | None,
        limit: int,
        before: int | None = None,
        which: records.HistoryFilter = records.UNFILTERED,
    ) -> tuple[records.HistoryEntry, ...]:
        """Return at most `limit` entries that match `which`, newest first. `lineage` restricts the
        entries to one lineage, and `before` to entries older than the entry with this number;
        `None` restricts nothing.
        """

    def verify_history(self, lineage: str | None = None) -> records.VerifiedHistory:
        """Search for entries that other programs changed, removed or added, in one lineage or
        (`None`) in all, and return the result. Raises `StateError` without the state's key.
        """


class DeclarationStore(Protocol):
    """The declarations in the hosts' files, as digests of `core.desired.declaration`."""

    def declare(
        self, digests: Mapping[str, str], file: str, is_gone: Callable[[str], bool]
    ) -> None:
        """Store the digest of each lineage that a file of this host declares, in place of the
        file's earlier declarations. Also delete the declarations of every other file of this host
        for which `is_gone` returns true.
        """

    def contested(self, digests: Mapping[str, str]) -> tuple[Declaration, ...]:
        """Return the declarations of all hosts for those lineages for which another host's
        declaration may supersede this host's. The `digests` are this host's declarations.
        """

    def declared_among(
        self, lineages: Collection[str], besides: str = ""
    ) -> Mapping[str, tuple[str, ...]]:
        """Return those of `lineages` that any host declares, each with the declaring hosts, sorted.
        Ignore the declarations in this host's file `besides`.
        """


class HostStore(Protocol):
    """The hosts using the state, this host among them, and their shared clock."""

    #: This host's name, part of the keys of this host's rows.
    host: str
    #: Whether other hosts may use the state.
    is_shared: bool

    def now(self) -> datetime:
        """Return the present moment by the state's clock: the database's clock in a shared state,
        else the machine's clock. All stored moments are by this clock.
        """

    def clock_ahead(self) -> timedelta:
        """Return how far the machine's clock is ahead of the state's clock; 0 if both are the same
        clock.
        """

    def other_machine_seen_at(self) -> datetime | None:
        """Return when the last run under this host's name began, if another machine made the run;
        else `None`. In a state for one host, return `None`.
        """

    def hosts(self) -> tuple[records.HostRecord, ...]:
        """Return every host, sorted by name."""

    def work_of_hosts(self) -> Mapping[str, records.HostWork]:
        """Return, by host, the declared, outdated and leased lineages. A host without declarations
        and leases is left out. The call is slow, because the store counts every declaration; runs
        do not use the call.
        """

    def forget_host(self, name: str) -> tuple[str, ...]:
        """Delete a host with all rows of the host. Return the sorted lineages that were delivered
        to the host's receivers. Raises `LeaseHeld` while a run of the host is in progress.
        """


class StateStore(
    LeaseStore,
    VersionStore,
    OrderStore,
    PlaceStore,
    NoticeStore,
    DeclarationStore,
    HostStore,
    LogStore,
    WatchStore,
    RunStore,
    AccessStore,
    Protocol,
):
    """The whole state, as seen by one host."""

    def reserve(self, account: str, name: str, interval: timedelta, count: int) -> timedelta | None:
        """Reserve the times for `count` requests of an account to the service `name`, `interval`
        apart, after all times that any process has reserved. Return the time until the first
        request. Return `None` if the store takes no reservations now; then each process keeps a
        pace of its own.
        """

    def must_unseal(self) -> None:
        """Raise `StateError` if the state was moved, is read-only, or holds sealed values that
        cannot be opened, because the key file is missing or wrong. A state without sealed values
        passes.
        """

    def is_sealed(self) -> bool:
        """Return whether the state has a key. The first sealed value and `certferry state init`
        give the state a key.
        """

    def unopened(self) -> tuple[tuple[str, StateError], ...]:
        """Try to open every stored private key. Return the lineage, or the CA's directory, of each
        key that cannot be opened, with the error. Keys in rows of another program are left to
        `foreign`. Raises `StateUnavailable`.
        """

    def foreign(self) -> tuple[tuple[str, StateForeign], ...]:
        """Return the faults that another program made: a row that differs from the row that
        certferry wrote and proved with the key, a row that cannot be read, and a row that
        contradicts the history. Each fault has the lineage, or another name of the subject, and an
        error that names the row.
        """

    def damage(self) -> tuple[Reported, ...]:
        """Return the faults of the state as a whole, apart from single rows: tables that differ
        from certferry's schema, or gaps between generations. Raises the errors of `flush`.
        """

    def flush(self) -> None:
        """Write pending changes. Only a store that delays some writes has pending changes. Raises
        `StateError`, `ConfigError` and `StateOvertaken`, each only once for one cause.
        """

    def close(self) -> None:
        """Write pending changes, then release every lease and resource. The store must not be used
        afterwards.
        """
