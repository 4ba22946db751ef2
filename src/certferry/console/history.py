"""The history of changes, newest first: by certificate, host, person and time, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from certferry.console import tables
from certferry.console.site import render, site_of, voice_of
from certferry.console.tables import ROWS, Cell, Row
from certferry.core.observed.records import HistoryEntry, HistoryFilter
from certferry.errors import ConfigError, Problem
from certferry.present.language import Voice
from certferry.present.run_log import rfc3339
from certferry.present.status_text import facts_of
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.selection import history_of
from certferry.wiring.workspace import Workspace

IN_A_PORTION = 1000
"""How many entries of the CSV are read at a time, so memory use does not grow with the history."""

_LONG = 19
"""A number of an entry has fewer digits than this. Databases refuse longer numbers."""
_KEYS = ("name", "host", "who", "from", "until", "before")


class Filters(Struct, frozen=True):
    """The filters of a history page, as in the URL."""

    name: str = ""
    host: str = ""
    who: str = ""
    #: A moment, or a day in UTC. The page's script sends moments, for days of the viewer's time
    #: zone.
    since: str = ""
    #: As `since`. If it is a day, the whole day is included.
    until: str = ""
    #: The number of an entry.
    before: str = ""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Filters:
        """Read the filters from a URL. Zero characters are replaced, because databases
        refuse them.
        """
        keys = ("name", "host", "who", "from", "until", "before")
        return cls(
            *(query.get(key, "").strip().replace("\0", "\N{REPLACEMENT CHARACTER}") for key in keys)
        )

    def address(self, path: str = "/history", **other: object) -> str:
        """Return the address of a page with these filters, changed by `other`."""
        query = {"name": self.name, "host": self.host, "who": self.who, "from": self.since}
        return tables.address(path, **(query | {"until": self.until} | other))

    def entries(self, workspace: Workspace, limit: int) -> tuple[HistoryEntry, ...]:
        """Return at most `limit` matching entries, newest first. Raises `ConfigError` for an
        unreadable filter, and for an unknown name.
        """
        return history_of(self.name or None, limit, workspace, self.number(), self.which())

    def which(self) -> HistoryFilter:
        """Return the filter by host, person and time, for the store. Raises `ConfigError`."""
        since, until = _moment(self.since), _moment(self.until, after=timedelta(days=1))
        return HistoryFilter(self.host or None, self.who or None, since, until)

    def number(self) -> int | None:
        """Return the number in `before`; `None` without a number. Raises `ConfigError`."""
        if self.before and not (self.before.isdecimal() and len(self.before) < _LONG):
            raise ConfigError(Text("{word} is not the number of an entry", word=self.before))
        return int(self.before) if self.before else None


def _moment(word: str, after: timedelta = timedelta(0)) -> datetime | None:
    """Return a moment; for a day, the beginning of the day plus `after`. Raises `ConfigError`."""
    if not word:
        return None
    try:
        moment = datetime.fromisoformat(word)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        is_day = len(word) == len("2026-03-01")
        return (moment + after if is_day else moment).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            Text("{word} is not a date", word=word), hint=Text("use the format 2026-03-01")
        ) from None


_HEADINGS = (
    *(Text("Time"), Text("Certificate"), Text("Event"), Text("Details")),
    *(Text("Who"), Text("Host")),
)


def _row(entry: HistoryEntry, filters: Filters, voice: Voice) -> Row:
    """Make a row of an entry. The certificate, person and host link to their own histories."""
    host = entry.host or ""
    has_failed = entry.event.endswith(" failed")
    return (
        Cell(at=entry.at),
        Cell(entry.lineage, path=filters.address(name=entry.lineage)),
        Cell(voice.word(entry.event), "error" if has_failed else ""),
        Cell(voice.say_on_one_line(facts_of(entry, voice))),
        Cell(entry.who, path=filters.address(who=entry.who)),
        Cell(host, path=filters.address(host=host) if host else None),
    )


def history(request: Request) -> Response:
    """Show a page of the history."""
    site, voice = site_of(request), voice_of(request)
    filters, workspace = Filters.read(request.query_params), site.workspace()
    mistake: Problem | None = None
    entries: Sequence[HistoryEntry] = ()
    try:
        entries = filters.entries(workspace, ROWS + 1)
    except ConfigError as error:
        mistake = error.problem()
    shown = entries[:ROWS]
    has_more = len(entries) > ROWS
    return render(
        request,
        "history.html",
        status=200 if mistake is None else 400,
        filters=filters,
        mistake=mistake,
        table=tables.table_of(_HEADINGS, [_row(entry, filters, voice) for entry in shown]),
        hosts=[(host.name, host.name) for host in workspace.state.hosts()],
        newest=filters.address() if filters.before else None,
        older=filters.address(before=shown[-1].number) if has_more else None,
        csv=filters.address("/history.csv"),
    )


# --- CSV

_COLUMNS = ("at", "name", "event", "who", "host", "number", "target", "domain", "fingerprint")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""The first characters by which spreadsheets recognise a formula, and their wide forms, which some
spreadsheets accept.
"""


def csv_of(entries: Sequence[HistoryEntry]) -> str:
    """Return entries as rows of CSV (RFC 4180). Facts without a column of their own are in `facts`,
    as `KEY=VALUE`.
    """
    output = io.StringIO()
    csv.writer(output).writerows([*map(_harmless, _cells(entry))] for entry in entries)
    return output.getvalue()


def _cells(entry: HistoryEntry) -> Iterator[str]:
    facts = dict(entry.facts)
    yield from (rfc3339(entry.at), entry.lineage, entry.event, entry.who, entry.host or "")
    yield "" if entry.number is None else str(entry.number)
    yield from (facts.pop(name, "") for name in _COLUMNS[6:])
    yield "; ".join(f"{name}={fact}" for name, fact in facts.items())


def _harmless(words: str) -> str:
    """Return a cell that spreadsheets take for text: a formula gets an apostrophe in front."""
    return f"'{words}" if words.startswith(_FORMULA) else words


def history_csv(request: Request) -> Response:
    """Return the filtered entries as CSV, in UTF-8 with a byte order mark. The answer is sent in
    portions.
    """
    filters, workspace = Filters.read(request.query_params), site_of(request).workspace()
    portions = _portions(filters, workspace)
    try:
        first = next(portions, "")
    except ConfigError:
        return history(request)
    heading = ",".join((*_COLUMNS, "facts"))
    return StreamingResponse(
        chain([f"\ufeff{heading}\r\n", first], portions),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="history.csv"'},
    )


def _portions(filters: Filters, workspace: Workspace) -> Iterator[str]:
    while portion := filters.entries(workspace, IN_A_PORTION):
        yield csv_of(portion)
        filters = replace(filters, before=str(portion[-1].number))


ROUTES = (
    Route("/history", history, name="history"),
    Route("/history.csv", history_csv, name="history.csv"),
)
