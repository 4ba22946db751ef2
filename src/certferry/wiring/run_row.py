"""The row of a run in the state: the beginning, the events, the progress, and the end."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from certferry import errors
from certferry.core import events
from certferry.core.observed import stored_runs
from certferry.core.redaction import without_secrets
from certferry.errors import Problem
from certferry.ports.progress import Progress, each_of
from certferry.ports.run_store import EVENTS_OF_A_RUN
from certferry.ports.state import StateStore
from certferry.present.progress import entry_of, news
from certferry.reconcile.run import WaitLimit, in_thread, recorded_as_begun
from certferry.text import Text
from certferry.wiring.clock import now
from certferry.wiring.state import may_be_there
from certferry.wiring.workspace import Workspace

SOON = 0.3
"""Seconds during which events are collected, before all of them are written together."""

AGAIN, ENDS_TRIED = 10.0, 360
"""If the state refuses the end of a run: seconds until the next try, and maximum number of tries
(an hour in all). Until the end is stored, the run counts as killed.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The work of a run, and the place where the run was started."""

    #: The kind of work.
    kind: stored_runs.RunKind = stored_runs.RunKind.SYNC
    #: Where the run was started.
    source: stored_runs.RunSource = stored_runs.RunSource.COMMAND
    #: Whether the run is for every declared certificate; monitors count only such runs.
    is_whole: bool = True
    #: The digest of a plan, to be carried out without other writes; `None` for any plan.
    plan: str | None = None
    #: How long the run waits for changes.
    wait_limit: WaitLimit = field(default_factory=WaitLimit)
    #: Whether a rehearsal also orders certificates that are not due.
    renews: bool = False
    #: Whether to upload again to accounts that refused uploads as full.
    quota_raised: bool = False


class RunWriter:
    """Writes the row of a run: the beginning, the events (see `SOON`), and the end. If the state
    refuses a write, the run goes on. Only `begin` raises the error.
    """

    def __init__(
        self, workspace: Workspace, options: RunOptions, who: str, *, again: float = AGAIN
    ) -> None:
        self._workspace = workspace
        self._options = options
        self._again = again
        self._lineages = tuple(desired.lineage for desired in workspace.certificates)
        self._who = who
        self._asked_at = now()
        self._events: list[stored_runs.RunEvent] = []
        self._done: set[str] = set()
        self._count = 0
        self._stored_progress = (0, 0)
        self._numbers = itertools.count(1)
        self._guard, self._turn = threading.Lock(), threading.Lock()
        self._is_writing = False
        self._over = threading.Event()
        self._ending = ExitStack()
        self._gave_up = self._has_ended = False
        self.stored: stored_runs.StoredRun | None = None
        self.listener: Progress = each_of(news(self._note), self._count_done)

    def try_to_begin(self) -> None:
        """Store the beginning of the run if a state exists and accepts the row."""
        settings = self._workspace.settings.state
        if self.stored is not None or self._gave_up or not may_be_there(settings):
            return
        try:
            self.begin()
        except errors.CertferryError as error:  # the run itself reports the error
            self._gave_up = True
            _log.debug("%s", error.message)

    def begin(self, request: str | None = None) -> stored_runs.StoredRun:
        """Store the beginning of the run and return the run's row; if this `request` already began
        a run, return that run's row. Raises `ConfigError` and `StateError`.
        """
        options = self._options
        with ExitStack() as ending:
            state = self._workspace.state
            begun = ending.enter_context(recorded_as_begun(lambda: state))
            mine = stored_runs.StoredRun(
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
        """Add the problem that ended the run as the last event, named by the problem's code."""
        message = with_hint(problem.message, problem.hint)
        self._add("", str(problem.code), message, stored_runs.RunState.FAILED.value)

    def end(self, state: stored_runs.RunState, report: stored_runs.RunReport | None = None) -> None:
        """Store the run's end after the run's events. Only the first call counts. If the state
        refuses the end, a thread tries again (`AGAIN`).
        """
        self._over.set()
        self.try_to_begin()  # the run may have made the state
        if self.stored is None or self._has_ended:
            return
        store = partial(self._store_end, self.stored.id, state, self._now(), report)
        if not store():
            in_thread(partial(self._store_later, store), "the end of a run")
        self._ending.close()
        self._has_ended = True

    def _store_end(
        self,
        run: str,
        state: stored_runs.RunState,
        ended_at: datetime,
        report: stored_runs.RunReport | None,
    ) -> bool:
        self._write()
        try:
            self._state.save_run_end(run, state, ended_at, report)
        except errors.CertferryError as error:
            _log.debug("%s", error.message)
            return False
        return True

    def _store_later(self, store: Callable[[], bool]) -> None:
        """Retry storing the end until the state accepts the end, the tries run out, or the process
        ends.
        """
        for _ in range(ENDS_TRIED):
            time.sleep(self._again)
            if store():
                return

    def _note(self, event: events.Activity | events.StepEnded) -> None:
        entry = entry_of(event)
        place = (entry.outcome, entry.target, entry.domain)
        self._add(event.lineage, entry.event, with_hint(entry.detail, entry.hint), *place)

    def _count_done(self, event: events.Event) -> None:
        """Count the certificates that are done."""
        with self._guard:
            match event:
                case events.Begun(count):
                    # A scheduled run sends another `Begun` for the certificates to try again. If
                    # that count is smaller, the certificates already done still count.
                    if count >= self._count:
                        self._done.clear()
                    self._count = max(self._count, count)
                case events.LineageEnded(lineage):
                    self._done.add(lineage)
                case events.Activity(lineage):
                    self._done.discard(lineage)
                case _:
                    return
            if not self._must_begin_writing():
                return
        in_thread(self._write_on, "progress of a run")

    def _must_begin_writing(self) -> bool:
        """Return whether the caller must start a thread that writes. After `True`, the thread
        counts as started. Return `False` while a thread writes, and after the run's end.
        """
        if self._is_writing or self._over.is_set():
            return False
        self._is_writing = True
        return True

    @property
    def _progress(self) -> tuple[int, int]:
        return (len(self._done), self._count)

    def _add(
        self,
        lineage: str,
        event: str,
        text: Text,
        outcome: str | None = None,
        target: str | None = None,
        domain: str | None = None,
    ) -> None:
        shown, at = without_secrets(text), self._now()
        with self._guard:
            if len(self._events) >= EVENTS_OF_A_RUN:  # the state has been unusable for long
                return
            number = next(self._numbers)
            self._events.append(
                stored_runs.RunEvent(number, at, lineage, event, shown, outcome, target, domain)
            )
            if not self._must_begin_writing():
                return
        in_thread(self._write_on, "events of a run")

    def _write_on(self) -> None:
        """Write events and progress in a thread of this object, until `SOON` passes without a new
        event or progress. The run's threads need not wait for the state.
        """
        while not self._over.wait(SOON):
            with self._guard:
                if not self._events and self._progress == self._stored_progress:
                    self._is_writing = False
                    return
            self._write()

    def _write(self) -> None:
        with self._turn:  # a single writer keeps the events in order
            with self._guard:
                pending, progress = tuple(self._events), self._progress
            if self.stored is None:
                return
            try:
                if pending:
                    self._state.append_run_events(self.stored.id, pending)
                if progress != self._stored_progress:
                    self._state.save_run_progress(self.stored.id, *progress)
            except errors.CertferryError as error:
                _log.debug("%s", error.message)
                return
            with self._guard:
                del self._events[: len(pending)]
                self._stored_progress = progress

    @property
    def _state(self) -> StateStore:
        return self._workspace.state

    def _now(self) -> datetime:
        with suppress(errors.CertferryError):
            return now() if self.stored is None else self._state.now()
        return now()


def with_hint(message: Text, hint: Text | None) -> Text:
    """Return a message with a hint in one sentence."""
    return message if hint is None else Text("{said} (hint: {hint})", said=message, hint=hint)
