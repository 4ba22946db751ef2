"""Make the JSON documents of commands and of the API, except those in `check_text` and
`discover_text`. Keys may be added to a document, but not renamed or removed.

Moments are RFC 3339 in UTC. Fingerprints are SHA-256 over the DER leaf, in lower-case hex.
Sentences are values of type `Text`, until `layout.as_json` or `rendered` translates a document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Protocol

from certferry.core.access import Token, User
from certferry.core.assessment.causes import Cause, causes_of_run
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.hosts import HostStanding
from certferry.core.assessment.notices import ChannelState, Subject
from certferry.core.assessment.status import DomainStatus, LastFailure, LineageStatus, are_in_order
from certferry.core.dns_persist import PersistRecord
from certferry.core.observed.observation import CERTIFICATE, Change, Served
from certferry.core.observed.records import HistoryEntry, LastRun, VerifiedHistory
from certferry.core.observed.stored_runs import RunEvent, RunReport, StoredRun
from certferry.core.planning import plan as planned
from certferry.core.planning import report as reported
from certferry.core.planning.digest import digest_of_plans
from certferry.core.reasons import Reason, ReasonCode, Waiting
from certferry.core.redaction import quoted
from certferry.errors import Problem, Severity, TargetStuck
from certferry.present.language import Voice
from certferry.present.run_log import rfc3339
from certferry.present.status_text import ticket
from certferry.text import Text

Document = dict[str, object]


def of_report(report: reported.SyncReport) -> Document:
    """Return the document of `sync`. `ok` is true if the run was complete, its end is stored, and
    every certificate is as declared or left to another host.
    """
    return {
        "ok": report.ok and report.complete,
        "problem": None if report.problem is None else of_problem(report.problem.problem()),
        "result": reported.of_run(report).value,
        "complete": report.complete,
        "undeclared": [of_undeclared(certificate) for certificate in report.undeclared or ()],
        "causes": [of_cause(cause) for cause in causes_of_run(report)],
        "certificates": [
            {
                "name": lineage.lineage,
                "ok": lineage.ok,
                "result": reported.of_lineage(lineage).value,
                "fingerprint": lineage.fingerprint,
                "steps": [_outcome(step) for step in lineage.outcomes],
            }
            for lineage in report.lineages
        ],
    }


_WEIGHTS = {Severity.NOTICE: "info"}
"""The words of the document of `doctor` that differ from the value of a severity."""


def of_findings(findings: Sequence[Problem]) -> Document:
    """Return the document of `doctor`. `ok` is true if no finding is an error."""
    return {
        "ok": not any(finding.is_error for finding in findings),
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


def of_hosts(standings: Sequence[HostStanding]) -> Document:
    """Return the document of `hosts`. `ok` is true if no host has a problem."""
    return {
        "ok": not any(standing.problems for standing in standings),
        "hosts": [
            {
                "name": standing.record.name,
                "this": standing.is_this,
                "version": standing.record.release,
                "seen_at": moment(standing.record.seen_at),
                "last_run": standing.record.last_run and _last_run(standing.record.last_run),
                "running_since": moment(standing.record.running_since),
                "clock_ahead_seconds": seconds_or_none(standing.record.clock_ahead),
                "certificates": standing.work.declares,
                "holds": list(standing.work.holds),
                "outdated": list(standing.work.outdated),
                "problems": [of_problem(problem) for problem in standing.problems],
            }
            for standing in standings
        ],
    }


def of_users(users: Sequence[User]) -> Document:
    """Return the document of `console user list --json`."""
    return {
        "users": [
            {
                "name": user.name,
                "role": user.role.value,
                "made_at": moment(user.made_at),
                "password_at": moment(user.password_at),
                "seen_at": moment(user.seen_at),
                "language": user.language,
            }
            for user in users
        ]
    }


def of_tokens(tokens: Sequence[Token], now: datetime) -> Document:
    """Return the document of `console token list --json`."""
    return {
        "tokens": [
            {
                "name": token.name,
                "begins": token.begins,
                "role": token.role.value,
                "made_at": moment(token.made_at),
                "expires_at": moment(token.expires_at),
                "expired": token.is_over(now),
                "used_at": moment(token.used_at),
            }
            for token in tokens
        ]
    }


def seconds_or_none(time: timedelta | None) -> int | None:
    """Return a duration in seconds, rounded to whole seconds; `None` for `None`."""
    return None if time is None else round(time.total_seconds())


def _last_run(last: LastRun) -> Document:
    return {"ended_at": moment(last.ended_at), "succeeded_at": moment(last.succeeded_at)}


def of_persist_record(record: PersistRecord) -> Document:
    """Return the document of `dns-persist`. The record's value is one string, even if DNS must
    store it as several strings.
    """
    return {"name": record.name, "type": record.rtype, "value": record.value}


def moment(value: datetime | None) -> str | None:
    """Return a moment for programs (RFC 3339, UTC); `None` for `None`."""
    return None if value is None else rfc3339(value)


def _outcome(step: reported.StepOutcome) -> Document:
    message, hint, error = step.detail, step.hint, step.error
    retry_at = None if error is None else error.retry.after
    document: Document = {
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
        document |= {"host": step.host, "since": moment(step.since)}
    # The ticket is for the target's support, so its text is in the support's language.
    return (
        document | {"ticket": ticket(error.ticket)} if isinstance(error, TargetStuck) else document
    )


def of_reason(reason: Reason) -> Document:
    """Return the code and the sentence of the reason for an action or a refusal."""
    return {"code": reason.code.value, "message": reason.message}


def of_end(problem: Problem) -> Document:
    """Return the document of a command that ended with an error."""
    return {"error": of_problem(problem)}


def of_problem(problem: Problem) -> Document:
    """Return the code, the message and the hint of a problem."""
    return {"code": str(problem.code), "message": problem.message, "hint": problem.hint}


def of_subject(subject: Subject, lineage: str) -> Document:
    """Return the subject of a problem. `lineage` is the name of the key for the subject's lineage.
    Parts that the subject lacks are null. Without a host the key `about_host` is absent.
    """
    return {
        lineage: subject.lineage or None,
        "target": subject.target or None,
        "domain": subject.domain or None,
        "channel": subject.channel or None,
        **_about_host(subject),
    }


def _about_host(subject: Subject) -> Document:
    return {"about_host": subject.host} if subject.host else {}


def of_cause(cause: Cause) -> Document:
    """Return a cause, with the certificates and places that the cause touches."""
    return {
        **of_subject(cause.subject, "name"),
        **of_problem(cause.problem),
        "since": moment(cause.problem.since),
        "deadline": moment(cause.deadline),
        "certificates": list(cause.lineages),
        "places": [{"target": target, "domain": domain} for target, domain in cause.places],
        **({"watched": list(cause.watched)} if cause.watched else {}),
    }


def of_served(address: Served, fingerprint: str | None) -> Document:
    """Return what an address presents. `ok`: a valid certificate with this `fingerprint`."""
    return {
        "address": address.address,
        **({"host": address.host} if address.host else {}),
        "fingerprint": address.fingerprint,
        "ok": address.answered and address.valid and address.fingerprint == fingerprint,
        "problem": problem_or_none(address.problem),
    }


def problem_or_none(problem: Problem | None) -> Document | None:
    """Return a problem for programs; `None` for `None`."""
    return None if problem is None else of_problem(problem)


def of_undeclared(undeclared: reported.Undeclared) -> Document:
    """Return a certificate that the configuration file no longer declares."""
    return {
        "name": undeclared.lineage,
        "names": list(undeclared.certificate.names),
        "not_after": moment(undeclared.certificate.not_after),
        **of_problem(undeclared.problem),
    }


def of_plans(plans: Sequence[planned.Plan]) -> Document:
    """Return the document of `plan`. `changes` counts the steps in `Plan.pending`."""
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
        "refusals": [_refusal(finding) for finding in plan.having(planned.Weight.REFUSED)],
        "obstacles": [
            _finding(finding, finding.problem) for finding in plan.having(planned.Weight.BLOCKED)
        ],
        "notices": [
            _finding(finding, finding.problem)
            for weight in notices
            for finding in plan.having(weight)
        ],
        "drifts": [
            {**_place(drift), "policy": drift.policy.value, "diff": _diff(drift.changes)}
            for drift in plan.drifts
        ],
        "rolled_back": [
            {**_place(kept), "reason": of_reason(Reason(ReasonCode.ROLLED_BACK, kept.words))}
            for kept in plan.rolled_back
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


def _place(finding: _Placed) -> Document:
    return {"target": finding.target, "domain": finding.domain}


def of_rehearsal(report: reported.SyncReport, plans: Sequence[planned.Plan]) -> Document:
    """Return the document of `sync --rehearse`: that of `sync`, with that of `plan` inside."""
    return {**of_report(report), "rehearsed": True, "plan": of_plans(plans)}


def _step(step: planned.Step) -> Document:
    changes = step.changes if isinstance(step, planned.Deploy | planned.Verify) else ()
    document: Document = {
        "action": step.action.value,
        "target": None if isinstance(step, planned.Issue | planned.Clean) else step.target,
        "domain": step.domain
        if isinstance(step, planned.Deploy | planned.Verify | planned.Rollback)
        else None,
        "reason": of_reason(step.reason),
        "diff": _diff(changes),
    }
    if isinstance(step, planned.Issue):
        return document | {
            "names": list(step.names),
            "key_type": step.key_type.value,
            "authorities": [authority.name for authority in step.authorities],
            "standing": list(step.standing),
        }
    if isinstance(step, planned.Clean):
        return document
    if isinstance(step, planned.Retire):
        return document | {
            "remote_id": step.remote_id,
            "label": step.label,
            "not_after": moment(step.not_after),
            "days_left": None if step.left is None else step.left.days,
            "again": step.again,
            **_when(step.when),
        }
    if isinstance(step, planned.Deploy):
        document |= {"upload_deadline": moment(step.upload_by)}
    return document | {"kind": step.kind.value, **_when(step.when)}


def _issued_later(step: planned.Issue | None) -> Document | None:
    """Return an order's reason, the error that holds the order back, and until when; or `None`."""
    if step is None or not isinstance(step.when, planned.HeldUntil) or step.when.error is None:
        return None
    return {
        "reason": of_reason(step.reason),
        "error": of_problem(step.when.error.problem()),
        "until": moment(step.when.until),
    }


def _diff(changes: Sequence[Change]) -> Document:
    """Return each changed setting's value before and after. The values of a certificate are
    fingerprints, beside `remote_id`, the target's id of the certificate bound before.
    """
    return {
        change.setting: {"before": change.before, "after": change.after}
        | ({"remote_id": change.remote_id} if change.setting == CERTIFICATE else {})
        for change in changes
    }


def _when(when: planned.When) -> Document:
    """Return when a step is carried out: now, after a wait, or not in this run (`blocked`)."""
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


def _finding(finding: _Placed, problem: Problem) -> Document:
    place = {"target": finding.target, "domain": finding.domain or None}
    return {**place, "error": of_problem(problem)}


def of_statuses(
    statuses: Sequence[LineageStatus],
    recorded: Recorded,
    channels: Mapping[str, ChannelState] = MappingProxyType({}),
    causes: Iterable[Cause] = (),
) -> Document:
    """Return the document of `status --json`. See `are_in_order` for the meaning of `ok`."""
    from certferry.present import watch_text

    last = recorded.last_run
    return {
        "ok": are_in_order(statuses, recorded),
        "last_run": last and _last_run(last),
        "problem": problem_or_none(recorded.problem),
        "troubles": [
            {
                "channel": notice.subject.channel or None,
                **_about_host(notice.subject),
                **of_problem(notice.problem),
                "since": moment(notice.since),
            }
            for notice in recorded.troubles_of_runs
        ],
        "undeclared": [of_undeclared(certificate) for certificate in recorded.undeclared],
        "causes": [of_cause(cause) for cause in causes],
        **watch_text.document(recorded),
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
        "notices": [_finding(notice.subject, notice.problem) for notice in status.notices],
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
        "served": [of_served(address, fingerprint) for address in domain.served],
    }


def _last_failure(failure: LastFailure | None) -> Document | None:
    """Return the last failure. `since` is the time of the first, `again_at` of the next try."""
    if failure is None:
        return None
    return {
        **of_problem(failure.problem),
        "since": moment(failure.since),
        "at": moment(failure.at),
        "again_at": moment(failure.again_at),
    }


def of_channels(states: Mapping[str, ChannelState]) -> list[Document]:
    """Return each channel as a document. `problem` and `since` are null unless the channel refused
    its last message.
    """
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
    """Return the document of `history --json`."""
    return {
        "entries": [
            {
                "at": moment(entry.at),
                "name": entry.lineage,
                "event": entry.event,
                "who": entry.who,
                "facts": {name: str(fact) for name, fact in entry.facts.items()},
                "number": entry.number,
                "host": entry.host,
            }
            for entry in entries
        ]
    }


def of_verified(verification: VerifiedHistory) -> Document:
    """Return the document of `history --verify --json`."""
    return {
        "unbroken": not verification.breaks,
        "entries": verification.entries,
        "certificates": verification.lineages,
        "breaks": [
            {
                "name": damage.lineage or None,
                "damage": damage.damage,
                "number": damage.number,
                "at": None if damage.at is None else moment(damage.at),
            }
            for damage in verification.breaks
        ],
    }


def of_runs(runs: Sequence[StoredRun]) -> Document:
    """Return the list of runs for the API, without events and reports."""
    return {"runs": [_run(run) for run in runs]}


def of_run(
    run: StoredRun, events: Sequence[RunEvent], report: RunReport | None, voice: Voice
) -> Document:
    """Return a run for the API, with its events, and the document of its result or null."""
    return {
        **_run(run),
        "events": [_run_event(event) for event in events],
        "report": None if report is None else rendered(report.document, voice),
    }


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
            return [_rendered(item, voice) for item in value]
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
        "done": run.done,
        "count": run.count,
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
