"""Notify operators and monitors of a run's problems, of the error that ended a run, and of a wrong
file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from certferry import errors
from certferry.adapters.state.connect import empty_state
from certferry.config.load import salvage
from certferry.config.model import AccountTable, Monitoring, Settings
from certferry.config.secrets import SecretReference
from certferry.core.assessment import notices
from certferry.core.assessment.dispatch import A_DAY, having
from certferry.core.assessment.hosts import with_away
from certferry.core.planning.report import SyncReport
from certferry.ports.notifier import Sent
from certferry.ports.state import StateStore
from certferry.reconcile.run import Change, Run, host_in_notices, others_of
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.clock import now
from certferry.wiring.looks import with_current_looks
from certferry.wiring.recorded import change_notices
from certferry.wiring.state import may_be_there

if TYPE_CHECKING:
    from certferry.adapters.files.stamp import Stamp
    from certferry.wiring.adapters import AdapterTable
    from certferry.wiring.channels import Channels
    from certferry.wiring.monitoring import Monitor

_log = logging.getLogger(__name__)


class _Notified(Struct, frozen=True):
    """The result of a notification."""

    #: The error of the state; `None` if the state could be used.
    problem: errors.CertferryError | None = None
    #: Whether a channel accepted a message.
    is_sent: bool = False


@dataclass(eq=False)
class RunNotifications:
    """Notifies of a run through the channels and the monitors of the settings."""

    #: The settings with the channels and the monitors.
    settings: Settings
    #: Returns the state.
    state: Callable[[], StateStore]
    #: The run, which may be stopped while waiting for answers.
    run: Run
    #: The operator's language, `en` or `zh`.
    language: str

    def notify_of(self, run: Callable[[], SyncReport], *, is_whole: bool = False) -> SyncReport:
        """Call `run`, notify of the report or of the error, and return the report, incomplete if
        the run was stopped. `is_whole`: the run is for every declared certificate. Raises the
        errors of `run`.
        """
        monitor = self._monitor(is_whole=is_whole)
        report: SyncReport | None = None
        try:
            if monitor is not None:
                monitor.begin()
            with self._notifying_of_an_early_end(monitor):
                report = run()
            if report.complete:
                report = self._notified(report)
            if monitor is not None:
                monitor.end(report)
            return report
        except (KeyboardInterrupt, errors.Interrupted):
            if report is None:
                raise
            # the operator at the keyboard still sees the report
            return replace(report, complete=False)

    @contextmanager
    def _notifying_of_an_early_end(self, monitor: Monitor | None) -> Iterator[None]:
        """Notify of an error that ends the `with` block, and raise the error. If the run lacks or
        has lost the lease, or if there is no state, notify only the monitors.
        """
        try:
            yield
        except (errors.CertferryError, errors.LeaseLost) as error:
            if self._has_a_state and not isinstance(error, errors.LeaseHeld | errors.LeaseLost):
                self.notify_failure(error)
            if monitor is not None:
                monitor.fail(error)
            raise

    def _notified(self, report: SyncReport) -> SyncReport:
        """Notify of the problems left by a run. Return the report, with the error if notifying
        failed.
        """
        problem = report.problem or self._notify(partial(self._left_by, report)).problem
        if problem is None:
            return report
        self.notify_failure(problem)
        return replace(report, problem=problem)

    def _left_by(self, report: SyncReport, state: StateStore) -> Change:
        if self.settings.channels:
            self._remember_last_message(state)
        # Versions are read only for lineages that are not as declared, unless a channel wants
        # deadlines. A successful run then reads nothing more.
        all_end = any(
            notices.Topic.DEADLINE in table.on for table in self.settings.channels.values()
        )
        lineages = [ended.lineage for ended in report.lineages if all_end or not ended.ok]
        versions = state.versions_of(lineages)
        declared = {desired.lineage for desired in self.settings.declared}
        if state.is_shared:
            about = {notice.subject.lineage for notice in state.notices()}
            declared |= state.declared_among(about - declared).keys()
        names = [*self.settings.channels, *self.settings.monitoring.names]

        others, moment = others_of(state), state.now()
        host, with_looks = host_in_notices(state), with_current_looks(self.settings, state)

        def change(before: notices.Notices) -> notices.Notices:
            current = notices.without_channels(before, names, host)
            after = notices.noticed(
                report, current, moment, versions=versions, declared=declared, host=host
            )
            return with_looks(with_away(after, others, moment))

        return change

    def _remember_last_message(self, state: StateStore) -> None:
        """Store in the state the last message that was sent while the state could not be used
        (`notify_unremembered`). The channels then also hear when that problem is over.
        """
        stamp = self._stamp
        last = stamp.last()
        if last is not None:
            sent = notices.SentNotice(
                notices.Topic.TROUBLE, notices.Subject(), last.at, last.at, last.code
            )
            for name in self.settings.channels:
                state.update_channel(name, lambda channel, _: (having(sent, channel), None))
            stamp.remove()  # before any message, so a run killed while sending does not send twice

    def notify_failure(self, error: errors.CertferryError) -> None:
        """Store the error that ended a run, and notify of the error. If the state is unusable,
        notify once a day.
        """
        notified = self._notify(
            lambda state: partial(
                notices.failed_run, error, now=state.now(), host=host_in_notices(state)
            )
        )
        if notified.problem is not None:
            self.notify_unremembered(error)

    def notify_of_looks(self) -> None:
        """Notify of the trouble that the last looks at watched hosts and public logs found or saw
        ended. Errors are left to the next run.
        """
        self._notify(lambda state: with_current_looks(self.settings, state))

    def notify_unremembered(self, error: errors.CertferryError) -> None:
        """Notify of trouble that cannot be stored in the state. A stamp file limits the messages to
        one a day.
        """
        if not self.settings.channels:
            return
        stamp, moment = self._stamp, now()
        last = stamp.last()
        is_known = last is not None and last.code in {"", error.code}
        if last is not None and is_known and timedelta(0) <= moment - last.at < A_DAY:
            return
        stamp.put(error.code, moment)  # before sending, so a killed run does not send twice
        with closing(empty_state()) as state:
            elsewhere = RunNotifications(
                self.settings, lambda: state, run=self.run, language=self.language
            )
            notified = elsewhere._notify(lambda _: partial(notices.failed_run, error, now=moment))
        if not notified.is_sent:
            stamp.remove()

    def stands_failed(self) -> bool:
        """Return whether an open notice in the state says that a run of this host failed as a
        whole, rather than in single certificates. Return False if the state cannot be read.
        """
        try:
            state = self.state()
            subject, stood = notices.Subject(host=host_in_notices(state)), state.notices()
        except errors.StateError:
            return False
        return any(
            notice.subject == subject and notice.topic is notices.Topic.TROUBLE for notice in stood
        )

    def channel_states(self) -> Mapping[str, notices.ChannelState]:
        """Return the stored facts of each channel."""
        return {name: self.state().channel(name) for name in self.settings.channels}

    @property
    def channels(self) -> Channels:
        """The channels, connected anew because a workspace may outlive many runs."""
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
            message = Text(
                "certferry could not record this run, and notified no channel: {problem}"
            )
            _log.warning(message.filled(problem=error.message))
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
"""Root's last place for a stamp file: a directory in memory, still writable after a disk error has
made the file system read-only.
"""


def _directories(settings: Settings) -> Iterator[Path]:
    yield settings.state.directory.absolute()
    if settings.path is not None:
        yield settings.path.absolute().parent
    if os.geteuid() == 0:
        yield _RUN_OF_ROOT
    elif os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(os.environ["XDG_RUNTIME_DIR"])


def salvaged(
    path: Path | None, environ: Mapping[str, str], adapters: AdapterTable | None = None
) -> tuple[Settings, bool] | None:
    """Return the usable settings of a wrong file, and whether the file names the state; `None` if
    the file cannot be read. If other users may have written the file, only harmless settings are
    usable. `adapters` are the installed adapters by default.
    """
    contents = salvage(path, environ)
    if contents is None:
        return None
    settings = contents.settings
    if not contents.is_trusted:
        settings = _harmless(settings, adapters)
    return settings, contents.has_state


def _harmless(settings: Settings, adapters: AdapterTable | None) -> Settings:
    """Return the part of the settings that does no harm even if another user has written the file.

    A channel is kept if the adapter declares `ONLY_SENDS` and no setting refers to a secret. The
    heartbeat is kept unless a program or a key ring gives the heartbeat's URL. The URL is the only
    secret of a heartbeat, and a ping sends the URL to no other place.
    """
    channels = {
        name: channel
        for name, channel in settings.channels.items()
        if _only_sends(channel.account, adapters)
        and all(SecretReference(word).is_literal for word in _words(channel.account.values))
    }
    heartbeat = settings.monitoring.heartbeat
    if heartbeat is not None and not heartbeat.is_at_rest:
        heartbeat = None
    return replace(settings, channels=channels, monitoring=Monitoring(heartbeat))


def _only_sends(account: AccountTable, adapters: AdapterTable | None) -> bool:
    """Return whether a channel's adapter is usable and declares `ONLY_SENDS`."""
    from certferry.wiring.adapters import CHANNELS, BrokenAdapter, installed

    try:
        return (adapters or installed()).find(CHANNELS, account.type).only_sends
    except (KeyError, BrokenAdapter):
        return False


def _words(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for item in value.values():
                yield from _words(item)
        case list():
            for item in value:
                yield from _words(item)
