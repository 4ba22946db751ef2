"""Show a run in progress, live or as plain lines, and log the run. Also log the results of other
commands. Lines and log entries do not repeat an event that has not changed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from certferry.core import events
from certferry.core.assessment.causes import Key, concern_of, is_not_done, key_of
from certferry.core.assessment.status import LineageStatus, Standing
from certferry.core.discovery.watched import HostObservation
from certferry.core.planning.plan import Plan, Weight
from certferry.core.planning.report import Outcome, StepOutcome, SyncReport
from certferry.core.reasons import ReasonCode
from certferry.errors import Problem, Severity, TargetStuck
from certferry.ports.progress import Progress, each_of, no_listener
from certferry.present.console import Console, Verbosity
from certferry.present.language import Voice, at_target, once
from certferry.present.layout import line
from certferry.present.report_text import in_one_line
from certferry.present.run_log import Entry, Level, RunLog
from certferry.present.status_text import ticket
from certferry.text import Text, verbatim
from certferry.values import replace


@contextmanager
def progress_on(
    console: Console,
    verbosity: Verbosity,
    now: Callable[[], datetime],
    *,
    changes_nothing: bool = False,
    live_only: bool = False,
) -> Iterator[Progress]:
    """Show and log a run within a `with` block, which gets the listener for the run's events. A
    terminal shows the run live; any other stderr gets lines.

    With `-v` a terminal gets lines too. With `-q` the run is logged, but not shown. With
    `live_only`, a run that is not shown live is not logged either. `changes_nothing` marks a run
    that only reads, so no later run continues it.
    """
    if verbosity is Verbosity.NORMAL and console.draws_on(console.stderr):
        from certferry.present.live_display import live_display

        with live_display(console, now, changes_nothing=changes_nothing) as shown:
            yield _also_logged(shown, console.run_log)
    elif live_only:
        yield no_listener
    else:
        yield _also_logged(_lines_unless_quiet(console, verbosity), console.run_log)


def progress_on_stdout(console: Console, verbosity: Verbosity) -> Progress:
    """Return a listener that shows and logs a run of `certferry hook`. Lines go to stdout, because
    the ACME clients that call the hook show stderr as an error. With `-q` no lines are written.
    """
    shown = _lines_unless_quiet(replace(console, stderr=console.stdout), verbosity)
    return _also_logged(shown, console.run_log)


def progress_lines(console: Console) -> Progress:
    """Return a listener that prints a run on stderr: a line for each activity and each ended step,
    except unchanged steps and repetitions.

    If many steps are not done because the state is unavailable, only the first of them gets a line.
    """
    reported: set[Key] = set()

    def print_event(event: events.Activity | events.StepEnded, words: str) -> None:
        if isinstance(event, events.StepEnded):
            step = event.outcome
            concern = concern_of(step, event.lineage) if is_not_done(step) else None
            key = None if concern is None else key_of(concern)
            if step.outcome is Outcome.UNCHANGED or key in reported:
                return
            if key is not None:
                reported.add(key)
        with contextlib.suppress(OSError, ValueError):  # stderr may be closed by now
            console.print_stderr([line(words)])
            console.stderr.flush()

    return _Once(console.voice, print_event)


def news(pass_on: Callable[[events.Activity | events.StepEnded], None]) -> Progress:
    """Return a listener that passes on each activity and each ended step of a run, except unchanged
    steps and repetitions.
    """
    once_each = _Once(Voice(), lambda event, _: pass_on(event))

    def follow(event: events.Event) -> None:
        if (
            not isinstance(event, events.StepEnded)
            or event.outcome.outcome is not Outcome.UNCHANGED
        ):
            once_each(event)

    return follow


def logged_progress(run_log: RunLog) -> Progress:
    """Return a listener that writes an entry into the log for each activity and each ended step of
    a run, except repetitions.
    """
    return _Once(run_log.voice, lambda event, words: log_event(event, words, run_log))


def _lines_unless_quiet(console: Console, verbosity: Verbosity) -> Progress:
    return no_listener if verbosity is Verbosity.QUIET else progress_lines(console)


def _also_logged(shown: Progress, run_log: RunLog) -> Progress:
    return each_of(logged_progress(run_log), shown) if run_log.is_open else shown


class _Once:
    """Passes on an activity if its words differ from the certificate's last activity, and an ended
    step if its words differ from the same step before. So a wait is passed on once, although each
    observation reports it. Other events are dropped.
    """

    def __init__(
        self, voice: Voice, pass_on: Callable[[events.Activity | events.StepEnded, str], None]
    ) -> None:
        self._voice = voice
        self._pass_on = pass_on
        self._passed: dict[Hashable, str] = {}
        self._lock = threading.Lock()

    def __call__(self, event: events.Event) -> None:
        """See `ports.progress.Progress`."""
        match event:
            case (
                events.Happened()
                | events.Begun()
                | events.Asking()
                | events.Counted()
                | events.LineageEnded()
            ):
                return  # events inside a step, and counts for the live display
            case events.Activity():
                subject: Hashable = (event.lineage, None)
                words = f"{event.lineage}: {self._voice.say_on_one_line(event.what)}"
            case events.StepEnded():
                subject = (event.lineage, event.outcome.key)
                words = in_one_line(event.lineage, event.outcome, self._voice)
        with self._lock:
            if self._passed.get(subject) != words:
                self._passed[subject] = words
                self._pass_on(event, words)


_FAILED = {Outcome.FAILED, Outcome.REFUSED}
_WRONG = {Standing.FAILED, Standing.UNKNOWN}


def of_event(event: events.Event, at: datetime, voice: Voice) -> dict[str, object]:
    """Return an event for programs, in the form of a line of the JSON log."""
    return entry_of(event).document(at, voice)


def entry_of(event: events.Event, words: str | None = None) -> Entry:
    """Return an event as a log entry. `words` are the line for a person, for an activity or an
    ended step.
    """
    match event:
        case events.Activity():
            return Entry("activity", event.what, lineage=event.lineage, words=words)
        case events.StepEnded():
            return _of_step(event.lineage, event.outcome, words)
        case events.Happened():
            facts = {name: str(fact) for name, fact in event.facts.items()}
            more = {"happened": event.event, "facts": facts}
            return Entry("happened", verbatim(event.event), lineage=event.lineage, more=more)
        case events.Asking():
            return Entry("asking", event.what, lineage=event.lineage)
        case events.Counted():
            counts: dict[str, object] = {"done": event.done, "all": event.all}
            return Entry("counted", verbatim(""), lineage=event.lineage, more=counts)
        case events.Begun():
            return Entry("begun", verbatim(""), more={"count": event.count})
        case events.LineageEnded():
            return Entry("ended", verbatim(""), lineage=event.lineage)


def log_event(event: events.Activity | events.StepEnded, words: str, log: RunLog) -> None:
    """Log an event, and for a stuck target the ticket to send to the target's support."""
    log.write(entry_of(event, words))
    step = event.outcome if isinstance(event, events.StepEnded) else None
    if step is not None and isinstance(step.error, TargetStuck):
        ticket_line = " ".join(ticket(step.error.ticket).splitlines())
        heading = Text("ticket for the support of {target}:", target=step.target)
        entry = Entry("target.ticket", heading, Level.INFO, event.lineage, step.target, step.domain)
        words = f"{log.voice.say_on_one_line(heading)} {ticket_line}"
        log.write(replace(entry, words=words, more={"ticket": ticket_line}))


def log_unchanged(report: SyncReport, log: RunLog) -> None:
    """Log each certificate for which the run observed that nothing had to change, at any place of
    the certificate. After a stopped run, log none.
    """
    message, outcome = Text("certificate unchanged, sync skipped"), Outcome.UNCHANGED.value
    for lineage in report.lineages if report.complete else ():
        if lineage.is_unchanged:
            event = "certificate.unchanged"
            log.write(Entry(event, message, lineage=lineage.lineage, outcome=outcome))


def log_plans(plans: Sequence[Plan], log: RunLog) -> None:
    """Log the findings of plans; the findings of a plan begin with the refusals for safety."""
    for plan in plans:
        for weight in sorted(Weight, key=lambda weight: weight is not Weight.REFUSED):
            level, event = _LEVELS.get(weight.severity, Level.INFO), f"plan.{weight.value}"
            for finding in plan.having(weight):
                place = (finding.target, finding.domain)
                _write_found(event, plan.lineage, finding.problem, level, log, place)


def log_statuses(statuses: Sequence[LineageStatus], log: RunLog) -> None:
    """Log the problems of domains, and the certificates that another client should have renewed."""
    for status in statuses:
        reason = status.reason
        if reason is not None and reason.code is ReasonCode.OVERDUE:
            late = Problem(reason.code.value, reason.message)
            _write_found(f"status.{late.code}", status.lineage, late, Level.WARNING, log)
        for domain in status.domains:
            if domain.problem is not None:
                level = Level.ERROR if domain.standing in _WRONG else Level.WARNING
                event, place = f"status.{domain.standing.value}", (domain.target, domain.domain)
                _write_found(event, status.lineage, domain.problem, level, log, place)


def log_findings(findings: Sequence[Problem], log: RunLog) -> None:
    """Log the errors and warnings among the findings of `doctor`."""
    for finding in findings:
        if finding.severity is not Severity.NOTICE:
            entry = _entry(f"doctor.{finding.severity}", finding, finding.subject, log)
            log.write(replace(entry, more={**entry.more, "subject": finding.subject}))


def log_look(look: HostObservation, log: RunLog, *, has_changed: bool = False) -> None:
    """Log the problems at a host. With `has_changed`, also log if every address of the host within
    reach presents a valid certificate again.
    """
    host, name = str(look.host), look.host.name
    problems: list[tuple[Problem | None, str, dict[str, object]]] = [
        (address.problem, f"{host} {address.address}".rstrip(), {"address": address.address})
        for address in look.served
    ]
    problems += [
        (host_problem.problem, host, {"addresses": list(host_problem.addresses)})
        for host_problem in look.problems
    ]
    for problem, where, more in problems:
        if problem is not None:
            event = "watch.failed" if problem.is_error else "watch.differs"
            entry = _entry(event, replace(problem, hint=None, subject=name), where, log)
            log.write(replace(entry, domain=name, more={**more, **entry.more}))
    if has_changed and look.ok:
        message = Text("every address presents a valid certificate")
        words = f"{host}: {log.voice.say(message)}"
        log.write(Entry("watch.in_order", message, domain=name, outcome="done", words=words))


def log_problems(problems: Sequence[Problem], log: RunLog) -> None:
    """Log each problem of `discover` with an account: an error, or a part of the account that could
    not be read.
    """
    for problem in problems:
        event = "discover.failed" if problem.is_error else "discover.unread"
        log.write(replace(_entry(event, problem, problem.subject, log), target=problem.subject))


def _entry(event: str, problem: Problem, where: str, log: RunLog) -> Entry:
    """Return a problem as a log entry. The line for a person begins with `where`."""
    message, code = problem.message, {"code": str(problem.code)}
    level = Level.ERROR if problem.is_error else Level.WARNING
    words = f"{where}: {once(problem.subject, log.voice.say_on_one_line(message))}"
    return Entry(event, message, level, hint=problem.hint, words=words, more=code)


def log_export(lineage: str, paths: Sequence[Path], fingerprint: str, log: RunLog) -> None:
    """Log the exported files and the certificate's fingerprint."""
    files = [str(path) for path in paths]
    message = Text("written: {path}", path=files)
    more = {"files": files, "fingerprint": fingerprint}
    log.write(Entry("export.done", message, lineage=lineage, outcome="done", more=more))


def log_change(event: str, message: Text, log: RunLog, lineage: str | None = None) -> None:
    """Log a change that a command has made, under the event's name."""
    words = log.voice.say_on_one_line(message)
    log.write(Entry(event, message, lineage=lineage, outcome="done", words=words))


def _of_step(lineage: str, step: StepOutcome, words: str | None) -> Entry:
    level = Level.ERROR if step.outcome in _FAILED else Level.INFO
    more = {} if step.label is None else {"label": step.label}
    more |= {} if step.error is None else {"code": step.error.code}
    event, place = f"{step.word}.{step.outcome}", (lineage, step.target, step.domain)
    ended = step.outcome.value
    return Entry(event, step.detail, level, *place, ended, step.hint, words, more=more)


_LEVELS = {Severity.ERROR: Level.ERROR, Severity.WARNING: Level.WARNING}


_Place = tuple[str | None, str | None]


def _write_found(
    event: str,
    lineage: str,
    problem: Problem,
    level: Level,
    log: RunLog,
    place: _Place = (None, None),
) -> None:
    """Log a problem of a certificate. The line for a person begins with the lineage, the part of
    `event` after the dot, and the place.
    """
    target, domain = place
    say, outcome = log.voice.say_on_one_line, event.partition(".")[2]
    words, code = say(problem.message), {"code": problem.code}
    if target is not None:
        words = f"{say(at_target(target, domain))}: {once(domain or target, words)}"
    words = f"{lineage}: {log.voice.word(outcome)}: {words}"
    detail, hint = problem.message, problem.hint
    log.write(Entry(event, detail, level, lineage, target, domain, outcome, hint, words, more=code))
