"""What is asked of services: everything that the accounts hold (`discover`), and whether a run can
rely on it (`doctor`), as found last and looked for anew in the background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from certferry.config.propose import tables_of
from certferry.console import tables
from certferry.console.observing import Found
from certferry.console.site import Site, link, path_of, render, site_of, voice_of
from certferry.console.tables import Cell, Row, TableView
from certferry.core.discovery.inventory import (
    DiscoveredCertificate,
    DiscoveredDomain,
    Discovery,
    Wanted,
)
from certferry.core.discovery.proposal import Proposal
from certferry.errors import Problem, Severity
from certferry.present import discover_text
from certferry.present.language import Voice
from certferry.present.layout import plain
from certferry.reconcile.run import Run
from certferry.text import Text, naming, verbatim
from certferry.wiring.discovery import chosen, discovered, proposed
from certferry.wiring.doctor import examine
from certferry.wiring.machine import schedulers

MOST_TABLES = 100
"""Tables to paste that a page shows; more are in `/discover.toml` alone."""


@dataclass(frozen=True, slots=True)
class SurveyedAccounts:
    """What all accounts hold, what to declare for the domains that are not covered, and which zones
    could not be read.
    """

    discovery: Discovery
    proposal: Proposal
    unread: Sequence[Problem]


def latest_survey(site: Site, *, anew: bool = False) -> Found[SurveyedAccounts]:
    """Return what all accounts were last found to hold, and survey them again if that is old."""
    return site.observer.latest("discover", partial(_survey, site), anew=anew)


def latest_discovery(site: Site, *, anew: bool = False) -> Found[Discovery]:
    """Return the same without what to declare."""
    found = latest_survey(site, anew=anew)
    value = None if found.value is None else found.value.discovery
    return Found(value, found.at, found.since, found.problem)


def latest_findings(site: Site, *, anew: bool = False) -> Found[Sequence[Problem]]:
    """Return what was last found to be wrong, and look for it again if that is old."""
    return site.observer.latest("doctor", partial(_examine, site), anew=anew)


def _survey(site: Site) -> SurveyedAccounts:
    workspace, run = site.workspace(), Run()
    accounts, settings = workspace.accounts(run), workspace.settings
    found = discovered(chosen((), accounts, settings), workspace, run)
    return SurveyedAccounts(found, *proposed(found, accounts, settings))


def _examine(site: Site) -> Sequence[Problem]:
    workspace = site.workspace()
    known = schedulers(workspace.settings.secrets.environ)
    return examine(workspace, Run(), known, is_serving=site.has_schedule)


# --- discover


_ASKED = ("account", "state", "name", "uncovered", "unused", "page")
"""What the URL may ask for: of an account, in a state, whose name has these letters; only domains
that no declared certificate covers; in their place, certificates without domains.
"""


def _narrowed(found: Discovery, asked: Mapping[str, str], now: datetime) -> Discovery:
    left = found.narrowed(Wanted(uncovered=bool(asked["uncovered"])), now)
    domains = (
        one
        for one in left.domains
        if asked["account"] in {"", one.account}
        if asked["state"] in {"", one.found.state} and asked["name"].lower() in one.found.domain
    )
    certificates = (one for one in left.certificates if asked["account"] in {"", one.account})
    return replace(found, domains=tuple(domains), certificates=tuple(certificates))


@dataclass(frozen=True, slots=True)
class Discovered:
    """What the page shows: what was `asked`, and `accounts` and `states` to choose from."""

    asked: Mapping[str, str]
    table: TableView
    summary: str
    accounts: tuple[tuple[str, str], ...]
    states: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...]


_DOMAINS = (
    *(Text("Domain"), Text("Account"), Text("State"), verbatim("HTTPS"), Text("Certificate")),
    *(Text("Left"), Text("Covered by"), Text("Addresses"), Text("Remarks")),
)
_CERTIFICATES = (
    *(Text("Certificate"), Text("Account"), Text("Owner"), Text("Left")),
    *(Text("Name there"), Text("Domains")),
)


def view_of_discovery(
    everything: Discovery, query: Mapping[str, str], now: datetime, voice: Voice
) -> Discovered:
    """Return what a URL asks for of what was found, what needs care first."""
    asked = {key: query.get(key, "") for key in _ASKED}
    found = _narrowed(everything, asked, now)
    names_account = len(everything.accounts) > 1
    if asked["unused"]:
        row = partial(_certificate, now=now, voice=voice, names_account=names_account)
        table = tables.page_of(_CERTIFICATES, found.unused, asked["page"], row)
    else:
        of_domain = partial(_domain, now=now, voice=voice, names_account=names_account)
        table = tables.page_of(_DOMAINS, found.domains, asked["page"], of_domain)
    states = {one.found.state for one in everything.domains if one.found.state}
    return Discovered(
        asked,
        table,
        plain(discover_text.summary(found, everything, voice)),
        tuple((look.label, look.label) for look in everything.accounts),
        tuple((state, voice.word(state)) for state in sorted(states)),
        everything.problems,
    )


def _domain(one: DiscoveredDomain, now: datetime, voice: Voice, *, names_account: bool) -> Row:
    spans = map(tables.of_span, discover_text.domain(one, now, voice))
    name, state, https, owner, left, covered, served = spans
    lineage = one.deployed_by or next(iter(one.covered_by), None)
    path = None if lineage is None else tables.page_of_certificate(lineage)
    hint = None if one.problem is None else one.problem.hint
    if hint is not None and lineage is not None:
        hint = naming(hint, lineage)
    if one.problem is not None and state.tone == "notice":
        state = replace(state, tone="error")  # it does not pass by itself
    return (
        replace(name, tone=""),
        Cell(one.account if names_account else ""),
        state,
        replace(https, tone=""),
        replace(owner, tone=""),
        replace(left, at=one.not_after),
        replace(covered, path=path, tone="warning" if one.is_uncovered else ""),
        served,
        tables.lines_of([*discover_text.remarks_on(one), hint], voice),
    )


def _certificate(
    one: DiscoveredCertificate, now: datetime, voice: Voice, *, names_account: bool
) -> Row:
    identity, owner, left, label, names = map(
        tables.of_span, discover_text.certificate(one, now, voice)
    )
    at = one.found.not_after
    return (
        replace(identity, tone=""),
        Cell(one.account if names_account else ""),
        replace(owner, tone=""),
        replace(left, at=at),
        label,
        names,
    )


def discover(request: Request) -> Response:
    """Show what the accounts hold; a POST surveys them again."""
    site, voice = site_of(request), voice_of(request)
    if request.method == "POST":
        latest_survey(site, anew=True)
        return _shown_again(request)
    found, view, toml = latest_survey(site), None, ""
    if found.value is not None:
        view = view_of_discovery(found.value.discovery, request.query_params, site.now(), voice)
        proposal = found.value.proposal
        if len(proposal.certificates) + len(proposal.left_out) <= MOST_TABLES:
            toml = tables_of(proposal, voice.say)
    return render(request, "discover.html", found=found, view=view, toml=toml)


def _shown_again(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(link(request, path_of(request) + query), 303)


def discover_toml(request: Request) -> Response:
    """Return the tables to paste, whole, as a file."""
    survey = latest_survey(site_of(request)).value
    if survey is None:
        return RedirectResponse(link(request, "/discover"), 303)
    attached = {"Content-Disposition": 'attachment; filename="discover.toml"'}
    toml = tables_of(survey.proposal, voice_of(request).say)
    return PlainTextResponse(f"{toml}\n", headers=attached)


# --- doctor

_FINDINGS = (Text("About"), Text("Severity"), Text("Finding"), Text("Fix"), Text("Code"))

SEVERITIES = {
    Severity.ERROR: Text("error"),
    Severity.WARNING: Text("warning"),
    Severity.NOTICE: Text("info"),
}


def view_of_findings(
    findings: Sequence[Problem], severity: str, page: str, voice: Voice
) -> TableView:
    """Return the findings of a severity, or of all, the heaviest first."""
    shown = [one for one in findings if severity in {"", one.severity.value}]
    return tables.page_of(_FINDINGS, shown, page, lambda one: _finding(one, voice))


def _finding(one: Problem, voice: Voice) -> Row:
    said = voice.say(SEVERITIES.get(one.severity, Text("ok")))
    return (
        Cell(one.subject),
        Cell(said, one.severity.value),
        tables.lines_of([one.message], voice),
        tables.lines_of([one.hint], voice),
        Cell(str(one.code), "code"),
    )


def doctor(request: Request) -> Response:
    """Show the findings; a POST examines everything again."""
    site, voice = site_of(request), voice_of(request)
    if request.method == "POST":
        latest_findings(site, anew=True)
        return _shown_again(request)
    asked, found, table = request.query_params, latest_findings(site), None
    severity = asked.get("severity", "")
    if found.value is not None:
        table = view_of_findings(found.value, severity, asked.get("page", ""), voice)
    return render(
        request,
        "doctor.html",
        found=found,
        table=table,
        conclusion=discover_text.conclusion(found.value or ()),
        severity=severity,
        severities=[(one.value, voice.say(said)) for one, said in SEVERITIES.items()],
    )


ROUTES = (
    Route("/discover", discover, methods=["GET", "POST"], name="discover"),
    Route("/discover.toml", discover_toml, name="discover.toml"),
    Route("/doctor", doctor, methods=["GET", "POST"], name="doctor"),
)
