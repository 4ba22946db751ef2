"""Notify operators and monitors of what runs leave, what ended them, and of a wrong file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from certferry import errors
from certferry.adapters.state.connect import empty_state
from certferry.config.load import salvage
from certferry.config.model import Monitoring, Settings
from certferry.config.secrets import SecretReference
from certferry.core.assessment import notices
from certferry.core.assessment.hosts import with_away
from certferry.core.planning.report import SyncReport
from certferry.ports.notifier import Sent
from certferry.ports.state import StateStore
from certferry.reconcile.run import Change, Run, change_notices, host_in_notices, others_of
from certferry.text import Text
from certferry.wiring.clock import now
from certferry.wiring.state import may_be_there

if TYPE_CHECKING:
    from certferry.adapters.files.stamp import Stamp
    from certferry.wiring.channels import Channels
    from certferry.wiring.monitoring import Monitor

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Notified:
    """What was wrong with the state, and whether a channel took a message."""

    problem: errors.CertferryError | None = None
    is_sent: bool = False


@dataclass(eq=False)
class RunNotifications:
    """Notifies through the settings' channels in the operator's `language`."""

    settings: Settings
    state: Callable[[], StateStore]
    run: Run
    language: str

    def notify_of(self, run: Callable[[], SyncReport], *, is_whole: bool = False) -> SyncReport:
        """Make a run, and notify of it; `is_whole`: it is for all that is declared."""
        monitor = self._monitor(is_whole=is_whole)
        report: SyncReport | None = None
        try:
            if monitor is not None:
                monitor.begin()
            report = self._report_of(run, monitor)
            if report.complete:
                report = self._notified(report)
            if monitor is not None:
                monitor.end(report)
            return report
        except (KeyboardInterrupt, errors.Interrupted):
            if report is None:
                raise
            return replace(report, complete=False)  # the operator at the keyboard still sees it

    def _report_of(self, run: Callable[[], SyncReport], monitor: Monitor | None) -> SyncReport:
        """Make a run, and notify of what ended it early, unless another run is at work."""
        try:
            return run()
        except (errors.CertferryError, errors.LeaseLost) as error:
            if self._has_a_state and not isinstance(error, errors.LeaseHeld | errors.LeaseLost):
                self.notify_failure(error)
            if monitor is not None:
                monitor.fail(error)
            raise

    def _notified(self, report: SyncReport) -> SyncReport:
        """Notify of the problems that a run leaves; return its report with what prevented that."""
        problem = report.problem or self._notify(partial(self._left_by, report)).problem
        if problem is None:
            return report
        self.notify_failure(problem)
        return replace(report, problem=problem)

    def _left_by(self, report: SyncReport, state: StateStore) -> Change:
        if self.settings.channels:
            self._remember_last_message(state)
        # A run with nothing to do reads nothing more.
        all_end = any(
            notices.Topic.DEADLINE in table.on for table in self.settings.channels.values()
        )
        lineages = [one.lineage for one in report.lineages if all_end or not one.ok]
        versions = state.versions_of(lineages)
        declared = {desired.lineage for desired in self.settings.declared}
        if state.is_shared:
            about = {one.subject.lineage for one in state.notices()}
            declared |= state.declared_among(about - declared).keys()
        names = [*self.settings.channels, *self.settings.monitoring.names]

        others, moment = others_of(state), state.now()
        host = host_in_notices(state)

        def change(before: notices.Notices) -> notices.Notices:
            known = notices.without_channels(before, names, host)
            after = notices.noticed(
                report, known, moment, versions=versions, declared=declared, host=host
            )
            return with_away(after, others, moment)

        return change

    def _remember_last_message(self, state: StateStore) -> None:
        """Store what the channels were sent without a state, so that its end is sent as well."""
        stamp = self._stamp
        last = stamp.last()
        if last is not None:
            sent = notices.Delivery(
                notices.Topic.TROUBLE, notices.Subject(), last.at, last.at, last.code
            )
            for name in self.settings.channels:
                state.update_channel(name, lambda one, _: (notices.having(sent, one), None))
            stamp.remove()  # killed while it is sent, it is not sent twice

    def notify_failure(self, error: errors.CertferryError) -> None:
        """Store what ended a run, and notify of it; where that cannot be stored, once a day."""
        notified = self._notify(
            lambda state: partial(
                notices.failed_run, error, now=state.now(), host=host_in_notices(state)
            )
        )
        if notified.problem is not None:
            self.notify_unremembered(error)

    def notify_unremembered(self, error: errors.CertferryError) -> None:
        """Notify of trouble that no state can store, once a day by a stamp in some directory."""
        if not self.settings.channels:
            return
        stamp, moment = self._stamp, now()
        last = stamp.last()
        is_known = last is not None and last.code in {"", error.code}
        if last is not None and is_known and timedelta(0) <= moment - last.at < notices.A_DAY:
            return
        stamp.put(error.code, moment)  # killed while it is sent, it is not sent twice
        with closing(empty_state()) as state:
            elsewhere = RunNotifications(
                self.settings, lambda: state, run=self.run, language=self.language
            )
            notified = elsewhere._notify(lambda _: partial(notices.failed_run, error, now=moment))
        if not notified.is_sent:
            stamp.remove()

    def stands_failed(self) -> bool:
        """Return whether the trouble of a whole run is stored."""
        try:
            state = self.state()
            subject, stood = notices.Subject(host=host_in_notices(state)), state.notices()
        except errors.StateError:
            return False
        return any(one.subject == subject and one.topic is notices.Topic.TROUBLE for one in stood)

    def channel_states(self) -> Mapping[str, notices.ChannelState]:
        """Return what is stored of the channels of notifications."""
        return {name: self.state().channel(name) for name in self.settings.channels}

    @property
    def channels(self) -> Channels:
        """The channels of notifications, connected anew: a workspace may outlive many runs."""
        from certferry.wiring.channels import Channels

        return Channels(self.settings, self.state, run=self.run, language=self.language)

    @property
    def _has_a_state(self) -> bool:
        return may_be_there(self.settings.state)

    @property
    def _stamp(self) -> Stamp:
        from certferry.adapters.files.stamp import Stamp

        settings = self.settings
        return Stamp(_directories(settings), str(settings.path and settings.path.absolute()))

    def _notify(self, changing: Callable[[StateStore], Change]) -> _Notified:
        try:
            state = self.state()
        except errors.CertferryError as error:
            return _Notified(error)
        try:
            change = changing(state)
            if not self.settings.channels:
                change_notices(state, change)
                return _Notified()
            answers = self.channels.notify(change)
        except errors.StateError as error:
            return _Notified(error)
        except errors.CertferryError as error:
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
        if not self.settings.monitoring.names:
            return None
        from certferry.wiring.monitoring import Monitor

        pause, language = self.run.pause, self.language
        return Monitor(self.settings, self.state, pause=pause, language=language, is_whole=is_whole)


_RUN_OF_ROOT = Path("/run")
"""Survives a file system that the system has made read-only after an error of its disk."""


def _directories(settings: Settings) -> Iterator[Path]:
    yield settings.state.directory.absolute()
    if settings.path is not None:
        yield settings.path.absolute().parent
    if os.geteuid() == 0:
        yield _RUN_OF_ROOT
    elif os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(os.environ["XDG_RUNTIME_DIR"])


_HARMLESS = "dingtalk feishu wecom serverchan pushplus bark telegram webhook email"
"""Channels that send a message to an address and do nothing else, unlike `command`."""


def salvaged(path: Path | None, environ: Mapping[str, str]) -> tuple[Settings, bool] | None:
    """Return what of a wrong file notifies and does no harm, and whether it names the state."""
    found = salvage(path, environ)
    if found is None:
        return None
    return found.settings if found.is_trusted else _harmless(found.settings), found.has_state


def _harmless(settings: Settings) -> Settings:
    """Return what does no harm of settings that another user may have written: the heartbeat, whose
    secret goes to its own address alone, and channels with literal words. No program is started.
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
