"""The door to what starts a run twice a day."""

from __future__ import annotations

from typing import Protocol

from certferry.core.schedule import Installation, Job, Scheduled
from certferry.text import Text


class Scheduler(Protocol):
    """One of the system's ways to start programs by the clock.

    What is ours in it is marked as ours; everything else is left as it is, byte for byte. Every
    method raises `ScheduleError` when it cannot do what it says.
    """

    def install(self, job: Job) -> tuple[Installation, Scheduled]:
        """Have the job started twice a day, and give what is installed now.

        A time that was chosen before is kept. When the very same job is installed already, nothing
        is written.
        """
        ...

    def remove(self) -> Text | None:
        """Take away what is ours, and name the place; `None` when there was nothing."""
        ...

    def find(self) -> Scheduled | None:
        """Give what is installed, `None` when nothing is."""
        ...
