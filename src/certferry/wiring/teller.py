"""Tells operators and monitors what became of a session's runs. Where the file declares no channel,
nothing more is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from certferry.config.model import Settings
from certferry.core.notice import ChannelState
from certferry.core.report import SyncReport
from certferry.errors import CertferryError, Interrupted, LeaseHeld, LeaseLost, StateError
from certferry.ports.notifier import Answered, Sent
from certferry.ports.progress import Pause
from certferry.ports.state import StateStore
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.wiring.channels import Channels
    from certferry.wiring.notices import NoticeKeeper

_log = logging.getLogger(__name__)

_NO_TROUBLE = (Interrupted, LeaseHeld, LeaseLost, StateError)
"""Errors that end a run and are not told: the operator stopped it, another run is at work, or the
state cannot be written."""


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
        ended: list[SyncReport] = []

        def ending() -> SyncReport:
            ended.append(run())
            return ended[0]

        def told() -> SyncReport:
            return telling(self._listener(), ending, self._settings.state.path)

        try:
            with self._under_way():
                return self._monitored(told, is_whole=is_whole)
        except (KeyboardInterrupt, Interrupted):
            if not ended:
                raise
            return replace(ended[0], complete=False)  # the operator at the keyboard still sees it

    def _under_way(self) -> AbstractContextManager[None]:
        """Keep that a run is under way. The first run of all makes its state itself."""
        try:
            is_first = not self._settings.state.path.exists()
        except OSError:  # told by the run, which opens it
            is_first = True
        if is_first:
            return nullcontext()
        from certferry.reconcile.unended_runs import under_way
        from certferry.wiring.clock import now

        return under_way(self._state, now)

    def tell_failure(self, error: CertferryError) -> None:
        """Keep, and tell through the channels, what ended a run that could not tell it itself."""
        _tell(partial(self._listener().tell_failure, error))

    def channel_states(self) -> Mapping[str, ChannelState]:
        """Return what is remembered of the channels of notifications."""
        return {name: self._state().channel(name) for name in self._settings.channels}

    @property
    def channels(self) -> Channels:
        """The channels of notifications, connected anew: a session may outlive many runs."""
        from certferry.wiring.channels import Channels

        return Channels(self._settings, self._state, pause=self._pause, language=self._language)

    def _listener(self) -> Channels | NoticeKeeper:
        """Return the channels, or, where the file has none, the keeper of notices for `status`."""
        from certferry.wiring.notices import NoticeKeeper

        if self._settings.channels:
            return self.channels
        return NoticeKeeper(self._settings, self._state)

    def _monitored(self, told: Callable[[], SyncReport], *, is_whole: bool) -> SyncReport:
        if not self._settings.monitoring.names:
            return told()
        from certferry.wiring.monitoring import Monitor

        monitor = Monitor(
            self._settings,
            self._state,
            pause=self._pause,
            language=self._language,
            is_whole=is_whole,
        )
        return monitor.watching(told)


def telling(
    listener: Channels | NoticeKeeper, run: Callable[[], SyncReport], state: Path
) -> SyncReport:
    """Make a run, and tell operators how it ended. An error is told where there is a `state`
    already: the first run of all has an operator before it.
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
