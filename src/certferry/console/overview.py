"""The first screen: whether all certificates are healthy, what needs an operator, what happens
next, the lives of the certificates, and the last run of each host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certferry.console.causes import Card, cards_of
from certferry.console.picture import Picture, picture_of
from certferry.console.runs import RunRow, row_of
from certferry.console.site import render, site_of, voice_of
from certferry.console.snapshot import Snapshot
from certferry.core.assessment.agenda import Agenda, Day, Milestone, OverallVerdict
from certferry.core.observed.records import LastRun
from certferry.core.observed.stored_runs import StoredRun
from certferry.errors import Severity
from certferry.present.language import Voice, one_or_many
from certferry.text import Text

MOST_CAUSES, MOST_LIVES, MOST_HOSTS, MOST_OF_A_DAY = 10, 30, 5, 4
"""The first screen shows at most this many causes, lives of certificates, hosts, and events of a
day. Links lead to the rest.
"""

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
    Milestone.UPLOAD: Text("upload deadline"),
    Milestone.EXPIRY: Text("expiry"),
}


class View(Struct, frozen=True):
    """The first screen."""

    #: The verdict in words.
    verdict: Text
    #: The class of the verdict's badge.
    level: str
    agenda: Agenda
    #: The first causes.
    cards: tuple[Card, ...]
    #: The number of all causes.
    causes: int
    #: The picture of the first lives; `None` without a certificate.
    picture: Picture | None
    #: Each host, with the end of its last reconciliation and its last stored run.
    last_runs: Sequence[tuple[str, LastRun | None, RunRow | None]]


def view_of(stored: Snapshot, newest: Mapping[str, StoredRun], voice: Voice) -> View:
    """Return the first screen for a snapshot. `newest` has the last stored run of each host that
    has one.
    """
    agenda, ended = stored.agenda, dict(stored.last_runs)
    # Without a certificate in the file, the next step says so already.
    causes = stored.causes if agenda.lives else ()
    lives = [life for life in agenda.lives if life.version is not None]
    return View(
        verdict=sentence_of(agenda.verdict),
        level=level_of(agenda.verdict),
        agenda=agenda,
        cards=tuple(cards_of(causes[:MOST_CAUSES], agenda.needs, stored, voice)),
        causes=len(causes),
        picture=picture_of(lives[:MOST_LIVES], stored.at),
        last_runs=[
            (host, ended.get(host), row_of(newest[host]) if host in newest else None)
            for host in [*dict.fromkeys([*ended, *newest])][:MOST_HOSTS]
        ],
    )


def sentence_of(verdict: OverallVerdict) -> Text:
    """Return the verdict in one sentence."""
    if not verdict.certificates:
        return Text("No certificates are configured yet")
    sentence = _counted(verdict)
    if verdict.others:
        return one_or_many(
            verdict.others,
            Text("{said}; {count} other problem"),
            Text("{said}; {count} other problems"),
            said=sentence,
        )
    if verdict.troubled or verdict.next is None:
        return sentence
    return Text(
        "{said}; next {event}: {name}, {day}",
        said=sentence,
        event=WORDS[verdict.next.milestone],
        name=verdict.next.lineage,
        day=day_in_words(verdict.next.at),
    )


def _counted(verdict: OverallVerdict) -> Text:
    if verdict.troubled == verdict.certificates:
        return one_or_many(
            verdict.troubled,
            Text("The only certificate is in trouble"),
            Text("All {count} certificates are in trouble"),
        )
    if verdict.in_order == verdict.certificates:
        return one_or_many(
            verdict.in_order,
            Text("The only certificate is in order"),
            Text("All {count} certificates are in order"),
        )
    counted = []
    if verdict.troubled:
        counted.append(
            one_or_many(
                verdict.troubled,
                Text("1 certificate in trouble"),
                Text("{count} certificates in trouble"),
            )
        )
    if verdict.pending:
        counted.append(Text("{count} pending", count=verdict.pending))
    if verdict.in_order:
        counted.append(Text("{count} in order", count=verdict.in_order))
    return Text("{counted}", counted=counted)


def day_in_words(day: date) -> Text:
    """Return a day in words; for a moment, the day in UTC."""
    month, weekday = MONTHS[day.month - 1], WEEKDAYS[day.weekday()]
    return Text("{weekday} {day} {month}", weekday=weekday, day=day.day, month=month)


def level_of(verdict: OverallVerdict) -> str:
    """Return the severity of the verdict, as a class for the badge."""
    is_on_the_way = verdict.severity is Severity.OK and bool(verdict.pending)
    is_empty = not verdict.certificates
    return Severity.NOTICE if is_on_the_way or is_empty else verdict.severity


def overview(request: Request) -> Response:
    """Render the first screen. Raises `StateError`."""
    site = site_of(request)
    stored, runs = site.stored.latest(), site.workspace().state
    hosts = [host for host, _ in stored.last_runs[:MOST_HOSTS]]
    newest = {run.host: run for host in hosts for run in runs.stored_runs(1, host=host)}
    # A host may have a stored run without a last run: the run ended before reconciling anything.
    newest |= {run.host: run for run in runs.stored_runs(1) if run.host not in newest}
    view = view_of(stored, newest, voice_of(request))
    return render(
        request,
        "overview.html",
        view=view,
        before=Day(stored.agenda.days[0].date - timedelta(days=1), ()),
        weekdays=WEEKDAYS,
        months=MONTHS,
        milestones=WORDS,
        most=MOST_OF_A_DAY,
    )


ROUTES = (Route("/", overview, name="overview"),)
