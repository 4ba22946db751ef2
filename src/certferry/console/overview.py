"""The first screen: whether all certificates are healthy, what needs an operator, what happens
next, the lives of the certificates, and the last run of each host.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import islice

from msgspec import Struct
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
from certferry.core.observed.stored_runs import StoredRun
from certferry.errors import Severity
from certferry.present.language import READ_THE_FILE, certificate_count, one_or_many
from certferry.present.status_text import concern_subject
from certferry.text import Text
from certferry.values import replace

MOST_NEEDS, MOST_LIVES, MOST_HOSTS, MOST_OF_A_DAY = 25, 30, 5, 4
"""The first screen shows at most this many items, lives of certificates, hosts, and events of a
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


class Item(Struct, frozen=True):
    """All problems of one certificate, channel or host that a person must fix, worst first."""

    subject: Text
    #: Empty for a channel or a host.
    lineage: str
    needs: tuple[Need, ...]
    #: The certificates to name in a run that fixes the problem. If empty, the run is for all
    #: certificates; if `None`, a run does not help.
    run: tuple[str, ...] | None
    #: The run must renew the certificate.
    renews: bool
    #: The run's command line; `None` if a hint already has the command.
    command: str | None
    #: The id of the form that starts the run.
    form: str

    @property
    def level(self) -> Severity:
        """The severity of the worst need."""
        return self.needs[0].concern.problem.severity


class View(Struct, frozen=True):
    """The first screen."""

    #: The verdict in words.
    verdict: Text
    #: The class of the verdict's badge.
    level: str
    agenda: Agenda
    #: The first items, one more than shown if there are more.
    items: tuple[Item, ...]
    #: The picture of the first lives; `None` without a certificate.
    picture: Picture | None
    #: Each host, with the end of its last reconciliation and its last stored run.
    last_runs: Sequence[tuple[str, LastRun | None, RunRow | None]]
    #: The numbers of certificates and places, if something needs a person.
    extent: Text | None = None


def view_of(stored: Snapshot, newest: Mapping[str, StoredRun]) -> View:
    """Return the first screen for a snapshot. `newest` has the last stored run of each host that
    has one.
    """
    agenda, ended = stored.agenda, dict(stored.last_runs)
    lives = [life for life in agenda.lives if life.version is not None]
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
        return Text("No certificates are configured yet")
    if verdict.needing:
        if verdict.places == 1:
            return Text("The only destination needs attention")
        return one_or_many(
            verdict.needing,
            Text("{count} of {places} destinations needs attention"),
            Text("{count} of {places} destinations need attention"),
            places=verdict.places,
        )
    sentence = _served(verdict)
    if verdict.others:
        return one_or_many(
            verdict.others,
            Text("{said}; {count} other problem needs attention"),
            Text("{said}; {count} other problems need attention"),
            said=sentence,
        )
    if verdict.next is None:
        return sentence
    return Text(
        "{said}; next {event}: {name}, {day}",
        said=sentence,
        event=WORDS[verdict.next.milestone],
        name=verdict.next.lineage,
        day=day_in_words(verdict.next.at),
    )


def extent_of(verdict: OverallVerdict) -> Text:
    """Return the number of certificates and places, and the number of other matters needing a
    person.
    """
    sentence = one_or_many(
        verdict.places,
        Text("{certificates}, 1 destination"),
        Text("{certificates}, {count} destinations"),
        certificates=certificate_count(verdict.certificates),
    )
    if not verdict.others:
        return sentence
    return one_or_many(
        verdict.others,
        Text("{said}; {count} other problem needs attention, too"),
        Text("{said}; {count} other problems need attention, too"),
        said=sentence,
    )


def _served(verdict: OverallVerdict) -> Text:
    count, served = verdict.places, verdict.served
    if not count:
        return one_or_many(
            verdict.certificates,
            Text("1 certificate is OK"),
            Text("All {count} certificates are OK"),
        )
    if served < count:
        sentence = Text("{served} of {count} serve the right certificate; the rest are pending")
        return sentence.filled(served=served, count=count)
    if verdict.are_domains:
        return one_or_many(
            count,
            Text("The only domain serves the right certificate"),
            Text("All {count} domains serve the right certificate"),
        )
    return one_or_many(
        count,
        Text("The only destination has the right certificate"),
        Text("All {count} destinations have the right certificate"),
    )


def day_in_words(day: date) -> Text:
    """Return a day in words; for a moment, the day in UTC."""
    month, weekday = MONTHS[day.month - 1], WEEKDAYS[day.weekday()]
    return Text("{weekday} {day} {month}", weekday=weekday, day=day.day, month=month)


def level_of(verdict: OverallVerdict) -> str:
    """Return the severity of the verdict, as a class for the badge."""
    is_on_the_way = verdict.severity is Severity.OK and verdict.served < verdict.places
    is_empty = not verdict.certificates
    return Severity.NOTICE if is_on_the_way or is_empty else verdict.severity


def items_of(needs: Iterable[Need]) -> Iterator[Item]:
    """Yield the needs, grouped by subject, worst first."""
    needs_of: dict[Subject, list[Need]] = {}
    for need in needs:
        about = need.concern.subject
        needs_of.setdefault(replace(about, target="", domain=""), []).append(need)
    for about, some in needs_of.items():
        yield _item(about, tuple(some))


def _item(about: Subject, needs: tuple[Need, ...]) -> Item:
    run = next((need.run for need in needs if need.run is not None), None)
    hints = " ".join(str(need.concern.problem.hint or "") for need in needs)
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


_COMMAND = re.compile(
    r"`(certferry [^`]+)`"
    rf"|(?:(?<=: )|(?<=：))(certferry (?:[{{-]|(?:init|{READ_THE_FILE})\b)[^`;,；，。]*)$"
)


def pieces(sentence: str) -> list[tuple[bool, str]]:
    """Split a sentence into commands of certferry (`True`) and other words (`False`). A command is
    in backquotes, or follows a colon at the end of the sentence.
    """
    parts, begin = list[tuple[bool, str]](), 0
    for match in _COMMAND.finditer(sentence):
        parts += [(False, sentence[begin : match.start()]), (True, match[1] or match[2])]
        begin = match.end()
    return [*parts, (False, sentence[begin:])]


def overview(request: Request) -> Response:
    """Render the first screen. Raises `StateError`."""
    site = site_of(request)
    stored, runs = site.stored.latest(), site.workspace().state
    hosts = [host for host, _ in stored.last_runs[:MOST_HOSTS]]
    newest = {run.host: run for host in hosts for run in runs.stored_runs(1, host=host)}
    # A host may have a stored run without a last run: the run ended before reconciling anything.
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
