"""Follow a run while it goes on: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from certferry.cli.desk import Desk
from certferry.cli.journal import Entry, Journal, Level
from certferry.cli.lines import line
from certferry.cli.options import Front, Verbosity
from certferry.cli.sync_text import in_one_line
from certferry.cli.words import Voice
from certferry.core.report import (
    Activity,
    Event,
    Happened,
    Outcome,
    StepEnded,
    StepOutcome,
    SyncReport,
)
from certferry.ports.progress import Progress, each_of, nobody
from certferry.text import Text


@contextmanager
def following(front: Front, now: Callable[[], datetime]) -> Iterator[Progress]:
    """Give the progress that shows a run to whoever is there, for a `with` block, and writes it
    into the log.

    A live display leaves nothing behind. With -v there are plain lines on a terminal too: a log
    and a display that redraws itself do not go together.
    """
    journal = front.desk.journal
    with _shown(front, now) as shown:
        yield each_of(LogFollower(journal), shown) if journal.is_open else shown


def plain_lines(front: Front) -> Progress:
    """Give the progress of a run that another program began: plain lines, and the log.

    They are on stdout: other ACME clients show what is on stderr as something that went wrong.
    """
    desk = front.desk
    shown = nobody if front.quiet else PlainFollower(replace(desk, stderr=desk.stdout))
    return each_of(LogFollower(desk.journal), shown) if desk.journal.is_open else shown


@contextmanager
def _shown(front: Front, now: Callable[[], datetime]) -> Iterator[Progress]:
    desk = front.desk
    if front.quiet:
        yield nobody
    elif front.verbosity is Verbosity.VERBOSE or not desk.draws_on(desk.stderr):
        yield PlainFollower(desk)
    else:
        from certferry.cli.live import live_display

        with live_display(desk, now) as progress:
            yield progress


class Follower(ABC):
    """Tells each thing that happens once. What is waited for is told when it begins and when it
    changes, not each time somebody looks.
    """

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._told: dict[Hashable, str] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """See `ports.progress.Progress`."""
        if isinstance(event, Happened):  # told by the step that it is part of
            return
        words = self._in_words(event)
        subject = (event.lineage, event.outcome.place if isinstance(event, StepEnded) else None)
        with self._lock:
            if self._told.get(subject) != words:
                self._told[subject] = words
                self.tell(event, words)

    @abstractmethod
    def tell(self, event: Activity | StepEnded, words: str) -> None:
        """Tell an event. Must not raise."""

    def _in_words(self, event: Activity | StepEnded) -> str:
        match event:
            case Activity():
                return f"{event.lineage}: {self._voice.say_on_one_line(event.what)}"
            case StepEnded():
                return in_one_line(event.lineage, event.outcome, self._voice)


class PlainFollower(Follower):
    """Writes a line on stderr for each thing that happens; what is unchanged is no news."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.voice)
        self._desk = desk

    def tell(self, event: Activity | StepEnded, words: str) -> None:
        """Write a line, whatever has become of stderr."""
        if isinstance(event, StepEnded) and event.outcome.outcome is Outcome.UNCHANGED:
            return
        with contextlib.suppress(OSError, ValueError):
            self._desk.remark([line(words)])
            self._desk.stderr.flush()


class LogFollower(Follower):
    """Writes an entry into the log for each thing that happens."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal.voice)
        self._journal = journal

    def tell(self, event: Activity | StepEnded, words: str) -> None:
        """Write an entry."""
        match event:
            case Activity():
                detail = self._voice.say_on_one_line(event.what)
                self._journal.write(Entry("activity", words, detail, lineage=event.lineage))
            case StepEnded():
                self._journal.write(self._entry(event.lineage, event.outcome, words))

    def _entry(self, lineage: str, step: StepOutcome, words: str) -> Entry:
        say = self._voice.say_on_one_line
        more = {"label": step.label, "code": None if step.error is None else step.error.code}
        return Entry(
            f"{step.action}.{step.outcome}",
            words,
            say(step.detail),
            Level.ERROR if step.outcome in _WRONG else Level.INFO,
            lineage=lineage,
            target=step.target,
            domain=step.domain,
            outcome=step.outcome.value,
            hint=None if step.hint is None else say(step.hint),
            more={name: value for name, value in more.items() if value is not None},
        )


_WRONG = {Outcome.FAILED, Outcome.REFUSED}


def log_unchanged(report: SyncReport, journal: Journal) -> None:
    """Write down which certificates are as declared: bound and served, not only the same here."""
    if not report.complete:
        return
    said = journal.voice.say(Text("certificate unchanged, sync skipped"))
    for lineage in report.lineages:
        if lineage.is_unchanged:
            words = f"{lineage.lineage}: {said}"
            journal.write(
                Entry(
                    "certificate.unchanged",
                    words,
                    said,
                    lineage=lineage.lineage,
                    outcome=Outcome.UNCHANGED.value,
                )
            )
