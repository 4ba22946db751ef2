"""The live display: its words, its size, and the clean terminal after its end."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from certferry.core.events import Activity, Asking, Begun, Counted, Event, LineageEnded, StepEnded
from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.present.language import Voice
from certferry.present.layout import width
from certferry.present.live_display import Display
from certferry.text import Text, verbatim
from certferry.values import replace
from tests.cli import values
from tests.cli.terminals import Terminal
from tests.cli.values import IMG, NOON

WAITING = re.compile(r"deploy   waiting .*until 10:30 UTC at most", re.DOTALL)
PROGRAM = [sys.executable, str(Path(__file__).with_name("live_program.py"))]

ISSUED = StepOutcome(Action.ISSUE, Outcome.DONE, Text("valid until tomorrow"))
PROCESSING = StepOutcome(
    Action.DEPLOY,
    Outcome.WAITING,
    Text("{domain}: the target is carrying out a change", domain=IMG),
    "qiniu",
    IMG,
    waiting=values.waiting(),
)
BOUND = StepOutcome(Action.DEPLOY, Outcome.DONE, Text("bound"), "qiniu", IMG)
UNCHANGED = StepOutcome(Action.VERIFY, Outcome.UNCHANGED, Text("served"), "qiniu", IMG)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, moment: datetime = NOON) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment


def drawn(
    events: Iterable[Event],
    *,
    columns: int = 80,
    rows: int = 24,
    after: timedelta = timedelta(minutes=3, seconds=12),
    changes_nothing: bool = False,
) -> str:
    """Return the screen some time after noon, when these events have been reported."""
    clock = Clock()
    display = Display(Voice(), clock, changes_nothing=changes_nothing)
    for event in events:
        display.on_event(event)
    clock.moment += after
    paper = io.StringIO()
    console = Console(file=paper, width=columns, height=rows, color_system=None)
    console.print(display)
    return "".join(row.rstrip() + "\n" for row in paper.getvalue().splitlines())


def test_pending_step_has_its_times() -> None:
    """The line has subject, beginning and deadline; finished steps stay beside."""
    events = [StepEnded("img", ISSUED), StepEnded("img", PROCESSING)]

    assert dedent("""\
        img
          issue    done      valid until tomorrow
          deploy   waiting   qiniu → img.example.com: the target is carrying out a change
                             since 12:00 UTC (3:12), until 13:00 UTC at most
        3:12 · Ctrl-C stops; the next run continues
        """) == drawn(events, columns=100)


def test_activity_is_shown_until_its_step_ends() -> None:
    """An activity is replaced by the next, and gone when its step has an outcome."""
    busy = [
        Activity("img", Text("ordering a certificate"), NOON),
        Activity("img", Text("img: waiting for the CA"), NOON, NOON + timedelta(days=1)),
    ]

    assert dedent("""\
        img
          waiting for the CA
                             since 12:00 UTC (3:12), until 2026-11-25 12:00 UTC at most
        3:12 · Ctrl-C stops; the next run continues
        """) == drawn(busy)
    assert "img" not in drawn([*busy, StepEnded("img", ISSUED)])


def test_certificate_at_rest_is_left_out() -> None:
    """The display has only work in progress."""
    events = [StepEnded("img", PROCESSING), StepEnded("img", BOUND), StepEnded("kept", UNCHANGED)]

    assert "1:00:00 · Ctrl-C stops; the next run continues\n" == drawn(
        events, after=timedelta(hours=1)
    )


def test_request_is_shown_beside_its_certificate() -> None:
    """Each request has a line until its answer, and finished certificates are counted."""
    events: list[Event] = [
        Begun(3),
        Asking("img", Text("asking qiniu for its domains")),
        Asking("kept", Text("asking qiniu for its domains")),
        LineageEnded("kept"),
    ]

    assert dedent("""\
        img: asking qiniu for its domains (3:12)
        1 of 3 done · 3:12 · Ctrl-C stops
        """) == drawn(events, changes_nothing=True)
    assert dedent("""\
        2 of 3 done · 3:12 · Ctrl-C stops; the
        next run continues
        """) == drawn([Begun(3), LineageEnded("a"), LineageEnded("b")], columns=40)


def test_request_during_a_wait_is_hidden() -> None:
    """A pending step is looked at again and again, so the lines below would jump."""
    asking = Asking("img", Text("asking qiniu for its domains"))

    shown = drawn([StepEnded("img", PROCESSING), asking])

    assert "asking" not in shown
    assert "the target is carrying out" in shown


def test_usual_duration_is_beside_the_deadline() -> None:
    """A deadline of an hour alone misleads about a change of ten minutes."""
    waiting = replace(values.waiting(), usual=(timedelta(minutes=8), timedelta(minutes=15)))
    step = replace(PROCESSING, waiting=waiting)

    assert "since 12:00 UTC (3:12), usually 8–15 min, until 13:00 UTC at most" in drawn(
        [StepEnded("img", step)], columns=100
    )


def test_on_a_narrow_terminal_the_words_go_below_the_columns() -> None:
    """Forty cells are enough for all words."""
    assert dedent("""\
        img
          deploy   waiting
            qiniu → img.example.com: the target
            is carrying out a change
            since 12:00 UTC (3:12), until 13:00
            UTC at most
        3:12 · Ctrl-C stops; the next run
        continues
        """) == drawn([StepEnded("img", PROCESSING)], columns=40)


@pytest.mark.parametrize(
    ("certificates", "rows", "expected"),
    [
        (1, 6, ["lineage-0"]),
        (1, 4, ["lineage-0", "…"]),
        (2, 10, ["lineage-0", "lineage-1"]),
        (2, 7, ["lineage-0", "lineage-1 (3:12): deploy waiting: img.example.com: the"]),
        (20, 11, [*(f"lineage-{number} (3:12)" for number in range(7)), "… 13 more certificates"]),
        (20, 4, ["… 20 more certificates"]),
    ],
)
def test_certificates_beyond_the_screen_are_counted(
    certificates: int, rows: int, expected: list[str]
) -> None:
    """On a low terminal each certificate has a row, and the others are a number, so the screen
    never scrolls.
    """
    events = [StepEnded(f"lineage-{number}", PROCESSING) for number in range(certificates)]

    screen = drawn(events, rows=rows).splitlines()

    shown_rows = [row for row in screen if row.startswith(("lineage", "…"))]
    assert len(expected) == len(shown_rows)
    assert all(row.startswith(begin) for begin, row in zip(expected, shown_rows, strict=True))
    assert len(screen) < rows


def rollout(number: int, deploy: Outcome, verify: Outcome | None = None) -> list[Event]:
    waiting = replace(values.waiting(), usual=(timedelta(minutes=8), timedelta(minutes=15)))
    details = {Outcome.DONE: Text("bound"), Outcome.WAITING: Text("qiniu is applying the change")}
    name = f"img{number:02}.example.com"
    wait = waiting if deploy is Outcome.WAITING else None
    detail = details.get(deploy, Text("no certificate"))
    events: list[Event] = [
        StepEnded("img", StepOutcome(Action.DEPLOY, deploy, detail, "qiniu", name, waiting=wait))
    ]
    if verify is not None:
        wait = values.waiting() if verify is Outcome.WAITING else None
        detail = Text("served by every address") if wait is None else Text("not served yet")
        step = StepOutcome(Action.VERIFY, verify, detail, "qiniu", name, waiting=wait)
        events.append(StepEnded("img", step))
    return events


def thirty() -> Iterable[Event]:
    """Return a run in the middle: twelve are served, seven bound, nine in progress, two failed."""
    yield StepEnded("img", ISSUED)
    for number in range(12):
        yield from rollout(number, Outcome.DONE, Outcome.DONE)
    for number in range(12, 19):
        yield from rollout(number, Outcome.DONE, Outcome.WAITING)
    for number in range(19, 28):
        yield from rollout(number, Outcome.WAITING)
    for number in (28, 29):
        yield from rollout(number, Outcome.FAILED)


def test_thirty_domains_are_grouped_by_their_state() -> None:
    """On the smallest terminal, pending domains come first, with number, beginning and usual
    duration; then failures; then numbers.
    """
    assert dedent("""\
        img
          verify   waiting   7 of 30: not served yet
                             img12.example.com, img13.example.com, img14.example.com and
                             4 more
                             since 12:00 UTC (3:12), until 13:00 UTC at most
          deploy   waiting   9 of 30: qiniu is applying the change
                             img19.example.com, img20.example.com, img21.example.com and
                             6 more
                             since 12:00 UTC (3:12), usually 8–15 min, until 13:00 UTC
                             at most
          deploy   failed    2 of 30: no certificate
                             img28.example.com, img29.example.com
          issue    done      valid until tomorrow
          deploy   done      19 of 30
          verify   done      12 of 30
        deploy 19 of 30, verify 12 of 30 · since 12:00 UTC (3:12), usually 8–15 min
        3:12 · Ctrl-C stops; the next run continues
        """) == drawn(thirty())


@pytest.mark.parametrize(("columns", "rows"), [(60, 10), (100, 24), (160, 24)])
def test_the_counts_of_thirty_domains_are_never_cut_off(columns: int, rows: int) -> None:
    """Counts are in the last rows and pending domains in the first, on every terminal."""
    screen = drawn(thirty(), columns=columns, rows=rows).splitlines()

    assert "verify   waiting   7 of 30" in screen[1]
    assert "deploy 19 of 30, verify 12 of 30 · since" in " ".join(screen[-3:])
    assert len(screen) < rows


def test_domains_of_many_certificates_are_counted_together() -> None:
    """With a certificate for each domain, the line below all has the same numbers."""
    each = [
        replace(event, lineage=event.outcome.domain or event.lineage)
        for event in thirty()
        if isinstance(event, StepEnded)
    ]

    screen = drawn(each, columns=100)

    assert "deploy 19 of 30, verify 12 of 30 · since 12:00 UTC (3:12), usually 8–15 min" in screen


def test_few_domains_are_not_counted() -> None:
    """Each domain is on the screen."""
    events = [*rollout(0, Outcome.DONE, Outcome.WAITING), *rollout(1, Outcome.WAITING)]

    assert "of 2" not in drawn(events)
    assert "img01.example.com: qiniu is applying the change" in drawn(events)


def test_receivers_are_left_out_of_the_count_of_verifications() -> None:
    """Probes cannot see a receiver from outside."""
    delivered = [event for number in range(4) for event in rollout(number, Outcome.DONE)]
    waiting = [
        event for number in range(4, 9) for event in rollout(number, Outcome.DONE, Outcome.WAITING)
    ]

    assert "\nverify 0 of 5 · since 12:00 UTC (3:12)\n" in drawn([*delivered, *waiting])


def test_names_that_are_written_or_validated_are_counted() -> None:
    """The count ends with the next sentence; the same words alone for half a minute would hide
    progress.
    """
    writing = Activity("img", Text("writing the challenge records"), NOON)
    events: list[Event] = [writing, Counted("img", 0, 30), Counted("img", 12, 30)]
    validating = Activity("img", Text("waiting for the CA to validate the names"), NOON)

    assert "writing the challenge records: 12 of 30" in drawn(events)
    assert "of 30" not in drawn([*events, validating])


WORDS = st.text(alphabet="图片域名 img-.:→\n\x1b\u202e", max_size=80)
EVENTS = st.lists(
    st.one_of(
        st.builds(Activity, WORDS, WORDS.map(verbatim), st.just(NOON)),
        st.builds(
            lambda lineage, detail, target: StepEnded(
                lineage,
                StepOutcome(
                    Action.DEPLOY,
                    Outcome.WAITING,
                    verbatim(detail),
                    target,
                    "域名.example.com",
                    waiting=values.waiting(),
                ),
            ),
            WORDS,
            WORDS,
            st.text(alphabet="abc", min_size=1, max_size=60),
        ),
        st.builds(Asking, WORDS, WORDS.map(verbatim)),
        st.builds(Begun, st.integers(0, 100_000)),
        st.builds(LineageEnded, WORDS),
    ),
    max_size=6,
)


@given(EVENTS, st.integers(10, 120), st.integers(4, 40))
def test_display_always_fits(events: list[Event], columns: int, rows: int) -> None:
    """Lines fit the width and the display fits the height, for any pending step."""
    screen = drawn(events, columns=columns, rows=rows).split("\n")[:-1]

    assert all(width(row) <= columns for row in screen)
    assert len(screen) < rows


def test_display_leaves_a_clean_screen() -> None:
    """The display is shown during the run; afterwards the screen has the plain lines alone."""
    with Terminal(PROGRAM, columns=80) as terminal:
        terminal.until(lambda screen: "waiting for the challenge to appear" in screen)
        terminal.type("\n")
        terminal.until(lambda screen: WAITING.search(screen) is not None)
        terminal.type("\n")
        terminal.until(lambda screen: "等待所有权威" in screen)
        terminal.type("\n")
        shown = terminal.until(lambda screen: "a lease could not be extended" in screen)
        terminal.type("\n")

        assert 0 == terminal.end()

    assert "WARNING certferry: a lease could not be extended" in shown
    before, log, after = terminal.screen.text.splitlines()
    assert ("before", "img: waiting") == (before, after)
    assert log.endswith("WARNING certferry: a lease could not be extended")


def test_terminal_that_becomes_narrow() -> None:
    """Output after a resize fits the new width, wide characters included."""
    with Terminal(PROGRAM, columns=100) as terminal:
        terminal.until(lambda screen: "waiting for the challenge" in screen)
        terminal.resize(40, 20)
        terminal.type("\n\n")
        terminal.until(lambda screen: "等待所有" in screen)
        terminal.screen.widest = 0
        length_before = len(terminal.screen.raw)
        terminal.until(lambda _: len(terminal.screen.raw) > length_before + 500)
        widest = terminal.screen.widest
        terminal.type("\n\n")

        assert 0 == terminal.end()

    assert 20 < widest <= 40
    assert terminal.screen.text.endswith("\nimg: waiting")


def test_colour_can_be_refused() -> None:
    """With NO_COLOR the display is shown in black and white."""
    with Terminal(PROGRAM, environ={"NO_COLOR": "1"}) as terminal:
        terminal.type("\n\n\n\n")
        assert 0 == terminal.end()

    assert not re.search(r"\x1b\[[0-9;]*m", terminal.screen.raw)
    assert "until" in terminal.screen.raw


def test_a_dumb_terminal_gets_lines() -> None:
    """Without cursor movement, each line is written once."""
    with Terminal(PROGRAM, environ={"TERM": "dumb"}) as terminal:
        terminal.type("\n\n\n\n")
        assert 0 == terminal.end()

    assert "\x1b" not in terminal.screen.raw
    rows = [row for row in terminal.screen.text.splitlines() if "WARNING" not in row]
    assert [
        "before",
        "img: waiting for the challenge to appear at ns1",
        "img: deploy waiting: qiniu → img.example.com: the target is carrying out the change",
        "图片: 等待所有权威域名服务器显示挑战记录",
        "img: waiting",
    ] == rows
