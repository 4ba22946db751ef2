"""What each thing that happens, or that a look finds wrong, leaves in the run's log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from certferry.core.assessment.status import LineageStatus, Standing
from certferry.core.discovery.watched import HostLook
from certferry.core.events import Activity, StepEnded
from certferry.core.planning.plan import Obstacle, Plan
from certferry.core.planning.report import Outcome, StepOutcome, SyncReport
from certferry.core.reasons import ReasonCode
from certferry.errors import TargetStuck
from certferry.present.run_log import Entry, Level, RunLog
from certferry.present.status_text import ticket
from certferry.present.vocabulary import at_target, once
from certferry.problem import Problem, Severity
from certferry.text import Text

_FAILED = {Outcome.FAILED, Outcome.REFUSED}
_WRONG = {Standing.FAILED, Standing.UNKNOWN}


def log_event(event: Activity | StepEnded, words: str, log: RunLog) -> None:
    """Write down what happens in a run; `words` tell it in one line."""
    match event:
        case Activity():
            log.write(Entry("activity", event.what, lineage=event.lineage, words=words))
        case StepEnded():
            log.write(_of_step(event.lineage, event.outcome, words))
            _write_ticket(event, log)


def log_unchanged(report: SyncReport, log: RunLog) -> None:
    """Write down which certificates are as declared: bound and served, not only the same here."""
    said, outcome = Text("certificate unchanged, sync skipped"), Outcome.UNCHANGED.value
    for lineage in report.lineages if report.complete else ():
        if lineage.is_unchanged:
            event = "certificate.unchanged"
            log.write(Entry(event, said, lineage=lineage.lineage, outcome=outcome))


def log_plans(plans: Sequence[Plan], log: RunLog) -> None:
    """Write down what safety refuses, and what keeps a wish from coming true."""
    for plan in plans:
        for found in _of_plan(plan):
            _write_finding(found, log)


def log_statuses(statuses: Sequence[LineageStatus], log: RunLog) -> None:
    """Write down why a domain does not stand as it should."""
    for status in statuses:
        for found in _of_status(status):
            _write_finding(found, log)


def log_findings(findings: Sequence[Problem], log: RunLog) -> None:
    """Write down what `doctor` found; what is only to be known is not written."""
    for one in findings:
        if one.severity is not Severity.NOTICE:
            more = {"code": str(one.code), "subject": one.subject}
            log.write(replace(_of_problem(one, f"doctor.{one.severity}", log), more=more))


def log_problems(problems: Sequence[Problem], log: RunLog) -> None:
    """Write down which account could not be looked at, or not all of it."""
    for one in problems:
        event = "discover.failed" if one.is_error else "discover.unread"
        log.write(replace(_of_problem(one, event, log), target=one.subject))


def _of_problem(problem: Problem, event: str, log: RunLog) -> Entry:
    subject, words = problem.subject, log.voice.say_on_one_line(problem.message)
    return Entry(
        event,
        problem.message,
        _level(problem),
        hint=problem.hint,
        words=f"{subject}: {once(subject, words)}",
        more={"code": str(problem.code)},
    )


def _level(problem: Problem) -> Level:
    return Level.ERROR if problem.is_error else Level.WARNING


def log_looks(looks: Sequence[HostLook], log: RunLog) -> None:
    """Write down what is wrong at an address, and what differs between those of a host."""
    for look in looks:
        for address in look.served:
            if address.problem is not None:
                where = {"address": address.address}
                _write_edge_problem(look, address.address, address.problem, where, log)
        for one in look.problems:
            _write_edge_problem(look, "", one.problem, {"addresses": list(one.addresses)}, log)


def log_in_order(look: HostLook, log: RunLog) -> None:
    """Write down that a host whose addresses have changed is in order."""
    said = Text("every address presents a valid certificate")
    words = f"{look.host}: {log.voice.say(said)}"
    log.write(Entry("watch.in_order", said, domain=look.host.name, outcome="done", words=words))


def _write_edge_problem(
    look: HostLook,
    address: str,
    problem: Problem,
    more: Mapping[str, object],
    log: RunLog,
) -> None:
    detail = once(look.host.name, log.voice.say_on_one_line(problem.message))
    entry = Entry(
        "watch.failed" if problem.is_error else "watch.differs",
        problem.message,
        _level(problem),
        domain=look.host.name,
        words=f"{look.host} {address}".rstrip() + f": {detail}",
        more={**more, "code": str(problem.code)},
    )
    log.write(entry)


def log_export(lineage: str, paths: Sequence[Path], fingerprint: str, log: RunLog) -> None:
    """Write down which files were written, and of which certificate."""
    files = [str(path) for path in paths]
    said = Text("written: {path}", path=files)
    more = {"files": files, "fingerprint": fingerprint}
    log.write(Entry("export.done", said, lineage=lineage, outcome="done", more=more))


def log_change(event: str, said: Text, log: RunLog, lineage: str | None = None) -> None:
    """Write down something that is otherwise on this machine than it was."""
    words = log.voice.say_on_one_line(said)
    log.write(Entry(event, said, lineage=lineage, outcome="done", words=words))


def _write_ticket(event: StepEnded, log: RunLog) -> None:
    """Write down what to send to the target's support, on a line of its own."""
    step = event.outcome
    if isinstance(step.error, TargetStuck):
        written = " ".join(ticket(step.error.ticket).splitlines())
        said = Text("ticket for the support of {target}:", target=step.target)
        log.write(
            Entry(
                "target.ticket",
                said,
                lineage=event.lineage,
                target=step.target,
                domain=step.domain,
                words=f"{log.voice.say_on_one_line(said)} {written}",
                more={"ticket": written},
            )
        )


def _of_step(lineage: str, step: StepOutcome, words: str) -> Entry:
    more = {"label": step.label, "code": None if step.error is None else step.error.code}
    return Entry(
        f"{step.action}.{step.outcome}",
        step.detail,
        Level.ERROR if step.outcome in _FAILED else Level.INFO,
        lineage=lineage,
        target=step.target,
        domain=step.domain,
        outcome=step.outcome.value,
        hint=step.hint,
        words=words,
        more={name: value for name, value in more.items() if value is not None},
    )


def _of_plan(plan: Plan) -> Iterator[Entry]:
    for refusal in plan.refusals:
        step, reason = refusal.step, refusal.reason
        yield Entry(
            "plan.refused",
            reason.message,
            Level.ERROR,
            plan.lineage,
            step.target,
            step.domain,
            "refused",
            refusal.hint,
            more={"code": reason.code.value},
        )
    yield from (_of_obstacle(plan.lineage, one, "blocked", Level.ERROR) for one in plan.obstacles)
    yield from (_of_obstacle(plan.lineage, one, "unread", Level.WARNING) for one in plan.notices)
    yield from (_of_obstacle(plan.lineage, one, "in_vain", Level.WARNING) for one in plan.remarks)
    yield from (_of_obstacle(plan.lineage, one, "skipped", Level.INFO) for one in plan.left_out)


def _of_obstacle(lineage: str, obstacle: Obstacle, outcome: str, level: Level) -> Entry:
    error = obstacle.error
    return Entry(
        f"plan.{outcome}",
        error.message,
        level,
        lineage,
        obstacle.target,
        obstacle.domain,
        outcome,
        error.hint,
        more={"code": error.code},
    )


def _of_status(status: LineageStatus) -> Iterator[Entry]:
    reason = status.reason
    if reason is not None and reason.code is ReasonCode.OVERDUE:
        code, more = reason.code.value, {"code": reason.code.value}
        said = reason.message
        yield Entry(f"status.{code}", said, Level.WARNING, status.lineage, outcome=code, more=more)
    for domain in status.domains:
        if domain.problem is not None:
            yield Entry(
                f"status.{domain.standing}",
                domain.problem.message,
                Level.ERROR if domain.standing in _WRONG else Level.WARNING,
                status.lineage,
                domain.target,
                domain.domain,
                domain.standing.value,
                domain.problem.hint,
                more={"code": domain.problem.code},
            )


def _write_finding(found: Entry, log: RunLog) -> None:
    """Write what is wrong: a person's line names the place, and what has come of it."""
    say, outcome = log.voice.say_on_one_line, log.voice.word(found.outcome or "")
    words = say(found.detail)
    if found.target is not None:
        place = say(at_target(found.target, found.domain))
        words = f"{place}: {once(found.domain or found.target, words)}"
    log.write(replace(found, words=f"{found.lineage}: {outcome}: {words}"))
