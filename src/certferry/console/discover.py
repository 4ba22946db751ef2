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
from certferry.console.tables import Cell, Page, Row, cell
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
from certferry.text import Text
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


def _latest_proposal(site: Site, found: Discovery) -> Found[tuple[Proposal, Sequence[Problem]]]:
    """Return what to declare for the domains that are not covered: it asks the DNS accounts."""

    def propose() -> tuple[Proposal, Sequence[Problem]]:
        workspace = site.workspace()
        return proposed(found, workspace.accounts(Run()), workspace.settings)

    return site.observer.latest("discover tables", propose)


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
        words = (asked.get(name, "") for name in ("account", "state", "name"))
        return cls(*words, uncovered="uncovered" in asked, unused="unused" in asked)

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

    def address(self, page: int = 1) -> str:
        """Return the path and query of a page with these filters."""
        flags = {"uncovered": int(self.uncovered), "unused": int(self.unused)}
        number = page if page > 1 else 0
        asked = {"account": self.account, "state": self.state, "name": self.name}
        return tables.address("/discover", **asked, **flags, page=number)


@dataclass(frozen=True, slots=True)
class Discovered:
    """What the page of `discover` shows: `accounts` and `states` to choose from."""

    headings: tuple[Text, ...]
    page: Page[Row]
    summary: str
    accounts: tuple[tuple[str, str], ...]
    states: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...]


_DOMAINS = (
    *(Text("Domain"), Text("Account"), Text("State"), Text("HTTPS"), Text("Certificate")),
    *(Text("Left"), Text("Covered by"), Text("Addresses that serve it"), Text("Remarks")),
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
    rows: Page[Row]
    if filters.unused:
        chosen_ones = tables.page_of(found.unused, page)
        rows = replace(chosen_ones, rows=[_certificate(c, now, voice) for c in chosen_ones.rows])
    else:
        domains = tables.page_of(found.domains, page)
        rows = replace(domains, rows=[_domain(one, now, voice) for one in domains.rows])
    return Discovered(
        headings=_CERTIFICATES if filters.unused else _DOMAINS,
        page=rows,
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
        replace(name, tone="strong"),
        cell(one.account),
        state,
        https,
        owner,
        replace(left, at=one.not_after),
        replace(covered, path=path),
        served,
        tables.lines_of([*discover_text.remarks_on(one), hint], voice),
    )


def _certificate(one: DiscoveredCertificate, now: datetime, voice: Voice) -> Row:
    identity, owner, left, label, names = map(cell, discover_text.certificate(one, now, voice))
    at = one.found.not_after
    return (identity, cell(one.account), owner, replace(left, at=at), label, names)


def _tables(site: Site, found: Discovery, voice: Voice) -> tuple[str | None, Sequence[Problem]]:
    """Return the tables to paste, and which zones could not be read; `None` before they are known."""
    latest = _latest_proposal(site, found)
    if latest.value is None:
        return None, [] if latest.problem is None else [latest.problem]
    proposal, unread = latest.value
    return tables_of(proposal, voice.say), unread


def discover(request: Request) -> Response:
    """Show what the accounts hold; a POST looks for it again."""
    site, voice = site_of(request), voice_of(request)
    filters = Filters.read(request.query_params)
    here = filters.address()
    if request.method == "POST":
        latest_discovery(site, anew=True)
        return RedirectResponse(link(request, here), 303)
    found, view, toml, unread = latest_discovery(site), None, None, Sequence[Problem]()
    if found.value is not None:
        page = request.query_params.get("page", "")
        view = view_of_discovery(found.value, filters, page, site.now(), voice)
        toml, unread = _tables(site, found.value, voice)
    return render(
        request,
        "discover.html",
        found=found,
        view=view,
        filters=filters,
        here=here,
        toml=toml,
        unread=unread,
        is_whole=toml is not None and len(toml) <= SHOWN_WHOLE,
    )


def discover_toml(request: Request) -> Response:
    """Return the tables to paste, whole, as a file."""
    found = latest_discovery(site_of(request)).value
    toml = None if found is None else _tables(site_of(request), found, voice_of(request))[0]
    if toml is None:
        return RedirectResponse(link(request, "/discover"), 303)
    attached = {"Content-Disposition": 'attachment; filename="discover.toml"'}
    return PlainTextResponse(f"{toml}\n", headers=attached)


# --- doctor

_FINDINGS = (Text("Severity"), Text("About"), Text("Finding"), Text("Fix"), Text("Code"))

SEVERITIES = {
    Severity.ERROR: Text("error"),
    Severity.WARNING: Text("warning"),
    Severity.NOTICE: Text("info"),
}


def view_of_findings(
    findings: Sequence[Problem], severity: str, page: str, voice: Voice
) -> Page[Row]:
    """Return the findings of a severity, or of all, the heaviest first."""
    shown = [one for one in findings if severity in {"", one.severity.value}]
    chosen_ones = tables.page_of(shown, page)
    return replace(chosen_ones, rows=[_finding(one, voice) for one in chosen_ones.rows])


def _finding(one: Problem, voice: Voice) -> Row:
    said = voice.say(SEVERITIES.get(one.severity, Text("ok")))
    return (
        Cell(said, one.severity.value),
        cell(one.subject, "strong"),
        tables.lines_of([one.message], voice),
        tables.lines_of([one.hint], voice),
        cell(str(one.code), "code"),
    )


def doctor(request: Request) -> Response:
    """Show the findings; a POST examines everything again."""
    site, voice = site_of(request), voice_of(request)
    severity = request.query_params.get("severity", "")
    here = tables.address("/doctor", severity=severity)
    if request.method == "POST":
        latest_findings(site, anew=True)
        return RedirectResponse(link(request, here), 303)
    found, page = latest_findings(site), None
    if found.value is not None:
        asked = request.query_params.get("page", "")
        page = view_of_findings(found.value, severity, asked, voice)
    return render(
        request,
        "doctor.html",
        found=found,
        page=page,
        headings=_FINDINGS,
        conclusion=discover_text.conclusion(found.value or ()),
        severity=severity,
        severities=[(one.value, voice.say(said)) for one, said in SEVERITIES.items()],
        here=here,
        turn=lambda number: tables.address("/doctor", severity=severity, page=number),
    )


ROUTES = (
    Route("/discover", discover, methods=["GET", "POST"], name="discover"),
    Route("/discover.toml", discover_toml, name="discover.toml"),
    Route("/doctor", doctor, methods=["GET", "POST"], name="doctor"),
)
