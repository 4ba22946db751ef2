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
from certferry.console.site import Site, link, render, site_of, voice_of
from certferry.console.tables import Cell, Row, Table, cell
from certferry.core.discovery.inventory import (
    DiscoveredCertificate,
    DiscoveredDomain,
    Discovery,
    Wanted,
)
from certferry.core.discovery.proposal import Proposal
from certferry.present import discover_text
from certferry.present.language import Voice
from certferry.present.layout import plain
from certferry.problem import Problem, Severity
from certferry.reconcile.run import Run
from certferry.text import Text, verbatim
from certferry.wiring.discovery import chosen, discovered, proposed
from certferry.wiring.doctor import examine
from certferry.wiring.machine import schedulers

SHOWN_WHOLE = 30_000
"""Characters of tables that a page has; more are in `/discover.toml` alone."""


def latest_discovery(site: Site, *, anew: bool = False) -> Found[Discovery]:
    """Return what all accounts were last found to hold, and look for it again if that is old."""
    return site.observer.latest("discover", partial(_discover, site), anew=anew)


def latest_findings(site: Site, *, anew: bool = False) -> Found[Sequence[Problem]]:
    """Return what was last found to be wrong, and look for it again if that is old."""
    return site.observer.latest("doctor", partial(_examine, site), anew=anew)


def _discover(site: Site) -> Discovery:
    workspace, run = site.workspace(), Run()
    labels = chosen((), workspace.accounts(run), workspace.settings)
    return discovered(labels, workspace, run)


def _examine(site: Site) -> Sequence[Problem]:
    workspace = site.workspace()
    return examine(workspace, Run(), schedulers(workspace.settings.secrets.environ))


# --- discover


@dataclass(frozen=True, slots=True)
class Filters:
    """What a page of `discover` shows: of an `account`, in a `state`, whose name has these letters;
    only domains that no declared certificate covers; in their place, certificates without domains.
    """

    account: str = ""
    state: str = ""
    name: str = ""
    uncovered: bool = False
    unused: bool = False

    @classmethod
    def read(cls, asked: Mapping[str, str]) -> Filters:
        """Read the filters of a URL."""
        account, state, name = (asked.get(key, "") for key in ("account", "state", "name"))
        return cls(account, state, name, "uncovered" in asked, "unused" in asked)

    def narrow(self, found: Discovery, now: datetime) -> Discovery:
        """Return what they leave."""
        chosen_ones = found.narrowed(Wanted(uncovered=self.uncovered), now)
        return replace(
            found,
            domains=tuple(
                one
                for one in chosen_ones.domains
                if self.account in {"", one.account}
                and self.state in {"", one.found.state}
                and self.name.lower() in one.found.domain
            ),
            certificates=tuple(
                one for one in chosen_ones.certificates if self.account in {"", one.account}
            ),
        )


@dataclass(frozen=True, slots=True)
class Discovered:
    """What the page of `discover` shows: `accounts` and `states` to choose from."""

    table: Table
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
    everything: Discovery, filters: Filters, page: str, now: datetime, voice: Voice
) -> Discovered:
    """Return what the filters leave, what needs care first."""
    found = filters.narrow(everything, now)
    named = [look.label for look in everything.accounts]
    states = sorted({one.found.state for one in everything.domains if one.found.state})
    if filters.unused:
        row = partial(_certificate, now=now, voice=voice)
        table = tables.page_of(_CERTIFICATES, found.unused, page, row)
    else:
        of_domain = partial(_domain, now=now, voice=voice)
        table = tables.page_of(_DOMAINS, found.domains, page, of_domain)
    return Discovered(
        table=table,
        summary=plain(discover_text.summary(found, everything, voice)),
        accounts=tuple((label, label) for label in named),
        states=tuple((state, voice.word(state)) for state in states),
        problems=everything.problems,
    )


def _domain(one: DiscoveredDomain, now: datetime, voice: Voice) -> Row:
    spans = map(cell, discover_text.domain(one, now, voice))
    name, state, https, owner, left, covered, served = spans
    lineage = one.deployed_by or next(iter(one.covered_by), None)
    path = None if lineage is None else tables.page_of_certificate(lineage)
    hint = None if one.problem is None else one.problem.hint
    return (
        replace(name, tone=""),
        cell(one.account),
        state,
        replace(https, tone=""),
        replace(owner, tone=""),
        replace(left, at=one.not_after),
        replace(covered, path=path, tone="warning" if one.is_uncovered else ""),
        served,
        tables.lines_of([*discover_text.remarks_on(one), hint], voice),
    )


def _certificate(one: DiscoveredCertificate, now: datetime, voice: Voice) -> Row:
    identity, owner, left, label, names = map(cell, discover_text.certificate(one, now, voice))
    at = one.found.not_after
    return (
        replace(identity, tone=""),
        cell(one.account),
        replace(owner, tone=""),
        replace(left, at=at),
        label,
        names,
    )


@dataclass(frozen=True, slots=True)
class Proposed:
    """What to declare for the domains that are not covered, and which zones could not be read."""

    found: Discovery
    proposal: Proposal
    unread: Sequence[Problem]


def _latest_proposal(site: Site, found: Discovery) -> Found[Proposed]:
    """Return what to declare for what was found. It asks the DNS accounts for their zones."""

    def propose() -> Proposed:
        workspace = site.workspace()
        accounts = workspace.accounts(Run())
        return Proposed(found, *proposed(found, accounts, workspace.settings))

    latest = site.observer.latest("discover tables", propose)
    if latest.value is not None and latest.value.found is not found:
        return site.observer.latest("discover tables", propose, anew=True)
    return latest


def discover(request: Request) -> Response:
    """Show what the accounts hold; a POST observes it again."""
    site, voice = site_of(request), voice_of(request)
    if request.method == "POST":
        latest_discovery(site, anew=True)
        return _shown_again(request)
    asked, found = request.query_params, latest_discovery(site)
    filters, view = Filters.read(asked), None
    proposals: Found[Proposed] = Found()
    if found.value is not None:
        view = view_of_discovery(found.value, filters, asked.get("page", ""), site.now(), voice)
        proposals = _latest_proposal(site, found.value)
    value = proposals.value
    toml = "" if value is None else tables_of(value.proposal, voice.say)
    problems = [] if proposals.problem is None else [proposals.problem]
    return render(
        request,
        "discover.html",
        found=found,
        view=view,
        filters=filters,
        toml=toml,
        unread=problems if value is None else [*problems, *value.unread],
        is_whole=len(toml) <= SHOWN_WHOLE,
        is_pending=found.since is not None or proposals.since is not None,
    )


def _shown_again(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(link(request, request.url.path + query), 303)


def discover_toml(request: Request) -> Response:
    """Return the tables to paste, whole, as a file."""
    site, voice = site_of(request), voice_of(request)
    found = latest_discovery(site).value
    value = None if found is None else _latest_proposal(site, found).value
    if value is None:
        return RedirectResponse(link(request, "/discover"), 303)
    attached = {"Content-Disposition": 'attachment; filename="discover.toml"'}
    return PlainTextResponse(f"{tables_of(value.proposal, voice.say)}\n", headers=attached)


# --- doctor

_FINDINGS = (Text("About"), Text("Severity"), Text("Finding"), Text("Fix"), Text("Code"))

SEVERITIES = {
    Severity.ERROR: Text("error"),
    Severity.WARNING: Text("warning"),
    Severity.NOTICE: Text("info"),
}


def view_of_findings(findings: Sequence[Problem], severity: str, page: str, voice: Voice) -> Table:
    """Return the findings of a severity, or of all, the heaviest first."""
    shown = [one for one in findings if severity in {"", one.severity.value}]
    return tables.page_of(_FINDINGS, shown, page, lambda one: _finding(one, voice))


def _finding(one: Problem, voice: Voice) -> Row:
    said = voice.say(SEVERITIES.get(one.severity, Text("ok")))
    return (
        cell(one.subject),
        Cell(said, one.severity.value),
        tables.lines_of([one.message], voice),
        tables.lines_of([one.hint], voice),
        cell(str(one.code), "code"),
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
