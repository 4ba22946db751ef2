"""One visit to a lineage, as the executors of its steps see it, and the lease that it holds."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.events import Event, Happened
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import HistoryEntry, RolloutRecord
from certferry.core.planning.drift import as_repair
from certferry.core.planning.due import open_record
from certferry.core.planning.steps import Deploy, Verify
from certferry.core.redaction import redacted
from certferry.errors import LeaseLost, StateError
from certferry.ports.progress import Progress
from certferry.ports.state import Lease, StateStore
from certferry.reconcile.doors import Doors
from certferry.text import Text

_log = logging.getLogger(__name__)


def history_keeper(state: StateStore, now: Callable[[], datetime], who: str) -> Progress:
    """Return a listener that adds an entry for each thing that happens, in the name of `who`. It is
    kept for ever, and what must not be seen is not: a service may have quoted it. An entry that
    cannot be written is a warning: what happened has happened, and no step fails of it.
    """

    def keep(event: Event) -> None:
        if isinstance(event, Happened):
            facts = {name: redacted(fact) for name, fact in event.facts.items()}
            try:
                state.append_history(HistoryEntry(now(), event.lineage, event.event, who, facts))
            except StateError as error:
                _log.warning(
                    Text(
                        '{lineage}: "{event}" is missing in the history: {problem}',
                        lineage=event.lineage,
                        event=event.event,
                        problem=error.message,
                    )
                )

    return keep


@contextmanager
def held_lease(state: StateStore, now: Callable[[], datetime], lineage: str) -> Iterator[Lease]:
    """Hold the lease of a lineage for a `with` block. Raises `LeaseHeld`."""
    lease = state.acquire(lineage, now())
    try:
        yield lease
    finally:
        state.release(lease)


@dataclass(frozen=True, slots=True)
class Visit:
    """What is wanted and what was found, the doors, and the lease, without which nothing is written
    to any target. `keeping` are the targets that let this run remove nothing, `removed` how many
    it has removed of what: see `reconcile.retire`.
    """

    desired: DesiredCertificate
    observed: Observation
    doors: Doors
    lease: Lease | None = None
    keeping: set[str] = field(default_factory=set)
    removed: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def lineage(self) -> str:
        """The lineage's name."""
        return self.desired.lineage

    @property
    def now(self) -> datetime:
        """This very moment."""
        return self.doors.now()

    def version_of(self, step: Deploy | Verify) -> Version:
        """Return the version that a step is about. One that needs one is not ready without it."""
        version = self.observed.version(step.fingerprint)
        if version is None:
            raise LookupError(self.lineage)
        return version

    def renew_lease(self) -> Lease:
        """Extend the lease and return it: another run that has taken over may have put a newer
        certificate where this one is about to write. Raises `LeaseLost`.
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

    def begin(self, step: Deploy | Verify, *, repairing: bool = False) -> RolloutRecord:
        """Return the record of bringing a step's version to its domain, begun now where it has to
        be. The settings that were sent with the last certificate are carried over.
        """
        _, found = self.observed.locate(step.target, step.domain)
        now, last = self.now, found.last
        fingerprint = self.version_of(step).certificate.fingerprint
        record = open_record(found, fingerprint, now) or self._begun(step, fingerprint, last)
        is_repair = isinstance(step, Deploy) and step.repair
        if isinstance(step, Deploy) and step.repair:
            record = as_repair(record, step, now, is_made=repairing)
        is_kept = record != last and self.doors.state.replace_rollout(last, record)
        if is_kept and is_repair and (last is None or last.drift != record.drift):
            facts = {"domain": step.domain, "found": str(record.drift)}
            self.tell("drift found", target=step.target, **facts)
        return record

    def _begun(
        self, step: Deploy | Verify, fingerprint: str, last: RolloutRecord | None
    ) -> RolloutRecord:
        begun = RolloutRecord(self.lineage, step.target, step.domain, fingerprint, self.now)
        if last is None:
            return begun
        # Of another certificate nothing was ever set right.
        repairs = last.repairs if last.fingerprint == fingerprint else ()
        return replace(begun, sent=last.sent, settings_before=last.settings_before, repairs=repairs)
