"""One run: who started it, who follows it, and its stop; the ports through which it reaches the
world; and what the executor of one of its steps is given.

Runs of one process know nothing of each other. What they share is the workspace's
(`wiring.workspace`): the state, the accounts, and the pace of each.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from certferry.core.assessment.notices import Notice, Notices, Subject, Topic
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import Delivery, DesiredCertificate
from certferry.core.events import Event, Happened
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import BegunRun, HistoryEntry, RolloutRecord
from certferry.core.planning.drift import as_repair
from certferry.core.planning.due import open_record
from certferry.core.planning.removals import allowance
from certferry.core.planning.rollouts import Claims
from certferry.core.planning.steps import Deploy, Retire, Verify
from certferry.core.redaction import redacted
from certferry.errors import CertferryError, Interrupted, LeaseLost, RunCutShort, StateError
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import Issuer
from certferry.ports.probe import Probe
from certferry.ports.progress import Progress, no_listener
from certferry.ports.receiver import Receiver
from certferry.ports.source import CertificateSource
from certferry.ports.state import Lease, StateStore
from certferry.ports.target import DeployTarget
from certferry.problem import Problem
from certferry.text import Text

CLEANING_UP = timedelta(seconds=3.5)
"""How long a thread may wait in all after the stop, to remove what it put. The command line ends
its process within five seconds; what remains is stored for the next run.
"""

_log = logging.getLogger(__name__)

_HINT = Text(
    "run: certferry sync, which goes on from there; if that does not end either, look into the"
    " system's log, and at the packages whose adapters it uses"
)


class Run:
    """One run. Safe to use from any thread, and any thread may stop it. `who` stands in the
    history; `progress` follows what happens.
    """

    def __init__(
        self,
        who: str = "",
        progress: Progress = no_listener,
        *,
        cleaning_up: timedelta = CLEANING_UP,
    ) -> None:
        self.who = who
        self.progress = progress
        self._cleaning_up = cleaning_up.total_seconds()
        self._stopped = threading.Event()
        self._interrupted = threading.local()
        self._guard = threading.RLock()  # a signal may stop the run that this very thread wakes
        self._wakers: list[Callable[[], None]] = []

    @property
    def is_stopped(self) -> bool:
        """Whether the run has been stopped."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End every wait of this run, and of no other. Its work comes to a safe point."""
        self._stopped.set()
        with self._guard:
            wakers = tuple(self._wakers)
        for wake in wakers:
            wake()

    def pause(self, seconds: float) -> None:
        """Wait (`ports.progress.Pause`); raises `Interrupted` once the run is stopped. Each thread
        is interrupted once. What it waits for after that, such as its turn to remove a record at a
        provider that wants few requests per second, belongs to its clean-up.
        """
        left: float | None = getattr(self._interrupted, "left", None)
        if left is None:
            if not self._stopped.wait(seconds):
                return
            self._interrupted.left = self._cleaning_up
        elif seconds <= left:
            self._interrupted.left = left - seconds
            time.sleep(seconds)
            return
        raise stopped()

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake`, which must not wait, when the run is stopped, or was before."""
        with self._guard:
            self._wakers.append(wake)
        try:
            if self.is_stopped:
                wake()
            yield
        finally:
            with self._guard:
                self._wakers.remove(wake)


def stopped() -> Interrupted:
    """Return what a wait of a stopped run raises."""
    return Interrupted(Text("stopped"), hint=Text("the next run picks up where this one was"))


@contextmanager
def recorded_as_begun(
    state: Callable[[], StateStore], now: Callable[[], datetime]
) -> Iterator[None]:
    """Store that a run is in progress, if the state is writable, and warn of runs without an end:
    they were killed, or a package's adapter ended their process.
    """
    with ExitStack() as ending:
        try:
            store = state()
            for run in store.unended_runs():
                _log.warning(Text("{words}", words=_words(run)))
            ending.callback(_end, store, store.begin_run(now()))
        except StateError as error:  # the run itself reports it where it needs the state
            _log.debug("%s", error.message)
        yield


def _end(state: StateStore, run: BegunRun) -> None:
    with suppress(StateError):
        state.end_run(run)


Change = Callable[[Notices], Notices]


def change_notices(state: StateStore, change: Change) -> None:
    """Store how the notices stand now. A run that changes nothing writes nothing."""
    before = state.notices()
    if {*change(before)} != {*before}:
        state.update_notices(change)


def notices_of_unended(state: StateStore) -> tuple[Notice, ...]:
    """Return a notice for each run that did not end, until the next one begins. Changes nothing."""
    try:
        unended = state.unended_runs()
    except StateError:  # no lock can be tried, as on a disk that is only read
        return ()
    return tuple(
        Notice(
            Topic.TROUBLE, Subject(), run.began_at, Problem(RunCutShort.code, _words(run), _HINT)
        )
        for run in unended
    )


def _words(run: BegunRun) -> Text:
    said = Text(
        "the run that process {pid} on {host} began at {moment} did not end: it was killed or"
        " crashed, or the machine stopped"
    )
    return said.filled(pid=run.pid, host=run.host, moment=run.began_at)


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one run, joined by the wiring. Providers and targets are found by their
    account's label, receivers by what is to be delivered how. `now` is the only clock; `progress`
    follows what happens, the history's keeper included; `verify_timeout` is how long a domain may
    take to serve what it is bound to; `claims` are those of the whole configuration, for however
    few certificates the run is.
    """

    issuer: Issuer
    source: CertificateSource
    dns: Mapping[str, DnsProvider]
    targets: Mapping[str, DeployTarget]
    receiver: Callable[[Delivery], Receiver]
    probe: Probe
    state: StateStore
    now: Callable[[], datetime]
    progress: Progress
    verify_timeout: timedelta = timedelta(hours=1)
    claims: Claims = field(default_factory=Claims)
    run: Run = field(default_factory=Run)

    def lease(self, lineage: str) -> AbstractContextManager[Lease]:
        """Hold the lease of a lineage for a `with` block. Raises `LeaseHeld`."""
        return held_lease(self.state, self.now, lineage)


def history_keeper(state: StateStore, now: Callable[[], datetime], who: str) -> Progress:
    """Return a listener that adds an entry for each thing that happens, in the name of `who`. It is
    kept for ever, without secrets: a service may have quoted one. An entry that cannot be written
    is a warning: what happened has happened, and no step fails of it.
    """

    def keep(event: Event) -> None:
        if isinstance(event, Happened):
            facts = {name: redacted(fact) for name, fact in event.facts.items()}
            try:
                state.append_history(HistoryEntry(now(), event.lineage, event.event, who, facts))
            except StateError as error:
                said = Text('{lineage}: "{event}" is missing in the history: {problem}')
                _log.warning(
                    said.filled(lineage=event.lineage, event=event.event, problem=error.message)
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


class Removals:
    """How many copies a run has tried to remove. Safe to use from any thread."""

    def __init__(self) -> None:
        self._tried = Counter[tuple[str, str]]()
        self._guard = threading.Lock()

    def may_try(self, step: Retire, lineage: str) -> bool:
        """Count a removal that is about to be tried; return whether the run may."""
        whose, most = allowance(step)
        key = ("" if step.unmanaged else lineage, whose)
        with self._guard:
            self._tried[key] += 1
            return self._tried[key] <= most


@dataclass(frozen=True, slots=True)
class StepContext:
    """What is desired and what was found, the ports, and the lease, without which nothing is
    written to any target. `keeping` are the targets that let this run remove nothing.
    """

    desired: DesiredCertificate
    observed: Observation
    ports: Ports
    lease: Lease | None = None
    keeping: set[str] = field(default_factory=set)
    removals: Removals = field(default_factory=Removals)

    @property
    def lineage(self) -> str:
        """The lineage's name."""
        return self.desired.lineage

    @property
    def now(self) -> datetime:
        """This very moment."""
        return self.ports.now()

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
        self.ports.state.extend(self.lease)
        return self.lease

    def record(self, event: str, /, **facts: str) -> None:
        """Add what happened to the history."""
        self.ports.progress(Happened(self.lineage, event, facts))

    def record_failure(self, step: Deploy, error: CertferryError) -> None:
        """Add to the history that a deployment failed."""
        problem = str(error.lasting)
        self.record("deploy failed", target=step.target, domain=step.domain, problem=problem)

    def begin(self, step: Deploy | Verify, *, repairing: bool = False) -> RolloutRecord:
        """Return the record of bringing a step's version to its domain, begun now where it has to
        be. The settings that were sent with the last certificate are carried over.
        """
        _, found = self.observed.locate(step.target, step.domain)
        now, last = self.now, found.last
        fingerprint = self.version_of(step).certificate.fingerprint
        record = open_record(found, fingerprint, now)
        if record is None:
            place = (self.lineage, step.target, step.domain)
            record = RolloutRecord(*place, fingerprint, now)
            if last is not None:
                # Of another certificate nothing was ever repaired.
                repairs = last.repairs if last.fingerprint == fingerprint else ()
                before = last.settings_before
                record = replace(record, sent=last.sent, settings_before=before, repairs=repairs)
        is_repair = isinstance(step, Deploy) and step.repair
        if isinstance(step, Deploy) and step.repair:
            record = as_repair(record, step, now, is_made=repairing)
        is_kept = record != last and self.ports.state.replace_rollout(last, record)
        if is_kept and is_repair and (last is None or last.drift != record.drift):
            facts = {"domain": step.domain, "found": str(record.drift)}
            self.record("drift found", target=step.target, **facts)
        return record
