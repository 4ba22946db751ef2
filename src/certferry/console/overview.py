"""The first screen: is everything in order, what needs a person, what happens next, how old is it
all, and when did which host observe it.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certferry.console.picture import Picture, picture_of
from certferry.console.site import render, site_of
from certferry.console.snapshot import Snapshot
from certferry.core.assessment.agenda import Coming, Day, Milestone, Need, Verdict
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
class Group:
    """The same milestone of several lineages in a day: the first, and how many `more`."""

    milestone: Milestone
    words: Text
    names: tuple[str, ...]
    more: int


@dataclass(frozen=True, slots=True)
class DayOfStrip:
    """A day in words, and what happens in it."""

    date: date
    weekday: Text
    day: Text
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The first screen."""

    verdict: Text
    level: str
    troubles: int
    certificates: int
    is_first: bool
    items: tuple[Item, ...]
    more_items: int
    strip: tuple[DayOfStrip, ...]
    picture: Picture | None
    more_lives: int
    last_runs: Sequence[tuple[str, LastRun]]
    at: datetime


def view_of(stored: Snapshot) -> View:
    """Return what the first screen shows of what is stored."""
    agenda = stored.agenda
    verdict = agenda.verdict
    return View(
        verdict=sentence_of(verdict),
        level=level_of(verdict),
        troubles=verdict.troubles,
        certificates=verdict.certificates,
        is_first=not verdict.certificates or all(one.version is None for one in agenda.lives),
        items=tuple(map(item_of, agenda.needs[:MOST_NEEDS])),
        more_items=max(len(agenda.needs) - MOST_NEEDS, 0),
        strip=tuple(map(_day, agenda.days)),
        picture=picture_of(agenda.lives[:MOST_LIVES], stored.at),
        more_lives=max(len(agenda.lives) - MOST_LIVES, 0),
        last_runs=stored.last_runs[:MOST_HOSTS],
        at=stored.at,
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


def day_in_words(moment: datetime) -> Text:
    """Return the day of a moment, in UTC."""
    month, weekday = MONTHS[moment.month - 1], WEEKDAYS[moment.weekday()]
    return Text("{weekday} {day} {month}", weekday=weekday, day=moment.day, month=month)


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


def _day(day: Day) -> DayOfStrip:
    month = MONTHS[day.date.month - 1]
    said = Text("{day} {month}", day=day.date.day, month=month)
    return DayOfStrip(day.date, WEEKDAYS[day.date.weekday()], said, tuple(_groups(day.coming)))


def _groups(coming: Sequence[Coming]) -> Iterator[Group]:
    for milestone, words in WORDS.items():
        found = (one.lineage for one in coming if one.milestone is milestone)
        if names := tuple(dict.fromkeys(found)):
            more = max(len(names) - MOST_OF_A_DAY, 0)
            yield Group(milestone, words, names[:MOST_OF_A_DAY], more)


def overview(request: Request) -> Response:
    """Render the first screen. Raises `StateError`."""
    view = view_of(site_of(request).stored.latest())
    return render(request, "overview.html", view=view, trouble=view.troubles, pieces=pieces)


ROUTES = (Route("/", overview, name="overview"),)
