"""The port to the system's scheduler, which starts a run twice a day."""

from __future__ import annotations

from typing import Protocol

from certferry.core.schedule import Installation, Job, Scheduled
from certferry.text import Text


class Scheduler(Protocol):
    """The system's crontab, or another way to start programs by the clock.

    certferry recognises its own entry by a mark. Every other entry stays unchanged, byte for byte.
    Every method may raise `ScheduleError`.
    """

    def install(self, job: Job) -> tuple[Installation, Scheduled]:
        """Install the job for two runs a day. Return whether an entry was written, and the
        installed entry. Keep the time of day of an earlier installation. If the same job is already
        installed, write nothing.
        """

    def remove(self) -> Text | None:
        """Remove certferry's entry, and return the entry's place; `None` if there was no entry."""

    def find(self) -> Scheduled | None:
        """Return the installed entry, or `None`."""
