"""Checks run side by side: each has its own time, and a failing check costs no other check its
findings.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial

import pytest

from certferry.core.events import Activity, Begun, Event, LineageEnded, StepEnded
from certferry.core.findings import Code, info
from certferry.errors import Interrupted, Problem, TargetAccessDenied
from certferry.reconcile.examination import AT_ONCE, WITHIN, Check, carry_out_checks
from certferry.text import Text
from certferry.values import replace
from tests.reconcile.model import START

WHAT = Text("looking at it")


def check(subject: str, look: Callable[[], Iterable[Problem]]) -> Check:
    return Check(subject, WHAT, look)


def found(subject: str) -> Problem:
    return info("seen", subject, Text("so"))


class Run:
    """An examination with its reports, and whether the run was stopped."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stopped = threading.Event()
        self.examine = partial(
            carry_out_checks, progress=self.events.append, now=lambda: START, stop=self.stopped.set
        )

    def carry_out(self, *checks: Check) -> list[tuple[str, str]]:
        """Return subjects and codes, sorted."""
        findings = self.examine(checks)
        return sorted((finding.subject, str(finding.code)) for finding in findings)


@pytest.mark.parametrize("count", [0, 1, AT_ONCE + 3])
def test_every_check_is_carried_out(count: int) -> None:
    """Some checks run at once, whatever their number."""
    names = [f"s{number:02}" for number in range(count)]

    result = Run().carry_out(*(check(name, lambda name=name: [found(name)]) for name in names))  # type: ignore[misc]  # bound at once

    assert [(name, "seen") for name in names] == result


def test_checks_are_side_by_side() -> None:
    """Each of two checks waits for the other."""
    meeting = threading.Barrier(2, timeout=20)

    def look() -> list[Problem]:
        meeting.wait()
        return []

    assert [] == Run().carry_out(check("one", look), check("other", look))


def test_check_that_is_refused_is_a_finding() -> None:
    """Earlier findings of the check stay; the other checks keep theirs."""

    def look() -> Iterator[Problem]:
        yield found("qiniu")
        raise TargetAccessDenied("the keys are refused")

    result = Run().carry_out(check("qiniu", look), check("dnspod", lambda: [found("dnspod")]))

    assert [("dnspod", "seen"), ("qiniu", "keys_refused"), ("qiniu", "seen")] == result


def test_mistake_of_ours_is_a_finding(caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged whole, and the message quotes no part of it."""

    def look() -> Iterator[Problem]:
        yield found("qiniu")
        raise ZeroDivisionError("secret")

    [finding, _] = Run().examine([check("qiniu", look)])

    assert Code.NOT_LOOKED_AT == finding.code
    assert "secret" not in str(finding.message)
    assert "secret" in caplog.text


def test_check_that_ends_its_thread_is_a_finding() -> None:
    """The end is reported at once, without a wait for an answer."""
    begun = time.monotonic()

    [finding] = Run().examine([check("qiniu", lambda: sys.exit(0))])

    assert Code.NOT_LOOKED_AT == finding.code
    assert time.monotonic() - begun < WITHIN.total_seconds() / 2


def test_check_that_takes_too_long_is_given_up() -> None:
    """The report names the time; later findings come too late, and do no harm."""
    run = Run()
    with ExitStack() as ending:
        let_go, gone = threading.Event(), threading.Event()
        ending.callback(let_go.set)

        def look() -> list[Problem]:
            let_go.wait(20)
            gone.set()
            return [found("slow")]

        slow = replace(check("slow", look), within=timedelta(seconds=0.2))
        result = run.carry_out(slow, check("quick", lambda: [found("quick")]))

        assert [("quick", "seen"), ("slow", "not_looked_at")] == result
        assert run.stopped.is_set()
    assert gone.wait(20)


def test_progress_reports_what_begins_and_what_ends() -> None:
    """The first event comes before any finding."""
    run = Run()

    def look() -> list[Problem]:
        assert [Begun(1), Activity("qiniu", WHAT, START)] == run.events
        return []

    run.carry_out(check("qiniu", look))

    assert [Begun, Activity, StepEnded, LineageEnded] == [type(event) for event in run.events]
    assert LineageEnded("qiniu") == run.events[-1]


def test_run_that_is_stopped_stops_its_checks() -> None:
    """An exception of the progress, as from a signal, ends the waits of all checks."""
    run = Run()

    def stop(event: Event) -> None:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        run.examine([check("qiniu", list)], progress=stop)
    assert run.stopped.is_set()


def test_check_that_is_notified_of_the_stop_says_nothing() -> None:
    """The run itself is reported as stopped."""

    def look() -> Iterator[Problem]:
        yield found("qiniu")
        raise Interrupted("stopped")

    assert [("qiniu", "seen")] == Run().carry_out(check("qiniu", look))
