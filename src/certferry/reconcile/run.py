"""A run with its stop (`Run`), the ports of a run (`Ports`), the context of a step (`StepContext`),
and the queue with the work of a run (`WorkQueue`).

The runs of one process share the workspace (`wiring.workspace`): the state, the accounts, and the
pace of each account. Waiting work is an entry in a heap and holds no thread. The waits of a run
keep their length if the machine's clock is set.
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
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Generic, Protocol, TypeVar

from msgspec import Struct
from msgspec import field as struct_field

from certferry.core.assessment.hosts import of_this_host
from certferry.core.assessment.notices import Notice, Notices, Subject, Topic
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import Delivery, DesiredCertificate
from certferry.core.desired.declaration import Outdated, only_receivers
from certferry.core.events import Event, Happened
from certferry.core.observed.observation import (
    Addresses,
    Observation,
    ObservedDomain,
    ObservedTarget,
)
from certferry.core.observed.records import BegunRun, HistoryEntry, HostRecord, RolloutRecord
from certferry.core.planning.drift import as_repair
from certferry.core.planning.plan import Deploy, Retire, Rollback, Verify
from certferry.core.planning.planner import Claims
from certferry.core.planning.removals import allowance
from certferry.core.planning.timing import open_record
from certferry.core.reasons import Waiting
from certferry.core.redaction import redacted_fact
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
from certferry.values import replace

CLEANING_UP = timedelta(seconds=3.5)
"""How long a thread of a stopped run may wait in total while cleaning up. The process of a command
ends within five seconds after the stop.
"""

_log = logging.getLogger(__name__)

_HINT = Text(
    "run: certferry sync, which continues from there; if the next run does not end either, check"
    " the system's log and the packages of the adapters in use"
)


class Run:
    """A run, safe to use and to stop from any thread. `who` is the actor in the history; the run
    reads the clock `machine` once, when the run is made.
    """

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
        self._guard = threading.RLock()  # a signal may call `stop` in a thread holding the guard
        self._wakers: list[Callable[[], None]] = []

    @property
    def is_stopped(self) -> bool:
        """Whether the run has been stopped."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Stop the run: the present or next `pause` of each thread raises `Interrupted`."""
        self._stopped.set()
        with self._guard:
            wakers = tuple(self._wakers)
        for wake in wakers:
            wake()

    def pause(self, seconds: float) -> None:
        """Wait (`ports.progress.Pause`). If the run is stopped before or during a wait, the wait
        raises `Interrupted`. The thread may then still wait to clean up, for `_cleaning_up` seconds
        in total. A wait beyond that total raises `Interrupted` at once.
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
        """Call `wake` if the run is stopped before or in a `with` block. `wake` must not wait."""
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
    """Return the error raised by waits of a stopped run."""
    return Interrupted(Text("stopped"), hint=Text("the next run continues from here"))


@contextmanager
def recorded_as_begun(state: Callable[[], StateStore]) -> Iterator[BegunRun | None]:
    """Store that a run is in progress, until the end of the `with` block. Yield the run, or `None`
    if the state cannot be used; that error appears only in the debug log.

    Also log warnings about killed runs, and about problems of this host's clock and name.
    """
    begun = None
    with ExitStack() as ending:
        try:
            store = state()
            for run in store.unended_runs():
                _log.warning(Text("{words}", words=_words(run)))
            for problem in problems_of_this_host(store):
                _log.warning(Text("{problem}; {hint}", problem=problem.message, hint=problem.hint))
            begun = store.begin_run(store.now())
            ending.callback(_end, store, begun)
        except CertferryError as error:  # a later use of the state reports the error
            _log.debug("%s", error.message)
        yield begun


def problems_of_this_host(state: StateStore) -> Iterator[Problem]:
    """Yield problems of this host's clock and name. Raises `StateError`."""
    ahead, other = state.clock_ahead(), state.other_machine_seen_at()
    return of_this_host(state.host, state.now(), ahead, other)


def others_of(state: StateStore) -> tuple[HostRecord, ...]:
    """Return the other hosts that share the state. Raises `StateError`."""
    hosts = state.hosts() if state.is_shared else ()
    return tuple(host for host in hosts if host.name != state.host)


def host_in_notices(state: StateStore) -> str:
    """Return the name of this host for notices; `""` if the state is not shared."""
    return state.host if state.is_shared else ""


Change = Callable[[Notices], Notices]


def _end(state: StateStore, run: BegunRun) -> None:
    with suppress(StateError):
        state.end_run(run)


def notices_of_unended(state: StateStore) -> tuple[Notice, ...]:
    """Return a notice for each of this host's runs that was killed since the last run began; an
    empty tuple if the state cannot tell. Changes nothing.
    """
    try:
        unended = state.unended_runs()
    except StateError:  # the locks of runs cannot be tried, as on a read-only disk
        return ()
    return tuple(
        Notice(
            Topic.TROUBLE, Subject(), run.began_at, Problem(RunCutShort.code, _words(run), _HINT)
        )
        for run in unended
    )


def _words(run: BegunRun) -> Text:
    message = Text(
        "the run started by process {pid} on {host} at {moment} did not end: the run was killed"
        " or crashed, or the host stopped"
    )
    return message.filled(pid=run.pid, host=run.host, moment=run.began_at)


class Ports(Struct, frozen=True):
    """The connections of one run to the outside: services, edges, files, state and clock."""

    issuer: Issuer  #: The CAs.
    source: CertificateSource  #: The files of other clients.
    dns: Mapping[str, DnsProvider]  #: DNS accounts, by label.
    targets: Mapping[str, DeployTarget]  #: Accounts at targets, by label.
    receiver: Callable[[Delivery], Receiver]  #: Returns the receiver of a delivery.
    probe: Probe  #: Asks edges for their certificates.
    state: StateStore  #: The records kept between runs.
    now: Clock  #: The only clock of the run.
    progress: Progress  #: Takes events, also for the history (`history_keeper`).
    #: The time within which a domain should serve the bound certificate.
    verify_timeout: timedelta = timedelta(hours=1)
    #: The claims of the whole configuration.
    claims: Claims = struct_field(default_factory=Claims)
    run: Run = struct_field(default_factory=Run)  #: The run, with its stop.
    #: By lineage, this host's declarations that another host's declaration supersedes.
    outdated: Mapping[str, Outdated] = struct_field(default_factory=dict)

    def part_of(self, desired: DesiredCertificate) -> DesiredCertificate:
        """Return the certificate, limited to this host's receivers if `outdated` has it."""
        return only_receivers(desired) if desired.lineage in self.outdated else desired

    def lease(self, lineage: str) -> AbstractContextManager[Lease]:
        """Hold the lease of a lineage for a `with` block. Raises `LeaseHeld` and `StateError`."""
        return held_lease(self.state, self.now, lineage)


def history_keeper(state: StateStore, now: Clock, who: str) -> Progress:
    """Return a listener that stores each `Happened` in the history, without secrets.

    The listener logs a warning if storing fails, and ignores other events.
    """

    def keep(event: Event) -> None:
        if isinstance(event, Happened):
            facts = {name: redacted_fact(fact) for name, fact in event.facts.items()}
            try:
                state.append_history(HistoryEntry(now(), event.lineage, event.event, who, facts))
            except StateError as error:
                message = Text('{lineage}: "{event}" is missing in the history: {problem}')
                _log.warning(
                    message.filled(lineage=event.lineage, event=event.event, problem=error.message)
                )

    return keep


@contextmanager
def held_lease(state: StateStore, now: Clock, lineage: str) -> Iterator[Lease]:
    """Hold the lease of a lineage for a `with` block. Raises `LeaseHeld` and `StateError`.

    Once the lease is lost, adapters raise `LeaseLost` for calls made in the block.
    """
    lease = state.acquire(lineage, now())
    try:
        with holding(state, lease):
            yield lease
    finally:
        state.release(lease)


class Removals:
    """Counts the copies that a run has tried to remove. Safe to use from any thread."""

    def __init__(self) -> None:
        self._tried = Counter[tuple[str, str]]()
        self._guard = threading.Lock()

    def may_try(self, step: Retire, lineage: str) -> bool:
        """Count a removal about to be tried; return whether the limit (`allowance`) allows it."""
        whose, most = allowance(step)
        key = ("" if step.unmanaged else lineage, whose)
        with self._guard:
            self._tried[key] += 1
            return self._tried[key] <= most


class StepPlace(Struct, frozen=True):
    """The domain of a step with its target and its version (`StepContext.at`)."""

    target: ObservedTarget  #: The account, as observed.
    domain: ObservedDomain  #: The domain, as observed; `last` is the rollout record.
    version: Version  #: The version to deploy or to verify.

    @property
    def served(self) -> Addresses:
        """The domain's addresses with the certificate presented by each; empty if not asked."""
        return self.target.served.get(self.domain.domain, ())


class StepContext(Struct, frozen=True):
    """The facts and ports with which a pass carries out its steps."""

    desired: DesiredCertificate  #: The declaration of the lineage.
    observed: Observation  #: The observation behind the plan.
    ports: Ports  #: The ports of the run.
    lease: Lease | None = None  #: `None` in a pass that writes to no service.
    #: Accounts that refuse to remove copies in this run.
    keeping: set[str] = struct_field(default_factory=set)
    #: The target and domain of each rollout whose failure this run has added to the history.
    failed: set[tuple[str, str]] = struct_field(default_factory=set)
    removals: Removals = struct_field(default_factory=Removals)  #: The removals of the whole run.

    @property
    def lineage(self) -> str:
        """The lineage's name."""
        return self.desired.lineage

    @property
    def now(self) -> datetime:
        """The moment by the run's clock."""
        return self.ports.now()

    def at(self, step: Deploy | Verify) -> StepPlace:
        """Return the place of a step. Raises `LookupError` if the observation lacks the domain or
        the version; the observation behind a ready step has both.
        """
        target, domain = self.observed.locate(step.target, step.domain)
        version = self.observed.version(step.fingerprint)
        if version is None:
            raise LookupError(self.lineage)
        return StepPlace(target, domain, version)

    def last_of(self, target: str, domain: str) -> RolloutRecord | None:
        """Return a domain's rollout record, or `None`. Raises `LookupError` if not observed."""
        return self.observed.locate(target, domain)[1].last

    def renew_lease(self) -> Lease:
        """Extend and return the lease. Raises `LeaseLost` without a lease in force."""
        if self.lease is None:
            raise LeaseLost(
                Text("{lineage}: this run does not hold the lease", lineage=self.lineage)
            )
        self.ports.state.extend(self.lease)
        return self.lease

    def record(self, event: str, /, **facts: str | Text) -> None:
        """Add an event to the history."""
        self.ports.progress(Happened(self.lineage, event, facts))

    def record_failure(self, step: Deploy | Verify | Rollback, error: CertferryError) -> None:
        """Add a failed step to the history, at most once for each domain in a run."""
        if (step.target, step.domain) not in self.failed:
            self.failed.add((step.target, step.domain))
            where = {"target": step.target, "domain": step.domain}
            self.record(f"{step.action} failed", **where, problem=error.lasting)

    def begin(
        self, step: Deploy | Verify, place: StepPlace, *, repairing: bool = False
    ) -> RolloutRecord:
        """Return the open rollout record for the step's version and domain, or a new record. For a
        step that undoes another tool's change, note the change in the record; with `repairing`,
        count a repair. Store a new or changed record unless another run was first.
        """
        now, last, fingerprint = self.now, place.domain.last, place.version.fingerprint
        record = open_record(place.domain, fingerprint, now)
        if record is None:
            record = RolloutRecord(self.lineage, step.target, step.domain, fingerprint, now)
            if last is not None:
                # Repairs during the previous certificate's rollout do not count for the new one.
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
"""If no pass ends for so many seconds while work is due, another thread starts. As long as passes
only compute, a single thread is fastest, because computing threads take turns. A fixed pool is
simpler, and took 10 to 20 % more processor time for 500 certificates with nothing to do
(`benchmarks.sync`).
"""

STOPPING = timedelta(seconds=4)
"""How long a stopped run waits for passes to clean up and give leases back."""


class WaitLimit(Struct, frozen=True):
    """How long a run keeps polling pending work."""

    #: The time since the run began; `None` for polling until success or failure.
    limit: timedelta | None = None

    def allows(self, until: float) -> bool:
        """Return whether the limit reaches to a moment, given in seconds after the run began."""
        return self.limit is None or until <= self.limit.total_seconds()


AS_LONG_AS_NEEDED = WaitLimit()


class Work(Protocol):
    """Work done in passes, with waits between the passes."""

    def reconcile(self) -> Waiting | None:
        """Make a pass; return the wait before the next pass, `None` after the last pass."""


W = TypeVar("W", bound=Work)


@dataclass(order=True, slots=True)
class _NextPass(Generic[W]):
    at: float
    number: int
    work: W = field(compare=False)


class WorkQueue(Generic[W]):
    """Carries out work in at most `workers` threads until all work has ended. `ended` is called for
    each work that has ended. Work with a next pass after `limit` is dropped without the call.

    First passes and due later passes take turns: ten thousand orders must not delay the
    verification of a single certificate, and many slow verifications must not delay orders.
    """

    def __init__(
        self,
        works: Iterable[W],
        run: Run,
        now: Clock,
        limit: WaitLimit = AS_LONG_AS_NEEDED,
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
        self._again: list[_NextPass[W]] = []
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
        """Add work, to be begun in this order at the next `carry_out`."""
        self._first.extend(works)

    def carry_out(self) -> None:
        """Work until all work has ended or is dropped. Raises `Interrupted`, or the error of a
        pass; either also stops the run.
        """
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
        """Wait once. Then start a thread, up to `_workers`, if a pass is due, and no thread is busy
        or no pass ended during the wait. Raises `Interrupted`, or the error of a pass.
        """
        if self._run.is_stopped:
            raise stopped()
        passes = self._passes
        self._changed.wait(self._until_needed())
        if self._problem is not None:
            raise self._problem
        is_stalled = not self._busy or self._passes == passes
        if self._until_next_pass() == 0 and is_stalled and self._busy < self._workers:
            self._busy += 1
            pool.submit(self._work)

    def _until_needed(self) -> float | None:
        until = self._until_next_pass()
        if until is None or self._busy == self._workers:
            return None
        return max(until, STALLED) if self._busy else until

    def _until_next_pass(self) -> float | None:
        """Return the seconds until a pass is due, or `None` if no work waits for a pass."""
        if self._first:
            return 0
        return max(self._again[0].at - time.monotonic(), 0) if self._again else None

    def _work(self) -> None:
        """Make passes, one after another, until no pass is due or a pass raises."""
        try:
            while (work := self._next_work()) is not None:
                waiting = work.reconcile()
                if waiting is None:
                    self._ended(work)
                self._note_pass(work, waiting)
        except BaseException as problem:  # noqa: BLE001 - raised in the thread that waits
            self._problem = self._problem or problem
        with self._changed:
            self._busy -= 1
            self._changed.notify()

    def _next_work(self) -> W | None:
        with self._changed:
            has_come = bool(self._again) and self._again[0].at <= time.monotonic()
            if self._is_over or not (self._first or has_come):
                return None
            self._was_again = has_come and not (self._first and self._was_again)
            return heapq.heappop(self._again).work if self._was_again else self._first.popleft()

    def _note_pass(self, work: W, waiting: Waiting | None) -> None:
        with self._changed:
            self._passes += 1
            if waiting is None:
                return
            at = time.monotonic() + (waiting.until - self._now()).total_seconds()
            if self._limit.allows(at - self._begun):
                heapq.heappush(self._again, _NextPass(at, next(self._numbers), work))
                self._changed.notify()  # this pass may come before all passes in the heap


def in_thread(work: Callable[[], T], name: str | None = None) -> Future[T]:
    """Begin work in a daemon thread, and return the future result."""
    coming: Future[T] = Future()

    def carry_out() -> None:
        try:
            coming.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the caller asks for the result
            coming.set_exception(error)

    threading.Thread(target=carry_out, name=name, daemon=True).start()
    return coming


class _Reading(Generic[S, T]):
    """A `Work` with a single pass, which calls a function and keeps the result."""

    def __init__(self, reader: Callable[[S], T], subject: S) -> None:
        self._read = reader
        self._subject = subject

    def reconcile(self) -> None:
        """Call the reader, and keep the result."""
        self.result = self._read(self._subject)


def side_by_side(reader: Callable[[S], T], subjects: Sequence[S], run: Run) -> list[T]:
    """Return the results of `reader`, called in parallel for each subject, in the subjects' order.
    Raises `Interrupted`, or an error of `reader`, which also stops the run.
    """
    readings = [_Reading(reader, subject) for subject in subjects]
    WorkQueue(readings, run, datetime.now, stopping=timedelta(0)).carry_out()
    return [reading.result for reading in readings]
