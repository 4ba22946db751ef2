"""What `plan --json` prints, which `sync --rehearse --json` has in it; see `present.documents` for
what holds of every document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from certferry.core.assessment.health import Recorded
from certferry.core.assessment.notices import ChannelState, Notice
from certferry.core.assessment.status import (
    DomainStatus,
    LastFailure,
    LineageStatus,
    are_in_order,
)
from certferry.core.certificates.renewal import RenewalWindow
from certferry.core.observed.observation import CERTIFICATE, Change, Served
from certferry.core.planning.drift import Drifted
from certferry.core.planning.plan import Plan, PlanFinding, Weight
from certferry.core.planning.report import SyncReport, served_by
from certferry.core.planning.steps import (
    Clean,
    Deploy,
    Due,
    HeldUntil,
    Issue,
    NotReady,
    Retire,
    Rollback,
    Step,
    TimedOut,
    TriedInThisRun,
    Verify,
)
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.redaction import quoted
from certferry.core.waiting import Waiting
from certferry.present.documents import (
    Document,
    moment,
    of_problem,
    of_reason,
    of_report,
    of_undeclared,
    problem_or_none,
)
from certferry.present.language import Voice
from certferry.present.news_text import of_channels
from certferry.present.status_text import ticket


def of_plans(plans: Sequence[Plan], voice: Voice) -> Document:
    """What `plan` prints. `changes` counts steps, but for those that are only tried again."""
    return {
        "changes": sum(len(plan.pending) for plan in plans),
        "certificates": [
            {
                "name": plan.lineage,
                "names": list(plan.names),
                "steps": [_step(step, voice) for step in plan.steps],
                "held_back": _held_back(plan.issue_later, voice),
                "refusals": [_refusal(one, voice) for one in plan.having(Weight.REFUSED)],
                "obstacles": [_finding(one, voice) for one in plan.having(Weight.BLOCKED)],
                "notices": [
                    _finding(one, voice)
                    for weight in (Weight.UNREAD, Weight.UNMATCHED, Weight.SKIPPED)
                    for one in plan.having(weight)
                ],
                "drifts": [_drifted(drifted) for drifted in plan.drifts],
                "rolled_back": [
                    {
                        "target": back.target,
                        "domain": back.domain,
                        "reason": of_reason(Reason(ReasonCode.ROLLED_BACK, back.words), voice),
                    }
                    for back in plan.rolled_back
                ],
                "ceded": [
                    {
                        "target": target,
                        "lineages": list(lineages),
                        "message": voice.say(served_by(lineages)),
                    }
                    for target, lineages in plan.owned_elsewhere
                ],
                "retire_later": sum(count for _, count in plan.retire_later),
            }
            for plan in plans
        ],
    }


def of_rehearsal(report: SyncReport, plans: Sequence[Plan], voice: Voice) -> Document:
    """What `sync --rehearse` prints: what came of each order, and what `plan` would say."""
    return {**of_report(report, voice), "rehearsed": True, "plan": of_plans(plans, voice)}


def _step(step: Step, voice: Voice) -> Document:
    changes = step.changes if isinstance(step, Deploy | Verify) else ()
    written: Document = {
        "action": step.action.value,
        "target": None if isinstance(step, Issue | Clean) else step.target,
        "domain": step.domain if isinstance(step, Deploy | Verify | Rollback) else None,
        "reason": of_reason(step.reason, voice),
        "diff": _diff(changes),
    }
    if isinstance(step, Issue):
        return written | {
            "names": list(step.names),
            "key_type": step.key_type.value,
            "authorities": [authority.name for authority in step.authorities],
            "standing": list(step.standing),
        }
    if isinstance(step, Clean):
        return written
    if isinstance(step, Retire):
        return written | {
            "remote_id": step.remote_id,
            "label": step.label,
            "not_after": moment(step.not_after),
            "days_left": None if step.left is None else step.left.days,
            "again": step.again,
            **_due(step.due, voice),
        }
    if isinstance(step, Deploy):
        written |= {"upload_deadline": moment(step.upload_by)}
    return written | {"kind": step.kind.value, **_due(step.due, voice)}


def _held_back(step: Issue | None, voice: Voice) -> Document | None:
    """Say why a needed order is not made now, and until when."""
    if step is None or not isinstance(step.due, HeldUntil) or step.due.error is None:
        return None
    problem = of_problem(step.due.error.problem(), voice)
    return {
        "reason": of_reason(step.reason, voice),
        "error": problem,
        "until": moment(step.due.until),
    }


def _diff(changes: Sequence[Change]) -> Document:
    return {change.what: _change(change) for change in changes}


def _change(change: Change) -> Document:
    """Write before and after. A certificate is its fingerprint in both, and `remote_id` what the
    target calls the one that is bound.
    """
    written: Document = {"before": change.before, "after": change.after}
    return written | {"remote_id": change.remote_id} if change.what == CERTIFICATE else written


def _drifted(drifted: Drifted) -> Document:
    return {
        "target": drifted.target,
        "domain": drifted.domain,
        "policy": drifted.policy.value,
        "diff": _diff(drifted.changes),
    }


def _due(due: Due, voice: Voice) -> Document:
    """Say when a step is carried out: `now`, `waiting` until a moment, or `blocked` in this run."""
    match due:
        case Waiting(why=why, until=until):
            return {"due": "waiting", "until": moment(until), "waits_for": voice.say(why)}
        case HeldUntil(until):
            return {"due": "blocked", "until": moment(until)}
        case TimedOut(error):
            return {"due": "blocked", "problem": of_problem(error.problem(), voice)}
        case TriedInThisRun() | NotReady():
            return {"due": "blocked", "problem": None}
        case None:
            return {"due": "now"}


def _refusal(finding: PlanFinding, voice: Voice) -> Document:
    problem = of_problem(finding.problem, voice)
    return {
        "target": finding.target,
        "domain": finding.domain,
        "reason": {"code": problem["code"], "message": problem["message"]},
        "hint": problem["hint"],
        "problem": problem,
    }


def _finding(finding: PlanFinding, voice: Voice) -> Document:
    return {
        "target": finding.target,
        "domain": finding.domain,
        "error": of_problem(finding.problem, voice),
    }


def of_statuses(
    statuses: Sequence[LineageStatus],
    recorded: Recorded,
    voice: Voice,
    channels: Mapping[str, ChannelState] = MappingProxyType({}),
) -> Document:
    """Return what `status --json` prints. It is ok when nothing needs a person."""
    last = recorded.last_run
    return {
        "ok": are_in_order(statuses, recorded),
        "last_run": None
        if last is None
        else {"ended_at": moment(last.ended_at), "succeeded_at": moment(last.succeeded_at)},
        "problem": problem_or_none(recorded.problem, voice),
        "troubles": [_trouble_of_runs(one, voice) for one in recorded.troubles_of_runs],
        "undeclared": [of_undeclared(one, voice) for one in recorded.undeclared],
        "certificates": [_lineage_status(status, voice) for status in statuses],
        **({"channels": of_channels(channels, voice)} if channels else {}),
    }


def _trouble_of_runs(notice: Notice, voice: Voice) -> Document:
    return {
        "channel": notice.subject.channel or None,
        **of_problem(notice.problem, voice),
        "since": moment(notice.since),
    }


def _lineage_status(status: LineageStatus, voice: Voice) -> Document:
    version = status.version
    certificate = None if version is None else version.certificate
    fingerprint = None if certificate is None else certificate.fingerprint
    return {
        "name": status.lineage,
        "names": list(status.names),
        "version": None if version is None else version.number,
        "serial": None if certificate is None else certificate.serial,
        "fingerprint": fingerprint,
        "issuer": None if certificate is None else certificate.issuer,
        "not_before": None if certificate is None else moment(certificate.not_before),
        "not_after": None if certificate is None else moment(certificate.not_after),
        "renew_at": moment(status.renew_at),
        "renewal_window": _window(status.window),
        "reason": None if status.reason is None else of_reason(status.reason, voice),
        "state": status.standing.value,
        "problem": problem_or_none(status.problem, voice),
        "last_failure": _last_failure(status.last_failure, voice),
        "domains": [_domain_status(domain, fingerprint, voice) for domain in status.domains],
        "notices": [
            {
                "target": one.subject.target,
                "domain": one.subject.domain or None,
                "error": of_problem(one.problem, voice),
            }
            for one in status.notices
        ],
    }


def _window(window: RenewalWindow | None) -> Document | None:
    """Write the CA's window, with the address of the page on which it says why."""
    if window is None:
        return None
    page = None if window.page is None else quoted(window.page)
    return {"start": moment(window.start), "end": moment(window.end), "explanation_url": page}


def _domain_status(domain: DomainStatus, current: str | None, voice: Voice) -> Document:
    fingerprint = domain.fingerprint or current
    return {
        "target": domain.target,
        "kind": domain.kind.value,
        "domain": domain.domain,
        "state": domain.standing.value,
        "remote_id": domain.remote_id,
        "upload_deadline": moment(domain.upload_deadline),
        "not_after": moment(domain.not_after),
        "problem": problem_or_none(domain.problem, voice),
        "last_failure": _last_failure(domain.last_failure, voice),
        **({"ticket": ticket(domain.ticket)} if domain.ticket else {}),
        "served": [
            {
                "address": address.address,
                "fingerprint": address.fingerprint,
                "ok": _is_valid(address) and address.fingerprint == fingerprint,
                "problem": problem_or_none(address.problem, voice),
            }
            for address in domain.served
        ],
    }


def _last_failure(failure: LastFailure | None, voice: Voice) -> Document | None:
    """Write what the last try ended in, since when tries have, and when they are made again."""
    if failure is None:
        return None
    return {
        **of_problem(failure.problem, voice),
        "since": moment(failure.since),
        "at": moment(failure.at),
        "again_at": moment(failure.again_at),
    }


def _is_valid(address: Served) -> bool:
    return address.answered and address.valid
