"""One visit to a lineage, as the executors of its steps see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from certferry.core.desired import DesiredCertificate
from certferry.core.due import open_record
from certferry.core.lineage import Version
from certferry.core.observed import Observation
from certferry.core.report import Happened
from certferry.core.rollout import RolloutRecord
from certferry.errors import LeaseLost
from certferry.ports.state import Lease
from certferry.reconcile.doors import Doors
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Visit:
    """What is wanted and what was found, the doors, and the lease, without which nothing is written
    to any target. `keeping` are the targets that let this run remove nothing.
    """

    desired: DesiredCertificate
    observed: Observation
    doors: Doors
    lease: Lease | None = None
    keeping: set[str] = field(default_factory=set)

    @property
    def lineage(self) -> str:
        """The lineage's name."""
        return self.desired.lineage

    @property
    def version(self) -> Version:
        """The version in force. A step that needs one is not ready without it."""
        if self.observed.current is None:
            raise LookupError(self.lineage)
        return self.observed.current

    @property
    def now(self) -> datetime:
        """This very moment."""
        return self.doors.now()

    def held(self) -> Lease:
        """Return the lease, which is still in force: another run that has taken over may have put a
        newer certificate where this one is about to write. Raises `LeaseLost`.
        """
        if self.lease is None:
            raise LeaseLost(
                Text("{lineage}: this run does not hold the lease", lineage=self.lineage)
            )
        self.doors.state.extend(self.lease)
        return self.lease

    def tell(self, event: str, /, **facts: str) -> None:
        """Tell what happened, for the history."""
        self.doors.progress(Happened(self.lineage, event, facts))

    def begin(self, target: str, domain: str) -> RolloutRecord:
        """Return the record of bringing the version in force to a domain, begun now where it has to
        be. The settings that were sent with the last certificate are carried over.
        """
        _, found = self.observed.locate(target, domain)
        fingerprint, now, last = self.version.certificate.fingerprint, self.now, found.last
        record = open_record(found, fingerprint, now)
        if record is not None:
            return record
        begun = RolloutRecord(
            lineage=self.lineage,
            target=target,
            domain=domain,
            fingerprint=fingerprint,
            started_at=now,
            sent=None if last is None else last.sent,
            settings_before=None if last is None else last.settings_before,
        )
        self.doors.state.replace_rollout(last, begun)
        return begun
