"""The list of certificates, the page of one, and what an action on it would do."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from certferry.console.observing import Found
from certferry.console.overview import items_of, pieces
from certferry.console.picture import picture_of
from certferry.console.plan import BADGES, PlanView, WholePlan, latest_plan, orders_of
from certferry.console.plan import view_of as view_of_plans
from certferry.console.runs import new_request
from certferry.console.site import Site, link, render, site_of, voice_of
from certferry.console.snapshot import Snapshot
from certferry.core.assessment.agenda import DAYS, Life
from certferry.core.assessment.health import Concern
from certferry.core.assessment.status import LineageStatus
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.runs import RunKind
from certferry.core.planning.plan import Rollback
from certferry.core.planning.renewal import window_in_words
from certferry.errors import Severity
from certferry.present.status_text import facts_of
from certferry.reconcile.by_hand import steps_back
from certferry.reconcile.run import Run
from certferry.reconcile.status import statuses_of
from certferry.text import Text

PAGE = 100
"""Certificates of one page."""

MOST_VERSIONS, MOST_EVENTS = 10, 20
"""Earlier certificates, and what happened, on the page of one."""

STATES = {
    "trouble": Text("needs you"),
    "soon": Text("something happens within 14 days"),
    "ok": Text("in order"),
}
"""By what the list is filtered."""


@dataclass(frozen=True, slots=True)
class State:
    """How a certificate stands, in a word, and its class of the look."""

    level: str
    word: Text


def state_of(life: Life) -> State:
    """Return how a certificate stands, judged by the state alone."""
    if life.concerns:
        return State(life.severity, Text("needs you"))
    if life.is_owned_elsewhere:
        return State("", Text("not needed"))
    if life.served < len(life.places):
        return State(Severity.NOTICE, Text("on its way"))
    return State(Severity.OK, Text("in order"))


# the list


@dataclass(frozen=True, slots=True)
class ListView:
    """A page of the certificates that are meant, what ends first on top; pages count from one."""

    lives: Sequence[Life]
    count: int
    number: int
    pages: int
    first: int


def list_view(stored: Snapshot, wanted: str, state: str, page: str) -> ListView:
    """Return the page of the certificates in this state whose names or domains have these words."""
    words, until = wanted.casefold().split(), stored.at + timedelta(days=DAYS)
    found = [
        one
        for one in stored.agenda.lives
        if _is_in(state, one, stored.at, until) and _has(words, one, stored)
    ]
    pages = max(-(-len(found) // PAGE), 1)
    number = min(max(int(page), 1), pages) if page.isdecimal() and len(page) < PAGE else 1
    first = (number - 1) * PAGE
    return ListView(found[first : first + PAGE], len(found), number, pages, first + 1)


def _is_in(state: str, life: Life, now: datetime, until: datetime) -> bool:
    if state == "trouble":
        return bool(life.concerns)
    if state == "soon":
        return any(one.at < until for one in life.coming(now))
    return state != "ok" or state_of(life).level == Severity.OK


def _has(words: Sequence[str], life: Life, stored: Snapshot) -> bool:
    if not words:
        return True
    known = (life.lineage, *stored.names(life.lineage), *(one.domain for one in life.places))
    said = " ".join(known).casefold()
    return all(word in said for word in words)


def certificates(request: Request) -> Response:
    """Render the list. Raises `StateError`."""
    stored, asked = site_of(request).stored.latest(), request.query_params
    wanted, state = asked.get("q", "").strip(), asked.get("state", "")
    return render(
        request,
        "certificates.html",
        view=list_view(stored, wanted, state, asked.get("page", "1")),
        stored=stored,
        state_of=state_of,
        wanted=wanted,
        state=state,
        states=STATES,
    )


# one certificate


def _declared(request: Request) -> tuple[Site, DesiredCertificate]:
    """Return a certificate that the file declares. Raises `HTTPException` where it does not."""
    site, name = site_of(request), request.path_params["name"]
    declared = site.stored.latest().declared
    if name not in declared:
        raise HTTPException(404)
    return site, declared[name]


def _status(
    site: Site, desired: DesiredCertificate, *, anew: bool = False
) -> Found[Sequence[LineageStatus]]:
    def observe() -> Sequence[LineageStatus]:
        ports = site.workspace().connect(Run(), declares=False)
        return statuses_of(ports, [desired], site.stored.latest().recorded)

    return site.observer.latest(("status", desired.lineage), observe, anew=anew)


def _steps_back(
    site: Site, desired: DesiredCertificate, *, anew: bool = False
) -> Found[Sequence[Rollback]]:
    def observe() -> Sequence[Rollback]:
        return steps_back(site.workspace().connect(Run(), declares=False), desired)

    return site.observer.latest(("rollback", desired.lineage), observe, anew=anew)


def certificate(request: Request) -> Response:
    """Render the page of a certificate that is declared, or of one that is stored."""
    site, name = site_of(request), request.path_params["name"]
    stored, state = site.stored.latest(), site.workspace().state
    desired, versions = stored.declared.get(name), state.versions(name)
    if desired is None and not versions:
        raise HTTPException(404)
    found: Found[Sequence[LineageStatus]] = Found()
    if desired is not None:
        found = _status(site, desired)
    plans = None if desired is None else latest_plan(site, name)
    life, agenda = stored.agenda.life(name), stored.agenda
    lineage = next(iter(found.value or ()), None)
    settled = _settled(lineage, found, stored)
    needs = [one for one in agenda.needs if one.concern.subject.lineage == name]
    open_needs = [one for one in needs if _place(one.concern) not in settled]
    if life is not None:
        life = replace(life, concerns=tuple(one.concern for one in open_needs))
    return render(
        request,
        "certificate.html",
        name=name,
        names=stored.names(name) or versions[0].certificate.names,
        life=life,
        state=None if life is None else state_of(life),
        items=items_of(open_needs),
        settled=sorted({_place(one.concern) for one in needs} & settled),
        picture=None if life is None else picture_of([life], stored.at),
        versions=versions[: MOST_VERSIONS + 1],
        lineage=lineage,
        since={(one.target, one.domain): one.since for one in life.places} if life else {},
        ends={one.fingerprint: one.certificate.not_after for one in versions},
        window=None if life is None or life.window is None else window_in_words(life.window),
        found=found,
        plans=plans,
        host=site.workspace().settings.state.host,
        plan=_plan_view(request, plans),
        badges=BADGES,
        history=state.history(name, MOST_EVENTS),
        facts=facts_of,
        voice=voice_of(request),
        actions=ACTIONS,
        pieces=pieces,
    )


def _place(concern: Concern) -> tuple[str, str]:
    return concern.subject.target, concern.subject.domain


def _settled(
    lineage: LineageStatus | None, found: Found[Sequence[LineageStatus]], stored: Snapshot
) -> frozenset[tuple[str, str]]:
    """Return the places that were seen in order after the last run: what that run has found of them
    is no longer so, and stays in the state until the next one.
    """
    last = max((one.ended_at for _, one in stored.last_runs), default=None)
    if lineage is None or found.at is None or (last is not None and found.at < last):
        return frozenset()
    verified = (one for one in lineage.domains if one.severity is Severity.OK)
    return frozenset((one.target, one.domain) for one in verified)


def _plan_view(request: Request, plans: Found[WholePlan] | None) -> PlanView | None:
    if plans is None or plans.value is None:
        return None
    return view_of_plans(plans.value, voice_of(request))


# what an action would do


@dataclass(frozen=True, slots=True)
class ManualAction:
    """What an operator may start for one certificate: its name, and what it does."""

    name: Text
    about: Text
    is_of_clients: bool = True


ACTIONS = {
    RunKind.SYNC: ManualAction(
        Text("Sync"),
        Text("Carries out what is due: issues, deploys, verifies, and removes what was replaced."),
    ),
    RunKind.REHEARSE: ManualAction(
        Text("Rehearse"),
        Text(
            "Tries the order at the CA's staging directory, and throws the certificate away."
            " Nothing else is changed."
        ),
        is_of_clients=False,
    ),
    RunKind.RENEW: ManualAction(
        Text("Renew"),
        Text("Issues a new certificate now, due or not, and deploys it."),
        is_of_clients=False,
    ),
    RunKind.ROLLBACK: ManualAction(
        Text("Roll back"),
        Text(
            "Binds the previous certificate again wherever the newest one is bound. The newest is"
            " not deployed there again."
        ),
    ),
}
"""By the kind of the run that each starts; those that order are not for another client's."""


def action(request: Request) -> Response:
    """Render what an action would do, with the form that starts it. Changes nothing."""
    kind = _kind_of(request)
    site, desired = _declared(request)
    plans, back = None, None
    if kind is RunKind.ROLLBACK:
        back = _steps_back(site, desired)
    elif ACTIONS[kind].is_of_clients or desired.files is None:
        plans = latest_plan(site, desired.lineage, renew=kind is RunKind.RENEW)
        if kind is RunKind.REHEARSE and plans.value is not None:
            plans = replace(plans, value=orders_of(plans.value))
    return render(
        request,
        "action.html",
        name=desired.lineage,
        kind=kind.value,
        action=ACTIONS[kind],
        is_possible=bool(plans.value and plans.value.plans) if plans else bool(back and back.value),
        found=plans or back,
        plan=_plan_view(request, plans),
        back=back,
        badges=BADGES,
        form=new_request(),
        rehearsal=shlex.join(["certferry", "sync", "--rehearse", "--renew", desired.lineage]),
        pieces=pieces,
    )


def _kind_of(request: Request) -> RunKind:
    try:
        return RunKind(request.path_params["action"])
    except ValueError:
        raise HTTPException(404) from None


def look(request: Request) -> Response:
    """Observe the certificate anew in the background, and lead back to the page that asked."""
    site, desired = _declared(request)
    name, of = desired.lineage, request.query_params.get("of", "")
    path = f"/certificates/{quote(name, safe='')}"
    if of == RunKind.ROLLBACK:
        _steps_back(site, desired, anew=True)
    else:
        latest_plan(site, name, renew=of == RunKind.RENEW, anew=True)
        _status(site, desired, anew=True)
    is_action = of in set(RunKind)
    return RedirectResponse(link(request, f"{path}/{of}" if is_action else path), 303)


ROUTES = (
    Route("/certificates", certificates, name="certificates"),
    Route("/certificates/{name}", certificate, name="certificate"),
    Route("/certificates/{name}/look", look, methods=["POST"], name="certificate.look"),
    Route("/certificates/{name}/{action}", action, name="certificate.action"),
)
