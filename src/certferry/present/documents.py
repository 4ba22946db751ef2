"""Everything `--json` prints, shape by shape. Keys may be added; none is renamed or taken away.

Moments are RFC 3339 in UTC; fingerprints SHA-256 over the DER leaf, lower-case hex.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from certferry.core.change import CERTIFICATE, Change
from certferry.core.edges import EdgeProblem
from certferry.core.findings import Finding, are_in_order
from certferry.core.foreign_words import quoted
from certferry.core.observed import Served
from certferry.core.plan import (
    Blocked,
    Clean,
    Deploy,
    Drifted,
    Due,
    Issue,
    Obstacle,
    Plan,
    Refusal,
    Retire,
    Rollback,
    Step,
    Verify,
)
from certferry.core.reasons import Reason
from certferry.core.renewal import RenewalWindow
from certferry.core.report import HistoryEntry, LineageReport, StepOutcome, SyncReport
from certferry.core.status import DomainStatus, LineageStatus
from certferry.core.waiting import Waiting
from certferry.errors import CertferryError, TargetStuck
from certferry.present.language import Voice
from certferry.present.run_log import rfc3339
from certferry.present.tickets import ticket
from certferry.text import Text

Document = dict[str, object]


def of_plans(plans: Sequence[Plan], voice: Voice) -> Document:
    """What `plan` prints. `changes` counts steps, but for those that are only tried again."""
    return {
        "changes": sum(len(plan.pending) for plan in plans),
        "certificates": [
            {
                "name": plan.lineage,
                "names": list(plan.names),
                "steps": [_step(step, voice) for step in plan.steps],
                "held_back": _held_back(plan.held_back, voice),
                "refusals": [_refusal(refusal, voice) for refusal in plan.refusals],
                "obstacles": [_obstacle(obstacle, voice) for obstacle in plan.obstacles],
                "notices": [_obstacle(notice, voice) for notice in (*plan.notices, *plan.remarks)],
                "drifts": [_drifted(drifted) for drifted in plan.drifts],
                "retire_later": sum(count for _, count in plan.retire_later),
            }
            for plan in plans
        ],
    }


def of_report(report: SyncReport, voice: Voice) -> Document:
    """What `sync` prints. It is ok when everything is as declared. A run in which something still
    waits is not ok: its `result` is `waiting`. One that was stopped is not complete either.
    """
    return {
        "ok": report.ok and report.complete,
        "result": report.result.value,
        "complete": report.complete,
        "certificates": [_lineage_report(lineage, voice) for lineage in report.lineages],
    }


def of_rehearsal(report: SyncReport, plans: Sequence[Plan], voice: Voice) -> Document:
    """What `sync --rehearse` prints: what came of each order, and what `plan` would say."""
    return {**of_report(report, voice), "rehearsed": True, "plan": of_plans(plans, voice)}


def of_statuses(statuses: Sequence[LineageStatus], voice: Voice) -> Document:
    """What `status` prints. It is ok as its exit code is: see `LineageStatus.ok`."""
    return {
        "ok": all(status.ok for status in statuses),
        "certificates": [_lineage_status(status, voice) for status in statuses],
    }


def of_findings(findings: Sequence[Finding], voice: Voice) -> Document:
    """What `doctor` prints. It is ok when no finding is an error."""
    return {
        "ok": are_in_order(findings),
        "findings": [
            {
                "severity": finding.severity.value,
                "code": str(finding.code),
                "subject": finding.subject,
                "message": voice.say(finding.message),
                "fix": _said(finding.fix, voice),
            }
            for finding in findings
        ],
    }


def of_history(entries: Sequence[HistoryEntry]) -> Document:
    """What `history` prints, newest first."""
    return {
        "entries": [
            {
                "at": moment(entry.at),
                "name": entry.lineage,
                "event": entry.event,
                "who": entry.who,
                "facts": dict(entry.facts),
            }
            for entry in entries
        ]
    }


def moment(value: datetime | None) -> str | None:
    """Write a moment."""
    return None if value is None else rfc3339(value)


# plan


def _step(step: Step, voice: Voice) -> Document:
    changes = step.changes if isinstance(step, Deploy | Verify) else ()
    written: Document = {
        "action": step.action.value,
        "target": None if isinstance(step, Issue | Clean) else step.target,
        "domain": step.domain if isinstance(step, Deploy | Verify | Rollback) else None,
        "reason": _reason(step.reason, voice),
        "diff": _diff(changes),
    }
    if isinstance(step, Issue):
        return written | {
            "names": list(step.names),
            "key_type": step.key_type.value,
            "authorities": [authority.name for authority in step.authorities],
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
    if step is None or not isinstance(step.due, Blocked) or step.due.error is None:
        return None
    problem = of_error(step.due.error, voice)
    return {
        "reason": _reason(step.reason, voice),
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
        case Blocked(until=datetime() as until):
            return {"due": "blocked", "until": moment(until)}
        case Blocked(error=error):
            problem = None if error is None else of_error(error, voice)
            return {"due": "blocked", "problem": problem}
        case _:
            return {"due": "now"}


def _refusal(refusal: Refusal, voice: Voice) -> Document:
    return {
        "target": refusal.step.target,
        "domain": refusal.step.domain,
        "reason": _reason(refusal.reason, voice),
        "hint": _said(refusal.hint, voice),
        "problem": {**_reason(refusal.reason, voice), "hint": _said(refusal.hint, voice)},
    }


def _obstacle(obstacle: Obstacle, voice: Voice) -> Document:
    return {
        "target": obstacle.target,
        "domain": obstacle.domain,
        "error": of_error(obstacle.error, voice),
    }


# sync


def _lineage_report(lineage: LineageReport, voice: Voice) -> Document:
    return {
        "name": lineage.lineage,
        "ok": lineage.ok,
        "result": lineage.result.value,
        "fingerprint": lineage.fingerprint,
        "steps": [_outcome(step, voice) for step in lineage.outcomes],
    }


def _outcome(step: StepOutcome, voice: Voice) -> Document:
    return {
        "action": step.action.value,
        "target": step.target,
        "domain": step.domain,
        "label": step.label,
        "remote_id": step.remote_id,
        "outcome": step.outcome.value,
        "detail": voice.say(step.detail),
        "hint": _said(step.hint, voice),
        "code": step.code,
        "problem": _problem(step, voice),
        "retry_at": moment(_retry_at(step)),
        **_ticket(step.error),
    }


def _problem(step: StepOutcome, voice: Voice) -> Document | None:
    """Write what went wrong at a step, if anything did."""
    if step.code is None:
        return None
    message, hint = voice.say(step.detail), _said(step.hint, voice)
    return {"code": step.code, "message": message, "hint": hint}


def _ticket(error: CertferryError | None) -> Document:
    """Add what to send to a target's support, in its language, where there is anything to send."""
    return {"ticket": ticket(error.ticket)} if isinstance(error, TargetStuck) else {}


def _retry_at(step: StepOutcome) -> datetime | None:
    if step.waiting is not None:
        return step.waiting.until
    return None if step.error is None else step.error.retry.after


# status


def _lineage_status(status: LineageStatus, voice: Voice) -> Document:
    version = status.version
    certificate = None if version is None else version.certificate
    fingerprint = None if certificate is None else certificate.fingerprint
    return {
        "name": status.lineage,
        "names": list(status.names),
        "ok": status.ok,
        "state": status.state.value,
        "version": None if version is None else version.number,
        "serial": None if certificate is None else certificate.serial,
        "fingerprint": fingerprint,
        "issuer": None if certificate is None else certificate.issuer,
        "not_before": None if certificate is None else moment(certificate.not_before),
        "not_after": None if certificate is None else moment(certificate.not_after),
        "renew_at": moment(status.renew_at),
        "renewal_window": _window(status.window),
        "reason": None if status.reason is None else _reason(status.reason, voice),
        "domains": [_domain_status(domain, fingerprint, voice) for domain in status.domains],
        "notices": [
            {"target": target, "domain": None, "error": of_error(error, voice)}
            for target, error in status.notices
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
        "problem": _said(domain.problem, voice),
        **({"ticket": ticket(domain.ticket)} if domain.ticket else {}),
        "served": [
            {
                "address": address.address,
                "fingerprint": address.fingerprint,
                "ok": _is_valid(address) and address.fingerprint == fingerprint,
                "problem": edge_problem(address.problem, voice),
            }
            for address in domain.served
        ],
    }


def _is_valid(address: Served) -> bool:
    return address.answered and address.valid


# all


def _reason(reason: Reason, voice: Voice) -> Document:
    return {"code": reason.code.value, "message": voice.say(reason.message)}


def edge_problem(problem: EdgeProblem | None, voice: Voice) -> Document | None:
    """Write what is wrong at an edge."""
    if problem is None:
        return None
    return {
        "code": problem.code.value,
        "message": voice.say(problem.message),
        "hint": _said(problem.hint, voice),
    }


def of_error(error: CertferryError, voice: Voice) -> Document:
    """Write a problem."""
    return {
        "code": error.code,
        "message": voice.say(error.message),
        "hint": _said(error.hint, voice),
    }


def _said(text: Text | None, voice: Voice) -> str | None:
    return None if text is None else voice.say(text)
