"""The part of a session that tells operators of its runs. A file without channels loads no more of
it. A run goes on as it did whatever becomes of what is told.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from certferry.config.model import Settings
from certferry.core.notice import ChannelState
from certferry.core.report import SyncReport
from certferry.errors import CertferryError, Interrupted, LeaseHeld, LeaseLost, StateError
from certferry.ports.notifier import Answered, Sent
from certferry.ports.state import StateStore
from certferry.reconcile.stopping import Stopping
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.wiring.channels import Channels
    from certferry.wiring.notices import NoticeKeeper

_log = logging.getLogger(__name__)

_NO_TROUBLE = (Interrupted, LeaseHeld, LeaseLost, StateError)
"""What ends a run and is not told: it was stopped, another one is at work, or what was told cannot
be remembered."""


class Teller(ABC):
    """Tells through the channels of the session's settings."""

    _settings: Settings
    _language: str
    _stopping: Stopping

    @property
    @abstractmethod
    def state(self) -> StateStore:
        """What certferry remembers."""

    def telling(self, run: Callable[[], SyncReport], *, is_whole: bool = False) -> SyncReport:
        """Make a run, and tell operators and monitors what it has left, or what ended it before
        that. Neither fails the run: what is wrong with a channel is a warning. `is_whole`: the run
        is for every certificate that is declared.
        """
        ended: list[SyncReport] = []

        def ending() -> SyncReport:
            ended.append(run())
            return ended[0]

        try:
            return self._monitored(
                lambda: telling(self._listener, ending, self._settings.state.path),
                is_whole=is_whole,
            )
        except (KeyboardInterrupt, Interrupted):
            if not ended:
                raise
            return replace(ended[0], complete=False)  # the operator at the keyboard still sees it

    def tell_failure(self, error: CertferryError) -> None:
        """Keep, and tell through the channels, what ended a run that could not tell it itself."""
        _tell(partial(self._listener.tell_failure, error))

    def channel_states(self) -> Mapping[str, ChannelState]:
        """Return what is remembered of the channels of notifications."""
        return {name: self.state.channel(name) for name in self._settings.channels}

    @property
    def channels(self) -> Channels:
        """The channels of notifications, connected anew: a session may outlive many runs."""
        from certferry.wiring.channels import Channels

        return Channels(
            self._settings,
            lambda: self.state,
            pause=self._stopping.pause,
            language=self._language,
        )

    @property
    def _listener(self) -> Channels | NoticeKeeper:
        """The channels, or where there is none what keeps the run for `status`."""
        from certferry.wiring.notices import NoticeKeeper

        if self._settings.channels:
            return self.channels
        return NoticeKeeper(self._settings, lambda: self.state)

    def _monitored(self, told: Callable[[], SyncReport], *, is_whole: bool) -> SyncReport:
        if not self._settings.monitoring.names:
            return told()
        from certferry.wiring.monitoring import Monitor

        monitor = Monitor(
            self._settings,
            lambda: self.state,
            pause=self._stopping.pause,
            language=self._language,
            is_whole=is_whole,
        )
        return monitor.watching(told)


def telling(
    listener: Channels | NoticeKeeper, run: Callable[[], SyncReport], state: Path
) -> SyncReport:
    """Make a run, and tell what it has left. An error is told where there is a `state` already: the
    first run of all has an operator before it.
    """
    try:
        report = run()
    except CertferryError as error:
        if state.exists() and not isinstance(error, _NO_TROUBLE):
            _tell(partial(listener.tell_failure, error))
        raise
    if report.complete:
        _tell(partial(listener.tell, report))
    return report


def _tell(tell: Callable[[], Mapping[str, Answered]]) -> None:
    try:
        answers = tell()
    except CertferryError as error:
        _log.warning(
            Text(
                "certferry could not record this run, and notified no channel: {problem}",
                problem=error.message,
            )
        )
        return
    for name, answer in answers.items():
        if not isinstance(answer, Sent):
            _log.warning(Text("notify {channel}: {problem}", channel=name, problem=answer.problem))
