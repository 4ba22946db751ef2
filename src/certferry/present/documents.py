"""Everything `--json` prints, shape by shape. Keys may be added; none is renamed or taken away.

Moments are RFC 3339 in UTC; fingerprints SHA-256 over the DER leaf, lower-case hex. Sentences are
values (`Text`) until a document is written or shown: `layout.as_json` and `rendered` say them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Protocol

from certferry.core.access import Token, User
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.hosts import HostStanding
from certferry.core.assessment.notices import ChannelState, Subject
from certferry.core.assessment.status import DomainStatus, LastFailure, LineageStatus, are_in_order
from certferry.core.dns_persist import PersistRecord
from certferry.core.observed.observation import CERTIFICATE, Change, Served
from certferry.core.observed.records import HistoryEntry, LastRun, VerifiedHistory
from certferry.core.observed.runs import RunEvent, RunReport, StoredRun
from certferry.core.planning import plan as planned
from certferry.core.planning import report as reported
from certferry.core.planning import result
from certferry.core.planning.digest import digest_of_plans
from certferry.core.planning.undeclared import Undeclared
from certferry.core.reasons import Reason, ReasonCode, Waiting
from certferry.core.redaction import quoted
from certferry.errors import Problem, Severity, TargetStuck
from certferry.present.language import Voice
from certferry.present.run_log import rfc3339
from certferry.present.status_text import ticket
from certferry.text import Text

Document = dict[str, object]


def of_report(report: reported.SyncReport) -> Document:
    """Return what `sync` prints: ok if all is as declared, not if it waits or is not complete."""
    return {
        "ok": report.ok and report.complete,
        "problem": None if report.problem is None else of_problem(report.problem.problem()),
        "result": result.of_run(report).value,
        "complete": report.complete,
        "undeclared": [of_undeclared(one) for one in report.undeclared or ()],
        "certificates": [
            {
                "name": lineage.lineage,
                "ok": lineage.ok,
                "result": result.of_lineage(lineage).value,
                "fingerprint": lineage.fingerprint,
                "steps": [_outcome(step) for step in lineage.outcomes],
            }
            for lineage in report.lineages
        ],
    }


_WEIGHTS = {Severity.NOTICE: "info"}
"""What `doctor` calls a severity, where that is another word."""


def of_findings(findings: Sequence[Problem]) -> Document:
    """What `doctor` prints. It is ok when no finding is an error."""
    return {
        "ok": not any(one.is_error for one in findings),
        "findings": [
            {
                "severity": _WEIGHTS.get(finding.severity, finding.severity.value),
                "code": str(finding.code),
                "subject": finding.subject,
                "message": finding.message,
                "fix": finding.hint,
            }
            for finding in findings
        ],
    }


def of_hosts(found: Sequence[HostStanding]) -> Document:
    """What `hosts` prints. It is ok when nothing is wrong with any."""
    return {
        "ok": not any(one.problems for one in found),
        "hosts": [
            {
                "name": one.record.name,
                "this": one.is_this,
                "version": one.record.release,
                "seen_at": moment(one.record.seen_at),
                "last_run": one.record.last_run and _last_run(one.record.last_run),
                "running_since": moment(one.record.running_since),
                "clock_ahead_seconds": seconds_or_none(one.record.clock_ahead),
                "certificates": one.work.declares,
                "holds": list(one.work.holds),
                "outdated": list(one.work.outdated),
                "problems": [of_problem(problem) for problem in one.problems],
            }
            for one in found
        ],
    }


def of_users(users: Sequence[User]) -> Document:
    """Return what `console user list --json` prints."""
    return {
        "users": [
            {
                "name": one.name,
                "role": one.role.value,
                "made_at": moment(one.made_at),
                "password_at": moment(one.password_at),
                "seen_at": moment(one.seen_at),
                "language": one.language,
            }
            for one in users
        ]
    }


def of_tokens(tokens: Sequence[Token], now: datetime) -> Document:
    """Return what `console token list --json` prints."""
    return {
        "tokens": [
            {
                "name": one.name,
                "begins": one.begins,
                "role": one.role.value,
                "made_at": moment(one.made_at),
                "expires_at": moment(one.expires_at),
                "expired": one.is_over(now),
                "used_at": moment(one.used_at),
            }
            for one in tokens
        ]
    }


def seconds_or_none(time: timedelta | None) -> int | None:
    """Write a time in whole seconds."""
    return None if time is None else round(time.total_seconds())


def _last_run(last: LastRun) -> Document:
    return {"ended_at": moment(last.ended_at), "succeeded_at": moment(last.succeeded_at)}


def of_persist_record(record: PersistRecord) -> Document:
    """What `dns-persist` prints. The value is in one piece, however many strings it takes."""
    return {"name": record.name, "type": record.rtype, "value": record.value}


def moment(value: datetime | None) -> str | None:
    """Write a moment."""
    return None if value is None else rfc3339(value)


def _outcome(step: reported.StepOutcome) -> Document:
    message, hint, error = step.detail, step.hint, step.error
    retry_at = None if error is None else error.retry.after
    written: Document = {
        "action": step.word,
        "target": step.target,
        "domain": step.domain,
        "label": step.label,
        "remote_id": step.remote_id,
        "outcome": step.outcome.value,
        "detail": message,
        "hint": hint,
        "code": step.code,
        "problem": step.code and {"code": step.code, "message": message, "hint": hint},
        "retry_at": moment(retry_at if step.waiting is None else step.waiting.until),
    }
    if step.outcome is reported.Outcome.ELSEWHERE:
        written |= {"host": step.host, "since": moment(step.since)}
    # What to send to a target's support, in its language.
    return written | {"ticket": ticket(error.ticket)} if isinstance(error, TargetStuck) else written


def of_reason(reason: Reason) -> Document:
    """Write why something is done, or is refused."""
    return {"code": reason.code.value, "message": reason.message}


def of_end(problem: Problem) -> Document:
    """Return what every command prints that an error ended."""
    return {"error": of_problem(problem)}


def of_problem(problem: Problem) -> Document:
    """Write what is wrong."""
    return {"code": str(problem.code), "message": problem.message, "hint": problem.hint}


def of_subject(subject: Subject, lineage: str) -> Document:
    """Write what something is about, with the key of the `lineage`."""
    return {
        lineage: subject.lineage or None,
        "target": subject.target or None,
        "domain": subject.domain or None,
        "channel": subject.channel or None,
        **_about_host(subject),
    }


def _about_host(subject: Subject) -> Document:
    return {"about_host": subject.host} if subject.host else {}


def of_served(one: Served, fingerprint: str | None) -> Document:
    """Write what an address presents: ok if valid there, and of this `fingerprint`."""
    return {
        "address": one.address,
        "fingerprint": one.fingerprint,
        "ok": one.answered and one.valid and one.fingerprint == fingerprint,
        "problem": problem_or_none(one.problem),
    }


def problem_or_none(problem: Problem | None) -> Document | None:
    """Write what is wrong, where anything is."""
    return None if problem is None else of_problem(problem)


def of_undeclared(one: Undeclared) -> Document:
    """Write a certificate that the file declares no more."""
    return {
        "name": one.lineage,
        "names": list(one.certificate.names),
        "not_after": moment(one.certificate.not_after),
        **of_problem(one.problem),
    }


def of_plans(plans: Sequence[planned.Plan]) -> Document:
    """Return what `plan` prints. `changes` counts steps, but for those tried again."""
    return {
        "changes": sum(len(plan.pending) for plan in plans),
        "digest": digest_of_plans(plans),
        "certificates": [_plan(plan) for plan in plans],
    }


def _plan(plan: planned.Plan) -> Document:
    notices = (planned.Weight.UNREAD, planned.Weight.UNMATCHED, planned.Weight.SKIPPED)
    return {
        "name": plan.lineage,
        "names": list(plan.names),
        "steps": [_step(step) for step in plan.steps],
        "held_back": _issued_later(plan.issue_later),
        "refusals": [_refusal(one) for one in plan.having(planned.Weight.REFUSED)],
        "obstacles": [_finding(one, one.problem) for one in plan.having(planned.Weight.BLOCKED)],
        "notices": [
            _finding(one, one.problem) for weight in notices for one in plan.having(weight)
        ],
        "drifts": [
            {**_place(one), "policy": one.policy.value, "diff": _diff(one.changes)}
            for one in plan.drifts
        ],
        "rolled_back": [
            {**_place(one), "reason": of_reason(Reason(ReasonCode.ROLLED_BACK, one.words))}
            for one in plan.rolled_back
        ],
        "ceded": [
            {"target": target, "lineages": list(by), "message": reported.served_by(by)}
            for target, by in plan.owned_elsewhere
        ],
        "retire_later": sum(count for _, count in plan.retire_later),
    }


class _Placed(Protocol):
    @property
    def target(self) -> str | None: ...
    @property
    def domain(self) -> str | None: ...


def _place(one: _Placed) -> Document:
    return {"target": one.target, "domain": one.domain}


def of_rehearsal(report: reported.SyncReport, plans: Sequence[planned.Plan]) -> Document:
    """What `sync --rehearse` prints: what came of each order, and what `plan` would say."""
    return {**of_report(report), "rehearsed": True, "plan": of_plans(plans)}


def _step(step: planned.Step) -> Document:
    changes = step.changes if isinstance(step, planned.Deploy | planned.Verify) else ()
    written: Document = {
        "action": step.action.value,
        "target": None if isinstance(step, planned.Issue | planned.Clean) else step.target,
        "domain": step.domain
        if isinstance(step, planned.Deploy | planned.Verify | planned.Rollback)
        else None,
        "reason": of_reason(step.reason),
        "diff": _diff(changes),
    }
    if isinstance(step, planned.Issue):
        return written | {
            "names": list(step.names),
            "key_type": step.key_type.value,
            "authorities": [authority.name for authority in step.authorities],
            "standing": list(step.standing),
        }
    if isinstance(step, planned.Clean):
        return written
    if isinstance(step, planned.Retire):
        return written | {
            "remote_id": step.remote_id,
            "label": step.label,
            "not_after": moment(step.not_after),
            "days_left": None if step.left is None else step.left.days,
            "again": step.again,
            **_when(step.when),
        }
    if isinstance(step, planned.Deploy):
        written |= {"upload_deadline": moment(step.upload_by)}
    return written | {"kind": step.kind.value, **_when(step.when)}


def _issued_later(step: planned.Issue | None) -> Document | None:
    """Write why a needed order is not made now, and until when."""
    if step is None or not isinstance(step.when, planned.HeldUntil) or step.when.error is None:
        return None
    return {
        "reason": of_reason(step.reason),
        "error": of_problem(step.when.error.problem()),
        "until": moment(step.when.until),
    }


def _diff(changes: Sequence[Change]) -> Document:
    """Write before and after; of certificates fingerprints, and the bound one's `remote_id`."""
    return {
        change.what: {"before": change.before, "after": change.after}
        | ({"remote_id": change.remote_id} if change.what == CERTIFICATE else {})
        for change in changes
    }


def _when(when: planned.When) -> Document:
    """Write when a step is carried out: now, waiting until a moment, or blocked in this run."""
    match when:
        case Waiting(why=why, until=until):
            return {"due": "waiting", "until": moment(until), "waits_for": why}
        case planned.HeldUntil(until):
            return {"due": "blocked", "until": moment(until)}
        case planned.TimedOut(error):
            return {"due": "blocked", "problem": of_problem(error.problem())}
        case planned.TriedInThisRun() | planned.NotReady():
            return {"due": "blocked", "problem": None}
        case None:
            return {"due": "now"}


def _refusal(finding: planned.PlanFinding) -> Document:
    problem = of_problem(finding.problem)
    return {
        **_place(finding),
        "reason": {"code": problem["code"], "message": problem["message"]},
        "hint": problem["hint"],
        "problem": problem,
    }


def _finding(one: _Placed, problem: Problem) -> Document:
    return {"target": one.target, "domain": one.domain or None, "error": of_problem(problem)}


def of_statuses(
    statuses: Sequence[LineageStatus],
    recorded: Recorded,
    channels: Mapping[str, ChannelState] = MappingProxyType({}),
) -> Document:
    """Return what `status --json` prints. It is ok when nothing needs a person."""
    last = recorded.last_run
    return {
        "ok": are_in_order(statuses, recorded),
        "last_run": last and _last_run(last),
        "problem": problem_or_none(recorded.problem),
        "troubles": [
            {
                "channel": one.subject.channel or None,
                **_about_host(one.subject),
                **of_problem(one.problem),
                "since": moment(one.since),
            }
            for one in recorded.troubles_of_runs
        ],
        "undeclared": [of_undeclared(one) for one in recorded.undeclared],
        "certificates": [_lineage_status(status) for status in statuses],
        **({"channels": of_channels(channels)} if channels else {}),
    }


def _lineage_status(status: LineageStatus) -> Document:
    version, window = status.version, status.window
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
        "renewal_window": window
        and {
            "start": moment(window.start),
            "end": moment(window.end),
            "explanation_url": None if window.page is None else quoted(window.page),
        },
        "reason": None if status.reason is None else of_reason(status.reason),
        "state": status.standing.value,
        "problem": problem_or_none(status.problem),
        "last_failure": _last_failure(status.last_failure),
        "domains": [_domain_status(domain, fingerprint) for domain in status.domains],
        "notices": [_finding(one.subject, one.problem) for one in status.notices],
    }


def _domain_status(domain: DomainStatus, current: str | None) -> Document:
    fingerprint = domain.fingerprint or current
    return {
        "target": domain.target,
        "kind": domain.kind.value,
        "domain": domain.domain,
        "state": domain.standing.value,
        "remote_id": domain.remote_id,
        "upload_deadline": moment(domain.upload_deadline),
        "not_after": moment(domain.not_after),
        "problem": problem_or_none(domain.problem),
        "last_failure": _last_failure(domain.last_failure),
        **({"ticket": ticket(domain.ticket)} if domain.ticket else {}),
        "served": [of_served(one, fingerprint) for one in domain.served],
    }


def _last_failure(failure: LastFailure | None) -> Document | None:
    """Write what the last try ended in, since when tries have, and when they are made again."""
    if failure is None:
        return None
    return {
        **of_problem(failure.problem),
        "since": moment(failure.since),
        "at": moment(failure.at),
        "again_at": moment(failure.again_at),
    }


def of_channels(states: Mapping[str, ChannelState]) -> list[Document]:
    """Write each channel for programs; one that took its last message has no problem."""
    return [
        {
            "name": name,
            "since": moment(None if state.refusal is None else state.refusal.since),
            "again_at": moment(state.again_at),
            "problem": problem_or_none(state.refusal),
        }
        for name, state in states.items()
    ]


def of_history(entries: Sequence[HistoryEntry]) -> Document:
    """Return what `history --json` prints."""
    return {
        "entries": [
            {
                "at": moment(entry.at),
                "name": entry.lineage,
                "event": entry.event,
                "who": entry.who,
                "facts": dict(entry.facts),
                "number": entry.number,
                "host": entry.host,
            }
            for entry in entries
        ]
    }


def of_verified(found: VerifiedHistory) -> Document:
    """Return what `history --verify --json` prints."""
    return {
        "unbroken": not found.breaks,
        "entries": found.entries,
        "certificates": found.lineages,
        "older": found.older,
        "breaks": [
            {
                "name": one.lineage or None,
                "damage": one.damage,
                "number": one.number,
                "at": None if one.at is None else moment(one.at),
            }
            for one in found.breaks
        ],
    }


def of_runs(runs: Sequence[StoredRun]) -> Document:
    """Return the list of runs that the API answers with: without their events and reports."""
    return {"runs": [_run(run) for run in runs]}


def of_run(
    run: StoredRun, events: Sequence[RunEvent], report: RunReport | None, voice: Voice
) -> Document:
    """Return a run for the API, with the document that it printed."""
    return {
        **_run(run),
        "events": [_run_event(event) for event in events],
        "report": report_in(report, voice),
    }


def report_in(report: RunReport | None, voice: Voice) -> Document | None:
    """Return the document that a run printed, for a person; one that an earlier release stored has
    sentences in both languages, and may lack this one.
    """
    if report is None:
        return None
    by_language = report.rendered
    if not by_language:
        return rendered(report.document, voice)
    written = by_language.get(voice.language) or next(iter(by_language.values()))
    return dict(json.loads(written))


def rendered(document: Mapping[str, object], voice: Voice) -> Document:
    """Return a document with its sentences in the reader's language."""
    return {key: _rendered(value, voice) for key, value in document.items()}


def _rendered(value: object, voice: Voice) -> object:
    match value:
        case Text():
            return voice.say(value)
        case Mapping():
            return rendered(value, voice)
        case list():
            return [_rendered(one, voice) for one in value]
    return value


def _run(run: StoredRun) -> Document:
    return {
        "id": run.id,
        "state": run.state.value,
        "kind": run.kind.value,
        "started_at": moment(run.started_at),
        "ended_at": moment(run.ended_at),
        "who": run.who,
        "from": run.source.value,
        "host": run.host,
        "names": list(run.names),
        "plan": run.plan,
    }


def _run_event(event: RunEvent) -> Document:
    return {
        "number": event.number,
        "at": moment(event.at),
        "name": event.lineage or None,
        "event": event.event,
        "outcome": event.outcome,
        "target": event.target,
        "domain": event.domain,
        "message": event.text,
    }
