"""The looks at the hosts of `[[watch]]` between runs, made by the process of `certferry serve`: a
certificate that expires at noon is reported within the hour.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certferry.errors import CertferryError, Interrupted
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.workspace import Workspace

TICK = timedelta(seconds=5)
"""The time between two checks whether a look is due."""

APART = timedelta(hours=1)
"""The time between two looks. Runs look as well, so after a run the next look comes an hour
later.
"""

_log = logging.getLogger(__name__)


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

    def keep(self, ending: threading.Event) -> None:
        """Make each look that is due until the process ends. Errors are logged and do not stop the
        looks.
        """
        while not ending.wait(TICK.total_seconds()):
            try:
                self.look_if_due(ending)
            except Interrupted:
                return
            except CertferryError as error:
                _log.warning(
                    Text("the watched hosts were not looked at: {problem}", problem=error.message)
                )
            except Exception:  # noqa: BLE001 - the next look must come
                _log.exception(Text("unexpected error"))

    def look_if_due(self, ending: threading.Event) -> bool:
        """Look if the last look, here or in a run, began `APART` ago. Return whether a look was
        made. Raises `CertferryError`, and `Interrupted` if the process ends.
        """
        workspace, now = self.workspace(), self.now()
        if not workspace.settings.watches or self.is_running() or _is_recent(self._begun_at, now):
            return False
        from certferry.wiring import watching

        state = workspace.state
        looked_at = watching.shown(workspace.settings, state).looked_at
        if _is_recent(looked_at, now):
            return False
        self._begun_at, run = now, Run()
        watching.look_now(workspace.settings, state, run, ending)
        workspace.notifications(run).notify_of_looks()
        state.flush()
        return True


def _is_recent(moment: datetime | None, now: datetime) -> bool:
    """Return whether a moment is less than `APART` ago. A moment ahead comes from a wrong clock."""
    return moment is not None and timedelta(0) <= now - moment < APART
