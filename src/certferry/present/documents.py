"""Everything `--json` prints, shape by shape. Keys may be added; none is renamed or taken away.

Moments are RFC 3339 in UTC; fingerprints SHA-256 over the DER leaf, lower-case hex.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from certferry.core.assessment.notices import Subject
from certferry.core.discovery.inventory import (
    Bound,
    DiscoveredCertificate,
    DiscoveredDomain,
    Discovery,
)
from certferry.core.dns_persist import PersistRecord
from certferry.core.observed.observation import Served
from certferry.core.planning.report import (
    LineageReport,
    StepOutcome,
    SyncReport,
    Undeclared,
    of_lineage,
    of_run,
)
from certferry.core.reasons import Reason
from certferry.errors import Reported, TargetStuck
from certferry.present.language import Voice
from certferry.present.run_log import rfc3339
from certferry.present.status_text import ticket
from certferry.problem import Problem, Severity
from certferry.text import Text

Document = dict[str, object]


def of_report(report: SyncReport, voice: Voice) -> Document:
    """What `sync` prints. It is ok when everything is as declared. A run in which something still
    waits is not ok: its `result` is `waiting`. One that was stopped is not complete either.
    """
    return {
        "ok": report.ok and report.complete,
        "problem": None if report.problem is None else of_problem(report.problem.problem(), voice),
        "result": of_run(report).value,
        "complete": report.complete,
        "undeclared": [of_undeclared(one, voice) for one in report.undeclared or ()],
        "certificates": [_lineage_report(lineage, voice) for lineage in report.lineages],
    }


_WEIGHTS = {Severity.NOTICE: "info"}
"""What `doctor` calls a severity, where that is another word."""


def of_findings(findings: Sequence[Problem], voice: Voice) -> Document:
    """What `doctor` prints. It is ok when no finding is an error."""
    return {
        "ok": not any(one.is_error for one in findings),
        "findings": [
            {
                "severity": _WEIGHTS.get(finding.severity, finding.severity.value),
                "code": str(finding.code),
                "subject": finding.subject,
                "message": voice.say(finding.message),
                "fix": said_or_none(finding.hint, voice),
            }
            for finding in findings
        ],
    }


def of_persist_record(record: PersistRecord) -> Document:
    """What `dns-persist` prints. The value is in one piece, however many strings it takes."""
    return {"name": record.name, "type": record.rtype, "value": record.value}


def moment(value: datetime | None) -> str | None:
    """Write a moment."""
    return None if value is None else rfc3339(value)


# sync


def _lineage_report(lineage: LineageReport, voice: Voice) -> Document:
    return {
        "name": lineage.lineage,
        "ok": lineage.ok,
        "result": of_lineage(lineage).value,
        "fingerprint": lineage.fingerprint,
        "steps": [_outcome(step, voice) for step in lineage.outcomes],
    }


def _outcome(step: StepOutcome, voice: Voice) -> Document:
    return {
        "action": step.word,
        "target": step.target,
        "domain": step.domain,
        "label": step.label,
        "remote_id": step.remote_id,
        "outcome": step.outcome.value,
        "detail": voice.say(step.detail),
        "hint": said_or_none(step.hint, voice),
        "code": step.code,
        "problem": _problem(step, voice),
        "retry_at": moment(_retry_at(step)),
        **_ticket(step.error),
    }


def _problem(step: StepOutcome, voice: Voice) -> Document | None:
    """Write what went wrong at a step, if anything did."""
    if step.code is None:
        return None
    message, hint = voice.say(step.detail), said_or_none(step.hint, voice)
    return {"code": step.code, "message": message, "hint": hint}


def _ticket(error: Reported | None) -> Document:
    """Add what to send to a target's support, in its language, where there is anything to send."""
    return {"ticket": ticket(error.ticket)} if isinstance(error, TargetStuck) else {}


def _retry_at(step: StepOutcome) -> datetime | None:
    if step.waiting is not None:
        return step.waiting.until
    return None if step.error is None else step.error.retry.after


# all


def of_reason(reason: Reason, voice: Voice) -> Document:
    """Write why something is done, or is refused."""
    return {"code": reason.code.value, "message": voice.say(reason.message)}


def of_problem(problem: Problem, voice: Voice) -> Document:
    """Write what is wrong."""
    return {
        "code": str(problem.code),
        "message": voice.say(problem.message),
        "hint": said_or_none(problem.hint, voice),
    }


def of_subject(subject: Subject, lineage: str) -> Document:
    """Write what something is about, with the key of the `lineage`."""
    return {
        lineage: subject.lineage or None,
        "target": subject.target or None,
        "domain": subject.domain or None,
        "channel": subject.channel or None,
    }


def problem_or_none(problem: Problem | None, voice: Voice) -> Document | None:
    """Write what is wrong, where anything is."""
    return None if problem is None else of_problem(problem, voice)


def of_undeclared(one: Undeclared, voice: Voice) -> Document:
    """Write a certificate that the file declares no more."""
    return {
        "name": one.lineage,
        "names": list(one.certificate.names),
        "not_after": moment(one.certificate.not_after),
        **of_problem(one.problem, voice),
    }


def said_or_none(text: Text | None, voice: Voice) -> str | None:
    """Write a sentence that may be missing."""
    return None if text is None else voice.say(text)


def of_discovery(found: Discovery, voice: Voice) -> Document:
    """Write down everything that was found; what is not known is null. `accounts` are those that
    were looked at, `problems` what could not be.
    """
    return {
        "ok": not any(one.is_error for one in found.problems),
        "accounts": [look.label for look in found.accounts],
        "domains": [_domain(one, voice) for one in found.domains],
        "certificates": [_certificate(one) for one in found.certificates],
        "problems": [
            {
                "account": one.subject,
                "severity": one.severity.value,
                "problem": of_problem(one, voice),
            }
            for one in found.problems
        ],
    }


def _domain(one: DiscoveredDomain, voice: Voice) -> Document:
    found = one.found
    is_known = found.has_https or not found.binding_hidden
    return {
        "account": one.account,
        "domain": found.domain,
        "kind": found.kind.value,
        "state": found.state,
        "https": found.has_https if is_known else None,
        "settings": {
            "force_https": found.https.force_https,
            "http2": found.https.http2,
            "tls_versions": None
            if found.https.tls_versions is None
            else list(found.https.tls_versions),
        },
        "bound": None if one.bound is None else _bound(one.bound),
        "not_after": moment(one.not_after),
        "covered_by": list(one.covered_by),
        "deployed_by": one.deployed_by,
        "by_itself": found.by_itself,
        "served": [_served(address, voice) for address in one.served],
        "problem": None if one.problem is None else of_problem(one.problem.problem(), voice),
    }


def _bound(bound: Bound) -> Document:
    return {
        "remote_id": bound.remote_id,
        "fingerprint": bound.fingerprint,
        "names": None if bound.names is None else list(bound.names),
        "not_after": moment(bound.not_after),
        "owner": None if bound.owner is None else bound.owner.value,
    }


def _served(address: Served, voice: Voice) -> Document:
    return {
        "address": address.address,
        "fingerprint": address.fingerprint,
        "not_after": moment(address.not_after),
        "ok": address.answered and address.valid,
        "problem": problem_or_none(address.problem, voice),
    }


def _certificate(one: DiscoveredCertificate) -> Document:
    return {
        "account": one.account,
        "remote_id": one.found.remote_id,
        "name": one.found.label,
        "names": None if one.found.names is None else list(one.found.names),
        "fingerprint": one.fingerprint,
        "not_after": moment(one.found.not_after),
        "owner": one.owner.value,
        "bound_to": list(one.bound_to),
    }
