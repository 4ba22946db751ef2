"""The plan of all certificates, or of one, as a diff with its reasons; *apply* starts a run that
carries out just this plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from certferry.console import observed
from certferry.console.observing import Found
from certferry.console.refusals import Refused
from certferry.console.runs import new_request, whole_seconds
from certferry.console.site import link, render, site_of, voice_of
from certferry.core.planning.digest import digest_of
from certferry.core.planning.plan import Plan
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
from certferry.text import Text

BADGES = {Tone.PENDING: "warning", Tone.BAD: "error"}


@dataclass(frozen=True, slots=True)
class PlannedCertificate:
    """A certificate of which there is more to show than that it is as declared."""

    name: str
    why: str
    entries: tuple[PlanEntry, ...]


@dataclass(frozen=True, slots=True)
class PlanView:
    """Plans as they are shown: those with something to see, their `count`, and what a run that
    applies them is held to (`digest`); `has_changes` where a run would do anything.
    """

    certificates: tuple[PlannedCertificate, ...]
    count: Text
    digest: str
    has_changes: bool


def view_of(plans: Sequence[Plan], voice: Voice) -> PlanView:
    """Return how plans are shown."""
    shown = tuple(
        PlannedCertificate(plan.lineage, headline(plan, voice), tuple(entries(plan, voice)))
        for plan in plans
        if not is_only_counted(plan)
    )
    has_changes = not all(map(is_nothing_to_run, plans))
    return PlanView(shown, counted(plans), digest_of(plans), has_changes)


def plan(request: Request) -> Response:
    """Show what a run would do."""
    site, name = site_of(request), request.query_params.get("name") or None
    declared = [one.lineage for one in site.workspace().settings.certificates]
    if name is not None and name not in declared:
        raise Refused(404)
    found = observed.plans(site, name)
    view = None if found.value is None else view_of(found.value, voice_of(request))
    return render(
        request,
        "plan.html",
        found=found,
        view=view,
        name=name,
        asked=urlencode({"name": name}) if name else "",
        badges=BADGES,
        age=_age(found, site.now()),
        request_id=new_request(),
    )


def _age(found: Found[Sequence[Plan]], now: datetime) -> Text | None:
    """Return how old a plan is."""
    if found.at is None:
        return None
    return Text("{age} ago", age=whole_seconds(now - found.at))


def look_again(request: Request) -> Response:
    """Plan anew, in the background."""
    name = request.query_params.get("name") or None
    observed.plans(site_of(request), name, anew=True)
    query = f"?{urlencode({'name': name})}" if name else ""
    return RedirectResponse(link(request, f"/plan{query}"), 303)


ROUTES = (
    Route("/plan", plan, name="plan"),
    Route("/plan", look_again, methods=["POST"], name="plan.again"),
)
