"""Tells operators and monitors what became of a session's runs. Where the file declares no channel,
nothing more is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from certferry.config.model import Settings
from certferry.core.notice import ChannelState
from certferry.core.report import SyncReport
from certferry.errors import CertferryError, Interrupted
from certferry.ports.progress import Pause
from certferry.ports.state import StateStore

if TYPE_CHECKING:
    from certferry.wiring.channels import Channels
    from certferry.wiring.notices import NoticeKeeper


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
        from certferry.wiring.told import telling

        ended: list[SyncReport] = []

        def ending() -> SyncReport:
            ended.append(run())
            return ended[0]

        def told() -> SyncReport:
            return telling(self._listener(), ending, self._settings.state.path)

        try:
            return self._monitored(told, is_whole=is_whole)
        except (KeyboardInterrupt, Interrupted):
            if not ended:
                raise
            return replace(ended[0], complete=False)  # the operator at the keyboard still sees it

    def tell_failure(self, error: CertferryError) -> None:
        """Keep, and tell through the channels, what ended a run that could not tell it itself."""
        from certferry.wiring.told import tell_failure

        tell_failure(self._listener(), error)

    def channel_states(self) -> Mapping[str, ChannelState]:
        """Return what is remembered of the channels of notifications."""
        return {name: self._state().channel(name) for name in self._settings.channels}

    @cached_property
    def channels(self) -> Channels:
        """The channels of notifications."""
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
