"""Pages of certificates: the list, the page of a certificate, and the page with the effect of an
action that an operator may start.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from urllib.parse import quote

from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from certferry.console.causes import cards_of, recovered_of, steps_of
from certferry.console.history import Filters, GroupedTable, grouped_table
from certferry.console.lives import STATES, Wanted, day_of, list_view, state_of
from certferry.console.observing import Found
from certferry.console.picture import picture_of
from certferry.console.plan import BADGES, PlanView, WholePlan, latest_plan, orders_of
from certferry.console.plan import view_of as view_of_plans
from certferry.console.runs import new_request
from certferry.console.site import Site, link, render, site_of, voice_of
from certferry.core.assessment.causes import causes_by_lineage, causes_of, shared
from certferry.core.assessment.settled import seen_by_statuses
from certferry.core.assessment.sightings import Sighting
from certferry.core.assessment.status import DomainStatus, LineageStatus
from certferry.core.certificates.certificate import short
from certferry.core.certificates.chain import Presented
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.desired.declaration import unproven_receivers
from certferry.core.observed.observation import Served
from certferry.core.observed.stored_runs import RunKind
from certferry.core.planning.plan import Rollback
from certferry.core.planning.renewal import window_in_words
from certferry.ports.state import StateStore
from certferry.present.language import Voice
from certferry.reconcile.by_hand import steps_back
from certferry.reconcile.reads import statuses_of
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.values import replace

PAGE = 100
"""The number of certificates on a page of the list."""

MOST_VERSIONS, MOST_EVENTS = 10, 20
"""The most earlier certificates, and the most entries of the history, on a certificate's page."""


def certificates(request: Request) -> Response:
    """Render the list of certificates that match the query. Raises `StateError`."""
    stored, asked = site_of(request).stored.latest(), request.query_params
    day, account = day_of(asked.get("day", "")), asked.get("account", "")
    wanted = Wanted(asked.get("state", ""), asked.get("q", "").strip(), day, account)
    view = list_view(stored, wanted, asked.get("page", "1"), PAGE)
    causes = causes_by_lineage(stored.causes)
    found = {life.lineage: causes[life.lineage] for life in view.lives if life.lineage in causes}
    # Causes are compared by `id()`, because hashing a cause would read all of its concerns.
    several = shared({id(cause): cause for cause in found.values()}.values())
    numbers = {id(cause): number for number, cause in enumerate(several, 1)}
    return render(
        request,
        "certificates.html",
        view=view,
        causes=found,
        cards=tuple(cards_of(several, stored.agenda.needs, stored, voice_of(request))),
        anchors={lineage: numbers.get(id(cause)) for lineage, cause in found.items()},
        stored=stored,
        state_of=state_of,
        wanted=wanted,
        states=STATES,
    )


# the page of a certificate


def _declared(request: Request) -> tuple[Site, DesiredCertificate]:
    """Return the site, and the declared certificate named in the path. Raises `HTTPException` if
    the file declares no certificate of this name.
    """
    site, name = site_of(request), request.path_params["name"]
    declared = site.stored.latest().declared
    if name not in declared:
        raise HTTPException(404)
    return site, declared[name]


def _status(
    site: Site, desired: DesiredCertificate, *, anew: bool = False
) -> Found[Sequence[LineageStatus]]:
    def observe() -> Sequence[LineageStatus]:
        ports, begin = site.workspace().connect(Run(), declares=False), site.now()
        statuses = statuses_of(ports, [desired], site.stored.latest().recorded)
        site.seen.add(seen_by_statuses(statuses, begin))
        return statuses

    return site.observer.latest(("status", desired.lineage), observe, anew=anew)


def _steps_back(
    site: Site, desired: DesiredCertificate, *, anew: bool = False
) -> Found[Sequence[Rollback]]:
    def observe() -> Sequence[Rollback]:
        return steps_back(site.workspace().connect(Run(), declares=False), desired)

    return site.observer.latest(("rollback", desired.lineage), observe, anew=anew)


def certificate(request: Request) -> Response:
    """Render the page of a declared or stored certificate. Raises `HTTPException` for other
    names.
    """
    site, name = site_of(request), request.path_params["name"]
    stored, state = site.stored.latest(), site.workspace().state
    desired, versions = stored.declared.get(name), state.versions(name)
    if desired is None and not versions:
        raise HTTPException(404)
    latest: Found[Sequence[LineageStatus]] = Found()
    if desired is not None:
        latest = _status(site, desired)
    plans = None if desired is None else latest_plan(site, name)
    stored = site.stored.latest()  # with the result that the page is about to show
    life, agenda = stored.agenda.life(name), stored.agenda
    lineage = next(iter(latest.value or ()), None)
    needs = [need for need in agenda.needs if need.concern.subject.lineage == name]
    places = () if life is None else life.places
    return render(
        request,
        "certificate.html",
        name=name,
        names=stored.names(name) or versions[0].certificate.names,
        life=life,
        state=None if life is None else state_of(life),
        items=cards_of(causes_of(life.concerns), needs, stored, voice_of(request), name)
        if life
        else (),
        recovered=recovered_of(stored, name),
        picture=None if life is None else picture_of([life], stored.at, stored.deployed),
        versions=versions[: MOST_VERSIONS + 1],
        lineage=lineage,
        served=() if lineage is None else served_certificates(lineage.domains, places),
        most_served=MOST_SERVED,
        unproven=frozenset() if desired is None else unproven_receivers(desired),
        since={(place.target, place.domain): place.since for place in places},
        ends={version.fingerprint: version.certificate.not_after for version in versions},
        window=None if life is None or life.window is None else window_in_words(life.window),
        found=latest,
        plans=plans,
        host=site.workspace().settings.state.host,
        plan=_plan_view(request, plans),
        badges=BADGES,
        steps_of=partial(steps_of, stored=stored, run=(name,)),
        history=_history_of(name, state, voice_of(request)),
        exported=shlex.quote(name),
        actions=ACTIONS,
    )


def _history_of(lineage: str, state: StateStore, voice: Voice) -> GroupedTable:
    entries = state.history(lineage, MOST_EVENTS)
    return grouped_table(entries, Filters(name=lineage), state, voice)


class ServedCertificate(Struct, frozen=True):
    """A certificate that addresses of a lineage's domains serve, with the chain."""

    #: The chain as served, leaf first; empty if the certificate cannot be read.
    chain: tuple[Presented, ...]
    #: The fingerprint of the leaf.
    fingerprint: str
    #: Each address with its domain, in words.
    addresses: tuple[str, ...]
    #: Whether all domains of these addresses should serve the certificate.
    is_expected: bool
    #: The moment since which runs have seen the domains as expected, or not as expected. If the
    #: domains differ, this is the earliest moment; `None` if unknown.
    since: datetime | None

    @property
    def anchor(self) -> str:
        """The id of the HTML element that describes the certificate on the page."""
        return f"served-{short(self.fingerprint)}"


MOST_SERVED = 10
"""The most served certificates that the page describes."""


def served_certificates(
    domains: Sequence[DomainStatus], places: Sequence[Sighting]
) -> tuple[ServedCertificate, ...]:
    """Return the different certificates that addresses of `domains` serve, the most common first.
    The same leaf with another chain counts as another certificate, because clients verify the
    chain.
    """
    sightings = {(place.target, place.domain): place for place in places}
    served = dict[tuple[str, tuple[str, ...]], list[tuple[DomainStatus, Served]]]()
    for domain in domains:
        for address in domain.served:
            if address.fingerprint is not None:
                issuers = tuple(part.fingerprint for part in address.chain)
                served.setdefault((address.fingerprint, issuers), []).append((domain, address))
    certificates = list[ServedCertificate]()
    for (fingerprint, _), seen in served.items():
        is_expected = all(domain.fingerprint == fingerprint for domain, _ in seen)
        at = {(domain.target, domain.domain) for domain, _ in seen}
        moments = [
            sightings[place].since
            for place in at & sightings.keys()
            if sightings[place].served is is_expected
        ]
        certificates.append(
            ServedCertificate(
                seen[0][1].chain,
                fingerprint,
                tuple(f"{address.address} ({domain.domain})" for domain, address in seen),
                is_expected,
                min(moments, default=None),
            )
        )
    return tuple(sorted(certificates, key=lambda one: -len(one.addresses)))


def fullchain(request: Request) -> Response:
    """Return a certificate of the lineage with its chain as PEM, without the key. The query's
    `fingerprint` chooses the certificate; without it, return the newest. Raises `HTTPException` if
    the state has no such certificate.
    """
    state, name = site_of(request).workspace().state, request.path_params["name"]
    wanted = request.query_params.get("fingerprint", "")
    version = next(
        (known for known in state.versions(name) if wanted in {"", known.fingerprint}), None
    )
    if version is None:
        raise HTTPException(404)
    pem = state.bundle(name, version.number).fullchain_pem
    file = quote(f"{name}-{short(version.fingerprint)}.pem", safe="")
    attached = {"Content-Disposition": f"attachment; filename*=UTF-8''{file}"}
    return Response(pem, media_type="application/x-pem-file", headers=attached)


def _plan_view(request: Request, plans: Found[WholePlan] | None) -> PlanView | None:
    if plans is None or plans.value is None:
        return None
    return view_of_plans(plans.value, voice_of(request))


# the effect of an action


class ManualAction(Struct, frozen=True):
    """An action that an operator may start for a certificate."""

    #: The label of the button.
    name: Text
    #: The effect of the action, in sentences.
    about: Text
    #: Whether the action is possible for a certificate that another client issues.
    is_of_clients: bool = True


ACTIONS = {
    RunKind.SYNC: ManualAction(
        Text("Sync"),
        Text(
            "Carries out every step that is due: issues and deploys certificates, checks every"
            " address, and removes replaced certificates."
        ),
    ),
    RunKind.REHEARSE: ManualAction(
        Text("Rehearse"),
        Text(
            "Orders a test certificate from the CA's staging environment, and discards the"
            " certificate. Nothing else is changed."
        ),
        is_of_clients=False,
    ),
    RunKind.RENEW: ManualAction(
        Text("Renew"),
        Text("Issues and deploys a new certificate now, even if no renewal is due."),
        is_of_clients=False,
    ),
    RunKind.ROLLBACK: ManualAction(
        Text("Roll back"),
        Text(
            "Puts the previous certificate back on every domain that uses the newest certificate."
            " The newest certificate is not deployed there again."
        ),
    ),
}
"""The actions, by the kind of run that each starts."""


def action(request: Request) -> Response:
    """Render the effect of an action, with the form that starts the action. Start nothing. Raises
    `HTTPException` for an unknown action, and for a name that the file does not declare.
    """
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
        steps_of=partial(steps_of, stored=site.stored.latest(), run=(desired.lineage,)),
        form=new_request(),
    )


def _kind_of(request: Request) -> RunKind:
    try:
        return RunKind(request.path_params["action"])
    except ValueError:
        raise HTTPException(404) from None


def look(request: Request) -> Response:
    """Start a new observation of the certificate in the background. Redirect to the page of the
    action in the query's `of`, or else to the certificate's page. Raises `HTTPException` for a name
    that the file does not declare.
    """
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
    Route("/certificates/{name}/fullchain.pem", fullchain, name="certificate.pem"),
    Route("/certificates/{name}/look", look, methods=["POST"], name="certificate.look"),
    Route("/certificates/{name}/{action}", action, name="certificate.action"),
)
