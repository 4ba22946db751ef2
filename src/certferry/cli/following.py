"""Follow a run while it goes on: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from datetime import datetime

from certferry.cli.desk import Desk
from certferry.cli.lines import line
from certferry.cli.options import Front, Verbosity
from certferry.cli.sync_text import in_one_line
from certferry.core.report import Activity, Event, Outcome, StepEnded
from certferry.ports.progress import Progress, nobody


@contextmanager
def following(front: Front, now: Callable[[], datetime]) -> Iterator[Progress]:
    """Give the progress that shows a run to whoever is there, for a `with` block.

    A live display leaves nothing behind. With -v there are plain lines on a terminal too: a log
    and a display that redraws itself do not go together.
    """
    desk = front.desk
    if front.quiet:
        yield nobody
    elif front.verbosity is Verbosity.VERBOSE or not desk.draws_on(desk.stderr):
        yield PlainFollower(desk)
    else:
        from certferry.cli.live import live_display

        with live_display(desk, now) as progress:
            yield progress


class PlainFollower:
    """Writes a line for each thing that happens. What is waited for is told when it begins and
    when it changes, not each time somebody looks; what is unchanged is no news.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._told: dict[Hashable, str] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """See `ports.progress.Progress`: never raises, whatever has become of stderr."""
        if isinstance(event, StepEnded) and event.outcome.outcome is Outcome.UNCHANGED:
            return
        words = self._in_words(event)
        subject = (event.lineage, event.outcome.place if isinstance(event, StepEnded) else None)
        with self._lock:
            if self._told.get(subject) == words:
                return
            self._told[subject] = words
            with contextlib.suppress(OSError, ValueError):
                self._desk.remark([line(words)])
                self._desk.stderr.flush()

    def _in_words(self, event: Event) -> str:
        voice = self._desk.voice
        match event:
            case Activity():
                return f"{event.lineage}: {voice.say_on_one_line(event.what)}"
            case StepEnded():
                return in_one_line(event.lineage, event.outcome, voice)
