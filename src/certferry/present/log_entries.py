"""What each thing that happens, or that is found wrong, leaves in the run's log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from certferry.core.assessment.status import LineageStatus, Standing
from certferry.core.discovery.watched import HostLook
from certferry.core.events import Activity, Event, Happened, StepEnded
from certferry.core.planning.plan import Plan, Weight
from certferry.core.planning.report import Outcome, StepOutcome, SyncReport
from certferry.core.reasons import ReasonCode
from certferry.core.waiting import Asking, Begun, Counted, Ended
from certferry.errors import TargetStuck
from certferry.present.language import Voice
from certferry.present.run_log import Entry, Level, RunLog
from certferry.present.status_text import ticket
from certferry.present.vocabulary import at_target, once
from certferry.problem import Problem, Severity
from certferry.text import Text, verbatim

_FAILED = {Outcome.FAILED, Outcome.REFUSED}
_WRONG = {Standing.FAILED, Standing.UNKNOWN}


def of_event(event: Event, at: datetime, voice: Voice) -> dict[str, object]:
    """Return an event for programs, in the shape of a line of the JSON log."""
    return entry_of(event).document(at, voice)


def entry_of(event: Event, words: str | None = None) -> Entry:
    """Return an event as an entry; `words` say it in one line for a person."""
    match event:
        case Activity():
            return Entry("activity", event.what, lineage=event.lineage, words=words)
        case StepEnded():
            return _of_step(event.lineage, event.outcome, words)
        case Happened():
            more = {"happened": event.event, "facts": dict(event.facts)}
            return Entry("happened", verbatim(event.event), lineage=event.lineage, more=more)
        case Asking():
            return Entry("asking", event.what, lineage=event.lineage)
        case Counted():
            counts: dict[str, object] = {"done": event.done, "all": event.all}
            return Entry("counted", verbatim(""), lineage=event.lineage, more=counts)
        case Begun():
            return Entry("begun", verbatim(""), more={"count": event.count})
        case Ended():
            return Entry("ended", verbatim(""), lineage=event.lineage)


def log_event(event: Activity | StepEnded, words: str, log: RunLog) -> None:
    """Write what happens in a run, and what to send to the support of a target that is stuck."""
    log.write(entry_of(event, words))
    step = event.outcome if isinstance(event, StepEnded) else None
    if step is not None and isinstance(step.error, TargetStuck):
        written = " ".join(ticket(step.error.ticket).splitlines())
        said = Text("ticket for the support of {target}:", target=step.target)
        entry = Entry("target.ticket", said, Level.INFO, event.lineage, step.target, step.domain)
        words = f"{log.voice.say_on_one_line(said)} {written}"
        log.write(replace(entry, words=words, more={"ticket": written}))


def log_unchanged(report: SyncReport, log: RunLog) -> None:
    """Write which certificates are as declared: bound and served, not only the same here."""
    said, outcome = Text("certificate unchanged, sync skipped"), Outcome.UNCHANGED.value
    for lineage in report.lineages if report.complete else ():
        if lineage.is_unchanged:
            event = "certificate.unchanged"
            log.write(Entry(event, said, lineage=lineage.lineage, outcome=outcome))


def log_plans(plans: Sequence[Plan], log: RunLog) -> None:
    """Write what safety refuses, and what else keeps a plan from what is declared."""
    for plan in plans:
        _write_found(plan.lineage, _of_plan(plan), log)


def log_statuses(statuses: Sequence[LineageStatus], log: RunLog) -> None:
    """Write why a domain does not stand as it should."""
    for status in statuses:
        _write_found(status.lineage, _of_status(status), log)


def log_findings(findings: Sequence[Problem], log: RunLog) -> None:
    """Write what `doctor` found, but for what is only to be known."""
    for one in findings:
        if one.severity is not Severity.NOTICE:
            entry = _entry(f"doctor.{one.severity}", one, one.subject, log)
            log.write(replace(entry, more={**entry.more, "subject": one.subject}))


def log_looks(looks: Sequence[HostLook], log: RunLog) -> None:
    """Write what is wrong at an address, and what differs between those of a host."""
    for look in looks:
        for one in look.served:
            if one.problem is not None:
                where = f"{look.host} {one.address}".rstrip()
                _write_watched(look, one.problem, where, {"address": one.address}, log)
        for each in look.problems:
            more = {"addresses": list(each.addresses)}
            _write_watched(look, each.problem, str(look.host), more, log)


def log_in_order(look: HostLook, log: RunLog) -> None:
    """Write that a host whose addresses have changed is in order."""
    said = Text("every address presents a valid certificate")
    words = f"{look.host}: {log.voice.say(said)}"
    log.write(Entry("watch.in_order", said, domain=look.host.name, outcome="done", words=words))


def _write_watched(
    look: HostLook,
    problem: Problem,
    where: str,
    more: Mapping[str, object],
    log: RunLog,
) -> None:
    event = "watch.failed" if problem.is_error else "watch.differs"
    found = replace(problem, hint=None, subject=look.host.name)
    entry = _entry(event, found, where, log)
    log.write(replace(entry, domain=look.host.name, more={**more, **entry.more}))


def log_problems(problems: Sequence[Problem], log: RunLog) -> None:
    """Write which account could not be read, or not all of it."""
    for one in problems:
        event = "discover.failed" if one.is_error else "discover.unread"
        log.write(replace(_entry(event, one, one.subject, log), target=one.subject))


def _entry(event: str, problem: Problem, where: str, log: RunLog) -> Entry:
    """Return a problem as an entry, whose line for a person begins with `where` it is."""
    message, code = problem.message, {"code": str(problem.code)}
    level = Level.ERROR if problem.is_error else Level.WARNING
    words = f"{where}: {once(problem.subject, log.voice.say_on_one_line(message))}"
    return Entry(event, message, level, hint=problem.hint, words=words, more=code)


def log_export(lineage: str, paths: Sequence[Path], fingerprint: str, log: RunLog) -> None:
    """Write which files were written, and of which certificate."""
    files = [str(path) for path in paths]
    said = Text("written: {path}", path=files)
    more = {"files": files, "fingerprint": fingerprint}
    log.write(Entry("export.done", said, lineage=lineage, outcome="done", more=more))


def log_change(event: str, said: Text, log: RunLog, lineage: str | None = None) -> None:
    """Write what was changed on this machine."""
    words = log.voice.say_on_one_line(said)
    log.write(Entry(event, said, lineage=lineage, outcome="done", words=words))


def _of_step(lineage: str, step: StepOutcome, words: str | None) -> Entry:
    more = {"label": step.label, "code": None if step.error is None else step.error.code}
    return Entry(
        f"{step.word}.{step.outcome}",
        step.detail,
        Level.ERROR if step.outcome in _FAILED else Level.INFO,
        lineage,
        step.target,
        step.domain,
        step.outcome.value,
        step.hint,
        words,
        more={name: value for name, value in more.items() if value is not None},
    )


_LEVELS = {Severity.ERROR: Level.ERROR, Severity.WARNING: Level.WARNING}


def _of_plan(plan: Plan) -> Iterator[Entry]:
    """Write the findings of a plan, what is refused first."""
    for weight in sorted(Weight, key=lambda weight: weight is not Weight.REFUSED):
        for finding in plan.having(weight):
            level = _LEVELS.get(weight.severity, Level.INFO)
            found = _found("plan", weight.value, level, finding.problem)
            yield replace(found, target=finding.target, domain=finding.domain)


def _of_status(status: LineageStatus) -> Iterator[Entry]:
    reason = status.reason
    if reason is not None and reason.code is ReasonCode.OVERDUE:
        problem = Problem(reason.code.value, reason.message)
        yield _found("status", problem.code, Level.WARNING, problem)
    for one in status.domains:
        if one.problem is not None:
            level = Level.ERROR if one.standing in _WRONG else Level.WARNING
            found = _found("status", one.standing.value, level, one.problem)
            yield replace(found, target=one.target, domain=one.domain)


def _found(kind: str, outcome: str, level: Level, problem: Problem) -> Entry:
    event, code = f"{kind}.{outcome}", {"code": problem.code}
    return Entry(event, problem.message, level, outcome=outcome, hint=problem.hint, more=code)


def _write_found(lineage: str, found: Iterator[Entry], log: RunLog) -> None:
    """Write what is wrong: a person's line names the place, and how it ended."""
    say = log.voice.say_on_one_line
    for one in found:
        words = say(one.detail)
        if one.target is not None:
            place = say(at_target(one.target, one.domain))
            words = f"{place}: {once(one.domain or one.target, words)}"
        words = f"{lineage}: {log.voice.word(one.outcome or '')}: {words}"
        log.write(replace(one, lineage=lineage, words=words))
