"""The first screen: is everything in order, what needs an operator, what happens next, how old
everything is, and when which host observed it.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certferry.console.picture import Picture, picture_of
from certferry.console.site import render, site_of
from certferry.console.snapshot import Snapshot
from certferry.core.assessment.agenda import Agenda, Milestone, Need, Verdict
from certferry.core.observed.records import LastRun
from certferry.present.check_text import subject_of
from certferry.present.language import one_or_many
from certferry.problem import Severity
from certferry.text import Text

MOST_NEEDS, MOST_LIVES, MOST_HOSTS, MOST_OF_A_DAY = 25, 30, 5, 4
"""What the first screen shows of each; links lead to the rest."""

WEEKDAYS = (
    *(Text("Monday"), Text("Tuesday"), Text("Wednesday"), Text("Thursday"), Text("Friday")),
    *(Text("Saturday"), Text("Sunday")),
)
MONTHS = (
    *(Text("January"), Text("February"), Text("March"), Text("April"), Text("May"), Text("June")),
    *(Text("July"), Text("August"), Text("September"), Text("October"), Text("November")),
    Text("December"),
)
WORDS = {
    Milestone.RENEWAL: Text("renewal"),
    Milestone.UPLOAD: Text("last moment to upload"),
    Milestone.EXPIRY: Text("expiry"),
}


@dataclass(frozen=True, slots=True)
class Item:
    """What needs a person, and what it is about. `command` is the fix as one types it, where the
    hint has none; `form` identifies the form that starts the run which is the fix.
    """

    need: Need
    subject: Text
    command: str | None
    form: str

    @property
    def lineage(self) -> str:
        """The certificate that it is about, if any."""
        return self.need.concern.subject.lineage


@dataclass(frozen=True, slots=True)
class View:
    """The first screen: the verdict in words and how bad it is, the first of what needs a person
    and of the lives, and who ran last. Without a `picture` there is no certificate yet.
    """

    verdict: Text
    level: str
    agenda: Agenda
    items: tuple[Item, ...]
    picture: Picture | None
    last_runs: Sequence[tuple[str, LastRun]]


def view_of(stored: Snapshot) -> View:
    """Return what the first screen shows of what is stored."""
    agenda = stored.agenda
    lives = [one for one in agenda.lives if one.version is not None]
    return View(
        verdict=sentence_of(agenda.verdict),
        level=level_of(agenda.verdict),
        agenda=agenda,
        items=tuple(map(item_of, agenda.needs[:MOST_NEEDS])),
        picture=picture_of(lives[:MOST_LIVES], stored.at),
        last_runs=stored.last_runs[:MOST_HOSTS],
    )


def sentence_of(verdict: Verdict) -> Text:
    """Return the verdict in one sentence."""
    if not verdict.certificates:
        return Text("No certificate is declared yet")
    if verdict.needing:
        return one_or_many(
            verdict.needing,
            Text("{count} of {places} needs you"),
            Text("{count} of {places} need you"),
            places=verdict.places,
        )
    said = _served(verdict)
    if verdict.others:
        return one_or_many(
            verdict.others,
            Text("{said}; {count} other matter needs you"),
            Text("{said}; {count} other matters need you"),
            said=said,
        )
    if verdict.next is None:
        return said
    return Text(
        "{said}; next: {name}, {day}",
        said=said,
        name=verdict.next.lineage,
        day=day_in_words(verdict.next.at),
    )


def _served(verdict: Verdict) -> Text:
    count, served = verdict.places, verdict.served
    if not count:
        return one_or_many(
            verdict.certificates,
            Text("1 certificate is in order"),
            Text("All {count} certificates are in order"),
        )
    if served < count:
        said = Text("{served} of {count} have the right certificate; the others are on their way")
        return said.filled(served=served, count=count)
    if verdict.are_domains:
        return one_or_many(
            count,
            Text("The one domain serves the right certificate"),
            Text("All {count} domains serve the right certificate"),
        )
    return one_or_many(
        count,
        Text("The one place has the right certificate"),
        Text("All {count} places have the right certificate"),
    )


def day_in_words(day: date) -> Text:
    """Return a day, or that of a moment, in UTC."""
    month, weekday = MONTHS[day.month - 1], WEEKDAYS[day.weekday()]
    return Text("{weekday} {day} {month}", weekday=weekday, day=day.day, month=month)


def level_of(verdict: Verdict) -> str:
    """Return how bad the verdict is, as a class of the look."""
    is_on_the_way = verdict.severity is Severity.OK and verdict.served < verdict.places
    is_empty = not verdict.certificates
    return Severity.NOTICE if is_on_the_way or is_empty else verdict.severity


def item_of(need: Need) -> Item:
    """Return what a page shows of what needs a person."""
    hint = need.concern.problem.hint
    has_command = hint is not None and any(is_command for is_command, _ in pieces(str(hint)))
    command = None
    if need.run is not None and not has_command:
        command = shlex.join(["certferry", "sync", *need.run])
    return Item(need, subject_of(need.concern), command, secrets.token_urlsafe(12))


_COMMAND = re.compile(r"`(certferry [^`]+)`|(certferry [^`;,；，。]+)$")


def pieces(said: str) -> list[tuple[bool, str]]:
    """Split a sentence into words and the commands of certferry in it (`True`): those in
    backquotes, and one at its end.
    """
    found, begin = list[tuple[bool, str]](), 0
    for match in _COMMAND.finditer(said):
        found += [(False, said[begin : match.start()]), (True, match[1] or match[2])]
        begin = match.end()
    return [*found, (False, said[begin:])]


def overview(request: Request) -> Response:
    """Render the first screen. Raises `StateError`."""
    view = view_of(site_of(request).stored.latest())
    return render(
        request,
        "overview.html",
        view=view,
        trouble=view.agenda.verdict.troubles,
        pieces=pieces,
        weekdays=WEEKDAYS,
        months=MONTHS,
        milestones=WORDS,
        most=MOST_OF_A_DAY,
    )


ROUTES = (Route("/", overview, name="overview"),)
