"""What a backup holds, and a backup put back: of the state that some settings name."""

from __future__ import annotations

from pathlib import Path

from certferry.adapters.state import backup
from certferry.adapters.state.backup import Restored
from certferry.config.model import StateSettings
from certferry.wiring.clock import now

__all__ = ["Restored", "archive_of", "restored"]


def archive_of(state: StateSettings) -> tuple[bytes, tuple[str, ...]]:
    """See `backup.back_up`."""
    return backup.back_up(state.path, state.key_file, now())


def restored(archive: bytes, source: Path, state: StateSettings) -> Restored:
    """See `backup.restore`."""
    return backup.restore(archive, source, state.path, state.key_file)
