"""The port to the system's scheduler, which starts a run twice a day."""

from __future__ import annotations

from typing import Protocol

from certferry.core.schedule import Installation, Job, Scheduled
from certferry.text import Text


class Scheduler(Protocol):
    """The system's crontab, or another way to start programs by the clock.

    certferry's entry carries a mark; every other entry stays unchanged, byte for byte. Every method
    may raise `ScheduleError`.
    """

    def install(self, job: Job) -> tuple[Installation, Scheduled]:
        """Install the job, twice a day, and return the installed entry. Keep the time chosen by an
        earlier installation. If the same job is installed already, write nothing.
        """

    def remove(self) -> Text | None:
        """Remove certferry's entry, and return the entry's place; `None` if there was no entry."""

    def find(self) -> Scheduled | None:
        """Return the installed entry, or `None`."""
