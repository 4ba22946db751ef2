"""The checks of `doctor`, carried out in parallel. A check that fails or takes too long becomes a
finding, too.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import PurePath

from certferry import errors
from certferry.core.assessment.health import RUN_WITHIN, Recorded
from certferry.core.assessment.notices import Subject
from certferry.core.assessment.sightings import serves_nothing
from certferry.core.certificates.certificate import covered_by
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.events import Activity, Begun, LineageEnded, StepEnded
from certferry.core.findings import Code, heaviest_first, info, of_refusal, warning
from certferry.core.network import judge_clock
from certferry.core.observed.observation import DomainState, Observation, ObservedTarget
from certferry.core.observed.records import FAILED, REFUSED, HistoryEntry, LastRun
from certferry.core.planning.choice import is_found
from certferry.core.planning.problems import stuck_since
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.planning.safety import judge_at_target, judge_version
from certferry.errors import Problem, Severity
from certferry.ports.examination import Examined, PointedAt, Timed
from certferry.ports.progress import Clock, Progress
from certferry.ports.scheduler import Scheduler
from certferry.reconcile.observe import observe, with_file_names
from certferry.reconcile.run import Ports, in_thread
from certferry.text import Text
from certferry.values import replace

AT_ONCE = 16
WITHIN = timedelta(seconds=60)
"""The time for a check: about as long as all attempts at a silent service take."""

WITHIN_OF_MANY = timedelta(minutes=10)
"""The time for a check of a certificate: thousands of domains are read at the service's pace."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """An examination that changes nothing."""

    #: The name of the account, the certificate or the file examined.
    subject: str
    #: The examination in words.
    what: Text
    #: Returns findings. A raised error becomes a finding, too.
    examine: Callable[[], Iterable[Problem]]
    #: The time after which the check is given up.
    within: timedelta = WITHIN


def carry_out_checks(
    checks: Iterable[Check], *, progress: Progress, now: Clock, stop: Callable[[], None]
) -> tuple[Problem, ...]:
    """Return the findings of the checks, heaviest first. At the end, `stop` is called to end
    checks that took too long.
    """
    waiting, findings = list(checks), list[Problem]()
    running: dict[Future[list[Problem]], tuple[float, Check]] = {}
    try:
        progress(Begun(len(waiting)))
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                check = waiting.pop(0)
                progress(Activity(check.subject, check.what, now()))
                end = time.monotonic() + check.within.total_seconds()
                running[in_thread(partial(_found_by, check), f"check {check.subject}")] = end, check
            first = min(running, key=lambda future: running[future][0])
            time_left = max(running[first][0] - time.monotonic(), 0)
            for future in wait(running, time_left, FIRST_COMPLETED).done or {first}:
                _, check = running.pop(future)
                findings += future.result() if future.done() else [_unfinished(check)]
                examined = StepOutcome(None, Outcome.UNCHANGED, check.what)
                progress(StepEnded(check.subject, examined))
                progress(LineageEnded(check.subject))
    finally:
        stop()
    return heaviest_first(findings)


def _found_by(check: Check) -> list[Problem]:
    findings: list[Problem] = []
    try:
        findings.extend(check.examine())
    except errors.Interrupted:  # the run ends
        return findings
    except errors.CertferryError as error:
        return [*findings, of_refusal(check.subject, error)]
    except BaseException:  # noqa: BLE001 - logged whole: the other checks go on, in other threads
        _log.exception(Text("{subject}: unexpected error", subject=check.subject))
        message = Text("the check failed: a bug in certferry ({what})", what=check.what)
        fix = Text("run the command again with -v, and report the output")
        return [*findings, warning(Code.NOT_LOOKED_AT, check.subject, message, fix)]
    return findings


def _unfinished(check: Check) -> Problem:
    message = Text("{what}: no answer within {time}", what=check.what, time=check.within)
    fix = Text("run the command again; if the error persists, check network and proxy")
    return warning(Code.NOT_LOOKED_AT, check.subject, message, fix)


def examine_account(label: str, port: object) -> Iterator[Problem]:
    """Examine an account, and this machine's clock against the service's clock, as far as the
    account's adapter (`port`) can. Yield the findings. Raises `CertferryError`.
    """
    if isinstance(port, Timed):
        yield from examine_clock(label, port.clock_ahead())
    if isinstance(port, Examined):
        yield from port.examine(label)


def examine_clock(subject: str, ahead: timedelta | None) -> Iterator[Problem]:
    """Yield the problem of this machine's clock, if any.

    `ahead` is how far a service's clock is ahead of this machine's clock; `None` if unknown.
    """
    problem = None if ahead is None else judge_clock(subject, subject, ahead)
    yield from () if problem is None else (problem,)


def cnames_of(
    label: str, port: object, certificates: Sequence[DesiredCertificate]
) -> Mapping[str, str]:
    """Return, by domain, the CNAMEs that the declared domains of the account `label` should have in
    DNS. Empty if the adapter (`port`) reports no CNAMEs. Raises `DeployError`.
    """
    cnames = port.cnames() if isinstance(port, PointedAt) else {}

    def is_deployed(domain: str) -> bool:
        return any(
            domain in (deployment.domains or ())
            or (covered_by(desired.names, domain) and is_found(deployment, domain))
            for desired in certificates
            for deployment in desired.deployments
            if deployment.target == label
        )

    return {domain: cname for domain, cname in cnames.items() if is_deployed(domain)}


def ordered_names(certificates: Iterable[DesiredCertificate]) -> list[str]:
    """Return the names that certferry orders and so must prove."""
    return [name for desired in certificates if desired.files is None for name in desired.names]


ENTRIES = 500
"""How many of the newest history entries are read, to find the last try of failing steps."""

_FAILED = " failed"
"""The end of the name of an event for a failed try; the rest names the action."""

_OF_THE_STATE = {
    errors.StateUnavailable.code: (Code.STATE_UNUSABLE, Severity.ERROR),
    errors.StateMissing.code: (Code.STATE_MISSING, Severity.WARNING),
}
"""The findings for errors of the state's file; every other error counts as an error of the key."""


def examine_records(
    recorded: Recorded,
    history: Sequence[HistoryEntry],
    place: PurePath | str,
    key: PurePath | str,
    now: datetime,
    *,
    is_bucket: bool = False,
) -> Iterator[Problem]:
    """Yield `doctor`'s findings about the state: an unusable state, the advice to back up, the last
    run, the newest change and the failures in the `history` (newest first), and undeclared
    certificates.

    `place` and `key` name the state and the state's key in sentences. A file is named by the path,
    a server or a bucket by the address, and a key outside a file by the setting with the key.
    """
    wrong = recorded.problem
    if wrong is not None:
        code, severity = _OF_THE_STATE.get(wrong.code, (Code.SEAL_BROKEN, Severity.ERROR))
        file = key if code is Code.SEAL_BROKEN else place
        yield replace(wrong, code=code, severity=severity, subject=str(file))
    message = Text(
        "back up the file, which holds the whole state of certferry, and separately {key_file},"
        " which opens the file",
        key_file=str(key),
    )
    if isinstance(place, str):
        message = Text(
            "back up the database with pg_dump, and separately {key}, which opens the database",
            key=key,
        )
    if is_bucket:
        sentence = Text(
            "keep {key}, which opens the state, apart from the bucket: without the key"
            " everything is lost"
        )
        message = sentence.filled(key=str(key))
    yield info(Code.BACK_UP, str(place), message)
    if recorded.last_run is not None:
        yield _of_last_run(recorded.last_run, now)
    yield from _from_history(history, recorded)
    yield from (undeclared.problem for undeclared in recorded.undeclared)


def _of_last_run(last: LastRun, now: datetime) -> Problem:
    """Return a finding with the ends of the last run and of the last successful run: information,
    or a warning if the last run ended longer than `RUN_WITHIN` ago.
    """
    message = Text("the last run ended at {moment}", moment=last.ended_at)
    if last.succeeded_at is None:
        message = Text("{said}; no run has succeeded so far", said=message)
    elif last.succeeded_at != last.ended_at:
        moment = last.succeeded_at
        message = Text("{said}; the last success was at {moment}", said=message, moment=moment)
    if now - last.ended_at < RUN_WITHIN:
        return info(Code.LAST_RUN, "sync", message)
    fix = Text(
        "run `certferry sync`, and check with `certferry schedule show` that the system"
        " starts the runs"
    )
    return warning(Code.LAST_RUN, "sync", message, fix)


def examine_schedule(
    schedulers: Iterable[Scheduler], begun_at: datetime | None = None, *, is_serving: bool = False
) -> Iterator[Problem]:
    """Yield findings on the daily runs: the schedules that start runs, and whether the system obeys
    each schedule.

    With `is_serving`, this process makes the runs. `begun_at` is when the last scheduled run began,
    or `None` if long ago. A recent run without an installed schedule means that another program
    starts the runs, such as another `certferry serve`.
    """
    has_schedule = is_serving
    if is_serving:
        sentence = Text("this process of `certferry serve` starts the runs, twice a day")
        yield info(Code.SCHEDULE, "schedule", sentence)
    for scheduler in schedulers:
        try:
            scheduled = scheduler.find()
        except errors.ScheduleError as error:
            has_schedule = True
            yield error.problem("schedule", code=Code.NOT_LOOKED_AT)
            continue
        if scheduled is None:
            continue
        has_schedule = True
        message = Text("{place}: {when}", place=scheduled.place, when=scheduled.when)
        yield info(Code.SCHEDULE, "schedule", message)
        if scheduled.to_do is not None:
            sentence = Text("the daily run is installed, but the system may not start it")
            yield warning(Code.SCHEDULE_TO_DO, "schedule", sentence, scheduled.to_do)
    if not has_schedule and begun_at is not None:
        sentence = Text(
            "the last scheduled run started at {moment}; a schedule other than `certferry"
            " schedule` starts the runs"
        )
        yield info(Code.SCHEDULE, "schedule", sentence.filled(moment=begun_at))
    elif not has_schedule:
        yield warning(
            Code.SCHEDULE_MISSING,
            "schedule",
            Text("no daily run is installed for this user, so nothing renews automatically"),
            Text(
                "run `certferry schedule install`, unless `certferry serve` keeps running or"
                " another program starts `certferry sync`"
            ),
        )


def examine_channels(*, has_channel: bool, has_heartbeat: bool) -> Iterator[Problem]:
    """Yield a warning if the file declares neither a channel nor a heartbeat: operators would not
    hear of failed runs.
    """
    if not (has_channel or has_heartbeat):
        yield warning(
            Code.NO_CHANNEL,
            "notify",
            Text("neither a channel nor a heartbeat is declared: a failed run reaches no one"),
            Text(
                "declare a channel under [notify.ops] (`certferry help notify`), and a [heartbeat]"
                " (`certferry help monitoring`)"
            ),
        )


def _from_history(entries: Sequence[HistoryEntry], recorded: Recorded) -> Iterator[Problem]:
    """Yield a finding with the newest change, and a finding for each step that failed at its last
    try. `entries` are newest first.
    """
    changes = (
        entry
        for entry in entries
        if not (entry.event in _NO_CHANGES or entry.event.endswith(_FAILED))
    )
    if (newest := next(changes, None)) is not None:
        message = Text(
            "the last change was at {moment}, by {who}", moment=newest.at, who=newest.who
        )
        yield info(Code.LAST_CHANGE, newest.lineage, message)
    seen: set[tuple[str, ...]] = set()
    for entry in entries:
        action = entry.event.removesuffix(_FAILED)
        place = (str(entry.facts.get(name, "")) for name in _PLACE)
        tried = (entry.lineage, _ENDINGS.get(action, action), *place)
        if entry.event.endswith(_FAILED) and tried not in seen:
            yield _failed(entry, recorded)
        seen.add(tried)


_NO_CHANGES = {"drift found", "drift over", "verified", FAILED, REFUSED}
"""Events that change nothing: observations, and failed or refused steps."""
_PLACE = ("target", "domain")
_ENDINGS = {"issued": "issue", "adopted": "adopt", "deployed": "deploy", "verified": "deploy"}


def _failed(entry: HistoryEntry, recorded: Recorded) -> Problem:
    """Return a finding for a failed try.

    The history has the failure's sentence without the words quoted from a service. If a standing
    notice has the same sentence, the finding takes the whole sentence and the hint from the notice.
    """
    target, domain = (str(entry.facts.get(name, "")) for name in _PLACE)
    problem = entry.facts.get("problem", entry.event)
    fix = Text("run `certferry sync {lineage}`, which shows the next step", lineage=entry.lineage)
    kept = re.escape(str(problem)).replace("…", ".*")
    standing = recorded.troubles.get(Subject(entry.lineage, target, domain))
    if standing is not None and re.fullmatch(kept, str(standing.problem.message), re.DOTALL):
        problem, fix = standing.problem.message, standing.problem.hint or fix
    message = Text("the last try at {moment} failed: {problem}", moment=entry.at, problem=problem)
    return warning(Code.LAST_TRY_FAILED, domain or entry.lineage, message, fix)


_WEIGHTS = {
    DomainState.UNAVAILABLE: (Code.DOMAIN_UNUSABLE, Severity.ERROR),
    DomainState.FAILED: (Code.DOMAIN_FAILED, Severity.WARNING),
}


def examine_lineage(desired: DesiredCertificate, ports: Ports) -> Iterator[Problem]:
    """Observe a lineage as `certferry plan` does, and yield findings on the certificate, the
    targets and the domains. Raises `StateError` and `Interrupted`.
    """
    if desired.lineage in ports.outdated:
        old = ports.outdated[desired.lineage].error
        yield old.problem(desired.lineage, Severity.WARNING)
        desired = ports.part_of(desired)
    try:
        desired = with_file_names(desired, ports)
    except (errors.CertificateError, errors.PlanRefused) as error:
        yield error.problem(desired.lineage, code=Code.FILES_UNUSABLE)
        return
    observed = observe(desired, ports)
    if observed.current is not None:
        yield from judge_version(desired, observed.current, ports.now())
    for target in observed.targets:
        yield from _at_target(target, ports)
        yield from _stuck(observed, target, ports)
        is_place = not any(domain.kind.is_receiver for domain in target.domains)
        if observed.current is not None and is_place and target.failure is None:
            yield from judge_at_target(desired, observed.current, target)


def _at_target(target: ObservedTarget, ports: Ports) -> Iterator[Problem]:
    # The examination of the account reports a missing right, once for all certificates.
    is_reported = isinstance(target.failure, errors.TargetRightMissing) and isinstance(
        ports.targets.get(target.label), Examined
    )
    if target.failure is not None and not is_reported:
        yield of_refusal(target.label, target.failure)
    for error in target.unread:
        yield error.problem(target.label, Severity.WARNING, Code.TARGET_UNREAD)
    for domain in target.domains:
        if domain.state in _WEIGHTS and domain.problem is not None:
            code, severity = _WEIGHTS[domain.state]
            if serves_nothing(target, domain):
                severity = Severity.ERROR  # as in `check`
            yield domain.problem.problem(domain.domain, severity, code)


def _stuck(observed: Observation, target: ObservedTarget, ports: Ports) -> Iterator[Problem]:
    fix = Text("ask the target's support to finish the change")
    if observed.current is not None:
        fix = Text("send the target's support the ticket printed by `certferry status`")
    for domain in target.domains:
        since = stuck_since(domain, ports.now(), ports.verify_timeout)
        if since is not None:
            message = Text(
                "{target} has not finished its change since {since}",
                target=target.label,
                since=since,
            )
            yield warning(Code.DOMAIN_STUCK, domain.domain, message, fix)
