"""What a run prints while it goes on, each thing once: live, as plain lines, and in its log."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from certferry.core.events import Activity, Event, Happened, StepEnded
from certferry.core.planning.report import Outcome
from certferry.core.waiting import Asking, Begun, Counted, Ended
from certferry.ports.progress import Progress, each_of, no_listener
from certferry.present.console import Console, Verbosity
from certferry.present.language import Voice
from certferry.present.layout import line
from certferry.present.log_entries import log_event
from certferry.present.report_text import in_one_line
from certferry.present.run_log import RunLog


@contextmanager
def progress_on(
    console: Console,
    verbosity: Verbosity,
    now: Callable[[], datetime],
    *,
    changes_nothing: bool = False,
) -> Iterator[Progress]:
    """Show a run for a `with` block, in a live display on a terminal, as plain lines elsewhere, and
    write it into the log.

    A live display leaves nothing behind. With -v there are plain lines on a terminal too: a log and
    a display that redraws itself do not go together. A run that `changes_nothing` is not continued
    by the next one.
    """
    if verbosity is Verbosity.NORMAL and console.draws_on(console.stderr):
        from certferry.present.live_display import live_display

        with live_display(console, now, changes_nothing=changes_nothing) as shown:
            yield _also_logged(shown, console.run_log)
    else:
        yield _also_logged(_lines_unless_quiet(console, verbosity), console.run_log)


@contextmanager
def progress_of_look(
    console: Console, verbosity: Verbosity, now: Callable[[], datetime], *, as_json: bool
) -> Iterator[Progress]:
    """Show in a live display what a command asks that only looks; without a terminal, and for a
    program, nothing: its answer is all that it prints.
    """
    if as_json or verbosity is not Verbosity.NORMAL or not console.draws_on(console.stderr):
        yield no_listener
        return
    with progress_on(console, verbosity, now, changes_nothing=True) as progress:
        yield progress


def progress_on_stdout(console: Console, verbosity: Verbosity) -> Progress:
    """Print a run that another program began, in plain lines, and write it into the log.

    They are on stdout: other ACME clients show what is on stderr as something that went wrong.
    """
    shown = _lines_unless_quiet(replace(console, stderr=console.stdout), verbosity)
    return _also_logged(shown, console.run_log)


def progress_lines(console: Console) -> Progress:
    """Print a run on stderr, a line for each thing that happens, but for what is unchanged."""

    def print_event(event: Activity | StepEnded, words: str) -> None:
        if isinstance(event, StepEnded) and event.outcome.outcome is Outcome.UNCHANGED:
            return
        with contextlib.suppress(OSError, ValueError):  # whatever has become of stderr
            console.print_stderr([line(words)])
            console.stderr.flush()

    return _Once(console.voice, print_event)


def logged_progress(run_log: RunLog) -> Progress:
    """Write a run into its log, an entry for each thing that happens."""
    return _Once(run_log.voice, lambda event, words: log_event(event, words, run_log))


def _lines_unless_quiet(console: Console, verbosity: Verbosity) -> Progress:
    return no_listener if verbosity is Verbosity.QUIET else progress_lines(console)


def _also_logged(shown: Progress, run_log: RunLog) -> Progress:
    return each_of(logged_progress(run_log), shown) if run_log.is_open else shown


class _Once:
    """Passes each thing that happens on once, in words. A wait is passed on when it begins and when
    it changes, not at each look.
    """

    def __init__(self, voice: Voice, pass_on: Callable[[Activity | StepEnded, str], None]) -> None:
        self._voice = voice
        self._pass_on = pass_on
        self._passed: dict[Hashable, str] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """See `ports.progress.Progress`."""
        match event:
            case Happened() | Begun() | Asking() | Counted() | Ended():
                return  # part of a step, or for a display alone
            case Activity():
                subject: Hashable = (event.lineage, None)
                words = f"{event.lineage}: {self._voice.say_on_one_line(event.what)}"
            case StepEnded():
                subject = (event.lineage, event.outcome.key)
                words = in_one_line(event.lineage, event.outcome, self._voice)
        with self._lock:
            if self._passed.get(subject) != words:
                self._passed[subject] = words
                self._pass_on(event, words)
