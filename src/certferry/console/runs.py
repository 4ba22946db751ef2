"""Runs: the list, one run with everything that happened in it, live while it goes on; and the form
that starts one.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from certferry.console.following import Feeds, message
from certferry.console.guard import is_still_in
from certferry.console.refusals import Refused
from certferry.console.site import (
    Site,
    link,
    render,
    site_of,
    visitor_of,
    voice_of,
    with_form,
)
from certferry.core.observed.runs import (
    RunEvent,
    RunKind,
    RunReport,
    RunSource,
    RunState,
    StoredRun,
)
from certferry.core.planning.report import Outcome
from certferry.errors import ConfigError
from certferry.ports.runs import RunStore
from certferry.present.documents import Document, report_in
from certferry.text import Text

ON_A_PAGE = 50
SHOWN_EVENTS = 500
"""How many of its latest events a page of a run has; the whole is in the API's document."""

LISTED_NAMES = 5

FILTERS = ("name", "host", "who")

STATES = {
    RunState.RUNNING: Text("in progress"),
    RunState.DONE: Text("in order"),
    RunState.FAILED: Text("failed"),
    RunState.STOPPED: Text("stopped"),
    RunState.DIED: Text("died"),
}
SENTENCES = {
    RunState.RUNNING: Text("In progress."),
    RunState.DONE: Text("Ended: everything is in order."),
    RunState.FAILED: Text("Ended: not everything is in order."),
    RunState.STOPPED: Text("Stopped before its end; the next run goes on from there."),
    RunState.DIED: Text("Ended by the death of its process; the next run goes on from there."),
}
KINDS = {
    RunKind.SYNC: Text("Sync"),
    RunKind.REHEARSE: Text("Rehearsal"),
    RunKind.RENEW: Text("Renewal"),
    RunKind.ROLLBACK: Text("Rollback"),
}
SOURCES = {
    RunSource.SCHEDULE: Text("schedule"),
    RunSource.COMMAND: Text("command line"),
    RunSource.CONSOLE: Text("console"),
    RunSource.API: Text("API"),
    RunSource.HOOK: Text("hook"),
}
TONES = {
    RunState.RUNNING: "notice",
    RunState.DONE: "ok",
    RunState.FAILED: "error",
    RunState.STOPPED: "warning",
    RunState.DIED: "error",
}
OUTCOMES = {
    Outcome.DONE: "ok",
    Outcome.WAITING: "notice",
    Outcome.FAILED: "error",
    Outcome.REFUSED: "error",
    Outcome.SKIPPED: "warning",
}
"""The badge of each; what is not here is plain."""


def runs_of(site: Site) -> RunStore:
    """Return the runs that are stored."""
    return site.workspace().state


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it is shown: its words for people, its badge, and how long it took."""

    run: StoredRun
    state: Text
    sentence: Text
    tone: str
    kind: Text
    source: Text
    took: Text | None

    @property
    def names(self) -> tuple[str, ...]:
        """The first certificates that it was for."""
        return self.run.names[:LISTED_NAMES]

    @property
    def more(self) -> int:
        """How many others it was for."""
        return len(self.run.names) - len(self.names)

    @property
    def is_running(self) -> bool:
        """Whether more is to come."""
        return self.run.state is RunState.RUNNING


def row_of(run: StoredRun) -> RunRow:
    """Return how a run is shown."""
    took = None
    if run.ended_at is not None:
        took = Text("{words}", words=whole_seconds(run.ended_at - run.started_at))
    return RunRow(
        run,
        STATES[run.state],
        SENTENCES[run.state],
        TONES[run.state],
        KINDS[run.kind],
        SOURCES[run.source],
        took,
    )


def whole_seconds(time: timedelta) -> timedelta:
    """Return a time as it is read: in seconds, and none below zero where clocks differ."""
    return timedelta(seconds=max(int(time.total_seconds()), 0))


def listed(request: Request) -> Response:
    """Show runs, newest first, a page at a time."""
    site = site_of(request)
    chosen = {name: request.query_params.get(name, "").strip() for name in FILTERS}
    found = runs_of(site).stored_runs(
        ON_A_PAGE + 1,
        before=request.query_params.get("before") or None,
        lineage=chosen["name"] or None,
        host=chosen["host"] or None,
        who=chosen["who"] or None,
    )
    rows = [row_of(run) for run in found[:ON_A_PAGE]]
    query = {name: value for name, value in chosen.items() if value}
    older = None
    if len(found) > ON_A_PAGE:
        older = urlencode({**query, "before": rows[-1].run.id})
    return render(
        request,
        "runs.html",
        rows=rows,
        chosen=chosen,
        older=older,
        newest=urlencode(query) if request.query_params.get("before") else None,
        is_filtered=bool(query),
        is_live=any(row.is_running for row in rows),
        request_id=new_request(),
    )


def new_request() -> str:
    """Return the id of a form: sent twice, it starts one run."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a report as it is shown."""

    action: str
    outcome: str
    tone: str
    where: str
    detail: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class Reported:
    """What a report has of a certificate."""

    name: str
    result: str
    steps: tuple[Step, ...]


def reported(document: Document | None) -> tuple[Reported, ...]:
    """Return a report's certificates, from the document that the command prints."""
    found = cast("list[Document]", (document or {}).get("certificates") or [])
    return tuple(
        Reported(
            str(one.get("name")),
            str(one.get("result") or ""),
            tuple(map(_step, cast("list[Document]", one.get("steps") or []))),
        )
        for one in found
    )


def _step(step: Document) -> Step:
    outcome, hint = str(step.get("outcome") or ""), step.get("hint")
    place = (step.get("target"), step.get("domain") or step.get("label"))
    return Step(
        str(step.get("action") or ""),
        outcome,
        OUTCOMES.get(cast("Outcome", outcome), ""),
        " → ".join(str(one) for one in place if one),
        str(step.get("detail") or ""),
        None if hint is None else str(hint),
    )


@dataclass(frozen=True, slots=True)
class EventView:
    """How the events of a run are shown: since it `began`."""

    began: datetime

    def tone(self, event: RunEvent) -> str:
        """Return the badge of how a step ended."""
        return OUTCOMES.get(cast("Outcome", event.outcome), "")

    def action(self, event: RunEvent) -> str:
        """Return which step it was, nothing for what is no step."""
        return event.event.partition(".")[0] if event.outcome and event.lineage else ""

    def elapsed(self, event: RunEvent) -> str:
        """Return how long after the run's begin it was: `0:07`, `1:02:03`."""
        minutes, seconds = divmod(int(whole_seconds(event.at - self.began).total_seconds()), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

    def place(self, event: RunEvent) -> str:
        """Return where it happened."""
        return " → ".join(filter(None, (event.target, event.domain)))


def one_run(request: Request) -> Response:
    """Show a run: who started it, every event, and how it ended."""
    site = site_of(request)
    run, events, report = stored(site, request.path_params["run"])
    shown = events[-SHOWN_EVENTS:]
    return render(
        request,
        "run.html",
        row=row_of(run),
        run=run,
        events=shown,
        left_out=len(events) - len(shown),
        last=events[-1].number if events else 0,
        of=EventView(run.started_at),
        reported=reported(report_in(report, voice_of(request).language)),
        has_new_plan=any(event.event == PLAN_CHANGED for event in events),
    )


PLAN_CHANGED = "plan_changed"


def stored(
    site: Site, run: str, after: int = 0
) -> tuple[StoredRun, list[RunEvent], RunReport | None]:
    """Return a run with its events `after` this one, and its report. Raises `Refused` where
    there is no such run.
    """
    runs = runs_of(site)
    found = runs.stored_run(run)
    if found is None:
        raise Refused(404)
    events = list[RunEvent]()
    while more := runs.run_events(run, events[-1].number if events else after):
        events.extend(more)
    return found, events, runs.run_report(run)


async def follow(request: Request) -> Response:
    """Stream what happens in a run as server-sent events, from the one after `Last-Event-ID`."""
    site = site_of(request)
    run = await run_in_threadpool(runs_of(site).stored_run, request.path_params["run"])
    if run is None:
        raise Refused(404)
    last = request.headers.get("Last-Event-ID") or request.query_params.get("after") or ""
    number = int(last) if last.isascii() and last.isdecimal() and len(last) < _DIGITS else 0
    return StreamingResponse(
        _stream(request, run, number),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"},
    )


_DIGITS = 10


async def _stream(request: Request, run: StoredRun, number: int) -> AsyncIterator[str]:
    site, app = site_of(request), request.app
    if not hasattr(app.state, "feeds"):
        app.state.feeds = Feeds(lambda: runs_of(site), site.closing.is_set)
    feeds: Feeds = app.state.feeds
    yield "retry: 2000\n" + message("begun", "")
    async with feeds.watching(run.id) as feed:
        while True:
            found = await feed.after(number)
            # A session that has ended meanwhile reads nothing more.
            if site.closing.is_set() or not await run_in_threadpool(is_still_in, request):
                return
            for event in found:
                number = event.number
                yield message("event", _written(request, run, event), number)
            if not found:
                yield message("ended", "") if feed.has_ended else BEAT
                if feed.has_ended:
                    return


BEAT = ": it goes on\n" + message("beat", "")


def _written(request: Request, run: StoredRun, event: RunEvent) -> str:
    view = EventView(run.started_at)
    return bytes(render(request, "event.html", event=event, of=view).body).decode()


def start(request: Request, form: FormData) -> Response:
    """Start the run that a form asks for, and lead to its page."""
    kind = str(form.get("kind", ""))
    if kind not in set(RunKind):
        raise Refused(400)
    run = started(
        request,
        RunKind(kind),
        [str(name) for name in form.getlist("names")],
        source=RunSource.CONSOLE,
        plan=str(form.get("plan") or "") or None,
        form=str(form.get("request") or "") or None,
    )
    return RedirectResponse(link(request, f"/runs/{run.id}"), 303)


def started(
    request: Request,
    kind: RunKind,
    names: Sequence[str],
    *,
    source: RunSource,
    plan: str | None,
    form: str | None,
) -> StoredRun:
    """Start a run for the user who asks. Raises `Refused` and `StateError`."""
    visitor = visitor_of(request)
    if not visitor.may_start:
        raise Refused(403)
    try:
        return site_of(request).starter.start(
            kind, names, who=visitor.user.name, source=source, plan=plan, request=form
        )
    except ConfigError as error:
        raise Refused(400, error.message, error.hint) from error


def stop(request: Request) -> Response:
    """Have a run come to a safe point."""
    run, site = request.path_params["run"], site_of(request)
    if not visitor_of(request).may_start:
        raise Refused(403)
    if runs_of(site).stored_run(run) is None:
        raise Refused(404)
    site.starter.stop(run)
    return RedirectResponse(link(request, f"/runs/{run}"), 303)


ROUTES = (
    Route("/runs", listed, name="runs"),
    Route("/runs", with_form(start), methods=["POST"], name="runs.start"),
    Route("/runs/{run}", one_run, name="run"),
    Route("/runs/{run}/events", follow, name="run.events"),
    Route("/runs/{run}/stop", stop, methods=["POST"], name="run.stop"),
)
