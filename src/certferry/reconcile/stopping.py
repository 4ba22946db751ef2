"""Stop a run in order: every wait ends at once, and what must be put right still gets its time."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from certferry.core.planning.steps import Action
from certferry.errors import Interrupted
from certferry.text import Text

CLEANING_UP = timedelta(seconds=3.5)
"""How long a thread that was told may wait in all, in order to remove what it put. The process ends
within five seconds; what is left is written down for the next run.
"""


class Stopping:
    """The waits of a run, and their end. Safe to use from any thread."""

    def __init__(self, cleaning_up: timedelta = CLEANING_UP) -> None:
        self._cleaning_up = cleaning_up.total_seconds()
        self.begin()

    def begin(self) -> None:
        """Begin a run that was not stopped yet, whatever became of the one before."""
        self._stopped = threading.Event()
        self._told = threading.local()

    def stop(self) -> None:
        """End every wait."""
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Wait (`ports.progress.Pause`); raises `Interrupted` once the run is stopped.

        A thread is told so once. What it waits for after that, such as its turn to remove a
        record at a provider that wants few requests per second, belongs to its clean-up.
        """
        left: float | None = getattr(self._told, "left", None)
        if left is None:
            if not self._stopped.wait(seconds):
                return
            self._told.left = self._cleaning_up
        elif seconds <= left:
            self._told.left = left - seconds
            time.sleep(seconds)
            return
        raise Interrupted(Text("stopped"), hint=Text("the next run picks up where this one was"))


_DURING = {
    Action.ISSUE: Text("stopped during: issue"),
    Action.ADOPT: Text("stopped during: adopt"),
    Action.DEPLOY: Text("stopped during: deploy"),
    Action.VERIFY: Text("stopped during: verify"),
    Action.RETIRE: Text("stopped during: retire"),
    Action.CLEAN: Text("stopped during: clean"),
}


def during(action: Action, stopped: Interrupted) -> Interrupted:
    """Say in which step a run was stopped."""
    return Interrupted(_DURING[action], hint=stopped.hint)
