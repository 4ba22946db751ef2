"""Two pages whose facts come from services: the contents of the accounts (`discover`), and the
examination of everything that a run depends on (`doctor`). A page shows the last result, and a new
observation takes place in the background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from certferry.config.propose import tables_of
from certferry.console import tables
from certferry.console.observing import Found
from certferry.console.site import SURVEY, Site, link, path_of, render, site_of, voice_of
from certferry.console.surveying import SurveyedAccounts, Surveys
from certferry.console.tables import Cell, Row, TableView
from certferry.core.assessment.notices import OF_ALL
from certferry.core.discovery.inventory import (
    DiscoveredCertificate,
    DiscoveredDomain,
    Discovery,
    Wanted,
)
from certferry.errors import Problem, Severity
from certferry.present import discover_text
from certferry.present.language import Voice
from certferry.present.layout import plain
from certferry.reconcile.run import Run
from certferry.text import Text, naming, verbatim
from certferry.values import replace
from certferry.wiring.discovery import chosen, discovered, proposed
from certferry.wiring.doctor import examine
from certferry.wiring.machine import schedulers

MOST_TABLES = 100
"""If there are more TOML tables to paste than this, the page leaves the tables out. The file
`/discover.toml` has all tables in any case.
"""


def latest_survey(site: Site, *, anew: bool = False) -> Found[SurveyedAccounts]:
    """Return the last survey of all accounts. If the survey is old, or if `anew` is true, start
    another survey in the background.
    """
    return site.observer.latest(SURVEY, partial(_survey, site), anew=anew)


def surveys_of(site: Site) -> Surveys:
    """Return the surveys that the process makes by itself."""

    def last_run() -> datetime | None:
        ends = (host.last_run for host in site.workspace().state.hosts())
        return max((last.ended_at for last in ends if last is not None), default=None)

    return Surveys(
        lambda: site.observer.known(SURVEY),
        lambda: latest_survey(site, anew=True),
        last_run,
        lambda: bool(site.running.latest()),
        site.observer.now,
    )


def latest_discovery(site: Site, *, anew: bool = False) -> Found[Discovery]:
    """Return the discovery in the last survey (`latest_survey`)."""
    survey = latest_survey(site, anew=anew)
    value = None if survey.value is None else survey.value.discovery
    return Found(value, survey.at, survey.since, survey.problem)


def latest_findings(site: Site, *, anew: bool = False) -> Found[Sequence[Problem]]:
    """Return the last findings of `doctor`. If the findings are old, or if `anew` is true, start
    another examination in the background.
    """
    return site.observer.latest("doctor", partial(_examine, site), anew=anew)


def _survey(site: Site) -> SurveyedAccounts:
    workspace, run = site.workspace(), Run()
    accounts, settings = workspace.accounts(run), workspace.settings
    discovery = discovered(chosen((), accounts, settings), workspace, run)
    return SurveyedAccounts(discovery, *proposed(discovery, accounts, settings))


def _examine(site: Site) -> Sequence[Problem]:
    workspace = site.workspace()
    found_schedulers = schedulers(workspace.settings.secrets.environ)
    return examine(workspace, Run(), found_schedulers, is_serving=site.has_schedule)


# --- discover


_ASKED = ("account", "state", "name", "uncovered", "unused", "page")
"""The parameters of the page's URL. `account` is a label, `state` the domain's state at the CDN,
and `name` a part of the domain's name; `uncovered` leaves out covered domains. `unused` shows
unused certificates in place of domains, and `page` is the number of the page.
"""


def _narrowed(everything: Discovery, asked: Mapping[str, str], now: datetime) -> Discovery:
    left = everything.narrowed(Wanted(uncovered=bool(asked["uncovered"])), now)
    domains = (
        domain
        for domain in left.domains
        if asked["account"] in {"", domain.account}
        if asked["state"] in {"", domain.listed.state}
        and asked["name"].lower() in domain.listed.domain
    )
    certificates = (held for held in left.certificates if asked["account"] in {"", held.account})
    return replace(everything, domains=tuple(domains), certificates=tuple(certificates))


class Discovered(Struct, frozen=True):
    """The view of a discovery: a table of domains or of unused certificates."""

    #: The value of each parameter in `_ASKED`; "" if absent.
    asked: Mapping[str, str]
    #: The page of the table.
    table: TableView
    #: The numbers of domains and certificates, in a sentence.
    summary: str
    #: The accounts to choose from, each as the value and the word shown.
    accounts: tuple[tuple[str, str], ...]
    #: The states to choose from, each as the value and the word shown.
    states: tuple[tuple[str, str], ...]
    #: The problems with reading the accounts.
    problems: tuple[Problem, ...]

    @property
    def is_filtered(self) -> bool:
        """Whether the URL has a filter, or asks for unused certificates."""
        return any(value for name, value in self.asked.items() if name != "page")


_DOMAINS = (
    *(Text("Domain"), Text("Account"), Text("State at the CDN"), verbatim("HTTPS")),
    *(Text("Certificate"), Text("Time left"), Text("Covered by")),
    *(Text("Valid addresses"), Text("Remarks")),
)
_CERTIFICATES = (
    *(Text("Certificate"), Text("Account"), Text("Owner"), Text("Time left")),
    *(Text("Name in the account"), Text("Domains")),
)


def view_of_discovery(
    everything: Discovery, query: Mapping[str, str], now: datetime, voice: Voice
) -> Discovered:
    """Return the view of a discovery for the query of a URL, with rows in the discovery's order."""
    asked = {key: query.get(key, "") for key in _ASKED}
    narrowed = _narrowed(everything, asked, now)
    names_account = len(everything.accounts) > 1
    if asked["unused"]:
        row = partial(_certificate, now=now, voice=voice, names_account=names_account)
        table = tables.page_of(_CERTIFICATES, narrowed.unused, asked["page"], row)
    else:
        of_domain = partial(_domain, now=now, voice=voice, names_account=names_account)
        table = tables.page_of(
            _DOMAINS, narrowed.domains, asked["page"], of_domain, is_last_below=True
        )
    states = {domain.listed.state for domain in everything.domains if domain.listed.state}
    return Discovered(
        asked,
        table,
        plain(discover_text.summary(narrowed, everything, voice)),
        tuple((surveyed.label, surveyed.label) for surveyed in everything.accounts),
        tuple((state, discover_text.state_word(state, voice)) for state in sorted(states)),
        everything.problems,
    )


def _domain(domain: DiscoveredDomain, now: datetime, voice: Voice, *, names_account: bool) -> Row:
    spans = map(tables.of_span, discover_text.domain(domain, now, voice))
    name, state, https, owner, left, covered, served = spans
    lineage = domain.deployed_by or next(iter(domain.covered_by), None)
    path = None if lineage is None else tables.page_of_certificate(lineage)
    hint = None if domain.problem is None else domain.problem.hint
    if hint is not None and lineage is not None:
        hint = naming(hint, lineage)
    if domain.problem is not None and state.tone == "notice":
        state = replace(state, tone="error")  # unlike a change in progress, a problem stays
    elif state.tone == "ok":
        state = replace(state, tone="")  # a green badge would seem to judge the certificate
    return (
        replace(name, tone=""),
        Cell(domain.account if names_account else ""),
        state,
        replace(https, tone=""),
        replace(owner, tone=""),
        replace(left, at=domain.not_after),
        replace(covered, path=path, tone="warning" if domain.is_uncovered else ""),
        served,
        tables.lines_of([*discover_text.remarks_on(domain), hint], voice),
    )


def _certificate(
    held: DiscoveredCertificate, now: datetime, voice: Voice, *, names_account: bool
) -> Row:
    identity, owner, left, label, names = map(
        tables.of_span, discover_text.certificate(held, now, voice)
    )
    at = held.listed.not_after
    return (
        replace(identity, tone=""),
        Cell(held.account if names_account else ""),
        replace(owner, tone=""),
        replace(left, at=at),
        label,
        names,
    )


def discover(request: Request) -> Response:
    """Show the contents of the accounts. A POST starts another survey in the background, and
    redirects to the page.
    """
    site, voice = site_of(request), voice_of(request)
    if request.method == "POST":
        latest_survey(site, anew=True)
        return _shown_again(request)
    latest, view, toml = latest_survey(site), None, ""
    if latest.value is not None:
        view = view_of_discovery(latest.value.discovery, request.query_params, site.now(), voice)
        of_causes = site.stored.latest().severities
        problems = tuple(
            replace(problem, severity=of_causes.of(problem, OF_ALL)) for problem in view.problems
        )
        view = replace(view, problems=problems)
        proposal = latest.value.proposal
        if len(proposal.certificates) + len(proposal.left_out) <= MOST_TABLES:
            toml = tables_of(proposal, voice.say)
    return render(request, "discover.html", found=latest, view=view, toml=toml)


def _shown_again(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(link(request, path_of(request) + query), 303)


def discover_toml(request: Request) -> Response:
    """Return the TOML tables for all uncovered domains, as a file. Before the end of the first
    survey, redirect to the page.
    """
    survey = latest_survey(site_of(request)).value
    if survey is None:
        return RedirectResponse(link(request, "/discover"), 303)
    attached = {"Content-Disposition": 'attachment; filename="discover.toml"'}
    toml = tables_of(survey.proposal, voice_of(request).say)
    return PlainTextResponse(f"{toml}\n", headers=attached)


# --- doctor

_FINDINGS = (Text("Subject"), Text("Severity"), Text("Finding"), Text("Fix"), Text("Code"))

SEVERITIES = {
    Severity.ERROR: Text("error"),
    Severity.WARNING: Text("warning"),
    Severity.NOTICE: Text("info"),
}


def view_of_findings(
    findings: Sequence[Problem], severity: str, page: str, voice: Voice
) -> TableView:
    """Return a page of the findings of a severity, in the given order. With an empty `severity`,
    take all findings. `page` has the number of the page.
    """
    shown = [finding for finding in findings if severity in {"", finding.severity.value}]
    return tables.page_of(_FINDINGS, shown, page, lambda finding: _finding(finding, voice))


def _finding(finding: Problem, voice: Voice) -> Row:
    word = voice.say(SEVERITIES.get(finding.severity, Text("ok")))
    return (
        Cell(finding.subject),
        Cell(word, finding.severity.value),
        tables.lines_of([finding.message], voice),
        tables.lines_of([finding.hint], voice),
        Cell(str(finding.code), "code"),
    )


def doctor(request: Request) -> Response:
    """Show the findings of `doctor`. A POST starts another examination in the background, and
    redirects to the page.
    """
    site, voice = site_of(request), voice_of(request)
    if request.method == "POST":
        latest_findings(site, anew=True)
        return _shown_again(request)
    asked, latest, table = request.query_params, latest_findings(site), None
    severity = asked.get("severity", "")
    if latest.value is not None:
        table = view_of_findings(latest.value, severity, asked.get("page", ""), voice)
    return render(
        request,
        "doctor.html",
        found=latest,
        table=table,
        conclusion=discover_text.conclusion(latest.value or ()),
        severity=severity,
        severities=[(level.value, voice.say(word)) for level, word in SEVERITIES.items()],
    )


ROUTES = (
    Route("/discover", discover, methods=["GET", "POST"], name="discover"),
    Route("/discover.toml", discover_toml, name="discover.toml"),
    Route("/doctor", doctor, methods=["GET", "POST"], name="doctor"),
)
