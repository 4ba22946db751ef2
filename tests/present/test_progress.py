"""The progress of a run as plain lines."""

from __future__ import annotations

import io
import threading
from datetime import timedelta

import pytest

from certferry.core.events import Activity, StepEnded
from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.present.console import Console, Verbosity
from certferry.present.progress import progress_lines, progress_on
from certferry.text import Text
from certferry.values import replace
from tests.cli import values
from tests.cli.consoles import TestConsole, terminal
from tests.cli.values import IMG, NOON

BUSY = Activity("img", Text("ordering a certificate"), NOON)
WAITING = StepOutcome(
    Action.VERIFY,
    Outcome.WAITING,
    Text("{domain}: 2 of 2 addresses do not serve it yet", domain=IMG),
    "qiniu",
    IMG,
    waiting=values.waiting(),
)


def later(seconds: int) -> StepOutcome:
    """Return the same wait, looked at again later."""
    return replace(WAITING, waiting=values.waiting(look_again=timedelta(seconds=seconds)))


def test_wait_is_reported_when_its_sentence_changes() -> None:
    """The same sentence about the same step is a single line for any number of looks."""
    console = TestConsole()
    follower = progress_lines(console.console)
    closer = replace(WAITING, detail=Text("1 of 2 addresses do not serve it yet"))

    for outcome in (WAITING, later(20), later(40), closer, replace(closer, waiting=None)):
        follower(StepEnded("img", outcome))

    assert (
        "img: verify waiting: img.example.com: 2 of 2 addresses do not serve it yet\n"
        "img: verify waiting: img.example.com: 1 of 2 addresses do not serve it yet\n"
    ) == console.err
    assert "" == console.out


def test_each_certificate_is_reported_separately() -> None:
    """The wait of a certificate does not silence another's news."""
    console = TestConsole()
    follower = progress_lines(console.console)

    for event in (BUSY, BUSY, replace(BUSY, lineage="static"), BUSY):
        follower(event)

    assert "img: ordering a certificate\nstatic: ordering a certificate\n" == console.err


def test_unchanged_step_is_silent() -> None:
    """A run without work prints no progress."""
    console = TestConsole()

    progress_lines(console.console)(StepEnded("img", replace(WAITING, outcome=Outcome.UNCHANGED)))

    assert "" == console.err


def test_a_stderr_that_is_gone_stops_no_run() -> None:
    """The work goes on without a listener."""
    gone = io.StringIO()
    gone.close()

    progress_lines(Console(io.StringIO(), gone, {}))(BUSY)


def test_many_threads_may_report_at_once() -> None:
    """Lines are whole, from every thread."""
    console = TestConsole()
    follower = progress_lines(console.console)
    threads = [
        threading.Thread(target=follower, args=(replace(BUSY, lineage=f"c{number}"),))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = {f"c{number}: ordering a certificate" for number in range(20)}
    assert expected == set(console.err.splitlines())


@pytest.mark.parametrize(
    ("console", "verbosity", "expected"),
    [
        (TestConsole(), Verbosity.QUIET, ""),
        (terminal(), Verbosity.QUIET, ""),
        (TestConsole(), Verbosity.NORMAL, "img: ordering a certificate\n"),
        (terminal(), Verbosity.VERBOSE, "img: ordering a certificate\n"),
        (terminal(TERM="dumb"), Verbosity.NORMAL, "img: ordering a certificate\n"),
    ],
)
def test_progress_for_each_kind_of_stream(
    console: TestConsole, verbosity: Verbosity, expected: str
) -> None:
    """Quiet is quiet; a log, a file and a dumb terminal get plain lines."""
    with progress_on(console.console, verbosity, lambda: NOON) as progress:
        progress(BUSY)

    assert expected == console.err
