"""What operators are told of, in memory: a part of `MemoryState`."""

from __future__ import annotations

from collections.abc import Callable

from certferry.core.notice import ChannelState, Notice
from certferry.testing.memory_rows import Memory


class MemoryNotices:
    """The notices, and what each channel was told of them."""

    _memory: Memory

    def notices(self) -> tuple[Notice, ...]:
        """See `StateStore.notices`."""
        with self._memory.lock:
            return tuple(one for _, one in sorted(self._memory.notices.items()))

    def update_notices(
        self, change: Callable[[tuple[Notice, ...]], tuple[Notice, ...]]
    ) -> tuple[Notice, ...]:
        """See `StateStore.update_notices`."""
        with self._memory.lock:
            after = change(self.notices())
            self._memory.notices = {one.key: one for one in after}
            return after

    def channel(self, name: str) -> ChannelState:
        """See `StateStore.channel`."""
        with self._memory.lock:
            return self._memory.channels.get(name, ChannelState())

    def update_channel(
        self, name: str, change: Callable[[ChannelState], ChannelState]
    ) -> ChannelState:
        """See `StateStore.update_channel`."""
        with self._memory.lock:
            after = change(self.channel(name))
            self._memory.channels[name] = after
            return after
