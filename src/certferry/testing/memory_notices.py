"""What operators are told of, and what runs saw, in memory: a part of `MemoryState`."""

from __future__ import annotations

from collections.abc import Callable

from certferry.core.assessment.notices import ChannelState, Notice
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.lineage import Version
from certferry.testing.memory_rows import Memory


class MemoryNotices:
    """The notices, what each channel was told of them, and what every place was seen to have."""

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

    def sightings(self) -> tuple[Sighting, ...]:
        """See `StateStore.sightings`."""
        with self._memory.lock:
            return self._memory.sightings

    def update_sightings(
        self, change: Callable[[tuple[Sighting, ...]], tuple[Sighting, ...]]
    ) -> tuple[Sighting, ...]:
        """See `StateStore.update_sightings`."""
        with self._memory.lock:
            after = change(self._memory.sightings)
            self._memory.sightings = tuple(sorted(after, key=lambda one: one.place))
            return self._memory.sightings

    def versions_in_use(self) -> dict[str, tuple[Version, ...]]:
        """See `StateStore.versions_in_use`."""
        with self._memory.lock:
            seen = {(one.lineage, one.fingerprint) for one in self._memory.sightings}
            return {
                lineage: tuple(
                    one.version
                    for one in reversed(kept)
                    if one is kept[-1]
                    or (lineage, one.version.certificate.fingerprint) in seen
                    or (one.version.revocation and not one.version.revocation.is_answered)
                )
                for lineage, kept in sorted(self._memory.versions.items())
            }
