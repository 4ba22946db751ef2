"""The page of the plan, for all certificates or for one, as a diff with reasons. The button *Apply*
starts a run that carries out exactly this plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import urlencode

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from certferry.console.observing import Found
from certferry.console.refusals import PageRefused
from certferry.console.runs import new_request, number_of, whole_seconds
from certferry.console.site import Site, link, render, site_of, voice_of
from certferry.console.tables import page_of_certificate
from certferry.core.planning.digest import digest_of_plans
from certferry.core.planning.plan import Plan
from certferry.errors import Severity
from certferry.present.language import Voice
from certferry.present.layout import Tone
from certferry.present.plan_text import (
    PlanEntry,
    counted,
    entries,
    headline,
    is_nothing_to_run,
    is_only_counted,
)
from certferry.reconcile.reads import plans_of
from certferry.reconcile.run import Run
from certferry.text import Text

BADGES = {Tone.PENDING: "warning", Tone.BAD: "error"}


class WholePlan(Struct, frozen=True):
    """The plans of some certificates, with the facts that are the same for all languages and
    visitors.
    """

    plans: Sequence[Plan]
    #: The plans with something to show.
    shown: tuple[Plan, ...]
    #: The number of all steps, in words.
    count: Text
    #: The digest of the plans. A run started with the digest carries out only these plans.
    digest: str
    #: A run would change something.
    has_changes: bool
    #: Something declared cannot be done.
    is_hindered: bool


def whole_of(plans: Sequence[Plan]) -> WholePlan:
    """Join the plans of certificates, and derive the facts about them."""
    shown = tuple(plan for plan in plans if not is_only_counted(plan))
    has_changes = not all(map(is_nothing_to_run, plans))
    is_hindered = any(map(_is_hindered, plans))
    return WholePlan(plans, shown, counted(plans), digest_of_plans(plans), has_changes, is_hindered)


def _is_hindered(plan: Plan) -> bool:
    severities = {finding.weight.severity for finding in plan.findings}
    return bool(plan.timed_out) or Severity.ERROR in severities


def orders_of(whole: WholePlan) -> WholePlan:
    """Return a plan with only the orders, which are the part that a rehearsal tries."""
    return whole_of(
        [Plan(planned.lineage, planned.names, issue=planned.issue) for planned in whole.plans]
    )


def latest_plan(
    site: Site, lineage: str | None = None, *, renew: bool = False, anew: bool = False
) -> Found[WholePlan]:
    """Return the plan of `sync` for all certificates, or for a single lineage; `renew` as in
    `plans_of`. The plan is observed once for all visitors. The observation uses the workspace in
    force, and so shares the pace of each account with the runs.
    """
    kind = ("plan", lineage, renew)

    def observe() -> WholePlan:
        workspace, run = site.workspace(), Run(progress=site.observer.counter(kind))
        meant = [
            desired for desired in workspace.certificates if lineage in {None, desired.lineage}
        ]
        return whole_of(plans_of(workspace.connect(run, declares=False), meant, renew=renew))

    return site.observer.latest(kind, observe, anew=anew)


class PlannedCertificate(Struct, frozen=True):
    """A certificate whose plan has something to show."""

    name: str  #: The lineage.
    why: str  #: The headline of the plan.
    entries: tuple[PlanEntry, ...]


class PlanView(Struct, frozen=True):
    """A page of a `WholePlan`."""

    certificates: tuple[PlannedCertificate, ...]
    count: Text
    digest: str
    has_changes: bool
    #: The class of the count's badge.
    level: str
    #: From 1.
    page: int
    #: The number of the last page.
    last: int


def view_of(whole: WholePlan, voice: Voice, page: int = 1) -> PlanView:
    """Return the page of a plan with the number `page`, or the nearest page."""
    last = max(-(-len(whole.shown) // ON_A_PAGE), 1)
    page = min(max(page, 1), last)
    certificates = tuple(
        PlannedCertificate(plan.lineage, headline(plan, voice), tuple(entries(plan, voice)))
        for plan in whole.shown[(page - 1) * ON_A_PAGE : page * ON_A_PAGE]
    )
    is_done = whole.plans and not whole.has_changes
    level = "warning" if whole.is_hindered else "ok" if is_done else "notice"
    return PlanView(certificates, whole.count, whole.digest, whole.has_changes, level, page, last)


class ChangedPlan(Struct, frozen=True):
    """The difference between two plans of a certificate."""

    name: str
    gone: tuple[PlanEntry, ...]  #: Entries only in the earlier plan.
    new: tuple[PlanEntry, ...]  #: Entries only in the later plan.


def changes_since(
    before: Sequence[Plan], now: Sequence[Plan], voice: Voice
) -> tuple[ChangedPlan, ...]:
    """Return the differences between two plans, by certificate."""
    were = {plan.lineage: tuple(entries(plan, voice)) for plan in before}
    are = {plan.lineage: tuple(entries(plan, voice)) for plan in now}
    changes = (
        ChangedPlan(
            name,
            tuple(entry for entry in were.get(name, ()) if entry not in are.get(name, ())),
            tuple(entry for entry in are.get(name, ()) if entry not in were.get(name, ())),
        )
        for name in dict.fromkeys((*were, *are))
    )
    return tuple(change for change in changes if change.gone or change.new)


ON_A_PAGE = 50


def plan(request: Request) -> Response:
    """Show the plan. If the query `since` has the digest of a plan shown earlier, also show the
    differences from that plan.
    """
    site, voice, asked = site_of(request), voice_of(request), request.query_params
    name = asked.get("name") or None
    declared = [desired.lineage for desired in site.workspace().settings.certificates]
    if name is not None and name not in declared:
        raise PageRefused(404)
    latest = latest_plan(site, name)
    view, changes = None, tuple[ChangedPlan, ...]()
    if latest.value is not None:
        view = view_of(latest.value, voice, number_of(asked.get("page", ""), 1))
        before = site.shown_plans.get(asked.get("since", ""))
        plans = latest.value.plans
        changes = () if before is None else changes_since(before, plans, voice)
        site.shown_plans.add(view.digest, plans)
    return render(
        request,
        "plan.html",
        found=latest,
        view=view,
        changes=changes,
        certificate=page_of_certificate,
        name=name,
        asked=urlencode({"name": name}) if name else "",
        badges=BADGES,
        age=_age(latest, site.observer.now()),
        left=_left(latest, site.observer.now()),
        request_id=new_request(),
    )


_SHORT = timedelta(seconds=10)


def _left(latest: Found[WholePlan], now: datetime) -> Text | None:
    """Return how many certificates are planned, and an estimate of the remaining time."""
    if latest.since is None or now - latest.since < _SHORT or not 0 < latest.done < latest.count:
        return None
    left = whole_seconds((now - latest.since) / latest.done * (latest.count - latest.done))
    message = Text("{done} of {count} certificates planned; about {left} left")
    return message.filled(done=latest.done, count=latest.count, left=left)


def _age(latest: Found[WholePlan], now: datetime) -> Text | None:
    """Return how old a plan is."""
    if latest.at is None:
        return None
    return Text("{age} ago", age=whole_seconds(now - latest.at))


def look_again(request: Request) -> Response:
    """Plan anew, in the background."""
    name = request.query_params.get("name") or None
    latest_plan(site_of(request), name, anew=True)
    query = f"?{urlencode({'name': name})}" if name else ""
    return RedirectResponse(link(request, f"/plan{query}"), 303)


ROUTES = (
    Route("/plan", plan, name="plan"),
    Route("/plan", look_again, methods=["POST"], name="plan.again"),
)
