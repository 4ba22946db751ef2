"""The door to what starts a run every day."""

from __future__ import annotations

from typing import Protocol

from certferry.core.schedule import Change, Job, Scheduled


class Scheduler(Protocol):
    """One of the system's ways to start programs by the clock.

    What is ours in it is marked as ours; everything else is left as it is, byte for byte. Every
    method raises `ScheduleError` when it cannot do what it says; then nothing has changed.
    """

    def install(self, job: Job) -> Change:
        """Have the job started every day. A time that was chosen before is kept.

        When the very same job is installed already, nothing is written.
        """
        ...

    def remove(self) -> Scheduled | None:
        """Take away what is ours, and give what it was; `None` when there was nothing."""
        ...

    def find(self) -> Scheduled | None:
        """Give what is installed, `None` when nothing is."""
        ...

    def others(self) -> tuple[Scheduled, ...]:
        """Give what starts certferry too, though it was not installed by it."""
        ...
