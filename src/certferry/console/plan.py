"""The page of the plan, for all certificates or for one: the changes that a run would make, with
the reasons. The button *Apply* starts a run that carries out exactly this plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from urllib.parse import urlencode

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from certferry.console.causes import consequences_of, steps_of
from certferry.console.observing import Found
from certferry.console.refusals import PageRefused
from certferry.console.runs import new_request, number_of, whole_seconds
from certferry.console.site import Site, link, render, site_of, voice_of
from certferry.console.tables import page_of_certificate
from certferry.core.assessment.causes import Cause, causes_of
from certferry.core.assessment.health import Concern
from certferry.core.assessment.notices import Subject
from certferry.core.assessment.settled import seen_by_plans
from certferry.core.planning.digest import digest_of_plans
from certferry.core.planning.plan import Plan, Step
from certferry.core.reasons import Waiting
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
from certferry.values import replace

T = TypeVar("T")

BADGES = {Tone.PENDING: "warning", Tone.BAD: "error"}


class PlanKind(Struct, frozen=True):
    """The plans of certificates with the same steps for the same reasons. A page shows these plans
    as one card.
    """

    #: The kind's name in the page's URL.
    id: str
    #: The plans, one for each certificate.
    plans: tuple[Plan, ...]


class WholePlan(Struct, frozen=True):
    """The plans of some certificates, with facts that all visitors and languages share."""

    #: The plans, one for each certificate.
    plans: Sequence[Plan]
    #: The plans with something to show, by kind.
    kinds: tuple[PlanKind, ...]
    #: The number of all steps, in words.
    count: Text
    #: The digest of the plans. A run that is started with the digest carries out only these plans.
    digest: str
    #: Whether a run would change something.
    has_changes: bool
    #: Whether a step is blocked, refused or stuck.
    is_hindered: bool
    #: The causes of blocked and refused steps.
    obstacles: tuple[Cause, ...]


def whole_of(plans: Sequence[Plan]) -> WholePlan:
    """Join the plans of certificates, and derive the facts about them."""
    by_kind = dict[str, list[Plan]]()
    for plan in plans:
        if not is_only_counted(plan):
            by_kind.setdefault(_kind_of(plan), []).append(plan)
    kinds = tuple(PlanKind(kind, tuple(alike)) for kind, alike in by_kind.items())
    has_changes = not all(map(is_nothing_to_run, plans))
    is_hindered = any(map(_is_hindered, plans))
    digest, obstacles = digest_of_plans(plans), _obstacles(plans)
    return WholePlan(plans, kinds, counted(plans), digest, has_changes, is_hindered, obstacles)


def _obstacles(plans: Sequence[Plan]) -> tuple[Cause, ...]:
    """Return the causes of blocked and refused steps."""
    return causes_of(
        Concern(finding.problem, Subject(plan.lineage, finding.target or "", finding.domain or ""))
        for plan in plans
        for finding in plan.findings
        if finding.weight.severity is Severity.ERROR
    )


_DIGITS = 12
"""The number of hex digits in the id of a kind."""


def _kind_of(plan: Plan) -> str:
    """Return the id of a plan's kind: a hash of the actions, targets, reasons, waits and findings.
    Names, domains and moments are left out of the hash, so the number of kinds does not grow with
    the number of certificates.
    """
    steps = {
        f"{step.action} {getattr(step, 'target', '')} {step.reason.code} {_wait_of(step)}"
        for step in plan.steps
    }
    findings = {
        f"{finding.weight} {finding.target} {finding.problem.code}" for finding in plan.findings
    }
    beside = (plan.issue_later, plan.drifts, plan.rolled_back, plan.owned_elsewhere)
    has_beside = [str(bool(part)) for part in (*beside, plan.retire_later)]
    facts = "\n".join([*sorted(steps), *sorted(findings), *has_beside])
    return hashlib.sha256(facts.encode()).hexdigest()[:_DIGITS]


def _wait_of(step: Step) -> str:
    match getattr(step, "when", None):
        case Waiting(why=why):
            return why.template
        case None:
            return ""
        case when:
            return type(when).__name__


def _is_hindered(plan: Plan) -> bool:
    severities = {finding.weight.severity for finding in plan.findings}
    return bool(plan.timed_out) or Severity.ERROR in severities


def orders_of(whole: WholePlan) -> WholePlan:
    """Return a plan with only the orders: the steps that a rehearsal tries."""
    return whole_of(
        [Plan(planned.lineage, planned.names, issue=planned.issue) for planned in whole.plans]
    )


def latest_plan(
    site: Site, lineage: str | None = None, *, renew: bool = False, anew: bool = False
) -> Found[WholePlan]:
    """Return the last plan of `sync` for all certificates, or for a single lineage. If the plan is
    old, or if `anew` is true, plan again in the background, once for all visitors. `renew` is as in
    `plans_of`.

    The plan is made in the workspace in force, so plans and runs share the pace of each account.
    """
    kind = ("plan", lineage, renew)

    def observe() -> WholePlan:
        workspace, run = site.workspace(), Run(progress=site.observer.counter(kind))
        meant = [
            desired for desired in workspace.certificates if lineage in {None, desired.lineage}
        ]
        begin = site.now()
        plans = plans_of(workspace.connect(run, declares=False), meant, renew=renew)
        if not renew:  # the plan of another certificate says nothing of the present certificate
            site.seen.add(seen_by_plans(plans, begin))
        return whole_of(plans)

    return site.observer.latest(kind, observe, anew=anew)


class PlannedCertificate(Struct, frozen=True):
    """A certificate whose plan has something to show."""

    name: str  #: The lineage.
    why: str  #: The headline of the plan.
    entries: tuple[PlanEntry, ...]  #: The first entries.
    more: int = 0  #: The number of further entries.


class PlannedKind(Struct, frozen=True):
    """A card: the certificates whose plans have the same steps for the same reasons."""

    #: See `PlanKind`.
    id: str
    #: The first certificates.
    certificates: tuple[PlannedCertificate, ...]
    #: The number of all certificates.
    size: int
    #: The number of steps of all certificates, in words.
    count: Text
    #: The headline of all plans; `None` if the headlines differ.
    why: str | None
    #: The lineages of all certificates, if the plans have obstacles and nothing else.
    blocked: tuple[str, ...] = ()


class PlanView(Struct, frozen=True):
    """A page of a `WholePlan`."""

    #: The cards on this page.
    kinds: tuple[PlannedKind, ...]
    #: The number of steps, in words.
    count: Text
    #: See `WholePlan`.
    digest: str
    #: See `WholePlan`.
    has_changes: bool
    #: The class of the count's badge.
    level: str
    #: The number of this page, from 1.
    page: int
    #: The number of the last page.
    last: int
    #: The first causes of blocked and refused steps. Empty after the first page, and in a plan of a
    #: single certificate, whose entries show the causes.
    obstacles: tuple[Cause, ...] = ()
    #: The number of further causes.
    more_obstacles: int = 0

    @property
    def certificates(self) -> tuple[PlannedCertificate, ...]:
        """The certificates on all cards of this page."""
        return tuple(planned for kind in self.kinds for planned in kind.certificates)


ON_A_PAGE = 20
"""The number of kinds on a page of the plan, and of certificates on a page of a kind."""

FOLDED, FOLDED_ENTRIES, MOST_ENTRIES = 10, 3, 20
"""The most certificates on a card of several certificates, the most entries of each, and the most
entries on a card of one certificate. The last number does not count if the plan has only one
certificate.
"""


def view_of(whole: WholePlan, voice: Voice, page: int = 1) -> PlanView:
    """Return a page of a plan, with a card for each kind. For a number without a page, take the
    nearest page. Only the plan of a single certificate shows all entries.
    """
    page, last, shown = _page_of(whole.kinds, page)
    most = None if len(whole.plans) == 1 else MOST_ENTRIES
    kinds = tuple(
        _planned_kind(
            kind, voice, *((FOLDED, FOLDED_ENTRIES) if len(kind.plans) > 1 else (1, most))
        )
        for kind in shown
    )
    view = _view(whole, kinds, page, last)
    if len(whole.plans) == 1 or page > 1:
        return view
    more = max(len(whole.obstacles) - ON_A_PAGE, 0)
    return replace(view, obstacles=whole.obstacles[:ON_A_PAGE], more_obstacles=more)


def view_of_kind(whole: WholePlan, kind: str, voice: Voice, page: int) -> PlanView | None:
    """Return a page of the certificates of a kind, with a card for each certificate. Return `None`
    if the plan no longer has the kind. For a number without a page, take the nearest page.
    """
    alike = next((known.plans for known in whole.kinds if known.id == kind), None)
    if alike is None:
        return None
    page, last, shown = _page_of(alike, page)
    kinds = tuple(_planned_kind(PlanKind(kind, (plan,)), voice, 1, MOST_ENTRIES) for plan in shown)
    return replace(_view(whole, kinds, page, last), count=counted(alike))


def _page_of(everything: Sequence[T], page: int) -> tuple[int, int, Sequence[T]]:
    last = max(-(-len(everything) // ON_A_PAGE), 1)
    page = min(max(page, 1), last)
    return page, last, everything[(page - 1) * ON_A_PAGE : page * ON_A_PAGE]


def _view(whole: WholePlan, kinds: tuple[PlannedKind, ...], page: int, last: int) -> PlanView:
    is_done = whole.plans and not whole.has_changes
    level = "warning" if whole.is_hindered else "ok" if is_done else "notice"
    return PlanView(kinds, whole.count, whole.digest, whole.has_changes, level, page, last)


def _planned_kind(
    kind: PlanKind, voice: Voice, certificates: int, most_entries: int | None
) -> PlannedKind:
    headlines = {headline(plan, voice) for plan in kind.plans}
    planned = tuple(_planned(plan, voice, most_entries) for plan in kind.plans[:certificates])
    why = headlines.pop() if len(headlines) == 1 else None
    is_blocked = all(map(_is_only_blocked, kind.plans))
    blocked = tuple(plan.lineage for plan in kind.plans) if is_blocked else ()
    return PlannedKind(kind.id, planned, len(kind.plans), counted(kind.plans), why, blocked)


def _is_only_blocked(plan: Plan) -> bool:
    is_error = (finding.weight.severity is Severity.ERROR for finding in plan.findings)
    return bool(plan.findings) and not (plan.steps or plan.drifts) and all(is_error)


def _planned(plan: Plan, voice: Voice, most_entries: int | None) -> PlannedCertificate:
    every = tuple(entries(plan, voice))
    shown = every[:most_entries]
    return PlannedCertificate(plan.lineage, headline(plan, voice), shown, len(every) - len(shown))


class ChangedPlan(Struct, frozen=True):
    """The difference between two plans of a certificate."""

    name: str  #: The lineage.
    gone: tuple[PlanEntry, ...]  #: Entries only in the earlier plan.
    new: tuple[PlanEntry, ...]  #: Entries only in the later plan.


def changes_since(
    before: Sequence[Plan], now: Sequence[Plan], voice: Voice
) -> tuple[ChangedPlan, ...]:
    """Return the difference between the plans `before` and `now` of each certificate, if any."""
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


MOST_CHANGED = 20
"""The most certificates whose differences the page shows."""


def plan(request: Request) -> Response:
    """Show the plan. If the query's `since` is the digest of a plan shown earlier, also show the
    differences from that plan. Raises `PageRefused` for an unknown name.
    """
    site, voice, asked = site_of(request), voice_of(request), request.query_params
    name = asked.get("name") or None
    declared = [desired.lineage for desired in site.workspace().settings.certificates]
    if name is not None and name not in declared:
        raise PageRefused(404)
    latest, kind = latest_plan(site, name), asked.get("kind", "")
    view, changes = None, tuple[ChangedPlan, ...]()
    if latest.value is not None:
        page = number_of(asked.get("page", ""), 1)
        view = view_of_kind(latest.value, kind, voice, page) if kind else None
        kind = kind if view else ""
        view = view or view_of(latest.value, voice, page)
        before = site.shown_plans.get(asked.get("since", ""))
        plans = latest.value.plans
        changes = () if before is None else changes_since(before, plans, voice)
        site.shown_plans.add(view.digest, plans)
    stored = site.stored.latest()
    return render(
        request,
        "plan.html",
        found=latest,
        view=view,
        changes=changes[:MOST_CHANGED],
        more_changes=max(len(changes) - MOST_CHANGED, 0),
        kind=kind,
        certificate=page_of_certificate,
        name=name,
        asked=urlencode({"name": name}) if name else "",
        badges=BADGES,
        consequences_of=consequences_of,
        steps_of=partial(steps_of, stored=stored, run=(name,) if name else ()),
        severity_of=lambda cause: stored.severities.of(cause.problem, cause.subject),
        left=_left(latest, site.observer.now()),
        request_id=new_request(),
    )


_SHORT = timedelta(seconds=10)


def _left(latest: Found[WholePlan], now: datetime) -> Text | None:
    """Return how many certificates are planned so far, and an estimate of the remaining time.
    Return `None` unless planning is in progress, has taken ten seconds (`_SHORT`), and is partly
    done.
    """
    if latest.since is None or now - latest.since < _SHORT or not 0 < latest.done < latest.count:
        return None
    left = whole_seconds((now - latest.since) / latest.done * (latest.count - latest.done))
    message = Text("{done} of {count} certificates planned; about {left} left")
    return message.filled(done=latest.done, count=latest.count, left=left)


def look_again(request: Request) -> Response:
    """Plan anew in the background, and redirect to the plan."""
    name = request.query_params.get("name") or None
    latest_plan(site_of(request), name, anew=True)
    query = f"?{urlencode({'name': name})}" if name else ""
    return RedirectResponse(link(request, f"/plan{query}"), 303)


ROUTES = (
    Route("/plan", plan, name="plan"),
    Route("/plan", look_again, methods=["POST"], name="plan.again"),
)
