"""The API: it returns the documents of `--json`, and starts runs. `OPERATIONS` lists every
operation; the routes and the OpenAPI document are made from this list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from certferry.console import openapi
from certferry.console.discover import latest_discovery, latest_findings
from certferry.console.guard import cookie_name
from certferry.console.observing import Found
from certferry.console.openapi import BASE, Operation, Parameter
from certferry.console.plan import latest_plan
from certferry.console.refusals import PageRefused, answer, as_document
from certferry.console.runs import events_of, runs_of, started, stored
from certferry.console.site import Site, site_of, voice_of
from certferry.core.assessment.health import RUN_WITHIN, checkup
from certferry.core.assessment.settled import seen_by_statuses
from certferry.core.observed.records import HistoryFilter
from certferry.core.observed.stored_runs import RunKind, RunSource
from certferry.errors import ConfigError
from certferry.present import check_text, discover_text, documents
from certferry.present.documents import Document
from certferry.present.language import LANGUAGES, Voice
from certferry.reconcile.reads import standings_of_hosts
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.recorded import expected, recorded
from certferry.wiring.selection import history_of, select
from certferry.wiring.workspace import Overview, overview

WITHIN = 60.0
"""The most seconds that a request waits for services."""

AGAIN_AFTER = 30
"""The seconds after which a client should repeat a request, if services have not answered."""

_EACH = 0.25
_HOUR = timedelta(hours=1)


def _not_found(error: ConfigError) -> PageRefused:
    return PageRefused(HTTPStatus.NOT_FOUND, error.message, error.hint)


class ApiRequest(Struct, frozen=True):
    """A request to the API."""

    #: The HTTP request.
    request: Request
    #: The site that answers.
    site: Site
    #: The voice in the language of the answer.
    voice: Voice
    #: The checked values of the parameters in the query and in the path, by name.
    values: Mapping[str, Any]
    #: The body; empty for an operation without a body.
    body: bytes = b""

    @property
    def lineages(self) -> Sequence[str]:
        """The lineages of the certificates named in the request, or of all if none is named. Raises
        `PageRefused` for an unknown name.
        """
        try:
            selected = select(self.site.workspace().settings.certificates, self.values["name"])
        except ConfigError as error:
            raise _not_found(error) from error
        return [desired.lineage for desired in selected]


# --- operations on the state


def check(asked: ApiRequest) -> Document:
    """Return the document of `certferry check`, made from the records in the state. Raises
    `PageRefused` for an unknown name.
    """
    workspace, meant = asked.site.workspace(), asked.lineages
    declared, state = workspace.settings.certificates, workspace.state
    chosen = tuple(desired for desired in declared if desired.lineage in meant)
    settings, now = replace(workspace.settings, certificates=chosen), state.now()
    records = recorded(settings, state, now)
    verdict = checkup(expected(settings, records), records, now, asked.values["run-within"] * _HOUR)
    return check_text.document(verdict, now, asked.voice)


def hosts(asked: ApiRequest) -> Document:
    """Return the document of `certferry hosts`: the hosts that share the state, with the problems
    of each host.
    """
    workspace = asked.site.workspace()
    standings = standings_of_hosts(workspace.state, len(workspace.settings.declared))
    return documents.of_hosts(standings)


def history(asked: ApiRequest) -> Document:
    """Return entries of the history, newest first. Raises `PageRefused` for an unknown name."""
    query = asked.values
    which = HistoryFilter(query["host"], query["who"], event=query["event"])
    try:
        entries = history_of(
            query["name"], query["limit"], asked.site.workspace(), query["before"], which
        )
    except ConfigError as error:
        raise _not_found(error) from error
    return documents.of_history(entries)


def runs(asked: ApiRequest) -> Document:
    """Return runs, newest first, without their events and reports."""
    query = asked.values
    stored_runs = runs_of(asked.site).stored_runs(
        query["limit"],
        before=query["before"],
        lineage=query["name"],
        host=query["host"],
        who=query["who"],
    )
    return documents.of_runs(stored_runs)


def run(asked: ApiRequest) -> Document:
    """Return a run with its events and the document of its result. Raises `PageRefused` if the run
    does not exist.
    """
    site, name = asked.site, asked.values["run"]
    stored_run = stored(site, name)
    events = events_of(site, name, asked.values["after"])
    return documents.of_run(stored_run, events, runs_of(site).run_report(name), asked.voice)


# --- operations asking services


def plan(asked: ApiRequest) -> Found[Document]:
    """Return the last plan of `sync`, limited to the certificates named in the request. Raises
    `PageRefused` for an unknown name.
    """
    meant = asked.lineages
    alone = meant[0] if len(asked.values["name"]) == len(meant) == 1 else None
    latest = latest_plan(asked.site, alone, renew=asked.values["renew"])
    return _document_of(
        latest,
        lambda whole: documents.of_plans(
            [planned for planned in whole.plans if planned.lineage in meant]
        ),
    )


def latest_standings(site: Site) -> Found[Overview]:
    """Return the last status of each certificate and domain. If the status is old, observe again in
    the background, once for all visitors.
    """

    def observe() -> Overview:
        workspace = site.workspace()
        records = recorded(workspace.settings, workspace.state, workspace.state.now())
        begin, standings = site.now(), overview(workspace, Run(), records)
        site.seen.add(seen_by_statuses(standings.statuses, begin))
        return standings

    return site.observer.latest("status", observe)


def status(asked: ApiRequest) -> Found[Document]:
    """Return the last status of the certificates named in the request, with their domains and
    causes. Raises `PageRefused` for an unknown name.
    """
    meant = asked.lineages
    return _document_of(
        latest_standings(asked.site),
        lambda current: documents.of_statuses(
            [certificate for certificate in current.statuses if certificate.lineage in meant],
            current.recorded,
            current.channels,
            [cause for cause in current.causes if set(cause.lineages) <= set(meant)],
        ),
    )


def discover(asked: ApiRequest) -> Found[Document]:
    """Return the last discovery: the contents of the accounts."""
    latest = latest_discovery(asked.site)
    return _document_of(latest, discover_text.of_discovery)


def doctor(asked: ApiRequest) -> Found[Document]:
    """Return the last findings of `doctor`."""
    latest = latest_findings(asked.site)
    return _document_of(latest, documents.of_findings)


def _document_of(latest: Found[Any], write: Callable[[Any], Document]) -> Found[Document]:
    value = None if latest.value is None else write(latest.value)
    return Found(value, latest.at, latest.since, latest.problem)


# --- start of runs


class RunRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A program's request to start a run."""

    names: Annotated[
        list[str], Meta(description="certificates, or domains of them; none: all")
    ] = []
    #: Whether to order a new certificate, due or not.
    renew: bool = False
    plan: Annotated[
        str | None, Meta(description="a digest: if it is another now, the run fails")
    ] = None
    #: The kind of run; `None`: a sync, or a renewal with `renew`.
    kind: RunKind | None = None
    request: Annotated[str | None, Meta(description="sent twice, it starts one run")] = None


def start(asked: ApiRequest) -> Document:
    """Start a run, and return the run's id. Raises `PageRefused` for a wrong body, and the errors
    of `started`.
    """
    try:
        wanted = msgspec.json.decode(asked.body, type=RunRequest)
    except msgspec.DecodeError as error:
        raise _mistaken(Text("the body cannot be read: {problem}", problem=str(error))) from error
    kind = wanted.kind or (RunKind.RENEW if wanted.renew else RunKind.SYNC)
    if wanted.renew and kind is not RunKind.RENEW:
        raise _mistaken(Text("`renew` cannot be combined with this `kind`"))
    begun = started(
        asked.request,
        kind,
        wanted.names,
        source=RunSource.API,
        plan=wanted.plan,
        form=wanted.request,
    )
    return {"id": begun.id}


def _mistaken(message: Text) -> PageRefused:
    hint = Text("/api/v1/openapi.json describes every request")
    return PageRefused(HTTPStatus.BAD_REQUEST, message, hint)


# --- requests and answers


async def answered(operation: Operation, request: Request) -> Response:
    """Answer a request by an operation. Raises `PageRefused` and `CertferryError`."""
    body = await request.body() if operation.body else b""
    asked = asked_by(request, operation, body)
    if operation.observes:
        return await _when_observed(operation.answer, asked)
    result = await run_in_threadpool(operation.answer, asked)
    return await run_in_threadpool(as_document, request, result, operation.status, {})


def asked_by(request: Request, operation: Operation, body: bytes) -> ApiRequest:
    """Read and check the parameters of a request. The parameter `lang` sets the language of the
    answer. Raises `PageRefused` for an unknown parameter or a wrong value.
    """
    given = request.query_params
    parameters = {parameter.name: parameter for parameter in operation.parameters}
    for name in given:
        if name not in parameters:
            raise _mistaken(Text("there is no parameter {name}", name=name))
    values: dict[str, Any] = dict(request.path_params)
    for name, parameter in parameters.items():
        words = given.getlist(name)
        try:
            values[name] = parameter.read(words)
        except msgspec.ValidationError as error:
            message = Text("{name}={word} is not supported", name=name, word=words[-1])
            raise _mistaken(message) from error
    if values["lang"] is not None:
        request.state.language = values["lang"]
    return ApiRequest(request, site_of(request), voice_of(request), values, body)


async def _when_observed(
    find: Callable[[ApiRequest], Found[Document]], asked: ApiRequest
) -> Response:
    """Answer with the result of an observation, and with the result's age in the header `Age`.

    Wait for an observation in progress, but at most `WITHIN`, and not if the process ends; then
    answer with the result before. If the last observation failed, answer with the problem. Raises
    `PageRefused` if there is no result.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + WITHIN
    latest = await run_in_threadpool(find, asked)
    while latest.is_being_observed and clock() < until and not asked.site.closing.is_set():
        await asyncio.sleep(_EACH)
        latest = await run_in_threadpool(find, asked)
    again = {"Retry-After": str(AGAIN_AFTER)}
    if latest.problem is not None and not latest.is_being_observed:
        return answer(asked.request, HTTPStatus.SERVICE_UNAVAILABLE, latest.problem, again)
    if latest.value is None or latest.at is None:
        message = Text("the services have not answered yet")
        raise PageRefused(HTTPStatus.SERVICE_UNAVAILABLE, message, headers=again)
    age = (asked.site.observer.now() - latest.at) // timedelta(seconds=1)
    headers = {"Age": str(max(age, 0))}
    return await run_in_threadpool(as_document, asked.request, latest.value, HTTPStatus.OK, headers)


# --- the list of operations


LANG = Parameter("lang", "of messages; else that of Accept-Language", Literal[LANGUAGES])
NAMES = Parameter("name", "a certificate, or a domain of one; may be given again", list[str])
NAME = Parameter("name", "of this certificate")
WHICH = (NAME, Parameter("host", "of this host"), Parameter("who", "of this user"))
LIMIT = Parameter("limit", "no more than this", Annotated[int, Meta(ge=1, le=1000)], 50)
RENEW = Parameter("renew", "plan a new certificate, due or not", bool, default=False)
HOURS = Parameter(
    "run-within",
    "warn when the last run ended longer ago",
    Annotated[int, Meta(ge=1, le=24 * 3653)],
    RUN_WITHIN // _HOUR,
)
HAPPENED = Parameter("event", "with this event")
ENTRY = Parameter("before", "before this entry", Annotated[int, Meta(ge=1, le=2**62)])
RUN = Parameter("before", "before the run of this id")
EVENT = Parameter("after", "after this event", Annotated[int, Meta(ge=0, le=2**31)], 0)


def _get(
    path: str, description: str, answer: Any, *parameters: Parameter, observes: bool = False
) -> Operation:
    """Return a GET operation. The name of its document is the path without the slash, except for a
    single run (`run`).
    """
    schema = "run" if "{" in path else path.strip("/")
    return Operation(path, description, schema, answer, (*parameters, LANG), observes=observes)


OPERATIONS = (
    _get("/status", "How everything stands.", status, NAMES, observes=True),
    _get("/plan", "What `sync` would do, and why.", plan, NAMES, RENEW, observes=True),
    _get("/discover", "What the accounts hold.", discover, observes=True),
    _get("/doctor", "What a run depends on.", doctor, observes=True),
    _get("/history", "What happened, newest first.", history, *WHICH, HAPPENED, LIMIT, ENTRY),
    _get("/hosts", "The hosts that share the state.", hosts),
    _get("/check", "How bad it is, for a monitor.", check, NAMES, HOURS),
    _get("/runs", "Runs, newest first.", runs, *WHICH, LIMIT, RUN),
    _get("/runs/{run}", "One run, with every event.", run, EVENT),
    Operation(
        "/runs",
        "Start a run.",
        "run-begun",
        start,
        (LANG,),
        method="POST",
        status=HTTPStatus.ACCEPTED,
        body=RunRequest,
    ),
)


def described(request: Request) -> Response:
    """Answer with the OpenAPI document."""
    site = site_of(request)
    schema = openapi.document(OPERATIONS, site.prefix + BASE, cookie_name(site))
    return as_document(request, schema, HTTPStatus.OK, {})


ROUTES: tuple[BaseRoute, ...] = (
    *(
        Route(BASE + each.path, partial(answered, each), methods=[each.method])
        for each in OPERATIONS
    ),
    Route(f"{BASE}/openapi.json", described),
)
