"""The console's first screen: a verdict on all certificates, the causes of trouble, the events of
the next days, the lives of the certificates, and the last run of each host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certferry.console.causes import (
    Card,
    Recovered,
    UnmanagedCard,
    cards_of,
    recovered_of,
    unmanaged_card,
)
from certferry.console.lives import STATES, ListView, Wanted, list_view
from certferry.console.picture import Picture, picture_of
from certferry.console.runs import RunRow, row_of
from certferry.console.site import render, site_of, voice_of
from certferry.console.snapshot import Snapshot
from certferry.console.surveying import Unmanaged
from certferry.console.watched import drawn_in
from certferry.core.assessment.agenda import Agenda, Coming, Day, Milestone, OverallVerdict
from certferry.core.certificates.certificate import first_of
from certferry.core.observed.records import LastRun
from certferry.core.observed.stored_runs import StoredRun
from certferry.core.schedule import moments_of, next_scheduled
from certferry.errors import Severity
from certferry.present.language import Voice, one_or_many
from certferry.present.status_text import MOST_NAMED
from certferry.text import Text
from certferry.values import replace

MOST_CAUSES, MOST_LIVES, MOST_HOSTS = 10, 8, 3
"""The most causes, lives of certificates, and hosts on the first screen. Links lead to the others.
"""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUARTER = timedelta(minutes=15)

WEEKDAYS = (
    *(Text("Monday"), Text("Tuesday"), Text("Wednesday"), Text("Thursday"), Text("Friday")),
    *(Text("Saturday"), Text("Sunday")),
)
SHORT_WEEKDAYS = (
    *(Text("Mon"), Text("Tue"), Text("Wed"), Text("Thu"), Text("Fri"), Text("Sat"), Text("Sun")),
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


COUNTED = {
    Milestone.RENEWAL: Text("renew"),
    Milestone.UPLOAD: Text("upload"),
    Milestone.EXPIRY: Text("expire"),
}
"""The verbs for milestones in the list of days, where the number of certificates follows."""


class Entry(Struct, frozen=True):
    """All milestones of one kind on a day, such as the renewals."""

    #: The kind.
    milestone: Milestone
    #: The number of certificates.
    count: int
    #: The numbers of certificates by quarter of an hour since 1970 (`1961037:3 1961040:1`), so a
    #: browser can count by the viewer's days. All zones differ from UTC by whole quarters.
    counts: str
    #: The first certificates.
    names: Text


class ShownDay(Struct, frozen=True):
    """A day in UTC, with an entry for each kind of milestone on this day."""

    #: The date in UTC.
    date: date
    #: The entries; empty for a day without milestones.
    entries: tuple[Entry, ...]


def shown_day(day: Day) -> ShownDay:
    """Return a day with its milestones grouped by kind."""
    by_kind: dict[Milestone, list[Coming]] = {}
    for coming in day.coming:
        by_kind.setdefault(coming.milestone, []).append(coming)
    return ShownDay(day.date, tuple(_entry(kind, some) for kind, some in by_kind.items()))


def _entry(milestone: Milestone, coming: Sequence[Coming]) -> Entry:
    # A certificate may have the same milestone twice on a day, such as the expiry of the version in
    # use and of the newest version. The certificate counts once, at the earlier moment.
    first = {one.lineage: one.at for one in reversed(coming)}
    quarters = Counter((at - EPOCH) // _QUARTER for at in first.values())
    counts = " ".join(f"{quarter}:{count}" for quarter, count in sorted(quarters.items()))
    names = Text("{names}", names=first_of([*reversed(first)], MOST_NAMED))
    return Entry(milestone, len(first), counts, names)


class View(Struct, frozen=True):
    """The first screen."""

    #: The verdict on all certificates, in words.
    verdict: Text
    #: The class of the verdict's badge.
    level: str
    #: The facts behind the screen.
    agenda: Agenda
    #: The first causes.
    cards: tuple[Card, ...]
    #: The number of all causes.
    causes: int
    #: The places of earlier causes that a page has found in order since the last run.
    recovered: Recovered | None
    #: The expired domains outside certferry; `None` without such domains, and before the first
    #: survey.
    unmanaged: UnmanagedCard | None
    #: The latest end of a run on any host; `None` before the first end.
    looked_at: datetime | None
    #: The day before `days`, empty. In a zone behind UTC, it may be the viewer's first day.
    before: ShownDay
    #: The next days.
    days: tuple[ShownDay, ...]
    #: The day after `days`. In a zone other than UTC, the viewer's last day may reach into it.
    after: ShownDay
    #: A page of the certificates in the chosen state.
    listed: ListView
    #: The picture of the listed lives; `None` without a certificate among them.
    picture: Picture | None
    #: The next scheduled run of this process; `None` if another program starts the runs.
    next_run: datetime | None
    #: The first hosts, each with the end of its last run (`LastRun`) and with its last stored run.
    last_runs: Sequence[tuple[str, LastRun | None, RunRow | None]]


def view_of(
    stored: Snapshot,
    newest: Mapping[str, StoredRun],
    voice: Voice,
    state: str = "",
    number: str = "1",
    unmanaged: Unmanaged | None = None,
    next_run: datetime | None = None,
) -> View:
    """Return the first screen for a snapshot. `newest` has the last stored run of hosts, by host.
    `state` and `number` choose the page of lives. `unmanaged` are the expired domains outside
    certferry, and `next_run` is the next scheduled run of this process.
    """
    agenda, ended = stored.agenda, dict(stored.last_runs)
    # If no certificate is declared, the page itself says so and names the next step.
    causes = stored.causes if agenda.lives else ()
    listed = list_view(stored, Wanted(state), number, MOST_LIVES)
    first, verdict = agenda.days[0].date, agenda.verdict
    card = None if unmanaged is None else unmanaged_card(unmanaged)
    if card is not None:
        verdict = replace(verdict, others=verdict.others + 1, severity=Severity.ERROR)
    return View(
        verdict=sentence_of(verdict),
        level=level_of(verdict),
        agenda=agenda,
        cards=tuple(cards_of(causes[:MOST_CAUSES], agenda.needs, stored, voice)),
        causes=len(causes) + (card is not None),
        recovered=recovered_of(stored),
        unmanaged=card,
        looked_at=max((last.ended_at for last in ended.values()), default=None),
        before=ShownDay(first - timedelta(days=1), ()),
        days=tuple(shown_day(day) for day in agenda.days),
        after=shown_day(agenda.after),
        listed=listed,
        picture=picture_of(listed.lives, stored.at, stored.deployed, drawn_in(stored, state)),
        next_run=next_run,
        last_runs=[
            (host, ended.get(host), row_of(newest[host]) if host in newest else None)
            for host in [*dict.fromkeys([*ended, *newest])][:MOST_HOSTS]
        ],
    )


def sentence_of(verdict: OverallVerdict) -> Text:
    """Return the verdict on all certificates in one sentence."""
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
            Text("The only certificate needs attention"),
            Text("All {count} certificates need attention"),
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
                Text("1 certificate needs attention"),
                Text("{count} certificates need attention"),
            )
        )
    if verdict.pending:
        counted.append(Text("{count} pending", count=verdict.pending))
    if verdict.in_order:
        counted.append(Text("{count} in order", count=verdict.in_order))
    return Text("{counted}", counted=counted)


def day_in_words(day: date) -> Text:
    """Return a day in words: weekday, day and month, without the year."""
    month, weekday = MONTHS[day.month - 1], WEEKDAYS[day.weekday()]
    return Text("{weekday} {day} {month}", weekday=weekday, day=day.day, month=month)


def level_of(verdict: OverallVerdict) -> str:
    """Return the class of the verdict's badge. The class is the severity, but NOTICE if there are
    no certificates, or if the severity is OK and a certificate is pending.
    """
    is_on_the_way = verdict.severity is Severity.OK and bool(verdict.pending)
    is_empty = not verdict.certificates
    return Severity.NOTICE if is_on_the_way or is_empty else verdict.severity


def overview(request: Request) -> Response:
    """Render the first screen. Raises `StateError`."""
    site = site_of(request)
    stored, runs = site.stored.latest(), site.workspace().state
    hosts = [host for host, _ in stored.last_runs[:MOST_HOSTS]]
    newest = {run.host: run for host in hosts for run in runs.stored_runs(1, host=host)}
    # Add the newest stored run of all, because its host may have no `LastRun`: the run has not
    # ended, or ended before any work.
    newest |= {run.host: run for run in runs.stored_runs(1) if run.host not in newest}
    asked = request.query_params
    state = asked.get("state", "")
    page, unmanaged, next_run = asked.get("page", "1"), site.unmanaged, None
    if site.has_schedule:
        moments = moments_of(site.workspace().settings.state.host)
        next_run = next_scheduled(moments, stored.at.astimezone()).astimezone(UTC)
    view = view_of(stored, newest, voice_of(request), state, page, unmanaged, next_run)
    return render(
        request,
        "overview.html",
        view=view,
        state=state,
        states={"": Text("all"), **STATES},
        weekdays=SHORT_WEEKDAYS,
        counted=COUNTED,
    )


ROUTES = (Route("/", overview, name="overview"),)
