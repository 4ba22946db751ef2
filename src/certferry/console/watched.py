"""The page of watched hosts (`[[watch]]`): the certificate at each host, and the problems that the
last look found.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certferry.console import tables
from certferry.console.site import render, site_of, voice_of
from certferry.console.snapshot import Snapshot
from certferry.console.tables import Cell, Row, TableView, page_of_certificate
from certferry.core.assessment.agenda import DAYS
from certferry.core.assessment.watching import Watching, is_trouble
from certferry.core.network import Host
from certferry.core.observed.watched_hosts import WatchedHost
from certferry.errors import Severity
from certferry.present.language import Voice
from certferry.text import Text

MOST_DRAWN = 4
"""The most watched hosts in the picture of lives."""

_HEADINGS = (
    *(Text("Host"), Text("State"), Text("Expires"), Text("Issuer"), Text("Addresses in order")),
    *(Text("Last check"), Text("Problem")),
)
_LAST = datetime.max.replace(tzinfo=UTC)


def by_need(looks: Iterable[WatchedHost]) -> list[WatchedHost]:
    """Return looks sorted by need: trouble first, then other problems, then the first to end."""
    return sorted(
        looks,
        key=lambda look: (
            not is_trouble(look),
            look.problem is None,
            look.not_after or _LAST,
            str(look.host),
        ),
    )


def drawn_in(stored: Snapshot, state: str) -> tuple[WatchedHost, ...]:
    """Return the looks for the picture of lives: those with a certificate, filtered by a key of
    `console.lives.STATES`, the ones that need a person first.
    """
    watching, now = stored.recorded.watching, stored.at
    if watching is None:
        return ()
    looks = (look for look in watching.looks if _is_in(state, look, now))
    return tuple(by_need([look for look in looks if look.not_after is not None])[:MOST_DRAWN])


def _is_in(state: str, look: WatchedHost, now: datetime) -> bool:
    if state == "trouble":
        return is_trouble(look)
    if state == "soon":
        return look.not_after is not None and 0 <= (look.not_after - now).days < DAYS
    return state != "ok" or look.problem is None


def view_of(watching: Watching, asked: str, voice: Voice) -> TableView:
    """Return a page of the table. `asked` has the number of the page."""
    rows: list[Row] = [_of_look(look, voice) for look in by_need(watching.looks)]
    rows += [_of_unseen(host, voice) for host in watching.unseen]
    rows += [_of_owned(host, lineage, voice) for host, lineage in watching.owned.items()]
    return tables.page_of(_HEADINGS, rows, asked, lambda row: row, is_last_below=True)


def _of_look(look: WatchedHost, voice: Voice) -> Row:
    problem = look.problem
    level, word = Severity.OK.value, Text("in order")
    if problem is not None:
        counts = is_trouble(look)
        level = problem.severity.value if counts else Severity.NOTICE.value
        word = Text("needs attention") if counts else Text("differs at the moment")
    sentences: list[Text | None] = []
    if problem is not None:
        since = Text("since {moment}: {problem}", moment=look.since, problem=problem.message)
        sentences += [since, problem.hint]
    if look.more:
        sentences.append(
            Text(
                "further problems: {count}; to see every address: `certferry watch {host}`",
                count=look.more,
                host=str(look.host),
            )
        )
    return (
        Cell(str(look.host)),
        Cell(voice.say(word), level),
        Cell(at=look.not_after),
        Cell(look.issuer),
        Cell(voice.say(Text("{valid} of {count}", valid=look.valid, count=look.addresses))),
        Cell(at=look.looked_at),
        tables.lines_of(sentences, voice),
    )


def _of_unseen(host: Host, voice: Voice) -> Row:
    state = Cell(voice.say(Text("not checked yet")), "faint")
    return (Cell(str(host)), state, *[Cell()] * 5)


def _of_owned(host: Host, lineage: str, voice: Voice) -> Row:
    words = voice.say(Text("checked for the certificate {name}", name=lineage))
    state = Cell(words, path=page_of_certificate(lineage))
    return (Cell(str(host)), state, *[Cell()] * 5)


def watched(request: Request) -> Response:
    """Show the watched hosts, those that need a person first. Raises `StateError`."""
    stored = site_of(request).stored.latest()
    watching = stored.recorded.watching or Watching()
    asked = request.query_params.get("page", "1")
    table = view_of(watching, asked, voice_of(request))
    return render(request, "watched.html", table=table)


ROUTES = (Route("/watched", watched, name="watched"),)
