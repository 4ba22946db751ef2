"""Pages of runs: the list of runs, and the page of a run with its events, live while the run is in
progress. Also the forms that start and stop runs.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from certferry.console.causes import steps_of
from certferry.console.following import message
from certferry.console.guard import is_still_in
from certferry.console.refusals import PageRefused
from certferry.console.run_results import ReportView, report_view
from certferry.console.runs_in_progress import (
    KINDS,
    SOURCES,
    RunInProgress,
    clock,
    in_progress,
    progress_of,
)
from certferry.console.site import Site, link, render, site_of, visitor_of, voice_of, with_form
from certferry.console.tables import page_of_certificate
from certferry.core.observed.stored_runs import RunEvent, RunKind, RunSource, RunState, StoredRun
from certferry.core.planning.report import Outcome
from certferry.errors import ConfigError
from certferry.ports.run_store import KEPT_WHOLE
from certferry.ports.state import StateStore
from certferry.text import Text

ON_A_PAGE = 50
SHOWN_EVENTS = 100
"""The most events that a run's page shows at a time."""

FILTERS = ("name", "host", "who")

STATES = {
    RunState.RUNNING: ("notice", Text("in progress"), Text("In progress")),
    RunState.DONE: ("ok", Text("ok"), Text("Finished; nothing needs attention")),
    RunState.FAILED: ("error", Text("failed"), Text("Finished; something needs attention")),
    RunState.STOPPED: (
        "warning",
        Text("stopped"),
        Text("Stopped before the end; the next run continues from here"),
    ),
    RunState.DIED: (
        "error",
        Text("interrupted"),
        Text("Interrupted, because its process ended; the next run continues from here"),
    ),
}
"""For each state of a run: the class of the badge, the word in the badge, and a sentence."""

TONES = {
    Outcome.DONE.value: "ok",
    Outcome.WAITING.value: "notice",
    Outcome.FAILED.value: "error",
    Outcome.REFUSED.value: "error",
    Outcome.SKIPPED.value: "warning",
}
"""The class of the badge for a step's outcome. Other outcomes have no badge."""


def runs_of(site: Site) -> StateStore:
    """Return the store of runs, which is the state."""
    return site.workspace().state


class RunRow(Struct, frozen=True):
    """A run, with the words that pages show."""

    #: The run.
    run: StoredRun
    #: The class of the badge.
    tone: str
    #: The word in the badge.
    state: Text
    #: The state in a sentence.
    sentence: Text
    #: The kind of run, in a word.
    kind: Text
    #: Who or what started the run, in a word or two.
    source: Text
    #: The duration; `None` before the run's end.
    took: Text | None
    #: How many certificates are done; `None` before the run has counted, and after its end.
    progress: Text | None
    #: Whether the run is in progress.
    is_running: bool


def row_of(run: StoredRun) -> RunRow:
    """Return a run with the words that pages show."""
    took = None
    if run.ended_at is not None:
        took = Text("{words}", words=whole_seconds(run.ended_at - run.started_at))
    is_running, words = run.state is RunState.RUNNING, STATES[run.state]
    progress = progress_of(run) if is_running else None
    return RunRow(run, *words, KINDS[run.kind], SOURCES[run.source], took, progress, is_running)


def whole_seconds(time: timedelta) -> timedelta:
    """Return a duration in whole seconds. Differing clocks may give a negative duration, which
    becomes zero.
    """
    return timedelta(seconds=max(int(time.total_seconds()), 0))


def listed(request: Request) -> Response:
    """Show a page of the list of runs, newest first, with the filters of the query."""
    site = site_of(request)
    chosen = {name: request.query_params.get(name, "").strip() for name in FILTERS}
    stored_runs = runs_of(site).stored_runs(
        ON_A_PAGE + 1,
        before=request.query_params.get("before") or None,
        lineage=chosen["name"] or None,
        host=chosen["host"] or None,
        who=chosen["who"] or None,
    )
    rows = [row_of(run) for run in stored_runs[:ON_A_PAGE]]
    query = {name: value for name, value in chosen.items() if value}
    older = None
    if len(stored_runs) > ON_A_PAGE:
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
    """Return a new id for a form. A form that is sent twice has the same id twice, and so starts
    only one run.
    """
    return secrets.token_urlsafe(16)


def _elapsed(began: datetime, event: RunEvent) -> str:
    """Return the time from the start of the run to an event, as `clock` writes a duration."""
    return clock(event.at - began)


def running(request: Request) -> Response:
    """Render the runs in progress, for the top of another page. The script of the page asks for
    this part again and again.
    """
    query = request.query_params
    return render(request, "running.html", of=query.get("of", ""), lineage=query.get("name", ""))


def one_run(request: Request) -> Response:
    """Show a run: who started the run, the events, and the results. With a number `after` in the
    query show the events after this number, otherwise the latest events. Raises `PageRefused` if
    the run does not exist.
    """
    site, name = site_of(request), request.path_params["run"]
    runs, run, after = runs_of(site), stored(site, name), request.query_params.get("after")
    if after is None:
        events = runs.latest_run_events(name, SHOWN_EVENTS)
    else:
        events = runs.run_events(name, number_of(after, 0), SHOWN_EVENTS)
    first, last = (events[0].number, events[-1].number) if events else (0, 0)
    facts = site.stored.latest()
    return render(
        request,
        "run.html",
        row=row_of(run),
        run=run,
        events=events,
        earlier=None if first <= 1 else max(first - 1 - SHOWN_EVENTS, 0),
        later=last if after is not None and len(events) == SHOWN_EVENTS else None,
        is_latest=after is None,
        kept_whole=KEPT_WHOLE,
        last=last,
        elapsed=partial(_elapsed, run.started_at),
        tones=TONES,
        report=_report_of(request, run),
        steps_of=partial(steps_of, stored=facts, run=run.names),
        severity_of=lambda cause: facts.severities.of(cause.problem, cause.subject),
        is_unfolded="in_order" in request.query_params,
        running=in_progress(runs, run),
        again=None if row_of(run).is_running else _again(run),
        request_id=new_request(),
        has_new_plan=any(event.event == PLAN_CHANGED for event in events),
        certificate=page_of_certificate,
        plan_now=_plan_now(run),
    )


def _report_of(request: Request, run: StoredRun) -> ReportView:
    """Return the view of a run's report. Views of ended runs are kept, because reading a report of
    a thousand certificates takes long.
    """
    site, voice, query = site_of(request), voice_of(request), request.query_params
    pages = (number_of(query.get("problems", ""), 1), number_of(query.get("in_order", ""), 1))
    kept = site.reports.get((run.id, voice.language, *pages))
    if isinstance(kept, ReportView):
        return kept
    report = runs_of(site).run_report(run.id)
    view = report_view(None if report is None else report.document, voice, *pages)
    if run.ended_at is not None:
        site.reports.add((run.id, voice.language, *pages), view)
    return view


class Again(Struct, frozen=True):
    """How an operator starts an ended run again."""

    #: The path of the page that shows the effect before the run; empty if a form starts the run at
    #: once.
    page: str = ""


def _again(run: StoredRun) -> Again | None:
    """Return how to start an ended run again; `None` if the console cannot start such a run.

    A renewal or a rollback of one certificate may replace a working certificate, so the page of the
    effect comes first. The same holds for a run that carried out a confirmed plan.
    """
    if run.plan is not None:
        return Again(f"/plan?{_plan_now(run)}")
    if run.kind in {RunKind.SYNC, RunKind.REHEARSE}:
        return Again()
    if len(run.names) == 1:
        return Again(f"{page_of_certificate(run.names[0])}/{run.kind.value}")
    return None


def again(request: Request, form: FormData) -> Response:
    """Start a run like an earlier run, and redirect to the new run's page. The names come from the
    stored run, because a form has no room for thousands of names.

    Raises `PageRefused` if the run does not exist, if a page must show the effect first, and as
    `started` does.
    """
    run = stored(site_of(request), request.path_params["run"])
    if _again(run) != Again():
        problem = Text("this run cannot be repeated without showing its effect first")
        raise PageRefused(409, problem)
    token = str(form.get("request") or "") or None
    new = started(request, run.kind, run.names, source=RunSource.CONSOLE, plan=None, form=token)
    return RedirectResponse(link(request, f"/runs/{new.id}"), 303)


PLAN_CHANGED = "plan_changed"


def _plan_now(run: StoredRun) -> str:
    """Return the query for the page of the present plan with the differences from a run's plan. For
    a run of a single certificate, this is the plan of the certificate.
    """
    alone = {"name": run.names[0]} if len(run.names) == 1 else {}
    return urlencode({"since": run.plan or "", **alone})


def stored(site: Site, run: str) -> StoredRun:
    """Return a run. Raises `PageRefused` if the run does not exist."""
    stored_run = runs_of(site).stored_run(run)
    if stored_run is None:
        raise PageRefused(404)
    return stored_run


def events_of(site: Site, run: str, after: int) -> list[RunEvent]:
    """Return all events of a run after the number `after`."""
    runs, events = runs_of(site), list[RunEvent]()
    while more := runs.run_events(run, events[-1].number if events else after):
        events.extend(more)
    return events


async def follow(request: Request) -> Response:
    """Stream a run's events as server-sent events. The stream begins after the number in the header
    `Last-Event-ID`, or else in the query's `after`, or else with the first event. Raises
    `PageRefused` if the run does not exist.
    """
    site = site_of(request)
    run = await run_in_threadpool(stored, site, request.path_params["run"])
    last = request.headers.get("Last-Event-ID") or request.query_params.get("after") or ""
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    return StreamingResponse(
        _stream(request, run, number_of(last, 0)),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"},
    )


_DIGITS = 10


def number_of(word: str, otherwise: int) -> int:
    """Return the number in a client's text; `otherwise` if the text is no number or very long."""
    is_number = word.isascii() and word.isdecimal() and len(word) < _DIGITS
    return int(word) if is_number else otherwise


async def _stream(request: Request, run: StoredRun, number: int) -> AsyncIterator[str]:
    site = site_of(request)
    yield "retry: 2000\n" + message("begun", "")
    async with site.feeds.watching(run.id, visitor_of(request).user.name) as watch:
        while True:
            events = await watch.after(number)
            # The session may have ended while this function waited. Then the browser must not get
            # the events.
            if site.closing.is_set() or not await run_in_threadpool(is_still_in, request):
                return
            for event in events:
                number = event.number
                yield message("event", _event_page(request, run, event), number)
            standing = None if watch.is_over else await run_in_threadpool(_standing, site, run)
            if standing is not None:
                yield message("progress", _fragment(request, "running.html", alone=standing))
            if watch.is_displaced or not events:
                yield message("ended", "") if watch.is_over else BEAT
                if watch.is_over:
                    return


def _standing(site: Site, run: StoredRun) -> RunInProgress | None:
    # Ask the state, because a cached answer may be older than the news that the stream just got.
    return in_progress(runs_of(site), stored(site, run.id))


BEAT = ": it goes on\n" + message("beat", "")


def _event_page(request: Request, run: StoredRun, event: RunEvent) -> str:
    elapsed = partial(_elapsed, run.started_at)
    return _fragment(request, "event.html", new=event, elapsed=elapsed, tones=TONES)


def _fragment(request: Request, template: str, **view: Any) -> str:
    return bytes(render(request, template, **view).body).decode().strip()


def start(request: Request, form: FormData) -> Response:
    """Start the run described in a form, and redirect to the run's page. Raises `PageRefused` for
    an unknown kind, and as `started` does.
    """
    kind = str(form.get("kind", ""))
    if kind not in set(RunKind):
        raise PageRefused(400)
    run = started(
        request,
        RunKind(kind),
        [str(name) for name in form.getlist("names")],
        source=RunSource.CONSOLE,
        plan=str(form.get("plan") or "") or None,
        form=str(form.get("request") or "") or None,
        renews=kind == RunKind.REHEARSE and form.get("renew") == "1",
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
    renews: bool = False,
) -> StoredRun:
    """Start a run for the visitor. Several calls with the same `form` (an id, if any) start only
    one run. Raises `PageRefused` for a viewer and for wrong values, and `CertferryError`.
    """
    visitor = visitor_of(request)
    if not visitor.may_start:
        raise PageRefused(403)
    try:
        who = visitor.user.name
        return site_of(request).starter.start(
            kind, names, who=who, source=source, plan=plan, request=form, renews=renews
        )
    except ConfigError as error:
        raise PageRefused(400, error.message, error.hint) from error


def stop(request: Request) -> Response:
    """Ask a run to stop at a safe point, and redirect to the run's page. Raises `PageRefused` for a
    viewer, for an unknown run, and if this process does not carry out the run.
    """
    run, site = request.path_params["run"], site_of(request)
    if not visitor_of(request).may_start:
        raise PageRefused(403)
    stored(site, run)
    if not site.starter.stop(run):
        problem = Text(
            "the run has ended, or belongs to another process: stop it where it was started"
        )
        raise PageRefused(409, problem)
    return RedirectResponse(link(request, f"/runs/{run}"), 303)


ROUTES = (
    Route("/runs", listed, name="runs"),
    Route("/runs", with_form(start), methods=["POST"], name="runs.start"),
    Route("/runs/in-progress", running, name="runs.in-progress"),
    Route("/runs/{run}", one_run, name="run"),
    Route("/runs/{run}/events", follow, name="run.events"),
    Route("/runs/{run}/again", with_form(again), methods=["POST"], name="run.again"),
    Route("/runs/{run}/stop", stop, methods=["POST"], name="run.stop"),
)
