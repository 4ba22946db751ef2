"""The first screen: is everything in order, what needs an operator, what happens next, how old
everything is, and when which host observed it.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certferry.console.picture import Picture, picture_of
from certferry.console.runs import RunRow, row_of
from certferry.console.site import render, site_of
from certferry.console.snapshot import Snapshot
from certferry.core.assessment.agenda import Agenda, Day, Milestone, Need, OverallVerdict
from certferry.core.assessment.health import Concern
from certferry.core.assessment.notices import Subject
from certferry.core.observed.records import LastRun
from certferry.core.observed.runs import StoredRun
from certferry.errors import Severity
from certferry.present.check_text import concern_subject
from certferry.present.language import certificate_count, one_or_many
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
    """All that needs a person of one certificate, channel or host, the worst first. Where a run is
    the fix, `run` are the certificates that it is for, none for all; one of them `renews`.
    `command` is the run as one types it, where no hint has it; `form` identifies the form that
    starts it.
    """

    subject: Text
    lineage: str
    needs: tuple[Need, ...]
    run: tuple[str, ...] | None
    renews: bool
    command: str | None
    form: str

    @property
    def level(self) -> Severity:
        """How bad the worst of it is."""
        return self.needs[0].concern.problem.severity


@dataclass(frozen=True, slots=True)
class View:
    """The first screen: the verdict in words and how bad it is, the first of what needs a person
    (one more than is shown, where there is more) and of the lives, and who ran last; where anything
    needs a person, the `extent` of all that there is. Without a `picture` there is no certificate.
    """

    verdict: Text
    level: str
    agenda: Agenda
    items: tuple[Item, ...]
    picture: Picture | None
    last_runs: Sequence[tuple[str, LastRun | None, RunRow | None]]
    extent: Text | None = None


def view_of(stored: Snapshot, newest: Mapping[str, StoredRun]) -> View:
    """Return what the first screen shows of what is stored; `newest` is the run of each host that
    began last, where it is stored.
    """
    agenda, ended = stored.agenda, dict(stored.last_runs)
    lives = [one for one in agenda.lives if one.version is not None]
    return View(
        verdict=sentence_of(agenda.verdict),
        level=level_of(agenda.verdict),
        agenda=agenda,
        items=tuple(islice(items_of(agenda.needs), MOST_NEEDS + 1)),
        picture=picture_of(lives[:MOST_LIVES], stored.at),
        last_runs=[
            (host, ended.get(host), row_of(newest[host]) if host in newest else None)
            for host in [*dict.fromkeys([*ended, *newest])][:MOST_HOSTS]
        ],
        extent=extent_of(agenda.verdict) if agenda.verdict.needing else None,
    )


def sentence_of(verdict: OverallVerdict) -> Text:
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


def extent_of(verdict: OverallVerdict) -> Text:
    """Return what the verdict counts, and how much beside it needs a person."""
    said = one_or_many(
        verdict.places,
        Text("{certificates} in 1 place"),
        Text("{certificates} in {count} places"),
        certificates=certificate_count(verdict.certificates),
    )
    if not verdict.others:
        return said
    return one_or_many(
        verdict.others,
        Text("{said}; {count} other matter needs you, too"),
        Text("{said}; {count} other matters need you, too"),
        said=said,
    )


def _served(verdict: OverallVerdict) -> Text:
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


def level_of(verdict: OverallVerdict) -> str:
    """Return how bad the verdict is, as a class of the look."""
    is_on_the_way = verdict.severity is Severity.OK and verdict.served < verdict.places
    is_empty = not verdict.certificates
    return Severity.NOTICE if is_on_the_way or is_empty else verdict.severity


def items_of(needs: Iterable[Need]) -> Iterator[Item]:
    """Return what needs a person, by what it is about, the worst first."""
    found: dict[Subject, list[Need]] = {}
    for need in needs:
        about = need.concern.subject
        found.setdefault(replace(about, target="", domain=""), []).append(need)
    for about, some in found.items():
        yield _item(about, tuple(some))


def _item(about: Subject, needs: tuple[Need, ...]) -> Item:
    run = next((one.run for one in needs if one.run is not None), None)
    hints = " ".join(str(one.concern.problem.hint or "") for one in needs)
    command = None if run is None else shlex.join(["certferry", "sync", *run])
    return Item(
        subject=concern_subject(Concern(needs[0].concern.problem, about)),
        lineage=about.lineage,
        needs=needs,
        run=run,
        renews=run is not None and bool(run) and "certferry sync --renew" in hints,
        command=None if "certferry sync" in hints else command,
        form=secrets.token_urlsafe(12),
    )


_COMMAND = re.compile(r"`(certferry [^`]+)`|(?:(?<=: )|(?<=：))(certferry [a-z{-][^`;,；，。]*)$")


def pieces(said: str) -> list[tuple[bool, str]]:
    """Split a sentence into words and the commands of certferry in it (`True`): those in
    backquotes, and one after a colon at its end.
    """
    found, begin = list[tuple[bool, str]](), 0
    for match in _COMMAND.finditer(said):
        found += [(False, said[begin : match.start()]), (True, match[1] or match[2])]
        begin = match.end()
    return [*found, (False, said[begin:])]


def overview(request: Request) -> Response:
    """Render the first screen. Raises `StateError`."""
    site = site_of(request)
    stored, runs = site.stored.latest(), site.workspace().state
    hosts = [host for host, _ in stored.last_runs[:MOST_HOSTS]]
    newest = {run.host: run for host in hosts for run in runs.stored_runs(1, host=host)}
    # A run that ended before it could reconcile anything is stored, and is no host's last one.
    newest |= {run.host: run for run in runs.stored_runs(1) if run.host not in newest}
    view = view_of(stored, newest)
    return render(
        request,
        "overview.html",
        view=view,
        pieces=pieces,
        most_needs=MOST_NEEDS,
        before=Day(stored.agenda.days[0].date - timedelta(days=1), ()),
        weekdays=WEEKDAYS,
        months=MONTHS,
        milestones=WORDS,
        most=MOST_OF_A_DAY,
    )


ROUTES = (Route("/", overview, name="overview"),)
