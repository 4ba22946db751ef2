"""The port to what starts a run twice a day."""

from __future__ import annotations

from typing import Protocol

from certferry.core.schedule import Installation, Job, Scheduled
from certferry.text import Text


class Scheduler(Protocol):
    """One of the system's ways to start programs by the clock.

    Our entry is marked as ours; everything else stays as it is, byte for byte. Every method raises
    `ScheduleError`.
    """

    def install(self, job: Job) -> tuple[Installation, Scheduled]:
        """Install the job, twice a day, and return what is installed now. A time that was chosen
        before stays; where the very same job is installed already, nothing is written.
        """

    def remove(self) -> Text | None:
        """Remove our entry, and return its place; `None` where there was none."""

    def find(self) -> Scheduled | None:
        """Return what is installed, `None` where nothing is."""
