"""Read accounts side by side: everything that each serves, then what its edges present."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

from certferry.core.discovery.inventory import AccountLook
from certferry.core.discovery.survey import Survey
from certferry.core.events import Activity
from certferry.core.observed.observation import Served
from certferry.core.waiting import Begun, Ended
from certferry.errors import CertferryError
from certferry.ports.probe import Probe
from certferry.ports.survey import Looked
from certferry.reconcile.run import Run
from certferry.reconcile.work_queue import side_by_side
from certferry.text import Text

Surveys = Mapping[str, Callable[[Looked], Survey]]
"""By the label of each account, what lists its domains: see `ports.survey.Surveyed.survey`."""

SIGNS_OF_LIFE, MOST_SIGNS = 25, 40
"""After how many domains something is said: an account gives about ten a second. Of a large one it
is said so many times at most.
"""

LONG = timedelta(seconds=30)
"""How much time must remain for it to be said."""

Say = Callable[[Text], None]


def survey_accounts(
    surveys: Surveys, probe: Probe, now: Callable[[], datetime], run: Run
) -> tuple[AccountLook, ...]:
    """Read every account. One that cannot be read is reported as such, and hides no other. Changes
    nothing. Raises only `Interrupted`.
    """
    run.progress(Begun(len(surveys)))

    def one(label: str) -> AccountLook:
        since = now()

        def say(what: Text) -> None:
            run.progress(Activity(label, what, since))

        say(Text("looking at the domains of the account"))
        counted = Text("{count} of {total} domains read")
        try:
            found = surveys[label](partial(_count, say, counted, now, now()))
        except CertferryError as error:
            say(error.message)
            run.progress(Ended(label))
            return AccountLook(label, failure=error)
        served = _served(found, probe, now, say)
        say(Text("looked at"))
        run.progress(Ended(label))
        return AccountLook(label, found, served)

    return tuple(side_by_side(one, list(surveys), run))


def _served(
    survey: Survey, probe: Probe, now: Callable[[], datetime], say: Say
) -> dict[str, tuple[Served, ...]]:
    """Return what the edges of every domain serve that may have HTTPS, asked some at a time."""
    names = [d.domain for d in survey.domains if d.has_https or d.binding_hidden]
    served: dict[str, tuple[Served, ...]] = {}
    counted, begun = Text("edges of {count} of {total} domains looked at"), now()
    at_once = _apart(len(names))
    for start in range(0, len(names), at_once):
        _count(say, counted, now, begun, start, len(names))
        served |= probe.served(names[start : start + at_once])
    return served


def _count(
    say: Say, counted: Text, now: Callable[[], datetime], begun: datetime, count: int, total: int
) -> None:
    """Report how many domains are done, and how long the rest takes at the same pace."""
    if count % _apart(total) or count == total:
        return
    said = counted.filled(count=count, total=total)
    left = (now() - begun) / max(count, 1) * (total - count)
    if count and left >= LONG:
        left = timedelta(seconds=round(left.total_seconds()))
        said = Text("{said}, about {left} left", said=said, left=left)
    say(said)


def _apart(domains: int) -> int:
    """Return how many domains lie between two signs of life."""
    return max(SIGNS_OF_LIFE, -(-domains // MOST_SIGNS))
