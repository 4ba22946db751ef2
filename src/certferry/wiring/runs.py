"""How a run is carried out, wherever it was started from: a terminal, the schedule, the hook of
another client, the console, the API. Each is a row in the state, with its events and its end, and
notifies operators and monitors alike.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from certferry import errors
from certferry.core import events
from certferry.core.observed import runs
from certferry.core.planning.digest import must_be_confirmed
from certferry.core.planning.plan import Plan
from certferry.core.planning.report import UNEXPECTED, SyncReport
from certferry.core.redaction import without_secrets
from certferry.errors import Problem
from certferry.ports.progress import Progress, each_of, no_listener
from certferry.ports.runs import EVENTS_OF_A_RUN
from certferry.ports.state import StateStore
from certferry.present import documents
from certferry.present.progress import entry_of, news
from certferry.reconcile.by_hand import go_back, withdraw_by_hand
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.retries import ScheduledRun
from certferry.reconcile.run import Ports, Run, WaitLimit, aside, recorded_as_begun
from certferry.reconcile.status import Rehearsed, plans_to_confirm, rehearse
from certferry.text import Text
from certferry.wiring.accounts import forget_refusals
from certferry.wiring.authorities import finish_revocations, rehearsal_issuer, rehearsing
from certferry.wiring.clock import now
from certferry.wiring.notifications import salvaged
from certferry.wiring.recorded import lost_state, undeclared, with_undeclared
from certferry.wiring.selection import must_be_renewed_here, must_declare, select, the_one_meant
from certferry.wiring.state import may_be_there
from certferry.wiring.workspace import Workspace, who_runs

SOON = 0.3
"""Seconds after which an event is written, with those that came meanwhile."""

AGAIN, ENDS_TRIED = 10.0, 360
"""Seconds after which the end of a run is stored again that the state did not take, and how often:
for an hour. Until then the run passes for one that died.
"""

ENDING = timedelta(seconds=9)
"""How long runs that are stopped may take to a safe point: the process is to end in 10 seconds."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run is to do, and where it was started from. One that `is_whole` is for all that is
    declared: monitors count only such runs. With the digest of a `plan` it carries out that plan or
    nothing. A rehearsal `renews` what is not due, too. `quota_raised` tries full accounts.
    """

    kind: runs.RunKind = runs.RunKind.SYNC
    source: runs.RunSource = runs.RunSource.COMMAND
    is_whole: bool = True
    plan: str | None = None
    wait_limit: WaitLimit = field(default_factory=WaitLimit)
    renews: bool = False
    quota_raised: bool = False


class RunWriter:
    """Writes the row of a run: that it began, each event soon after it came, how it ended. A state
    that takes none of it stops nothing.
    """

    def __init__(
        self, workspace: Workspace, options: RunOptions, who: str, *, again: float = AGAIN
    ) -> None:
        self._workspace = workspace
        self._options = options
        self._again = again
        self._lineages = tuple(one.lineage for one in workspace.certificates)
        self._who = who
        self._asked_at = now()
        self._events: list[runs.RunEvent] = []
        self._numbers = itertools.count(1)
        self._guard, self._turn = threading.Lock(), threading.Lock()
        self._is_writing = False
        self._over = threading.Event()
        self._ending = ExitStack()
        self._gave_up = self._has_ended = False
        self.stored: runs.StoredRun | None = None
        self.listener: Progress = news(self._note)

    def try_to_begin(self) -> None:
        """Store that the run begins, if there is a state that takes it."""
        settings = self._workspace.settings.state
        if self.stored is not None or self._gave_up or not may_be_there(settings):
            return
        try:
            self.begin()
        except errors.CertferryError as error:  # the run itself reports what is wrong with it
            self._gave_up = True
            _log.debug("%s", error.message)

    def begin(self, request: str | None = None) -> runs.StoredRun:
        """Store that the run begins; return its row, or the one that this `request` began before.
        Raises `ConfigError` and `StateError`.
        """
        options = self._options
        with ExitStack() as ending:
            state = self._workspace.state
            begun = ending.enter_context(recorded_as_begun(lambda: state))
            mine = runs.StoredRun(
                f"{self._asked_at:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
                options.kind,
                options.source,
                self._who,
                state.host,
                state.now() if begun is None else begun.began_at,
                () if options.is_whole else self._lineages,
                options.plan,
                None if begun is None else begun.number,
            )
            stored = state.save_run_begin(mine, request)
            if stored.id == mine.id:
                self.stored, self._ending = stored, ending.pop_all()
        return stored

    def note_problem(self, problem: Problem) -> None:
        """Add what ended the run as its last event, called by its code."""
        said = _with_hint(problem.message, problem.hint)
        self._add("", str(problem.code), said, runs.RunState.FAILED.value)

    def end(self, state: runs.RunState, report: runs.RunReport | None = None) -> None:
        """Store how the run ended, after all that happened in it. The first end counts."""
        self._over.set()
        self.try_to_begin()  # the run may have made the state
        if self.stored is None or self._has_ended:
            return
        store = partial(self._store_end, self.stored.id, state, self._now(), report)
        if not store():
            aside(partial(self._store_later, store), "the end of a run")
        self._ending.close()
        self._has_ended = True

    def _store_end(
        self, run: str, state: runs.RunState, ended_at: datetime, report: runs.RunReport | None
    ) -> bool:
        self._write()
        try:
            self._state.save_run_end(run, state, ended_at, report)
        except errors.CertferryError as error:
            _log.debug("%s", error.message)
            return False
        return True

    def _store_later(self, store: Callable[[], bool]) -> None:
        """Store the end once the state is back, as long as the process lives."""
        for _ in range(ENDS_TRIED):
            time.sleep(self._again)
            if store():
                return

    def _note(self, event: events.Activity | events.StepEnded) -> None:
        entry = entry_of(event)
        place = (entry.outcome, entry.target, entry.domain)
        self._add(event.lineage, entry.event, _with_hint(entry.detail, entry.hint), *place)

    def _add(
        self,
        lineage: str,
        event: str,
        text: Text,
        outcome: str | None = None,
        target: str | None = None,
        domain: str | None = None,
    ) -> None:
        said, at = without_secrets(text), self._now()
        with self._guard:
            if len(self._events) >= EVENTS_OF_A_RUN:  # the state has taken none for long
                return
            number = next(self._numbers)
            self._events.append(
                runs.RunEvent(number, at, lineage, event, said, outcome, target, domain)
            )
            if self._is_writing or self._over.is_set():
                return
            self._is_writing = True
        aside(self._write_on, "events of a run")

    def _write_on(self) -> None:
        """Write until nothing has come for a moment; the thread of the run never waits for it."""
        while not self._over.wait(SOON):
            with self._guard:
                if not self._events:
                    self._is_writing = False
                    return
            self._write()

    def _write(self) -> None:
        with self._turn:  # in their order
            with self._guard:
                found = tuple(self._events)
            if not found or self.stored is None:
                return
            try:
                self._state.append_run_events(self.stored.id, found)
            except errors.CertferryError as error:
                _log.debug("%s", error.message)
                return
            with self._guard:
                del self._events[: len(found)]

    @property
    def _state(self) -> StateStore:
        return self._workspace.state

    def _now(self) -> datetime:
        with suppress(errors.CertferryError):
            return now() if self.stored is None else self._state.now()
        return now()


def _with_hint(said: Text, hint: Text | None) -> Text:
    return said if hint is None else Text("{said} (hint: {hint})", said=said, hint=hint)


@dataclass(eq=False)
class RunInProgress:
    """One run over a workspace, and the row that it leaves."""

    workspace: Workspace
    run: Run
    options: RunOptions
    plans: Sequence[Plan] = field(default=(), init=False)
    writer: RunWriter = field(init=False)

    def __post_init__(self) -> None:
        self.writer = RunWriter(self.workspace, self.options, self.run.who)
        self.run.progress = each_of(self.writer.listener, self.run.progress)

    def carry_out(self) -> SyncReport | Rehearsed:
        """Do what the options say. Raises what `sync`, `rehearse` and `roll_back` raise."""
        match self.options.kind:
            case runs.RunKind.REHEARSE:
                return self.rehearse()
            case runs.RunKind.ROLLBACK:
                return self.roll_back()
            case _:
                return self.sync()

    def sync(self) -> SyncReport:
        """Bring the world to the declared state, and notify of how that ended. Raises `PlanChanged`
        where the plan is not the one that was confirmed: then nothing was changed, and `plans` has
        what it is now.
        """
        with self.recorded() as ended:
            confirmed = {} if self.options.plan is None else self._confirmed(self.options.plan)
            # Channels are not notified of a plan that changed: the operator who confirmed it is.
            report = self.workspace.notifications(self.run).notify_of(
                partial(self._sync, confirmed), is_whole=self.options.is_whole
            )
            ended(report)
        return self._stored(report)

    def rehearse(self) -> Rehearsed:
        """Have the staging directory issue what is due, and throw it away; change nothing."""
        with self.recorded() as ended:
            at_staging = rehearsing(self.workspace.settings)
            ports = self._connect(declares=False)
            issuer = rehearsal_issuer(at_staging, ports)
            certificates = self.workspace.certificates
            found = rehearse(ports, certificates, issuer, renew=self._renews)
            ended(found.report, documents.of_rehearsal(found.report, found.plans))
        return found

    def roll_back(self) -> SyncReport:
        """Bind the previous certificate again. Raises what `withdraw_by_hand` raises, of which only
        the caller learns.
        """
        with self.recorded() as ended:
            ports = self._connect()
            (desired,) = self.workspace.certificates
            desired = withdraw_by_hand(ports, desired)
            report = self.workspace.notifications(self.run).notify_of(
                lambda: go_back(ports, desired, self.options.wait_limit)
            )
            ended(report)
        return self._stored(report)

    def _stored(self, report: SyncReport) -> SyncReport:
        """Store what a state waits with until the end; return the report with what prevents it."""
        try:
            self.workspace.state.flush()
        except errors.CertferryError as error:
            return replace(report, problem=report.problem or error)
        return report

    def _confirmed(self, digest: str) -> dict[str, str]:
        """Return what the run is to plan first for each lineage, by its digest."""
        ports = self.workspace.connect(self.run, declares=False)
        certificates = self.workspace.certificates
        self.plans, first = plans_to_confirm(ports, certificates, renew=self._renews)
        must_be_confirmed(self.plans, digest)
        return first

    def _sync(self, confirmed: dict[str, str]) -> SyncReport:
        settings, options = self.workspace.settings, self.options
        if options.source is runs.RunSource.HOOK:
            return self._engine().sync(settings.certificates, options.wait_limit)
        must_declare(settings)
        if options.source is runs.RunSource.SCHEDULE:
            retrying = ScheduledRun(self._engine, self.run.pause, options.wait_limit)
            report = retrying.sync(settings.certificates, renew=self._renews)
        else:
            engine = self._engine(confirmed)
            report = engine.sync(settings.certificates, options.wait_limit, renew=self._renews)
        return with_undeclared(report, settings, self.workspace.state)

    @property
    def _renews(self) -> bool:
        return self.options.renews or self.options.kind is runs.RunKind.RENEW

    def _connect(self, *, declares: bool = True) -> Ports:
        """Connect; the first run of all makes its state here, and is stored from here on."""
        ports = self.workspace.connect(self.run, declares=declares)
        self.writer.try_to_begin()
        return ports

    def _engine(self, confirmed: Mapping[str, str] | None = None) -> Reconciler:
        ports = self._connect()
        if self.options.plan is None:  # no plan has it
            finish_revocations(self.workspace.settings, ports)
        if self.options.quota_raised:
            forget_refusals(ports.targets.values())
        return Reconciler(ports, confirmed or {})

    @contextmanager
    def recorded(self) -> Iterator[Callable[..., None]]:
        """Store a run for a `with` block, which passes its report to the function that it gets."""
        try:
            self.writer.try_to_begin()
            yield self._end
        except (KeyboardInterrupt, errors.Interrupted):
            self.writer.end(runs.RunState.STOPPED)
            raise
        except errors.Reported as error:
            self._fail(error.problem())
            raise
        except BaseException:
            said = Text("a mistake in certferry; its log has the traceback")
            self._fail(Problem(UNEXPECTED, said))
            raise

    def _fail(self, problem: Problem) -> None:
        self.writer.note_problem(problem)
        self.writer.end(runs.RunState.FAILED)

    def _end(self, report: SyncReport, document: documents.Document | None = None) -> None:
        state = runs.RunState.FAILED
        if not report.complete:
            state = runs.RunState.STOPPED
        elif report.has_succeeded and not report.leaves_failures:
            state = runs.RunState.DONE
        self.writer.end(state, runs.RunReport(document or documents.of_report(report)))


@dataclass(eq=False)
class Runner:
    """Starts runs that go on in threads of their own, over the workspace in force; leases keep them
    apart. `follow` returns what listens to each, `ended` is called after each. Safe to use from any
    thread.
    """

    workspace: Callable[[], Workspace]
    follow: Callable[[], Progress] = lambda: no_listener
    ended: Callable[[], None] = lambda: None
    most: int = 20
    """How many may go on at once: each has threads of its own, and most would wait for the others'
    leases."""
    _running: dict[str, tuple[Run, Future[None]]] = field(default_factory=dict, init=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False)
    _is_ending: bool = field(default=False, init=False)

    def start(
        self,
        kind: runs.RunKind,
        names: Sequence[str],
        *,
        who: str,
        source: runs.RunSource,
        plan: str | None = None,
        request: str | None = None,
    ) -> runs.StoredRun:
        """Begin a run, or return the one that the same `request` began. What the run itself finds
        wrong ends it as failed. Raises `ConfigError` for names that mean no certificate, or several
        where one is meant, and `StateError`.
        """
        workspace = _meant(self.workspace(), kind, names)
        run = Run(who, self.follow())
        work = RunInProgress(workspace, run, RunOptions(kind, source, not names, plan))
        with self._guard:
            if self._is_ending:
                said = Text("certferry is ending: it starts no run any more")
                raise errors.StateUnavailable(said, hint=Text("try again when it is back"))
            if len(self._running) >= self.most:
                said = Text("{count} runs are in progress: no more begin", count=self.most)
                raise errors.StateUnavailable(said, hint=Text("wait for one to end, or stop one"))
            stored = work.writer.begin(request)
            if work.writer.stored is not None:
                going_on = aside(partial(self._carry_out, work, stored.id), f"run {stored.id}")
                self._running[stored.id] = run, going_on
        return stored

    def stop(self, run: str) -> bool:
        """Have a run of this process come to a safe point; return whether there is such a run."""
        with self._guard:
            found = self._running.get(run)
        if found is not None:
            found[0].stop()
        return found is not None

    def stop_all(self, within: timedelta = ENDING) -> bool:
        """Have every run come to a safe point, start none any more, and wait so long for their
        ends; return whether all have ended.
        """
        with self._guard:
            self._is_ending = True
            running = tuple(self._running.values())
        for run, _ in running:
            run.stop()
        return not wait([end for _, end in running], within.total_seconds()).not_done

    def wait_for(self, run: str) -> None:
        """Wait for the end of a run of this process."""
        with self._guard:
            found = self._running.get(run)
        if found is not None:
            wait([found[1]])

    def _carry_out(self, work: RunInProgress, name: str) -> None:
        options = work.options
        try:
            if options.source is runs.RunSource.SCHEDULE and options.is_whole:
                warn_of_state(work.workspace, to_channels=True)
            work.carry_out()
        except errors.Interrupted:
            pass  # its row says so
        except errors.Reported as error:
            problem = _with_hint(error.message, error.hint)
            _log.warning(Text("run {run}: {problem}", run=name, problem=problem))
        except Exception:  # noqa: BLE001 - in a thread of its own, which ends here
            _log.exception(Text("unexpected error"))
        finally:
            work.writer.end(runs.RunState.FAILED)  # if nothing before this has stored an end
            with self._guard:
                self._running.pop(name, None)
            self.ended()


def _meant(workspace: Workspace, kind: runs.RunKind, names: Sequence[str]) -> Workspace:
    """Return the workspace for the certificates that are named. Raises `ConfigError`."""
    declared = workspace.settings.certificates
    if kind is runs.RunKind.ROLLBACK:
        if len(names) != 1:
            raise errors.ConfigError(Text("name the one certificate to roll back"))
        return workspace.part_for([the_one_meant(declared, names[0])])
    if kind is runs.RunKind.RENEW and not names:
        raise errors.ConfigError(Text("name the certificates to renew"))
    if not names:
        return workspace
    meant = select(declared, names)
    if kind is runs.RunKind.RENEW:
        for one in meant:
            must_be_renewed_here(one)
    return workspace.part_for(meant)


def warn_of_state(workspace: Workspace, *, to_channels: bool) -> None:
    """Warn of a lost state and of undeclared certificates in it; `to_channels` too where a run is
    about to issue everything again, and no operator reads along.
    """
    settings = workspace.settings
    with suppress(errors.CertferryError):
        lost = lost_state(settings, workspace.state)
        if lost is not None and to_channels and settings.channels:
            workspace.notifications(Run()).notify_unremembered(lost)
        moment = workspace.state.now()
        lapsed = [one.problem for one in undeclared(settings, workspace.state, moment)]
        for problem in lapsed if lost is None else [lost.problem(), *lapsed]:
            _log.warning(Text("{problem}; {hint}", problem=problem.message, hint=problem.hint))


def fail_of_wrong_file(
    error: errors.ConfigError,
    options: RunOptions,
    path: Path | None,
    environ: Mapping[str, str],
    *,
    language: str,
) -> None:
    """Store a run that could not begin as failed, where the wrong file still names the state;
    notify the heartbeat, and the channels once a day.
    """

    def ends() -> SyncReport:
        raise error

    with _salvaged(path, environ, language) as (workspace, has_state):
        if workspace is None:
            return
        work = RunInProgress(workspace, Run(who_runs(workspace.settings)), options)
        notifications = workspace.notifications(work.run)
        with suppress(errors.ConfigError), work.recorded() if has_state else nullcontext():
            notifications.notify_of(ends, is_whole=True)
        if not has_state:
            notifications.notify_unremembered(error)


def notify_in_spite_of_it(
    error: errors.CertferryError, path: Path | None, environ: Mapping[str, str], *, language: str
) -> None:
    """Notify the channels of an earlier run's end, though the file is wrong by now."""
    with _salvaged(path, environ, language) as (workspace, has_state):
        if workspace is None:
            return
        notifications = workspace.notifications(Run())
        if has_state:
            notifications.notify_failure(error)
        else:
            notifications.notify_unremembered(error)


@contextmanager
def _salvaged(
    path: Path | None, environ: Mapping[str, str], language: str
) -> Iterator[tuple[Workspace | None, bool]]:
    found = salvaged(path, environ)
    if found is None:
        yield None, False
        return
    settings, has_state = found
    with Workspace(settings, language=language) as workspace:
        yield workspace, has_state
