"""What a state in memory holds: the rows that every process sees which shares it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime

from certferry.core.assessment.notices import ChannelState, Key, Notice
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import Version, Withdrawal
from certferry.core.observed.records import BegunRun, HistoryEntry, LastRun, RolloutRecord, Upload
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord
from certferry.testing.memory_ledger import MemoryLedger


@dataclass(slots=True)
class Holding:
    """A lease that a process has taken."""

    process: str
    holder: str
    since: datetime


@dataclass(slots=True)
class Kept:
    """A version with its key."""

    version: Version
    bundle: CertificateBundle

    def completed(self, bundle: CertificateBundle) -> Version:
        """Take over key and chain when they are better, or others, than those that were kept."""
        if self.version.is_bettered_by(bundle):
            self.bundle = bundle
            self.version = self.version.with_pem_of(bundle)
        return self.version


@dataclass(slots=True)
class Memory:
    """What every process that shares the state sees."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    tokens: dict[str, int] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    versions: dict[str, list[Kept]] = field(default_factory=dict)
    accounts: dict[str, AcmeAccount] = field(default_factory=dict)
    orders: dict[str, AcmeOrder] = field(default_factory=dict)
    records: dict[tuple[str, str, str], ChallengeRecord] = field(default_factory=dict)
    uploads: dict[tuple[str, str], Upload] = field(default_factory=dict)
    rollouts: dict[tuple[str, str, str], RolloutRecord] = field(default_factory=dict)
    withdrawals: dict[tuple[str, str, str, str], Withdrawal] = field(default_factory=dict)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)
    notices: dict[Key, Notice] = field(default_factory=dict)
    sightings: tuple[Sighting, ...] = ()
    channels: dict[str, ChannelState] = field(default_factory=dict)
    issue_tries: dict[str, datetime] = field(default_factory=dict)
    failing_since: dict[str, datetime] = field(default_factory=dict)
    failed_tries: dict[str, int] = field(default_factory=dict)
    rejections: dict[str, datetime | None] = field(default_factory=dict)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    last_run: LastRun | None = None
    begun: dict[int, tuple[BegunRun, str]] = field(default_factory=dict)
    """The runs that are under way, each with its process, which is "" when that is gone."""
    history: list[HistoryEntry] = field(default_factory=list)
    is_shut: bool = False


def place_of_withdrawal(withdrawal: Withdrawal) -> tuple[str, str, str, str]:
    """Return what a withdrawal is kept by."""
    return withdrawal.lineage, withdrawal.target, withdrawal.domain, withdrawal.fingerprint
