"""A state in memory: the twin of the real ones, for tests that need thousands of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import Revocation, Version, Withdrawal
from certferry.core.certificates.renewal import RenewalWindow
from certferry.core.observed.records import (
    BegunRun,
    HistoryEntry,
    LastRun,
    Ordered,
    Remembered,
    RolloutRecord,
    Upload,
)
from certferry.core.secret import Secret
from certferry.errors import StateError
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord, Edit, Lease
from certferry.testing.memory_budget import BudgetOfMemory
from certferry.testing.memory_notices import MemoryNotices
from certferry.testing.memory_rows import Kept, place_of_withdrawal
from certferry.text import Text


class MemoryState(BudgetOfMemory, MemoryNotices):
    """A `StateStore` as one process sees it; `seen_by` gives what another process would see.

    `is_alive` is asked for the process that holds a lease another one wants, so that a test
    can end a process: its leases are then taken over at once.
    """

    def seen_by(self, process: str) -> MemoryState:
        """Give the same state as another process sees it."""
        other = MemoryState(self._is_alive, process)
        other._memory = self._memory
        return other

    def lose_key(self) -> None:
        """Let the key be gone: what is sealed cannot be opened any more."""
        self._memory.is_shut = True

    def must_unseal(self) -> None:
        """Raise `StateError` once the key is lost."""
        if self._memory.is_shut:
            raise StateError(Text("the key does not open what the state holds"))

    # lineages and versions

    def lineages(self) -> tuple[str, ...]:
        """Every lineage with at least one version, by name."""
        with self._memory.lock:
            return tuple(sorted(self._memory.versions))

    def remembered(self, lineage: str) -> Remembered:
        """All that is remembered of a lineage, read at one moment."""
        with self._memory.lock:
            order = self._memory.orders.get(lineage)
            return Remembered(
                self.versions(lineage),
                None if order is None else Ordered(order.created_at, order.names, order.key_type),
                self._memory.issue_tries.get(lineage),
                self._memory.rejections.get(lineage),
                _sorted(u for u in self._memory.uploads.values() if u.lineage == lineage),
                self._rollouts(lineage),
                bool(self.challenge_records(lineage)),
                tuple(
                    sorted(
                        (w for w in self._memory.withdrawals.values() if w.lineage == lineage),
                        key=lambda w: (w.target, w.domain, w.at),
                    )
                ),
                self._memory.failed_tries.get(lineage, 0),
                self._memory.failing_since.get(lineage),
            )

    def versions(self, lineage: str) -> tuple[Version, ...]:
        """The versions of a lineage, newest first."""
        with self._memory.lock:
            return tuple(kept.version for kept in reversed(self._kept(lineage)))

    def bundle(self, lineage: str, number: int) -> CertificateBundle:
        """One version with its key. Raises `StateError` when there is none."""
        with self._memory.lock:
            for kept in self._kept(lineage):
                if kept.version.number == number:
                    return kept.bundle
        raise StateError(Text("{lineage} has no version {number}", lineage=lineage, number=number))

    def save_version(self, lease: Lease, bundle: CertificateBundle, now: datetime) -> Version:
        """Keep a new certificate and forget the order it came from."""
        with self._memory.lock:
            self._must_be_in_force(lease)
            order = self._memory.orders.pop(lease.lineage, None)
            self._memory.ledger.note_issued(lease.lineage, now)
            versions = self._memory.versions.setdefault(lease.lineage, [])
            for known in versions:
                if known.version.certificate.fingerprint == bundle.certificate.fingerprint:
                    return known.completed(bundle)
            directory = _directory_of(order, bundle)
            made = Version(len(versions) + 1, bundle.certificate, now, directory=directory)
            version = made.with_pem_of(bundle)
            versions.append(Kept(version, bundle))
            return version

    def save_revocation(self, lease: Lease, number: int, revocation: Revocation | None) -> None:
        """See `StateStore.save_revocation`."""
        with self._memory.lock:
            self._must_be_in_force(lease)
            for kept in self._kept(lease.lineage):
                if kept.version.number == number:
                    kept.version = replace(kept.version, revocation=revocation)

    def save_renewal_info(
        self, lineage: str, fingerprint: str, window: RenewalWindow | None, ask_after: datetime
    ) -> None:
        """See `StateStore.save_renewal_info`."""
        with self._memory.lock:
            for kept in self._kept(lineage):
                if kept.version.certificate.fingerprint == fingerprint:
                    kept.version = replace(kept.version, window=window, ask_after=ask_after)

    def _kept(self, lineage: str) -> list[Kept]:
        return self._memory.versions.get(lineage, [])

    # ACME

    def account(self, directory: str) -> AcmeAccount | None:
        """The account at a directory."""
        with self._memory.lock:
            return self._memory.accounts.get(directory)

    def accounts(self) -> tuple[AcmeAccount, ...]:
        """Every account, by directory."""
        with self._memory.lock:
            return tuple(account for _, account in sorted(self._memory.accounts.items()))

    def save_account(self, account: AcmeAccount) -> AcmeAccount:
        """Keep an account, and give the one in force: the first key wins."""
        with self._memory.lock:
            in_force = self._memory.accounts.setdefault(account.directory, account)
            if in_force.key_pem != account.key_pem or account.url is None:
                return in_force
            in_force = replace(in_force, url=account.url)
            self._memory.accounts[account.directory] = in_force
            return in_force

    def forget_account(self, directory: str, key_pem: Secret) -> None:
        """Forget an account, if it still has this key and is to have no other."""
        with self._memory.lock:
            in_force = self._memory.accounts.get(directory)
            if in_force is not None and in_force.has_only(key_pem):
                del self._memory.accounts[directory]

    def replace_account(self, before: AcmeAccount, after: AcmeAccount | None) -> bool:
        """See `StateStore.replace_account`."""
        with self._memory.lock:
            if self._memory.accounts.get(before.directory) != before:
                return False
            del self._memory.accounts[before.directory]
            if after is not None:
                self._memory.accounts[after.directory] = after
            return True

    def order(self, lineage: str) -> AcmeOrder | None:
        """The order under way for a lineage."""
        with self._memory.lock:
            return self._memory.orders.get(lineage)

    def save_order(self, lease: Lease, order: AcmeOrder) -> None:
        """Keep the order under way, in place of an earlier one."""
        with self._memory.lock:
            self._must_be_in_force(lease)
            self._memory.orders[order.lineage] = order

    def drop_order(self, lease: Lease, *, issued_at: datetime | None = None) -> None:
        """Forget the order under way."""
        with self._memory.lock:
            self._must_be_in_force(lease)
            self._memory.orders.pop(lease.lineage, None)
            self._memory.ledger.close(lease.lineage, issued_at)

    def challenge_records(self, lineage: str) -> tuple[ChallengeRecord, ...]:
        """Our TXT values that may still be in DNS, oldest first."""
        with self._memory.lock:
            found = [r for r in self._memory.records.values() if r.lineage == lineage]
        return tuple(sorted(found, key=lambda r: (r.created_at, r.name, r.value)))

    def lineages_in_challenge_records(self) -> tuple[str, ...]:
        """Every lineage with a TXT value that may still be in DNS, by name."""
        with self._memory.lock:
            return tuple(sorted({record.lineage for record in self._memory.records.values()}))

    def save_challenge_record(self, record: ChallengeRecord) -> None:
        """Keep a TXT value, or its handle once it is known."""
        with self._memory.lock:
            known = self._memory.records.setdefault(_place_of(record), record)
            if record.handle is not None:
                self._memory.records[_place_of(record)] = replace(known, handle=record.handle)

    def drop_challenge_record(self, record: ChallengeRecord) -> None:
        """Forget a TXT value that is gone from DNS."""
        with self._memory.lock:
            self._memory.records.pop(_place_of(record), None)

    # targets

    def uploads(self, lineage: str, target: str) -> tuple[Upload, ...]:
        """Our copies at a target that have not been retired, newest first."""
        with self._memory.lock:
            uploads = tuple(self._memory.uploads.values())
        return _sorted(u for u in uploads if (u.lineage, u.target) == (lineage, target))

    def save_upload(self, upload: Upload) -> None:
        """Keep an upload, by target and remote id."""
        with self._memory.lock:
            self._memory.uploads[upload.target, upload.remote_id] = upload

    def drop_upload(self, target: str, remote_id: str) -> None:
        """Forget an upload that was retired."""
        with self._memory.lock:
            self._memory.uploads.pop((target, remote_id), None)

    def _rollouts(self, lineage: str) -> tuple[RolloutRecord, ...]:
        found = [r for r in self._memory.rollouts.values() if r.lineage == lineage]
        return tuple(sorted(found, key=lambda r: (r.target, r.domain)))

    def open_rollouts(self, target: str) -> tuple[RolloutRecord, ...]:
        """Whatever is on its way to a target, by lineage and domain."""
        with self._memory.lock:
            found = [r for r in self._memory.rollouts.values() if r.target == target]
            under_way = [r for r in found if r.verified_at is None]
            return tuple(sorted(under_way, key=lambda r: (r.lineage, r.domain)))

    def replace_rollout(self, before: RolloutRecord | None, after: RolloutRecord) -> bool:
        """See `StateStore.replace_rollout`."""
        with self._memory.lock:
            place = (after.lineage, after.target, after.domain)
            if self._memory.rollouts.get(place) != before:
                return False
            self._memory.rollouts[place] = after
            return True

    def save_rollout(self, rollout: RolloutRecord) -> None:
        """Keep a rollout, by lineage, target and domain: a new certificate takes its place."""
        with self._memory.lock:
            place = (rollout.lineage, rollout.target, rollout.domain)
            self._memory.rollouts[place] = rollout

    def begin_run(self, now: datetime) -> BegunRun:
        """See `StateStore.begin_run`."""
        with self._memory.lock:
            for gone in self.unended_runs():
                del self._memory.begun[gone.number]
            number = next(n for n in itertools.count(1) if n not in self._memory.begun)
            run = BegunRun(number, now, "memory", number)
            self._memory.begun[number] = (run, self._process)
            return run

    def end_run(self, run: BegunRun) -> None:
        """See `StateStore.end_run`."""
        with self._memory.lock:
            self._memory.begun.pop(run.number, None)

    def unended_runs(self) -> tuple[BegunRun, ...]:
        """See `StateStore.unended_runs`."""
        with self._memory.lock:
            gone = (run for run, process in self._memory.begun.values() if not process)
            return tuple(sorted(gone, key=lambda run: run.began_at))

    def save_run(self, ended_at: datetime, *, succeeded: bool) -> None:
        """See `StateStore.save_run`."""
        with self._memory.lock:
            before = self._memory.last_run or LastRun(ended_at)
            succeeded_at = ended_at if succeeded else before.succeeded_at
            self._memory.last_run = LastRun(ended_at, succeeded_at)

    def last_run(self) -> LastRun | None:
        """See `StateStore.last_run`."""
        with self._memory.lock:
            return self._memory.last_run

    def save_withdrawal(self, withdrawal: Withdrawal) -> None:
        """Keep that a certificate is not to be bound to a domain again."""
        with self._memory.lock:
            self._memory.withdrawals.setdefault(place_of_withdrawal(withdrawal), withdrawal)

    def drop_withdrawal(self, withdrawal: Withdrawal) -> None:
        """Forget a withdrawal that could not be carried out."""
        with self._memory.lock:
            self._memory.withdrawals.pop(place_of_withdrawal(withdrawal), None)

    def save_issue_try(
        self,
        lineage: str,
        at: datetime,
        *,
        failed: bool = False,
        rejected: bool = False,
        by_ca: bool = False,
    ) -> None:
        """See `StateStore.save_issue_try`."""
        with self._memory.lock:
            if not failed:
                self._memory.failing_since.pop(lineage, None)
            elif by_ca:
                self._memory.failing_since.setdefault(lineage, at)
            self._memory.issue_tries[lineage] = at
            tries = self._memory.failed_tries.get(lineage, 0)
            self._memory.failed_tries[lineage] = tries + 1 if failed else 0
            self._memory.rejections[lineage] = at if rejected else None

    # accounts

    def account_note(self, account: str, name: str) -> str | None:
        """See `StateStore.account_note`."""
        with self._memory.lock:
            return self._memory.notes.get((account, name))

    def update_account_note(self, account: str, name: str, change: Edit) -> str | None:
        """See `StateStore.update_account_note`."""
        with self._memory.lock:
            after = change(self._memory.notes.pop((account, name), None))
            if after is not None:
                self._memory.notes[account, name] = after
            return after

    # history

    def append_history(self, entry: HistoryEntry) -> None:
        """Write down what happened. Never changed, never removed."""
        with self._memory.lock:
            self._memory.history.append(replace(entry, facts=dict(entry.facts)))

    def history(self, lineage: str | None, limit: int) -> tuple[HistoryEntry, ...]:
        """What happened, newest first, of one lineage or of all."""
        with self._memory.lock:
            found = [e for e in self._memory.history if lineage in {None, e.lineage}]
        return tuple(found[: -limit - 1 : -1])

    def close(self) -> None:
        """Release the leases; the rows stay for the other processes."""
        with self._memory.lock:
            for lineage, held in tuple(self._memory.holdings.items()):
                if held.process == self._process:
                    del self._memory.holdings[lineage]
            for run, process in tuple(self._memory.begun.values()):
                if process == self._process:
                    self._memory.begun[run.number] = (run, "")


def _directory_of(order: AcmeOrder | None, bundle: CertificateBundle) -> str | None:
    if order is None or set(order.names) != set(bundle.certificate.names):
        return None
    return order.directory


def _sorted(uploads: Iterable[Upload]) -> tuple[Upload, ...]:
    """Give them by target, and newest first."""
    newest = sorted(uploads, key=lambda u: (u.uploaded_at, u.remote_id), reverse=True)
    return tuple(sorted(newest, key=lambda u: u.target))


def _place_of(record: ChallengeRecord) -> tuple[str, str, str]:
    return (record.lineage, record.name, record.value)
