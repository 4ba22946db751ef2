"""Notify operators and monitors of runs: what a run has left, what ended it before it had a report,
and that it could not begin, since its file is wrong. Where the file declares no channel, nothing
more is loaded.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from certferry.adapters.state.connect import connect, empty_state, may_exist
from certferry.config.load import salvage
from certferry.config.model import Monitoring, Settings
from certferry.config.secrets import SecretReference
from certferry.core.assessment.notices import (
    ChannelState,
    Delivery,
    Notices,
    Subject,
    Topic,
    failed_run,
    noticed,
    without_channels,
)
from certferry.core.planning.report import SyncReport
from certferry.errors import (
    CertferryError,
    ConfigError,
    Interrupted,
    LeaseHeld,
    LeaseLost,
    StateError,
)
from certferry.ports.notifier import Sent
from certferry.ports.state import StateStore
from certferry.reconcile.run import Change, Run, change_notices, recorded_as_begun
from certferry.text import Text
from certferry.wiring.clock import now

if TYPE_CHECKING:
    from certferry.adapters.files.stamp import Stamp
    from certferry.wiring.channels import Channels
    from certferry.wiring.monitoring import Monitor

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Notified:
    """What was wrong with the state, and whether a channel took a message."""

    problem: StateError | None = None
    is_sent: bool = False


class RunNotifications:
    """Notifies through the channels of some settings. `state` is opened when there is something to
    store; `language` is the operator's.
    """

    def __init__(
        self, settings: Settings, state: Callable[[], StateStore], *, run: Run, language: str
    ) -> None:
        self._settings = settings
        self._state = state
        self._run = run
        self._language = language

    def notify_of(self, run: Callable[[], SyncReport], *, is_whole: bool = False) -> SyncReport:
        """Make a run, and notify operators and monitors of what it has left, or what ended it
        before that. Neither fails the run: what is wrong with a channel is a warning. `is_whole`:
        the run is for every certificate that is declared.
        """
        monitor = self._monitor(is_whole=is_whole)
        report: SyncReport | None = None
        try:
            # The first run of all makes its state itself.
            begun = recorded_as_begun(self._state, now) if self._has_a_state else nullcontext()
            with begun:
                if monitor is not None:
                    monitor.begin()
                report = self._report_of(run, monitor)
                if report.complete:
                    report = self._notified(report)
                if monitor is not None:
                    monitor.end(report)
                return report
        except (KeyboardInterrupt, Interrupted):
            if report is None:
                raise
            return replace(report, complete=False)  # the operator at the keyboard still sees it

    def _report_of(self, run: Callable[[], SyncReport], monitor: Monitor | None) -> SyncReport:
        """Make a run, and notify of what ended it before it had a report. Another run at work is no
        trouble; the first run of all has an operator before it.
        """
        try:
            return run()
        except (CertferryError, LeaseLost) as error:
            if self._has_a_state and not isinstance(error, LeaseHeld | LeaseLost):
                self.notify_failure(error)
            if monitor is not None:
                monitor.fail(error)
            raise

    def _notified(self, report: SyncReport) -> SyncReport:
        """Notify of what a run has left, and return its report with what prevented that."""
        problem = report.problem or self._notify(partial(self._left_by, report)).problem
        if problem is None:
            return report
        self.notify_failure(problem)
        return replace(report, problem=problem)

    def _left_by(self, report: SyncReport, state: StateStore) -> Change:
        """Return how a run changes what stands."""
        if self._settings.channels:
            self._remember_last_message(state)
        # A run with nothing to do reads nothing more.
        all_end = any(Topic.DEADLINE in table.on for table in self._settings.channels.values())
        lineages = [one.lineage for one in report.lineages if all_end or not one.ok]
        versions = {lineage: state.versions(lineage) for lineage in lineages}
        declared = [desired.lineage for desired in self._settings.declared]
        names = [*self._settings.channels, *self._settings.monitoring.names]

        def change(before: Notices) -> Notices:
            known = without_channels(before, names)
            return noticed(report, known, now(), versions=versions, declared=declared)

        return change

    def _remember_last_message(self, state: StateStore) -> None:
        """Store what the channels were sent without a state, so that its end is sent as well."""
        from certferry.core.assessment.notices import having

        stamp = self._stamp
        last = stamp.last()
        if last is not None:
            sent = Delivery(Topic.TROUBLE, Subject(), last.at, last.at, last.code)
            for name in self._settings.channels:
                state.update_channel(name, lambda one, _: (having(sent, one), None))
            stamp.remove()  # killed while it is sent, it is not sent twice

    def notify_failure(self, error: CertferryError) -> None:
        """Store what ended a run, and notify of it; where that cannot be stored, once a day."""
        if self._notify(lambda _: partial(failed_run, error, now=now())).problem is not None:
            self.notify_unremembered(error)

    def notify_unremembered(self, error: CertferryError) -> None:
        """Notify the channels of trouble that no state can remember, since the state or the
        configuration is the trouble: once a day, by a stamp beside the state, else beside the
        configuration, else in the run directory. Where none of them takes a file, each run does.
        """
        from certferry.core.assessment.notices import A_DAY

        if not self._settings.channels:
            return
        stamp, moment = self._stamp, now()
        last = stamp.last()
        is_known = last is not None and last.code in {"", error.code}
        if last is not None and is_known and timedelta(0) <= moment - last.at < A_DAY:
            return
        stamp.put(error.code, moment)  # killed while it is sent, it is not sent twice
        with closing(empty_state()) as state:
            elsewhere = RunNotifications(
                self._settings, lambda: state, run=self._run, language=self._language
            )
            notified = elsewhere._notify(lambda _: partial(failed_run, error, now=moment))
        if not notified.is_sent:
            stamp.remove()

    def stands_failed(self) -> bool:
        """Return whether the trouble of a whole run is stored."""
        try:
            stood = self._state().notices()
        except StateError:
            return False
        return any(one.subject == Subject() and one.topic is Topic.TROUBLE for one in stood)

    def channel_states(self) -> Mapping[str, ChannelState]:
        """Return what is stored of the channels of notifications."""
        return {name: self._state().channel(name) for name in self._settings.channels}

    @property
    def channels(self) -> Channels:
        """The channels of notifications, connected anew: a workspace may outlive many runs."""
        from certferry.wiring.channels import Channels

        return Channels(self._settings, self._state, run=self._run, language=self._language)

    @property
    def _has_a_state(self) -> bool:
        return may_exist(self._settings.state.path)

    @property
    def _stamp(self) -> Stamp:
        from certferry.adapters.files.stamp import Stamp

        settings = self._settings
        return Stamp(_directories(settings), str(settings.path and settings.path.absolute()))

    def _notify(self, changing: Callable[[StateStore], Change]) -> _Notified:
        """Notify, and warn of channels that took no message."""
        try:
            state = self._state()
            change = changing(state)
            if not self._settings.channels:
                change_notices(state, change)
                return _Notified()
            answers = self.channels.notify(change)
        except StateError as error:
            return _Notified(error)
        except CertferryError as error:
            said = Text("certferry could not record this run, and notified no channel: {problem}")
            _log.warning(said.filled(problem=error.message))
            return _Notified()
        for name, answer in answers.items():
            if not isinstance(answer, Sent):
                _log.warning(
                    Text("notify {channel}: {problem}", channel=name, problem=answer.problem)
                )
        return _Notified(is_sent=any(isinstance(answer, Sent) for answer in answers.values()))

    def _monitor(self, *, is_whole: bool) -> Monitor | None:
        if not self._settings.monitoring.names:
            return None
        from certferry.wiring.monitoring import Monitor

        pause, language = self._run.pause, self._language
        return Monitor(
            self._settings, self._state, pause=pause, language=language, is_whole=is_whole
        )


_RUN_OF_ROOT = Path("/run")
"""Survives a file system that the system has made read-only after an error of its disk."""


def _directories(settings: Settings) -> Iterator[Path]:
    yield settings.state.path.absolute().parent
    if settings.path is not None:
        yield settings.path.absolute().parent
    if os.geteuid() == 0:
        yield _RUN_OF_ROOT
    elif os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(os.environ["XDG_RUNTIME_DIR"])


_HARMLESS = "dingtalk feishu wecom serverchan pushplus bark telegram webhook email"
"""Channels that send a message to an address and do nothing else. `command` runs a program, and who
knows what `apprise` and the channels of other packages do.
"""


def notify_of_wrong_file(
    error: ConfigError, path: Path | None, environ: Mapping[str, str], *, language: str
) -> None:
    """Notify the heartbeat, and the channels where there is a state already, of what is wrong with
    the file. Where it is not known what the state is, the channels are notified once a day.
    """

    def ends() -> SyncReport:
        raise error

    with _notifications_by(path, environ, language) as (notifications, has_state):
        if notifications is not None:
            with suppress(ConfigError):
                notifications.notify_of(ends, is_whole=True)
            if not has_state:
                notifications.notify_unremembered(error)


def notify_in_spite_of_it(
    error: CertferryError, path: Path | None, environ: Mapping[str, str], *, language: str
) -> None:
    """Notify the channels of what became of an earlier run, though the file is wrong by now."""
    with _notifications_by(path, environ, language) as (notifications, has_state):
        if notifications is not None and has_state:
            notifications.notify_failure(error)
        elif notifications is not None:
            notifications.notify_unremembered(error)


@contextmanager
def _notifications_by(
    path: Path | None, environ: Mapping[str, str], language: str
) -> Iterator[tuple[RunNotifications | None, bool]]:
    found = salvage(path, environ)
    if found is None:
        yield None, False
        return
    settings = found.settings if found.is_trusted else _harmless(found.settings)
    where = settings.state
    with ExitStack() as resources:

        @cache
        def state() -> StateStore:
            opened = connect(where.path, where.key_file, host=platform.node())
            return resources.enter_context(closing(opened))

        yield RunNotifications(settings, state, run=Run(), language=language), found.has_state


def _harmless(settings: Settings) -> Settings:
    """Return of the settings what does no harm, also where another user has written them: the
    heartbeat, whose secret is sent to its own address alone, and channels that are sent nothing
    which is not in the file. No program is started.
    """
    channels = {
        name: one
        for name, one in settings.channels.items()
        if one.account.type in _HARMLESS.split()
        and all(SecretReference(word).is_literal for word in _words(one.account.values))
    }
    heartbeat = settings.monitoring.heartbeat
    if heartbeat is not None and not heartbeat.is_at_rest:
        heartbeat = None
    return replace(settings, channels=channels, monitoring=Monitoring(heartbeat))


def _words(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for one in value.values():
                yield from _words(one)
        case list():
            for one in value:
                yield from _words(one)
