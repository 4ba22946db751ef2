"""Wait for a time instead of looking: for hosts that may not ask the public DNS anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.adapters.acme.propagation import Report
from certferry.ports.progress import Pause
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class FixedWait:
    """A `dns01.Propagation` that asks no question: every challenge is written at its own name,
    since no CNAME can be seen, and is taken for seen after `time`.
    """

    time: timedelta
    pause: Pause
    now: Callable[[], datetime]

    @property
    def sees_cnames(self) -> bool:
        """Tell that it sees none."""
        return False

    def follow(self, name: str) -> str:
        """Give the name itself."""
        return name

    def wildcard_alias(self, name: str) -> str | None:
        """Give `None`: it cannot be known."""
        del name
        return None

    def wait(self, wanted: Mapping[str, frozenset[str]], report: Report) -> None:
        """Let the time pass. Raises what the pause raises."""
        del wanted
        since = self.now()
        what = Text("waiting {time} for the challenge to appear, without checking", time=self.time)
        report(what, since, since + self.time)
        self.pause(self.time.total_seconds())
