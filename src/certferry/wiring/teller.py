"""The part of a session that tells operators of its runs. A file without channels loads no more of
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from certferry.config.model import Settings
from certferry.core.notice import ChannelState
from certferry.core.report import SyncReport
from certferry.errors import CertferryError, Interrupted
from certferry.ports.state import StateStore
from certferry.reconcile.stopping import Stopping

if TYPE_CHECKING:
    from certferry.wiring.channels import Channels
    from certferry.wiring.notices import NoticeKeeper


class _Session(Protocol):
    """What it needs of the session."""

    _settings: Settings
    _language: str
    _stopping: Stopping

    @property
    def state(self) -> StateStore:
        """What certferry remembers."""
        ...


class Teller:
    """Tells through the channels of the session's settings."""

    def telling(
        self: _Session, run: Callable[[], SyncReport], *, is_whole: bool = False
    ) -> SyncReport:
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
            return telling(_listener(self), ending, self._settings.state.path)

        try:
            return _monitored(self, told, is_whole=is_whole)
        except (KeyboardInterrupt, Interrupted):
            if not ended:
                raise
            return replace(ended[0], complete=False)  # the operator at the keyboard still sees it

    def tell_failure(self: _Session, error: CertferryError) -> None:
        """Keep, and tell through the channels, what ended a run that could not tell it itself."""
        from certferry.wiring.told import tell_failure

        tell_failure(_listener(self), error)

    def channel_states(self: _Session) -> Mapping[str, ChannelState]:
        """Return what is remembered of the channels of notifications."""
        return {name: self.state.channel(name) for name in self._settings.channels}

    @cached_property
    def channels(self) -> Channels:
        """The channels of notifications."""
        return channels_of(self)  # type: ignore[arg-type]  # it is mixed into one


def _monitored(session: _Session, told: Callable[[], SyncReport], *, is_whole: bool) -> SyncReport:
    if not session._settings.monitoring.names:  # noqa: SLF001 - a part of the session
        return told()
    from certferry.wiring.monitoring import Monitor

    monitor = Monitor(
        session._settings,  # noqa: SLF001 - a part of the session
        lambda: session.state,
        pause=session._stopping.pause,  # noqa: SLF001 - a part of the session
        language=session._language,  # noqa: SLF001 - a part of the session
        is_whole=is_whole,
    )
    return monitor.watching(told)


def _listener(session: _Session) -> Channels | NoticeKeeper:
    """Return what a run is told to: the channels, or where there is none what keeps it for
    `status`.
    """
    from certferry.wiring.notices import NoticeKeeper

    if session._settings.channels:  # noqa: SLF001 - a part of the session
        return channels_of(session)
    return NoticeKeeper(session._settings, lambda: session.state)  # noqa: SLF001 - a part of the session


def channels_of(session: _Session) -> Channels:
    """Return the channels of a session."""
    from certferry.wiring.channels import Channels

    return Channels(
        session._settings,  # noqa: SLF001 - a part of the session
        lambda: session.state,
        pause=session._stopping.pause,  # noqa: SLF001 - a part of the session
        language=session._language,  # noqa: SLF001 - a part of the session
    )
