"""The looks at the hosts of `[[watch]]` between runs, made by the process of `certferry serve`: a
certificate that expires at noon is reported within the hour.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certferry.console.surveying import is_within
from certferry.errors import CertferryError
from certferry.reconcile.run import Run
from certferry.wiring.workspace import Workspace

APART = timedelta(hours=1)
"""The time between two looks. Runs look as well, so after a run the next look comes an hour
later.
"""


@dataclass(eq=False)
class Looks:
    """Looks at the watched hosts, stores the results, and notifies the channels of what changed,
    while the process lives. Without `[[watch]]`, does nothing.
    """

    #: Returns the workspace in force.
    workspace: Callable[[], Workspace]
    #: Returns whether a run is in progress. A look waits for the end, because the run looks too.
    is_running: Callable[[], bool]
    #: Returns the time by the machine's clock.
    now: Callable[[], datetime]
    #: When the last look began here.
    _begun_at: datetime | None = field(default=None, init=False)

    def look_if_due(self, ending: threading.Event) -> bool:
        """Look if the last look, here or in a run, began `APART` ago. Return whether a look was
        made. Raises `CertferryError`, and `Interrupted` if the process ends.
        """
        workspace, now = self.workspace(), self.now()
        if (
            not workspace.settings.watches
            or self.is_running()
            or is_within(APART, self._begun_at, now)
        ):
            return False
        from certferry.wiring import watching

        state = workspace.state
        looked_at = watching.shown(workspace.settings, state).looked_at
        if is_within(APART, looked_at, now):
            return False
        self._begun_at, run = now, Run()
        watching.look_now(workspace.settings, state, run, ending)
        workspace.notifications(run).notify_of_looks()
        state.flush()
        return True

    @staticmethod
    def log_failure(error: CertferryError) -> None:
        """Log why a look failed."""
        from certferry.wiring.watching import log_failed_look

        log_failed_look(error)
