"""The findings of `doctor` about lineages, accounts and the machine, in a model world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import PurePath
from typing import Any, cast

import pytest

from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.desired.certificate import DesiredDeployment, PemFiles
from certferry.core.findings import Code, info
from certferry.core.observed.observation import DomainState, ObservedTarget
from certferry.core.observed.records import HistoryEntry
from certferry.core.schedule import Installation, Job, Scheduled
from certferry.errors import Problem, ScheduleError, Severity, TargetUnavailable
from certferry.ports.scheduler import Scheduler
from certferry.ports.state import AcmeAccount, StateStore
from certferry.ports.target import DeployTarget, Scope
from certferry.reconcile.examination import (
    ENTRIES,
    cnames_of,
    examine_account,
    examine_channels,
    examine_clock,
    examine_lineage,
    examine_records,
    examine_schedule,
    ordered_names,
)
from certferry.reconcile.reads import recorded
from certferry.text import Quoted, Text, own_words, verbatim
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_key
from certferry_sandbox.testing.memory_state import MemoryState
from tests.core.strategies import NOW
from tests.reconcile.model import START, ModelWorld
from tests.reconcile.one_lineage import IMG, complete_run

STATE, KEY = PurePath("/state/state.db"), PurePath("/state/secret.key")


def lines(findings: object) -> list[tuple[str, str, Severity]]:
    """Return subjects, codes and weights of findings."""
    problems = list(cast("list[Problem]", findings))
    return [(finding.subject, str(finding.code), finding.severity) for finding in problems]


# --- a lineage


def lineage(world: ModelWorld) -> list[tuple[str, str, Severity]]:
    return lines(examine_lineage(world.desired(), world.ports("doctor")))


def test_lineage_in_order(world: ModelWorld) -> None:
    """A lineage without a certificate, and a served one, have no findings."""
    assert [] == lineage(world)
    complete_run(world)
    assert [] == lineage(world)


def test_domain_that_cannot_be_changed(world: ModelWorld) -> None:
    """The finding names the domain, with the target's own words."""
    world.cdn.add_domain(IMG, state=DomainState.UNAVAILABLE)

    assert [(IMG, Code.DOMAIN_UNUSABLE, Severity.ERROR)] == lineage(world)


def test_domain_whose_change_failed(world: ModelWorld) -> None:
    """Without HTTPS at the domain, the finding is an error, as in `check`. While the earlier
    certificate is served, the finding is a warning, because a later try may succeed.
    """
    world.cdn.fail_next(IMG, "verify https crt fail")
    world.run(world.desired())
    assert [(IMG, Code.DOMAIN_FAILED, Severity.ERROR)] == lineage(world)

    complete_run(world)
    assert [] == lineage(world)


def test_domain_whose_change_does_not_end(world: ModelWorld) -> None:
    """After the usual time of a change the finding names the place of the ticket."""
    world.cdn.add_domain(IMG)
    world.cdn.stick_next(IMG)
    world.run(world.desired(), kill_after=50)
    assert (1, []) == (world.cdn.writes, lineage(world))

    world.run(world.desired())

    assert [(IMG, Code.DOMAIN_STUCK, Severity.WARNING)] == lineage(world)
    (finding,) = examine_lineage(world.desired(), world.ports("doctor"))
    assert "certferry status" in str(finding.hint)


def test_target_that_refuses_the_keys(world: ModelWorld) -> None:
    """The finding names the account."""
    world.cdn.denies = True

    assert [("qiniu", Code.KEYS_REFUSED, Severity.ERROR)] == lineage(world)


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [
        (20, [("img", Code.LIFETIME_TOO_SHORT, Severity.ERROR)]),
        (34, [("img", Code.LIFETIME_TIGHT, Severity.WARNING)]),
        (90, []),
    ],
)
def test_life_of_a_certificate_beside_what_the_target_wants(
    lifetime: int, expected: list[tuple[str, Code, Severity]]
) -> None:
    """The check needs a first certificate."""
    world = ModelWorld(lifetime=timedelta(days=lifetime))
    world.cdn.add_domain(IMG)
    assert [] == lineage(world)

    world.run(world.desired())

    assert expected == lineage(world)


def test_certificate_that_has_ended(world: ModelWorld) -> None:
    """An expired certificate is an error, served or not."""
    complete_run(world)
    world.pass_time(timedelta(days=91))

    assert ("img", Code.EXPIRED, Severity.ERROR) in lineage(world)


class HalfRead:
    """A target with a part that could not be read, beside its domains."""

    def __init__(self, target: DeployTarget) -> None:
        self._target = target

    def observe(self, scope: Scope) -> ObservedTarget:
        unread = (TargetUnavailable(Text("the buckets cannot be listed")),)
        return replace(self._target.observe(scope), unread=unread)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def test_what_could_not_be_read_beside_the_domains(world: ModelWorld) -> None:
    """An unread part delays nothing: the finding is a warning."""
    ports = world.ports("doctor")
    half: Any = HalfRead(ports.targets["qiniu"])

    findings = lines(examine_lineage(world.desired(), replace(ports, targets={"qiniu": half})))

    assert [("qiniu", Code.TARGET_UNREAD, Severity.WARNING)] == findings


def test_files_that_cannot_be_taken(world: ModelWorld) -> None:
    """The files of another client are missing."""
    desired = replace(
        world.desired(), dns="", files=PemFiles("/no/fullchain.pem", "/no/privkey.pem")
    )

    findings = lines(examine_lineage(desired, world.ports("doctor")))

    assert [("img", Code.FILES_UNUSABLE, Severity.ERROR)] == findings


# --- an account


class Account:
    """An account with a clock, an examination and CNAMEs."""

    def __init__(self, ahead: timedelta | None) -> None:
        self.ahead = ahead

    def clock_ahead(self) -> timedelta | None:
        return self.ahead

    def examine(self, account: str) -> tuple[Problem, ...]:
        return (info("seen", account, Text("so")),)

    def cnames(self) -> Mapping[str, str]:
        return {name: f"{name}.cdn" for name in (IMG, "a.img.example.com", "www.example.com")}


def test_clock_is_reported_before_the_keys() -> None:
    """A wrong clock is reported before the keys are blamed."""
    findings = lines(examine_account("qiniu", Account(timedelta(minutes=20))))

    assert [
        ("qiniu", Code.CLOCK_OFF, Severity.ERROR),
        ("qiniu", "seen", Severity.NOTICE),
    ] == findings


@pytest.mark.parametrize("ahead", [None, timedelta(0)])
def test_clock_that_is_right_or_not_reported(ahead: timedelta | None) -> None:
    """A right clock, or a missing one, has no finding."""
    assert [] == list(examine_clock("qiniu", ahead))


def test_account_that_cannot_be_examined() -> None:
    """An adapter may have none of the ports."""
    assert [] == list(examine_account("other", object()))
    assert {} == cnames_of("other", object(), [])


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, {IMG, "a.img.example.com"}),
        ({"domains": (IMG,)}, {IMG}),
        ({"domains": ("www.example.com",)}, {"www.example.com"}),
        ({"domains": (), "globs": ("a.*",)}, {"a.img.example.com"}),
        ({"exclude": ("a.*",)}, {IMG}),
    ],
)
def test_cnames_are_those_of_domains_that_are_deployed_to(
    world: ModelWorld, chosen: dict[str, Any], expected: set[str]
) -> None:
    """Named and discovered domains count; another account's domains do not."""
    desired = replace(world.desired(), deployments=(DesiredDeployment("qiniu", **chosen),))

    assert expected == set(cnames_of("qiniu", Account(None), [desired]))
    assert {} == cnames_of("other", Account(None), [desired])


def test_names_that_are_ordered(world: ModelWorld) -> None:
    """An imported certificate needs no proof."""
    desired = world.desired()
    imported = replace(desired, dns="", files=PemFiles("a", "b"))

    assert list(desired.names) == ordered_names([desired, imported])


# --- the machine


def of_state(state: StateStore, declared: Sequence[str]) -> Iterator[Problem]:
    history = [entry for entry in state.history(None, ENTRIES) if entry.lineage in declared]
    return examine_records(recorded(state), history, STATE, KEY, NOW)


def test_state_in_order_reports_what_to_back_up() -> None:
    """A new state names the file and the key to back up."""
    findings = list(of_state(MemoryState(), ["img"]))

    assert [(str(STATE), Code.BACK_UP, Severity.NOTICE)] == lines(findings)
    assert str(KEY) in str(findings[0].message)


def test_key_that_does_not_open_the_state() -> None:
    """The finding names the key file."""
    state = MemoryState()
    state.save_account(AcmeAccount("https://ca.test/directory", make_key()))
    state.lose_key()

    assert (str(KEY), Code.SEAL_BROKEN, Severity.ERROR) in lines(of_state(state, ["img"]))


@pytest.mark.parametrize(
    ("runs", "hours", "severity", "words"),
    [
        ([True], 1, Severity.NOTICE, "the last run ended at"),
        ([True, False], 1, Severity.NOTICE, "the last success was at"),
        ([False], 1, Severity.NOTICE, "no run has succeeded so far"),
        ([True], 49, Severity.WARNING, "the last run ended at"),
    ],
)
def test_last_run_is_reported(runs: list[bool], hours: int, severity: Severity, words: str) -> None:
    """Two runs a day are usual: a last run two days ago is a warning."""
    state = MemoryState()
    for distance, succeeded in zip(range(len(runs), 0, -1), runs, strict=True):
        ended = NOW - timedelta(hours=hours, minutes=distance - 1)
        state.save_run(ended, succeeded=succeeded)

    findings = list(of_state(state, ["img"]))

    (finding,) = (one for one in findings if one.code == Code.LAST_RUN)
    assert severity is finding.severity
    assert words in str(finding.message)
    assert (finding.hint is None) is (severity is Severity.NOTICE)


def entry(event: str, minute: int, **facts: str) -> HistoryEntry:
    at = datetime(2026, 11, 24, 12, minute, tzinfo=UTC)
    return HistoryEntry(at, "img", event, "tester", facts)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], []),
        ([entry("issue failed", 1, problem="no zone")], ["img"]),
        ([entry("issue failed", 1, problem="no zone"), entry("issued", 2)], []),
        ([entry("issued", 1), entry("issue failed", 2)], ["img"]),
        ([entry("deploy failed", 1, target="q", domain="a"), entry("issued", 2)], ["a"]),
        (
            [
                entry("deploy failed", 1, target="q", domain="a"),
                entry("deploy failed", 2, target="q", domain="a"),
                entry("deployed", 3, target="q", domain="b"),
            ],
            ["a"],
        ),
        (
            [
                entry("deploy failed", 1, target="q", domain="a"),
                entry("deployed", 2, target="q", domain="a"),
            ],
            [],
        ),
    ],
)
def test_tries_that_failed_and_did_not_succeed_since(
    entries: list[HistoryEntry], expected: list[str]
) -> None:
    """Failures are grouped by lineage or by domain; the newest change is reported in any case."""
    state = MemoryState()
    for one in entries:
        state.append_history(one)

    findings = list(of_state(state, ["img"]))

    failed = [one.subject for one in findings if one.code == Code.LAST_TRY_FAILED]
    assert expected == failed
    newest = [str(one.message) for one in findings if one.code == Code.LAST_CHANGE]
    changes = [one.at for one in entries if not one.event.endswith("failed")]
    last = [f"the last change was at {at:%Y-%m-%d %H:%M} UTC, by tester" for at in changes]
    assert last[-1:] == newest


def test_last_failure_is_read_in_every_language() -> None:
    """The history keeps English words without quotations; the standing trouble has the sentence and
    the hint.
    """
    state = MemoryState()
    sentence = Text(
        "Qiniu refused {what} ({answer})", what=Text("the upload"), answer=Quoted("400: no")
    )
    notice = Notice(
        Topic.TROUBLE,
        Subject("img", "qiniu", "a"),
        NOW,
        Problem("target_rejected", sentence, Text("look at it")),
    )
    state.update_notices(lambda _: (notice,))
    facts = {"target": "qiniu", "domain": "a", "problem": str(own_words(sentence))}
    state.append_history(entry("deploy failed", 1, **facts))

    (failed,) = (one for one in of_state(state, ["img"]) if one.code == Code.LAST_TRY_FAILED)

    assert sentence == failed.message.values["problem"]
    assert Text("look at it") == failed.hint


def test_what_the_file_does_not_declare_any_more_is_not_reported() -> None:
    """`certferry sync` knows no certificate of the name."""
    state = MemoryState()
    state.append_history(entry("issue failed", 1, problem="no zone"))

    assert [Code.BACK_UP] == [one.code for one in of_state(state, ["www"])]


def test_what_was_only_seen_is_no_change() -> None:
    """Another tool's change is not reported as certferry's."""
    state = MemoryState()
    for event in ("verified", "drift found", "drift over"):
        state.append_history(entry(event, 1))

    assert [Code.BACK_UP] == [one.code for one in of_state(state, ["img"])]


class Clockwork:
    """A scheduler with a given installed schedule."""

    def __init__(self, scheduled: Scheduled | ScheduleError | None) -> None:
        self._scheduled = scheduled

    def find(self) -> Scheduled | None:
        if isinstance(self._scheduled, ScheduleError):
            raise self._scheduled
        return self._scheduled

    def install(self, job: Job) -> tuple[Installation, Scheduled]:
        raise AssertionError(job)

    def remove(self) -> Text | None:
        raise AssertionError


def scheduled(to_do: Text | None = None) -> Scheduled:
    when = Text("every day at {time}", time=f"{time(3, 7):%H:%M}")
    return Scheduled(verbatim("crontab"), "certferry sync", when, START, to_do, "/usr/bin")


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ([None, None], [(Code.SCHEDULE_MISSING, Severity.WARNING)]),
        ([None, scheduled()], [(Code.SCHEDULE, Severity.NOTICE)]),
        (
            [scheduled(Text("start cron"))],
            [(Code.SCHEDULE, Severity.NOTICE), (Code.SCHEDULE_TO_DO, Severity.WARNING)],
        ),
        ([ScheduleError("crontab failed")], [(Code.NOT_LOOKED_AT, Severity.ERROR)]),
    ],
)
def test_daily_run(
    installed: list[Scheduled | ScheduleError | None], expected: list[tuple[Code, Severity]]
) -> None:
    """The finding says whether a daily run is installed, and whether the system starts the run."""
    schedulers: list[Scheduler] = [Clockwork(one) for one in installed]

    findings = lines(examine_schedule(schedulers))

    assert [("schedule", *one) for one in expected] == findings


def test_daily_run_that_a_process_makes() -> None:
    """A recent run counts as a schedule, without an installed one."""
    findings = lines(examine_schedule([Clockwork(None)], NOW))

    assert [("schedule", Code.SCHEDULE, Severity.NOTICE)] == findings


@pytest.mark.parametrize("has_channel", [False, True])
@pytest.mark.parametrize("has_heartbeat", [False, True])
def test_failures_that_no_operator_would_read(*, has_channel: bool, has_heartbeat: bool) -> None:
    """A missing channel and a missing heartbeat together are a warning; either is enough."""
    findings = lines(examine_channels(has_channel=has_channel, has_heartbeat=has_heartbeat))

    is_reported = has_channel or has_heartbeat
    assert ([] if is_reported else [("notify", Code.NO_CHANNEL, Severity.WARNING)]) == findings
