"""The API: the documents that `--json` prints, and the start of runs. What may be asked, and what
is answered, stands in `OPERATIONS`: the routes and the OpenAPI document are made from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
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
from certferry.core.observed.records import HistoryFilter
from certferry.core.observed.runs import RunKind, RunSource
from certferry.errors import ConfigError
from certferry.present import check_text, discover_text, documents
from certferry.present.documents import Document
from certferry.present.language import LANGUAGES, Voice
from certferry.reconcile.run import Run
from certferry.reconcile.status import standings_of_hosts
from certferry.text import Text
from certferry.wiring.recorded import expected, recorded
from certferry.wiring.selection import history_of, select
from certferry.wiring.workspace import Overview, overview

WITHIN = 60.0
"""Seconds that a request waits for what services are asked."""

AGAIN_AFTER = 30
"""Seconds after which it is worth asking again."""

_EACH = 0.25
_HOUR = timedelta(hours=1)


def _not_found(error: ConfigError) -> PageRefused:
    return PageRefused(HTTPStatus.NOT_FOUND, error.message, error.hint)


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """What a request asks for: its parameters, read; the language of the answer; and the site."""

    request: Request
    site: Site
    voice: Voice
    values: Mapping[str, Any]
    body: bytes = b""

    @property
    def lineages(self) -> Sequence[str]:
        """The certificates that are named, or all. Raises `PageRefused` for an unknown name."""
        try:
            found = select(self.site.workspace().settings.certificates, self.values["name"])
        except ConfigError as error:
            raise _not_found(error) from error
        return [one.lineage for one in found]


# --- what is stored


def check(asked: ApiRequest) -> Document:
    """Judge for a monitor, by what runs have stored."""
    workspace, meant = asked.site.workspace(), asked.lineages
    declared, state = workspace.settings.certificates, workspace.state
    chosen = tuple(one for one in declared if one.lineage in meant)
    settings, now = replace(workspace.settings, certificates=chosen), state.now()
    known = recorded(settings, state, now)
    found = checkup(expected(settings, known), known, now, asked.values["run-within"] * _HOUR)
    return check_text.document(found, now, asked.voice)


def hosts(asked: ApiRequest) -> Document:
    """Return the hosts that share the state, and what is wrong with each."""
    workspace = asked.site.workspace()
    found = standings_of_hosts(workspace.state, len(workspace.settings.declared))
    return documents.of_hosts(found)


def history(asked: ApiRequest) -> Document:
    """Return what happened, newest first."""
    of = asked.values
    which = HistoryFilter(host=of["host"], who=of["who"])
    try:
        found = history_of(of["name"], of["limit"], asked.site.workspace(), of["before"], which)
    except ConfigError as error:
        raise _not_found(error) from error
    return documents.of_history(found)


def runs(asked: ApiRequest) -> Document:
    """Return runs, newest first, without their events and reports."""
    of = asked.values
    found = runs_of(asked.site).stored_runs(
        of["limit"], before=of["before"], lineage=of["name"], host=of["host"], who=of["who"]
    )
    return documents.of_runs(found)


def run(asked: ApiRequest) -> Document:
    """Return a run with its events, and the document that it printed."""
    site, name = asked.site, asked.values["run"]
    found = stored(site, name)
    events = events_of(site, name, asked.values["after"])
    return documents.of_run(found, events, runs_of(site).run_report(name), asked.voice)


# --- what services are asked


def plan(asked: ApiRequest) -> Found[Document]:
    """Return what `sync` would do."""
    meant = asked.lineages
    alone = meant[0] if len(asked.values["name"]) == len(meant) == 1 else None
    found = latest_plan(asked.site, alone, renew=asked.values["renew"])
    return _document_of(
        found,
        lambda whole: documents.of_plans([one for one in whole.plans if one.lineage in meant]),
    )


def latest_standings(site: Site) -> Found[Overview]:
    """Return how each certificate and each domain stands, observed once for all who ask."""

    def observe() -> Overview:
        workspace = site.workspace()
        known = recorded(workspace.settings, workspace.state, workspace.state.now())
        return overview(workspace, Run(), known)

    return site.observer.latest("status", observe)


def status(asked: ApiRequest) -> Found[Document]:
    """Return how certificates and domains stand."""
    meant = asked.lineages
    return _document_of(
        latest_standings(asked.site),
        lambda found: documents.of_statuses(
            [one for one in found.statuses if one.lineage in meant], found.recorded, found.channels
        ),
    )


def discover(asked: ApiRequest) -> Found[Document]:
    """Return what the accounts hold."""
    found = latest_discovery(asked.site)
    return _document_of(found, discover_text.of_discovery)


def doctor(asked: ApiRequest) -> Found[Document]:
    """Return what a run would stumble over."""
    found = latest_findings(asked.site)
    return _document_of(found, documents.of_findings)


def _document_of(found: Found[Any], write: Callable[[Any], Document]) -> Found[Document]:
    value = None if found.value is None else write(found.value)
    return Found(value, found.at, found.since, found.problem)


# --- runs that are started


class RunRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What a program asks a run for."""

    names: Annotated[
        list[str], Meta(description="certificates, or domains of them; none: all")
    ] = []
    renew: bool = False
    plan: Annotated[
        str | None, Meta(description="a digest: if it is another now, the run fails")
    ] = None
    kind: RunKind | None = None
    request: Annotated[str | None, Meta(description="sent twice, it starts one run")] = None


def start(asked: ApiRequest) -> Document:
    """Start a run. Raises `PageRefused` and `StateError`."""
    try:
        wanted = msgspec.json.decode(asked.body, type=RunRequest)
    except msgspec.DecodeError as error:
        raise _mistaken(Text("the body cannot be read: {problem}", problem=str(error))) from error
    kind = wanted.kind or (RunKind.RENEW if wanted.renew else RunKind.SYNC)
    if wanted.renew and kind is not RunKind.RENEW:
        raise _mistaken(Text("`renew` does not go with this `kind`"))
    begun = started(
        asked.request,
        kind,
        wanted.names,
        source=RunSource.API,
        plan=wanted.plan,
        form=wanted.request,
    )
    return {"id": begun.id}


def _mistaken(said: Text) -> PageRefused:
    hint = Text("/api/v1/openapi.json describes every request")
    return PageRefused(HTTPStatus.BAD_REQUEST, said, hint)


# --- requests and answers


async def answered(operation: Operation, request: Request) -> Response:
    """Answer a request as an operation does. Raises `PageRefused` and `CertferryError`."""
    body = await request.body() if operation.body else b""
    asked = asked_by(request, operation, body)
    if operation.observes:
        return await _when_observed(operation.answer, asked)
    found = await run_in_threadpool(operation.answer, asked)
    return await run_in_threadpool(as_document, request, found, operation.status, {})


def asked_by(request: Request, operation: Operation, body: bytes) -> ApiRequest:
    """Read what a request asks for. Raises `PageRefused`."""
    given = request.query_params
    known = {parameter.name: parameter for parameter in operation.parameters}
    for name in given:
        if name not in known:
            raise _mistaken(Text("there is no parameter {name}", name=name))
    values: dict[str, Any] = dict(request.path_params)
    for name, parameter in known.items():
        words = given.getlist(name)
        try:
            values[name] = parameter.read(words)
        except msgspec.ValidationError as error:
            said = Text("{name}={word} is not supported", name=name, word=words[-1])
            raise _mistaken(said) from error
    if values["lang"] is not None:
        request.state.language = values["lang"]
    return ApiRequest(request, site_of(request), voice_of(request), values, body)


async def _when_observed(
    find: Callable[[ApiRequest], Found[Document]], asked: ApiRequest
) -> Response:
    """Answer with what is at most a minute old. Where services take longer than a request waits, it
    is what was found last, and `Age` says how old that is. Raises `PageRefused` where that is
    nothing.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + WITHIN
    found = await run_in_threadpool(find, asked)
    while found.is_being_observed and clock() < until and not asked.site.closing.is_set():
        await asyncio.sleep(_EACH)
        found = await run_in_threadpool(find, asked)
    again = {"Retry-After": str(AGAIN_AFTER)}
    if found.problem is not None and not found.is_being_observed:
        return answer(asked.request, HTTPStatus.SERVICE_UNAVAILABLE, found.problem, again)
    if found.value is None or found.at is None:
        said = Text("the services have not answered yet")
        raise PageRefused(HTTPStatus.SERVICE_UNAVAILABLE, said, headers=again)
    age = (asked.site.observer.now() - found.at) // timedelta(seconds=1)
    headers = {"Age": str(max(age, 0))}
    return await run_in_threadpool(as_document, asked.request, found.value, HTTPStatus.OK, headers)


# --- what there is


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
ENTRY = Parameter("before", "before this entry", Annotated[int, Meta(ge=1, le=2**62)])
RUN = Parameter("before", "before the run of this id")
EVENT = Parameter("after", "after this event", Annotated[int, Meta(ge=0, le=2**31)], 0)


def _get(
    path: str, what: str, answer: Any, *parameters: Parameter, observes: bool = False
) -> Operation:
    """Describe what is read at a path, whose first part is called as its document."""
    schema = "run" if "{" in path else path.strip("/")
    return Operation(path, what, schema, answer, (*parameters, LANG), observes=observes)


OPERATIONS = (
    _get("/status", "How everything stands.", status, NAMES, observes=True),
    _get("/plan", "What `sync` would do, and why.", plan, NAMES, RENEW, observes=True),
    _get("/discover", "What the accounts hold.", discover, observes=True),
    _get("/doctor", "What a run depends on.", doctor, observes=True),
    _get("/history", "What happened, newest first.", history, *WHICH, LIMIT, ENTRY),
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
    found = openapi.document(OPERATIONS, site.prefix + BASE, cookie_name(site))
    return as_document(request, found, HTTPStatus.OK, {})


ROUTES: tuple[BaseRoute, ...] = (
    *(Route(BASE + one.path, partial(answered, one), methods=[one.method]) for one in OPERATIONS),
    Route(f"{BASE}/openapi.json", described),
)
