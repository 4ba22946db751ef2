"""The part of a session that tells operators of its runs. A file without channels loads no more of
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from certferry.config.model import Settings
from certferry.core.notice import ChannelState
from certferry.core.report import SyncReport
from certferry.ports.state import StateStore
from certferry.reconcile.stopping import Stopping
from certferry.wiring.clock import now

if TYPE_CHECKING:
    from certferry.wiring.channels import Channels


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

    def telling(self: _Session, run: Callable[[], SyncReport]) -> SyncReport:
        """Make a run, keep what it has left, and tell operators of that, or of what ended it
        before. No channel fails the run: what is wrong with one is a warning.
        """
        if not self._settings.channels:
            from certferry.reconcile.run_end import keep_troubles

            report = run()
            declared = [wish.lineage for wish in self._settings.declared]
            keep_troubles(report, self.state, now(), declared=declared)
            return report
        from certferry.wiring.told import telling

        return telling(channels_of(self), run, self._settings.state.path)

    def channel_states(self: _Session) -> Mapping[str, ChannelState]:
        """Return what is remembered of the channels of notifications."""
        return {name: self.state.channel(name) for name in self._settings.channels}

    @cached_property
    def channels(self) -> Channels:
        """The channels of notifications."""
        return channels_of(self)  # type: ignore[arg-type]  # it is mixed into one


def channels_of(session: _Session) -> Channels:
    """Return the channels of a session."""
    from certferry.wiring.channels import Channels

    return Channels(
        session._settings,  # noqa: SLF001 - a part of the session
        lambda: session.state,
        pause=session._stopping.pause,  # noqa: SLF001 - a part of the session
        language=session._language,  # noqa: SLF001 - a part of the session
    )
