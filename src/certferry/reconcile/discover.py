"""Look at accounts side by side: everything that each serves, then what its edges present."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from certferry.core.discovery.inventory import AccountLook
from certferry.core.discovery.survey import Survey
from certferry.core.events import Activity
from certferry.core.observed.observation import Served
from certferry.core.waiting import Begun, Ended
from certferry.errors import CertferryError
from certferry.ports.probe import Probe
from certferry.ports.progress import Progress
from certferry.ports.survey import Looked
from certferry.text import Text

Surveys = Mapping[str, Callable[[Looked], Survey]]
"""By the label of each account, what lists its domains: see `ports.survey.Surveyed.survey`."""

SIGNS_OF_LIFE, MOST_SIGNS = 25, 40
"""After how many domains something is said: an account gives about ten a second. Of a large one it
is said so many times at most.
"""

LONG = timedelta(seconds=30)
"""What is left of a look, from which on it is told."""

ACCOUNTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Looking:
    """What a look at accounts works with."""

    probe: Probe
    now: Callable[[], datetime]
    progress: Progress
    stop: Callable[[], None]

    def look_at(self, surveys: Surveys) -> tuple[AccountLook, ...]:
        """Look at every account. One that cannot be looked at is told, and hides no other.

        Changes nothing. Raises only `Interrupted`.
        """
        self.progress(Begun(len(surveys)))
        pool = ThreadPoolExecutor(ACCOUNTS_AT_ONCE, thread_name_prefix="account")
        try:
            looks = tuple(pool.map(self._look, surveys.keys(), surveys.values()))
        except BaseException:
            # Ctrl-C. The other accounts are left: a look leaves nothing to put right.
            self.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        return looks

    def _look(self, label: str, survey: Callable[[Looked], Survey]) -> AccountLook:
        tell = partial(self._tell, label, self.now())
        tell(Text("looking at the domains of the account"))
        counted = Text("{count} of {total} domains read")
        try:
            found = survey(partial(self._count, tell, counted, self.now()))
        except CertferryError as error:
            tell(error.message)
            self.progress(Ended(label))
            return AccountLook(label, failure=error)
        served = self._served(found, tell)
        tell(Text("looked at"))
        self.progress(Ended(label))
        return AccountLook(label, found, served)

    def _served(
        self, survey: Survey, tell: Callable[[Text], None]
    ) -> dict[str, tuple[Served, ...]]:
        """Look at what the edges of every domain serve that may have HTTPS, some at a time."""
        names = [d.domain for d in survey.domains if d.has_https or d.binding_hidden]
        served: dict[str, tuple[Served, ...]] = {}
        counted, begun = Text("edges of {count} of {total} domains looked at"), self.now()
        at_once = _apart(len(names))
        for start in range(0, len(names), at_once):
            self._count(tell, counted, begun, start, len(names))
            served |= self.probe.look(names[start : start + at_once])
        return served

    def _count(
        self, tell: Callable[[Text], None], counted: Text, begun: datetime, count: int, total: int
    ) -> None:
        """Tell how far a look is, and how long the rest takes at the same pace."""
        if count % _apart(total) or count == total:
            return
        said = counted.filled(count=count, total=total)
        left = (self.now() - begun) / max(count, 1) * (total - count)
        if count and left >= LONG:
            left = timedelta(seconds=round(left.total_seconds()))
            said = Text("{said}, about {left} left", said=said, left=left)
        tell(said)

    def _tell(self, label: str, since: datetime, what: Text) -> None:
        self.progress(Activity(label, what, since))


def _apart(domains: int) -> int:
    """Give how many domains lie between two signs of life."""
    return max(SIGNS_OF_LIFE, -(-domains // MOST_SIGNS))
