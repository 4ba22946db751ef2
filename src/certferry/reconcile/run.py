"""One run: who started it, who follows it, and its stop; the ports through which it reaches the
world; what the executor of one of its steps is given; and when each piece of its work is taken up.

Runs of one process know nothing of each other. What they share is the workspace's
(`wiring.workspace`): the state, the accounts, and the pace of each. A piece of work that waits is a
row in a heap, and holds no thread. No setting of the machine's time prolongs or ends a run's waits.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Generic, Protocol, TypeVar

from certferry.core.assessment.hosts import of_this_host
from certferry.core.assessment.notices import Notice, Notices, Subject, Topic
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import Delivery, DesiredCertificate
from certferry.core.desired.declaration import Outdated, only_receivers
from certferry.core.events import Event, Happened
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import BegunRun, HistoryEntry, HostRecord, RolloutRecord
from certferry.core.planning.drift import as_repair
from certferry.core.planning.plan import Deploy, Retire, Verify
from certferry.core.planning.planner import Claims
from certferry.core.planning.removals import allowance
from certferry.core.planning.timing import open_record
from certferry.core.reasons import Waiting
from certferry.core.redaction import redacted
from certferry.errors import (
    CertferryError,
    Interrupted,
    LeaseLost,
    Problem,
    RunCutShort,
    StateError,
)
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import Issuer
from certferry.ports.probe import Probe
from certferry.ports.progress import Clock, Progress, no_listener, set_now
from certferry.ports.receiver import Receiver
from certferry.ports.source import CertificateSource
from certferry.ports.state import Lease, StateStore, holding
from certferry.ports.target import DeployTarget
from certferry.text import Text

CLEANING_UP = timedelta(seconds=3.5)
"""How long a stopped thread may wait in all, to remove what it put: the process ends in five."""

_log = logging.getLogger(__name__)

_HINT = Text(
    "run: certferry sync, which goes on from there; if that does not end either, look into the"
    " system's log, and at the packages whose adapters it uses"
)


class Run:
    """One run, safe to use and to stop from any thread; `who` stands in the history."""

    def __init__(
        self,
        who: str = "",
        progress: Progress = no_listener,
        *,
        cleanup: timedelta = CLEANING_UP,
        machine: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self.who = who
        self.now = set_now(machine)
        self.progress = progress
        self._cleaning_up = cleanup.total_seconds()
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
        """Wait (`ports.progress.Pause`). Raises `Interrupted` once in each thread."""
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
def recorded_as_begun(state: Callable[[], StateStore]) -> Iterator[BegunRun | None]:
    """Store that a run is in progress, if the state is writable; warn of runs without an end, and
    of what is wrong with this host.
    """
    begun = None
    with ExitStack() as ending:
        try:
            store = state()
            for run in store.unended_runs():
                _log.warning(Text("{words}", words=_words(run)))
            for one in problems_of_this_host(store):
                _log.warning(Text("{problem}; {hint}", problem=one.message, hint=one.hint))
            begun = store.begin_run(store.now())
            ending.callback(_end, store, begun)
        except CertferryError as error:  # the run itself reports it where it needs the state
            _log.debug("%s", error.message)
        yield begun


def problems_of_this_host(state: StateStore) -> Iterator[Problem]:
    """Judge this host's clock and name. Raises `StateError`."""
    ahead, other = state.clock_ahead(), state.other_machine_seen_at()
    return of_this_host(state.host, state.now(), ahead, other)


def others_of(state: StateStore) -> tuple[HostRecord, ...]:
    """Return the hosts that share the state, but this one. Raises `StateError`."""
    hosts = state.hosts() if state.is_shared else ()
    return tuple(one for one in hosts if one.name != state.host)


def host_in_notices(state: StateStore) -> str:
    """Return under which host the trouble of this one stands; `""` where no others share it."""
    return state.host if state.is_shared else ""


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
    """The ports of one run: providers and targets by their account's label, `now` the only clock,
    `progress` with the history's keeper, `verify_timeout` for a domain to serve what is bound, the
    `claims` of the whole configuration, and what of it is `outdated`, by lineage.
    """

    issuer: Issuer
    source: CertificateSource
    dns: Mapping[str, DnsProvider]
    targets: Mapping[str, DeployTarget]
    receiver: Callable[[Delivery], Receiver]
    probe: Probe
    state: StateStore
    now: Clock
    progress: Progress
    verify_timeout: timedelta = timedelta(hours=1)
    claims: Claims = field(default_factory=Claims)
    run: Run = field(default_factory=Run)
    outdated: Mapping[str, Outdated] = field(default_factory=dict)

    def part_of(self, desired: DesiredCertificate) -> DesiredCertificate:
        """Return what this host does of a certificate, where another's declaration counts too."""
        return only_receivers(desired) if desired.lineage in self.outdated else desired

    def lease(self, lineage: str) -> AbstractContextManager[Lease]:
        """Hold the lease of a lineage for a `with` block. Raises `LeaseHeld`."""
        return held_lease(self.state, self.now, lineage)


def history_keeper(state: StateStore, now: Clock, who: str) -> Progress:
    """Return a listener that keeps what happens, without secrets; if it cannot, it warns."""

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
def held_lease(state: StateStore, now: Clock, lineage: str) -> Iterator[Lease]:
    """Hold the lease of a lineage for a `with` block, all of whose calls end with it. Raises
    `LeaseHeld`.
    """
    lease = state.acquire(lineage, now())
    try:
        with holding(state, lease):
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
    """What is desired, what was found, the ports, and the lease that each write needs."""

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
        """Extend the lease, which no other run may have taken over. Raises `LeaseLost`."""
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
        """Return the record of bringing a step's version to its domain, begun now if need be."""
        _, found = self.observed.locate(step.target, step.domain)
        now, last = self.now, found.last
        fingerprint = self.version_of(step).fingerprint
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
            record = as_repair(record, step, now, made=repairing)
        is_kept = record != last and self.ports.state.replace_rollout(last, record)
        if is_kept and is_repair and (last is None or last.drift != record.drift):
            facts = {"domain": step.domain, "found": str(record.drift)}
            self.record("drift found", target=step.target, **facts)
        return record


S = TypeVar("S")
T = TypeVar("T")

WORKERS = 8

STALLED = 0.005
"""Seconds without the end of a pass after which another thread works as well. Where nothing is
waited for, one alone is fastest: threads that compute only take turns. A fixed pool is simpler, and
took 10 to 20 % more processor time for 500 certificates with nothing to do (`benchmarks.sync`).
"""

STOPPING = timedelta(seconds=4)
"""How long a stopped run waits for its passes to clean up and give their leases back."""


@dataclass(frozen=True, slots=True)
class WaitLimit:
    """How long a run keeps polling pending work. `None`: until it has succeeded or failed."""

    limit: timedelta | None = None

    def allows(self, until: float) -> bool:
        """Return whether so many seconds after the run's beginning lie within it."""
        return self.limit is None or until <= self.limit.total_seconds()


class Work(Protocol):
    """What is taken up again and again, until it waits for nothing."""

    def reconcile(self) -> Waiting | None:
        """Make one pass; return the wait before the next one, `None` after the last."""


W = TypeVar("W", bound=Work)


@dataclass(order=True, slots=True)
class _Due(Generic[W]):
    at: float
    number: int
    work: W = field(compare=False)


class WorkQueue(Generic[W]):
    """Takes up work in at most `workers` threads until none waits; `ended` follows a last pass.

    A pass that comes again when it is due, and a first pass over other work, take turns: ten
    thousand certificates that are to be issued must not keep one from being seen served, nor those
    that a CDN takes long for keep the others from being issued.
    """

    def __init__(
        self,
        works: Iterable[W],
        run: Run,
        now: Clock,
        limit: WaitLimit = WaitLimit(),
        *,
        ended: Callable[[W], None] = lambda _: None,
        workers: int = WORKERS,
        stopping: timedelta = STOPPING,
    ) -> None:
        self._run = run
        self._now = now
        self._limit = limit
        self._ended = ended
        self._begun = time.monotonic()
        self._numbers = itertools.count()
        self._first: deque[W] = deque()
        self._again: list[_Due[W]] = []
        self._was_again = False
        self._workers = workers
        self._stopping = stopping.total_seconds()
        self._changed = threading.Condition()
        self._busy = 0
        self._passes = 0
        self._is_over = False
        self._problem: BaseException | None = None
        self.add(works)

    def add(self, works: Iterable[W]) -> None:
        """Take up more, in this order, when the work is carried out next."""
        self._first.extend(works)

    def carry_out(self) -> None:
        """Work until nothing is due. Raises `Interrupted`, or what a pass raises."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="pass")
        try:
            with self._run.waking(self._wake), self._changed:
                while self._first or self._again or self._busy:
                    self._await_need(pool)
        except BaseException:
            self._run.stop()
            with self._changed:
                self._is_over = True
                self._changed.wait_for(lambda: not self._busy, self._stopping)
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _await_need(self, pool: ThreadPoolExecutor) -> None:
        """Wait for due work without a worker, then start one."""
        if self._run.is_stopped:
            raise stopped()
        passes = self._passes
        self._changed.wait(self._until_needed())
        if self._problem is not None:
            raise self._problem
        is_stalled = not self._busy or self._passes == passes
        if self._until_due() == 0 and is_stalled and self._busy < self._workers:
            self._busy += 1
            pool.submit(self._work)

    def _until_needed(self) -> float | None:
        until = self._until_due()
        if until is None or self._busy == self._workers:
            return None
        return max(until, STALLED) if self._busy else until

    def _until_due(self) -> float | None:
        """Return the seconds until the next pass is due, `None` where none is to come."""
        if self._first:
            return 0
        return max(self._again[0].at - time.monotonic(), 0) if self._again else None

    def _work(self) -> None:
        """Take up what is due, one after another, until nothing is."""
        try:
            while (work := self._next_due()) is not None:
                waiting = work.reconcile()
                if waiting is None:
                    self._ended(work)
                self._note_pass(work, waiting)
        except BaseException as problem:  # noqa: BLE001 - raised in the thread that waits
            self._problem = self._problem or problem
        with self._changed:
            self._busy -= 1
            self._changed.notify()

    def _next_due(self) -> W | None:
        with self._changed:
            is_due = bool(self._again) and self._again[0].at <= time.monotonic()
            if self._is_over or not (self._first or is_due):
                return None
            self._was_again = is_due and not (self._first and self._was_again)
            return heapq.heappop(self._again).work if self._was_again else self._first.popleft()

    def _note_pass(self, work: W, waiting: Waiting | None) -> None:
        with self._changed:
            self._passes += 1
            if waiting is None:
                return
            at = time.monotonic() + (waiting.until - self._now()).total_seconds()
            if self._limit.allows(at - self._begun):
                heapq.heappush(self._again, _Due(at, next(self._numbers), work))
                self._changed.notify()  # it may be due before what is waited for


def aside(work: Callable[[], T], name: str | None = None) -> Future[T]:
    """Begin work in a thread of its own: what hangs there keeps no process from ending."""
    coming: Future[T] = Future()

    def carry_out() -> None:
        try:
            coming.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the caller asks for the result
            coming.set_exception(error)

    threading.Thread(target=carry_out, name=name, daemon=True).start()
    return coming


class _Reading(Generic[S, T]):
    """Work of one pass that changes nothing."""

    def __init__(self, read: Callable[[S], T], subject: S) -> None:
        self._read = read
        self._subject = subject

    def reconcile(self) -> None:
        """Read."""
        self.found = self._read(self._subject)


def side_by_side(read: Callable[[S], T], subjects: Sequence[S], run: Run) -> list[T]:
    """Return what `read` finds of each subject, read side by side. Raises what it raises."""
    readings = [_Reading(read, subject) for subject in subjects]
    WorkQueue(readings, run, datetime.now, stopping=timedelta(0)).carry_out()
    return [one.found for one in readings]
