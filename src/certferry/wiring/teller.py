"""Tells operators and monitors what became of a session's runs. Where the file declares no channel,
nothing more is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from certferry.adapters.state.connect import may_exist
from certferry.config.model import Settings
from certferry.core.assessment.notices import ChannelState, Subject, Topic
from certferry.core.assessment.notifications import having
from certferry.core.planning.report import SyncReport
from certferry.errors import CertferryError, Interrupted, LeaseHeld, LeaseLost, StateError
from certferry.ports.notifier import Answered, Sent
from certferry.ports.progress import Pause
from certferry.ports.state import StateStore
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.wiring.channels import Channels
    from certferry.wiring.monitoring import Monitor
    from certferry.wiring.notices import NoticeKeeper
    from certferry.wiring.unremembered import Unremembered

_log = logging.getLogger(__name__)


class Teller:
    """Tells through the channels of some settings. `state` is opened when there is something to
    keep; `language` is the operator's.
    """

    def __init__(
        self, settings: Settings, state: Callable[[], StateStore], *, pause: Pause, language: str
    ) -> None:
        self._settings = settings
        self._state = state
        self._pause = pause
        self._language = language

    def telling(self, run: Callable[[], SyncReport], *, is_whole: bool = False) -> SyncReport:
        """Make a run, and tell operators and monitors what it has left, or what ended it before
        that. Neither fails the run: what is wrong with a channel is a warning. `is_whole`: the run
        is for every certificate that is declared.
        """
        monitor = self._monitor(is_whole=is_whole)
        report: SyncReport | None = None
        try:
            with self._under_way():
                if monitor is not None:
                    monitor.begin()
                report = self._report_of(run, monitor)
                told = self._told(report) if report.complete else report
                if monitor is not None:
                    monitor.end(told)
                return told
        except (KeyboardInterrupt, Interrupted):
            if report is None:
                raise
            return replace(report, complete=False)  # the operator at the keyboard still sees it

    def _report_of(self, run: Callable[[], SyncReport], monitor: Monitor | None) -> SyncReport:
        """Make a run, and tell what ended it before it had a report. Another run at work is no
        trouble; the first run of all has an operator before it.
        """
        try:
            return run()
        except (CertferryError, LeaseLost) as error:
            if self._has_a_state and not isinstance(error, LeaseHeld | LeaseLost):
                self.tell_failure(error)
            if monitor is not None:
                monitor.fail(error)
            raise

    def _under_way(self) -> AbstractContextManager[None]:
        """Keep that a run is under way. The first run of all makes its state itself."""
        if not self._has_a_state:
            return nullcontext()
        from certferry.reconcile.unended_runs import in_progress
        from certferry.wiring.clock import now

        return in_progress(self._state, now)

    def tell_failure(self, error: CertferryError) -> None:
        """Keep, and tell through the channels, what ended a run. Where that cannot be kept, it is
        told once a day.
        """
        if _tell(partial(self._listener().tell_failure, error)) is not None:
            self.tell_unremembered(error)

    def tell_unremembered(self, error: CertferryError) -> None:
        """Tell through the channels what ended a run, once a day, without a state."""
        if self._settings.channels:
            _tell(partial(self._unremembered.tell, error))

    def stands_failed(self) -> bool:
        """Tell whether the trouble of a whole run is kept."""
        try:
            stood = self._state().notices()
        except StateError:
            return False
        return any(one.subject == Subject() and one.topic is Topic.TROUBLE for one in stood)

    def channel_states(self) -> Mapping[str, ChannelState]:
        """Return what is remembered of the channels of notifications."""
        return {name: self._state().channel(name) for name in self._settings.channels}

    @property
    def channels(self) -> Channels:
        """The channels of notifications, connected anew: a session may outlive many runs."""
        from certferry.wiring.channels import Channels

        return Channels(self._settings, self._state, pause=self._pause, language=self._language)

    @property
    def _has_a_state(self) -> bool:
        return may_exist(self._settings.state.path)

    @property
    def _unremembered(self) -> Unremembered:
        from certferry.wiring.unremembered import Unremembered

        return Unremembered(self._settings, pause=self._pause, language=self._language)

    def _told(self, report: SyncReport) -> SyncReport:
        """Keep and tell what a run has left, and return its report with what prevented that."""
        problem = report.problem or _tell(partial(self._tell_report, report))
        if problem is None:
            return report
        self.tell_failure(problem)
        return replace(report, problem=problem)

    def _tell_report(self, report: SyncReport) -> Mapping[str, Answered]:
        if not self._settings.channels:
            return self._listener().tell(report)
        before = self._unremembered
        told = before.last()
        if told is not None:  # the state remembers again, so that its end is told
            for name in self._settings.channels:
                self._state().update_channel(name, partial(having, told))
            before.forget()  # killed while it is sent, it is not told twice
        return self._listener().tell(report)

    def _listener(self) -> Channels | NoticeKeeper:
        """Return the channels, or, where the file has none, the keeper of notices for `status`."""
        from certferry.wiring.notices import NoticeKeeper

        if self._settings.channels:
            return self.channels
        return NoticeKeeper(self._settings, self._state)

    def _monitor(self, *, is_whole: bool) -> Monitor | None:
        if not self._settings.monitoring.names:
            return None
        from certferry.wiring.monitoring import Monitor

        return Monitor(
            self._settings,
            self._state,
            pause=self._pause,
            language=self._language,
            is_whole=is_whole,
        )


def _tell(tell: Callable[[], Mapping[str, Answered]]) -> CertferryError | None:
    """Tell, and warn of channels that took no message; return what was wrong with the state."""
    try:
        answers = tell()
    except StateError as error:
        return error
    except CertferryError as error:
        _log.warning(
            Text(
                "certferry could not record this run, and notified no channel: {problem}",
                problem=error.message,
            )
        )
        return None
    for name, answer in answers.items():
        if not isinstance(answer, Sent):
            _log.warning(Text("notify {channel}: {problem}", channel=name, problem=answer.problem))
    return None
