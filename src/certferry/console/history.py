"""Show the history of changes, newest first: a page with the entries grouped by run, and downloads
of all matching entries as CSV or JSON.

There are two histories: of certificates, and of the console's users and tokens.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from typing import cast

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from certferry.console import tables
from certferry.console.runs import RunRow, row_of
from certferry.console.site import render, site_of, voice_of
from certferry.console.tables import ROWS, Cell, Row, TableView
from certferry.core.assessment.causes import Cause, causes_of, key_of
from certferry.core.assessment.health import Concern
from certferry.core.assessment.notices import Subject
from certferry.core.certificates.certificate import first_of
from certferry.core.observed.records import (
    ACCESS,
    FAILED,
    REFUSED,
    HistoryEntry,
    HistoryFilter,
)
from certferry.core.observed.stored_runs import StoredRun
from certferry.errors import ConfigError, Problem
from certferry.ports.run_store import KEPT_RUNS, RunStore
from certferry.present import documents
from certferry.present.language import ACCESS_EVENTS, EVENTS, Voice
from certferry.present.run_log import rfc3339
from certferry.present.status_text import facts_of
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.selection import history_of
from certferry.wiring.workspace import Workspace

IN_A_PORTION = 1000
"""The number of entries that a download reads at a time. So the memory in use does not grow with
the history.
"""

_LONG = 19
"""The number of an entry has fewer digits than this. Databases refuse longer numbers."""
MOST_NAMED = 10
"""The most certificates that a row of several entries with the same cause names."""
USERS = "users"
"""The value of `about` for the history of users and tokens."""


class Filters(Struct, frozen=True):
    """The filters of a page of the history, as written in the URL. An empty filter leaves nothing
    out.
    """

    #: The certificate's lineage, or a domain of the certificate.
    name: str = ""
    #: The host that made the entry.
    host: str = ""
    #: The person or program that made the change.
    who: str = ""
    #: The first moment, or a day in UTC. The page's script sends moments: the beginnings of days in
    #: the viewer's time zone.
    since: str = ""
    #: The moment at which the entries end, or the last day in UTC, which is included.
    until: str = ""
    #: The number of an entry: only entries before it.
    before: str = ""
    #: An event of `EVENTS` or `ACCESS_EVENTS`.
    event: str = ""
    #: `USERS`, or `""` for certificates.
    about: str = ""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Filters:
        """Read the filters from the query of a URL. NUL characters are replaced, because databases
        refuse NUL characters.
        """
        keys = ("name", "host", "who", "from", "until", "before", "event", "about")
        return cls(
            *(query.get(key, "").strip().replace("\0", "\N{REPLACEMENT CHARACTER}") for key in keys)
        )

    def address(self, path: str = "/history", **other: object) -> str:
        """Return the path and query of a page with these filters, except `before`. `other` adds or
        replaces values of the query.
        """
        query = {"about": self.about, "name": self.name, "event": self.event, "host": self.host}
        query |= {"who": self.who, "from": self.since, "until": self.until}
        return tables.address(path, **(query | other))

    @property
    def is_set(self) -> bool:
        """Whether a filter other than `before` and `about` leaves entries out."""
        return bool(any((self.name, self.event, self.host, self.who, self.since, self.until)))

    @property
    def is_about_users(self) -> bool:
        """Whether the history of users and tokens is wanted."""
        return self.about == USERS or self.name == ACCESS

    def entries(self, workspace: Workspace, limit: int) -> tuple[HistoryEntry, ...]:
        """Return at most `limit` matching entries, newest first. Raises `ConfigError` for a filter
        that cannot be read, and for an unknown name.
        """
        if self.is_about_users:
            return workspace.state.history(ACCESS, limit, self.number(), self.which())
        return history_of(self.name or None, limit, workspace, self.number(), self.which())

    def which(self) -> HistoryFilter:
        """Return the filters for the state, except `name` and `before`. Raises `ConfigError` for a
        moment that cannot be read.
        """
        since, until = _moment(self.since), _moment(self.until, after=timedelta(days=1))
        without = None if self.is_about_users else ACCESS
        return HistoryFilter(
            self.host or None, self.who or None, since, until, self.event or None, without
        )

    def number(self) -> int | None:
        """Return the number in `before`; `None` if `before` is empty. Raises `ConfigError` for text
        that cannot be the number of an entry.
        """
        if self.before and not (self.before.isdecimal() and len(self.before) < _LONG):
            raise ConfigError(Text("{word} is not the number of an entry", word=self.before))
        return int(self.before) if self.before else None


def _moment(word: str, after: timedelta = timedelta(0)) -> datetime | None:
    """Return the moment in a filter. For a day, return the beginning of the day plus `after`; for
    an empty filter, return `None`. A moment without an offset is in UTC. Raises `ConfigError` for
    other text.
    """
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


_TONES = {FAILED: "error", REFUSED: "error", "verified": "ok", "drift found": "warning"}


def _row(
    entry: HistoryEntry, filters: Filters, voice: Voice, others: Sequence[HistoryEntry] = ()
) -> Row:
    """Make a row of an entry, and of `others` with the same cause. The certificate, the person and
    the host are links that add a filter. In a history of a single certificate, the row leaves out
    the name.
    """
    is_known = filters.is_about_users or filters.name == entry.lineage
    host, lineage = entry.host or "", "" if is_known else entry.lineage
    concerns = filter(None, map(_concern_of, (entry, *others)))
    cause = next(iter(causes_of(concerns)), None) if others else None
    tone = _TONES.get(entry.event.rpartition(" ")[2]) or _TONES.get(entry.event, "")
    return (
        Cell(at=entry.at, to_the_second=True),
        _named(lineage, cause, filters, voice),
        Cell(voice.word(entry.event), tone),
        Cell(voice.say_on_one_line(facts_of(_joined(entry, cause), voice))),
        Cell(entry.who, path=filters.address(who=entry.who)),
        Cell(host, path=filters.address(host=host) if host else None),
    )


def _named(lineage: str, cause: Cause | None, filters: Filters, voice: Voice) -> Cell:
    if cause is None:
        return Cell(lineage, path=filters.address(name=lineage) if lineage else None)
    return Cell(voice.say(Text("{names}", names=first_of(cause.lineages, MOST_NAMED))))


def _concern_of(entry: HistoryEntry) -> Concern | None:
    """Return the concern of an entry about a run that failed or was refused. Return `None` for any
    other entry.
    """
    problem = entry.facts.get("problem")
    if entry.event not in {FAILED, REFUSED} or not isinstance(problem, Text):
        return None
    target, domain = (str(entry.facts.get(name, "")) for name in ("target", "domain"))
    return Concern(Problem(entry.event, problem), Subject(entry.lineage, target, domain))


def _cause_of(entry: HistoryEntry) -> Hashable:
    """Return a value that is equal for entries with the same cause."""
    concern = _concern_of(entry)
    return entry.number if concern is None else key_of(concern)


def _joined(entry: HistoryEntry, cause: Cause | None) -> HistoryEntry:
    """Return an entry with the facts of the cause that several entries share, if any: target,
    domain and problem.
    """
    if cause is None:
        return entry
    where = {"target": cause.subject.target, "domain": cause.subject.domain}
    facts: dict[str, str | Text] = {name: word for name, word in where.items() if word}
    return replace(entry, facts={**facts, "problem": cause.problem.message})


class Group(Struct, frozen=True):
    """Consecutive entries of a run, or consecutive entries outside runs."""

    #: The run; `None` for entries outside runs, and for entries of runs that are no longer stored.
    run: RunRow | None
    #: The rows of the entries.
    rows: tuple[Row, ...]


class GroupedTable(Struct, frozen=True):
    """Entries of the history in a table, grouped by run."""

    #: The table, with the rows of all groups.
    table: TableView
    #: The groups, in the order of the table.
    groups: tuple[Group, ...]


def grouped_table(
    entries: Sequence[HistoryEntry], filters: Filters, store: RunStore, voice: Voice
) -> GroupedTable:
    """Return a table of entries, grouped by run. The entries must be newest first. Consecutive
    entries with the same run and cause share a row.
    """
    with_runs = zip(_runs_of(entries, store), entries, strict=True)
    alike = [
        (run, [entry for _, entry in pairs])
        for (run, _), pairs in groupby(with_runs, key=lambda pair: (pair[0], _cause_of(pair[1])))
    ]
    rows = [_row(same[0], filters, voice, same[1:]) for _, same in alike]
    table = tables.table_of(_HEADINGS, rows)
    runs = [run for run, _ in alike]
    grouped = groupby(zip(runs, table.rows, strict=True), key=lambda pair: pair[0])
    groups = tuple(
        Group(None if run is None else row_of(run), tuple(row for _, row in pairs))
        for run, pairs in grouped
    )
    return GroupedTable(table, groups)


def _runs_of(entries: Sequence[HistoryEntry], store: RunStore) -> list[StoredRun | None]:
    """Return for each entry the run that probably made the entry, or `None`. This is the newest run
    of the entry's host, person and certificate that was in progress at the entry's moment.
    """
    if not entries:
        return []
    first, last = entries[-1].at, entries[0].at
    runs: list[StoredRun] = []
    portion: Sequence[StoredRun] = store.stored_runs(ROWS)
    while portion and len(runs) < KEPT_RUNS:
        runs += [run for run in portion if run.started_at <= last]
        if portion[-1].started_at < first:
            break
        portion = store.stored_runs(ROWS, before=portion[-1].id)
    return [next((run for run in runs if _made(run, entry)), None) for entry in entries]


def _made(run: StoredRun, entry: HistoryEntry) -> bool:
    """Return whether a run can have made an entry."""
    is_there = (run.host, run.who) == (entry.host, entry.who) and entry.lineage != ACCESS
    is_named = not run.names or entry.lineage in run.names
    has_begun = run.started_at <= entry.at
    return (
        is_there and is_named and has_begun and (run.ended_at is None or entry.at <= run.ended_at)
    )


def history(request: Request) -> Response:
    """Show a page of the history. A mistake in a filter is shown on the page, with status 400."""
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
    events = ACCESS_EVENTS if filters.is_about_users else EVENTS
    return render(
        request,
        "history.html",
        status=200 if mistake is None else 400,
        filters=filters,
        mistake=mistake,
        history=grouped_table(shown, filters, workspace.state, voice),
        hosts=[(host.name, host.name) for host in workspace.state.hosts()],
        events=[(event, voice.word(event)) for event in events],
        whole=tables.address("/history", about=filters.about),
        newest=filters.address() if filters.before else None,
        older=filters.address(before=shown[-1].number) if has_more else None,
        other=tables.address("/history", about="" if filters.is_about_users else USERS),
        csv=filters.address("/history.csv"),
        json=filters.address("/history.json"),
    )


# --- Downloads

_COLUMNS = ("at", "name", "event", "who", "host", "number", "target", "domain", "fingerprint")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""The first characters by which a spreadsheet takes a cell for a formula. Some spreadsheets also
accept the full-width forms.
"""


def csv_of(entries: Sequence[HistoryEntry]) -> str:
    """Return entries as rows of CSV (RFC 4180), without the heading. The last column, `facts`, has
    the facts without a column of their own, as `KEY=VALUE`.
    """
    output = io.StringIO()
    csv.writer(output).writerows([*map(_harmless, _cells(entry))] for entry in entries)
    return output.getvalue()


def _cells(entry: HistoryEntry) -> Iterator[str]:
    facts = {name: str(fact) for name, fact in entry.facts.items()}
    yield from (rfc3339(entry.at), entry.lineage, entry.event, entry.who, entry.host or "")
    yield "" if entry.number is None else str(entry.number)
    yield from (facts.pop(name, "") for name in _COLUMNS[6:])
    yield "; ".join(f"{name}={fact}" for name, fact in facts.items())


def _harmless(words: str) -> str:
    """Return a cell that spreadsheets take for text: words like a formula get an apostrophe in
    front.
    """
    return f"'{words}" if words.startswith(_FORMULA) else words


def history_csv(request: Request) -> Response:
    """Return the matching entries as CSV, in UTF-8 with a byte order mark."""
    heading = ",".join((*_COLUMNS, "facts"))
    return _download(request, "csv", "text/csv; charset=utf-8", f"\ufeff{heading}\r\n", csv_of)


def history_json(request: Request) -> Response:
    """Return the matching entries as JSON: the document of `certferry history --json`, with an
    entry on each line.
    """
    whole = json.dumps(documents.of_history(()), ensure_ascii=False)
    opening, closing = whole.split("[]")
    return _download(
        request, "json", "application/json", f"{opening}[\n", _Lines().of, f"\n]{closing}\n"
    )


class _Lines:
    """Writes entries as elements of a JSON list, a line for each."""

    def __init__(self) -> None:
        self._has_written = False

    def of(self, entries: Sequence[HistoryEntry]) -> str:
        """Return the lines of the next entries, with a comma between elements."""
        rows = cast("list[object]", documents.of_history(entries)["entries"])
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        comma, self._has_written = (",\n" if self._has_written else ""), True
        return comma + lines


def _download(
    request: Request,
    extension: str,
    media_type: str,
    opening: str,
    written: Callable[[Sequence[HistoryEntry]], str],
    closing: str = "",
) -> Response:
    """Return all matching entries as a file, sent in portions. If a filter cannot be read, return
    the page of the history with the mistake.
    """
    filters, workspace = Filters.read(request.query_params), site_of(request).workspace()
    portions = map(written, _portions(filters, workspace))
    try:
        first = next(portions, "")
    except ConfigError:
        return history(request)
    return StreamingResponse(
        chain([opening, first], portions, [closing]),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="history.{extension}"'},
    )


def _portions(filters: Filters, workspace: Workspace) -> Iterator[Sequence[HistoryEntry]]:
    while portion := filters.entries(workspace, IN_A_PORTION):
        yield portion
        filters = replace(filters, before=str(portion[-1].number))


ROUTES = (
    Route("/history", history, name="history"),
    Route("/history.csv", history_csv, name="history.csv"),
    Route("/history.json", history_json, name="history.json"),
)
