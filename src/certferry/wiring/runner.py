"""Carry out a run, store the run's row (`run_row.py`), and notify operators and monitors. Every run
goes through here, whether a terminal, the schedule, another client's hook, the console or the API
starts the run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

from certferry import errors
from certferry.core.observed import stored_runs
from certferry.core.planning.digest import must_be_confirmed
from certferry.core.planning.plan import Plan
from certferry.core.planning.report import UNEXPECTED, SyncReport
from certferry.errors import Problem
from certferry.ports.progress import Progress, each_of, no_listener
from certferry.present import documents
from certferry.reconcile.by_hand import go_back, withdraw_by_hand
from certferry.reconcile.reads import Rehearsed, plans_to_confirm, rehearse
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.retries import ScheduledRun
from certferry.reconcile.run import Ports, Run, in_thread
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.accounts import forget_refusals
from certferry.wiring.authorities import finish_revocations, rehearsal_issuer, rehearsing
from certferry.wiring.looks import looking_around
from certferry.wiring.notifications import salvaged
from certferry.wiring.recorded import lost_state, undeclared, with_undeclared
from certferry.wiring.run_row import RunOptions, RunWriter, with_hint
from certferry.wiring.selection import must_be_renewed_here, must_declare, select, the_one_meant
from certferry.wiring.workspace import Workspace, who_runs

ENDING = timedelta(seconds=9)
"""Time for stopped runs to clean up and end, because the process must end within 10 seconds."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class RunInProgress:
    """A run over a workspace, together with the run's row."""

    workspace: Workspace  #: The settings, limited to the run's certificates, and the state.
    run: Run  #: The stop and the listener of the run.
    options: RunOptions  #: The work of the run.
    #: The current plans, as compared with a confirmed plan; shown after `PlanChanged`.
    plans: Sequence[Plan] = field(default=(), init=False)
    writer: RunWriter = field(init=False)  #: Writes the run's row.

    def __post_init__(self) -> None:
        self.writer = RunWriter(self.workspace, self.options, self.run.who)
        self.run.progress = each_of(self.writer.listener, self.run.progress)

    def carry_out(self) -> SyncReport | Rehearsed:
        """Carry out the kind of run in the options. Raises the errors of `sync`, `rehearse` and
        `roll_back`.
        """
        match self.options.kind:
            case stored_runs.RunKind.REHEARSE:
                return self.rehearse()
            case stored_runs.RunKind.ROLLBACK:
                return self.roll_back()
            case _:
                return self.sync()

    def sync(self) -> SyncReport:
        """Bring the world to the declared state, notify of the result, and return the report.
        Raises `ConfigError`, `StateError`, and `PlanChanged` if the plan differs from the confirmed
        plan: nothing was changed then, and `plans` has the current plans.
        """
        with self.recorded() as ended:
            confirmed = {} if self.options.plan is None else self._confirmed(self.options.plan)
            # `PlanChanged` is raised before channels are notified: only the operator who confirmed
            # the plan should hear of the change.
            report = self.workspace.notifications(self.run).notify_of(
                partial(self._sync, confirmed), is_whole=self.options.is_whole
            )
            ended(report)
        return self._stored(report)

    def rehearse(self) -> Rehearsed:
        """Order due certificates at the staging directory, discard the certificates, and return the
        results. Stored certificates and targets stay as they are; challenge records are removed
        again. Raises `ConfigError` and `StateError`.
        """
        with self.recorded() as ended:
            at_staging = rehearsing(self.workspace.settings)
            ports = self._connect(declares=False)
            issuer = rehearsal_issuer(at_staging, ports)
            certificates = self.workspace.certificates
            rehearsed = rehearse(ports, certificates, issuer, renew=self._renews)
            ended(rehearsed.report, documents.of_rehearsal(rehearsed.report, rehearsed.plans))
        return rehearsed

    def roll_back(self) -> SyncReport:
        """Bind the previous certificate again, notify of the result, and return the report. Raises
        the errors of `withdraw_by_hand`; channels are not notified of these errors.
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
        """Store everything buffered in the state. Return the report, with the error if storing
        fails.
        """
        try:
            self.workspace.state.flush()
        except errors.CertferryError as error:
            return replace(report, problem=report.problem or error)
        return report

    def _confirmed(self, digest: str) -> dict[str, str]:
        """Return the digest of each lineage's confirmed plan, by lineage. Raises `PlanChanged`."""
        ports = self.workspace.connect(self.run, declares=False)
        certificates = self.workspace.certificates
        self.plans, first = plans_to_confirm(ports, certificates, renew=self._renews)
        must_be_confirmed(self.plans, digest)
        return first

    def _sync(self, confirmed: dict[str, str]) -> SyncReport:
        settings, options = self.workspace.settings, self.options
        if options.source is stored_runs.RunSource.HOOK:
            return self._engine().sync(settings.certificates, options.wait_limit)
        must_declare(settings)
        with looking_around(self.workspace, self.run, is_whole=options.is_whole):
            if options.source is stored_runs.RunSource.SCHEDULE:
                retrying = ScheduledRun(self._engine, self.run.pause, options.wait_limit)
                report = retrying.sync(settings.certificates, renew=self._renews)
            else:
                engine = self._engine(confirmed)
                report = engine.sync(settings.certificates, options.wait_limit, renew=self._renews)
        return with_undeclared(report, settings, self.workspace.state)

    @property
    def _renews(self) -> bool:
        return self.options.renews or self.options.kind is stored_runs.RunKind.RENEW

    def _connect(self, *, declares: bool = True) -> Ports:
        """Connect the ports, and store the beginning of the run if not stored yet. In the first run
        of an installation, there is no state to store the beginning in until the ports connect.
        """
        ports = self.workspace.connect(self.run, declares=declares)
        self.writer.try_to_begin()
        return ports

    def _engine(self, confirmed: Mapping[str, str] | None = None) -> Reconciler:
        ports = self._connect()
        if self.options.plan is None:  # plans do not contain revocations
            finish_revocations(self.workspace.settings, ports)
        if self.options.quota_raised:
            forget_refusals(ports.targets.values())
        return Reconciler(ports, confirmed or {})

    @contextmanager
    def recorded(self) -> Iterator[Callable[..., None]]:
        """Store the beginning and the end of the run carried out in a `with` block. The block
        passes the run's report to the yielded function. If the block raises, store the error.
        """
        try:
            self.writer.try_to_begin()
            yield self._end
        except (KeyboardInterrupt, errors.Interrupted):
            self.writer.end(stored_runs.RunState.STOPPED)
            raise
        except errors.Reported as error:
            self._fail(error.problem())
            raise
        except BaseException:
            message = Text("a bug in certferry; its log has the traceback")
            self._fail(Problem(UNEXPECTED, message))
            raise

    def _fail(self, problem: Problem) -> None:
        self.writer.note_problem(problem)
        self.writer.end(stored_runs.RunState.FAILED)

    def _end(self, report: SyncReport, document: documents.Document | None = None) -> None:
        state = stored_runs.RunState.FAILED
        if not report.complete:
            state = stored_runs.RunState.STOPPED
        elif report.has_succeeded and not report.leaves_failures:
            state = stored_runs.RunState.DONE
        self.writer.end(state, stored_runs.RunReport(document or documents.of_report(report)))


@dataclass(eq=False)
class Runner:
    """Starts runs in threads of their own, over the current workspace. Leases keep the runs apart.
    Safe to use from any thread.
    """

    #: Returns the workspace for the next run.
    workspace: Callable[[], Workspace]
    #: Returns the listener for the events of a new run.
    follow: Callable[[], Progress] = lambda: no_listener
    #: Called after each run.
    ended: Callable[[], None] = lambda: None
    #: Maximum number of runs at once: each run has threads of its own, and runs beyond the maximum
    #: would mostly wait for leases.
    most: int = 20
    #: The runs in progress and their threads, by id.
    _running: dict[str, tuple[Run, Future[None]]] = field(default_factory=dict, init=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False)
    _is_ending: bool = field(default=False, init=False)

    def start(
        self,
        kind: stored_runs.RunKind,
        names: Sequence[str],
        *,
        who: str,
        source: stored_runs.RunSource,
        plan: str | None = None,
        request: str | None = None,
        renews: bool = False,
    ) -> stored_runs.StoredRun:
        """Begin a run; if this `request` already began a run, return that run. An error inside the
        run ends the run as failed. Raises `ConfigError` for names matching no certificate, or
        several certificates where the kind of run takes one, and `StateError`.
        """
        workspace = _meant(self.workspace(), kind, names)
        run = Run(who, self.follow())
        options = RunOptions(kind, source, not names, plan, renews=renews)
        work = RunInProgress(workspace, run, options)
        with self._guard:
            if self._is_ending:
                message = Text("certferry is stopping, and starts no more runs")
                raise errors.StateUnavailable(
                    message, hint=Text("try again after certferry has restarted")
                )
            if len(self._running) >= self.most:
                message = Text(
                    "{count} runs are in progress, and no more can start", count=self.most
                )
                raise errors.StateUnavailable(
                    message, hint=Text("wait for a run to end, or stop a run")
                )
            stored = work.writer.begin(request)
            if work.writer.stored is not None:
                going_on = in_thread(partial(self._carry_out, work, stored.id), f"run {stored.id}")
                self._running[stored.id] = run, going_on
        return stored

    def stop(self, run: str) -> bool:
        """Ask a run of this process to stop at a safe point. Return whether the process has such a
        run.
        """
        with self._guard:
            running = self._running.get(run)
        if running is not None:
            running[0].stop()
        return running is not None

    def stop_all(self, within: timedelta = ENDING) -> bool:
        """Refuse new runs, ask every run to stop at a safe point, and wait at most `within`. Return
        whether all runs have ended.
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
            running = self._running.get(run)
        if running is not None:
            wait([running[1]])

    def _carry_out(self, work: RunInProgress, name: str) -> None:
        options = work.options
        try:
            if options.source is stored_runs.RunSource.SCHEDULE and options.is_whole:
                warn_of_state(work.workspace, to_channels=True)
            work.carry_out()
        except errors.Interrupted:
            pass  # the run's row says so
        except errors.Reported as error:
            problem = with_hint(error.message, error.hint)
            _log.warning(Text("run {run}: {problem}", run=name, problem=problem))
        except Exception:  # noqa: BLE001 - the last frame of the run's thread
            _log.exception(Text("unexpected error"))
        finally:
            work.writer.end(stored_runs.RunState.FAILED)  # only if no end is stored yet
            with self._guard:
                self._running.pop(name, None)
            self.ended()


def _meant(workspace: Workspace, kind: stored_runs.RunKind, names: Sequence[str]) -> Workspace:
    """Return a workspace limited to the named certificates. Raises `ConfigError`."""
    declared = workspace.settings.certificates
    if kind is stored_runs.RunKind.ROLLBACK:
        if len(names) != 1:
            raise errors.ConfigError(Text("give the one certificate to roll back"))
        return workspace.part_for([the_one_meant(declared, names[0])])
    if kind is stored_runs.RunKind.RENEW and not names:
        raise errors.ConfigError(Text("give the certificates to renew"))
    if not names:
        return workspace
    meant = select(declared, names)
    if kind is stored_runs.RunKind.RENEW:
        for desired in meant:
            must_be_renewed_here(desired)
    return workspace.part_for(meant)


def warn_of_state(workspace: Workspace, *, to_channels: bool) -> None:
    """Log warnings about a lost state and about undeclared certificates in the state. With
    `to_channels`, also notify the channels of a lost state, because the run will issue every
    certificate again and no operator reads the log. Errors of the state are ignored.
    """
    settings = workspace.settings
    with suppress(errors.CertferryError):
        lost = lost_state(settings, workspace.state)
        if lost is not None and to_channels and settings.channels:
            workspace.notifications(Run()).notify_unremembered(lost)
        moment = workspace.state.now()
        lapsed = [
            certificate.problem for certificate in undeclared(settings, workspace.state, moment)
        ]
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
    """Report a wrong configuration file to the heartbeat and the channels that can still be read
    from the file. If the file still names the state, store a failed run; otherwise notify the
    channels at most once a day. Do nothing if no settings can be read.
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


def notify_despite_wrong_file(
    error: errors.CertferryError, path: Path | None, environ: Mapping[str, str], *, language: str
) -> None:
    """Notify of `error` through the channels that can still be read from a wrong file."""
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
    salvage = salvaged(path, environ)
    if salvage is None:
        yield None, False
        return
    settings, has_state = salvage
    with Workspace(settings, language=language) as workspace:
        yield workspace, has_state
