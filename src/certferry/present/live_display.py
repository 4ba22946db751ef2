"""The live display of a run: for each certificate, what the run waits for, at whose hands, since
when, and until when at most. It fits the terminal at every moment, and leaves nothing behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rich.console import Console as Screen
from rich.console import ConsoleOptions
from rich.live import Live
from rich.text import Text as RichText

from certferry.core.events import Activity, Event, StepEnded
from certferry.core.progress import Asking, Begun, Ended, in_minutes
from certferry.core.report import Outcome, StepKey, StepOutcome
from certferry.core.waiting import Waiting
from certferry.ports.progress import Progress
from certferry.present.console import Console
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Tone, line, visible
from certferry.present.plan_text import INDENT
from certferry.present.report_text import BELOW, head_of, subject_and_detail
from certferry.present.vocabulary import once, one_or_many
from certferry.text import Text

_REFRESHES = 4
"""Times a second that the display is drawn, so that the time waited is seen to go on."""

_NARROW = 60
"""Cells below which words go under their columns instead of beside them."""

_NARROW_INDENT = 2 * len(INDENT)

_STYLES = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.GOOD: "green",
    Tone.PENDING: "yellow",
    Tone.BAD: "red",
    Tone.FAINT: "dim",
}


@contextmanager
def live_display(
    console: Console, now: Callable[[], datetime], *, changes_nothing: bool = False
) -> Iterator[Progress]:
    """Show a run on the terminal behind stderr for a `with` block."""
    display = Display(console.voice, now, changes_nothing=changes_nothing)
    # `no_color` of rich keeps bold and dim, which the tables beside it have not got then either.
    in_colour = not console.environ.get("NO_COLOR")
    screen = Screen(file=console.stderr, color_system="auto" if in_colour else None)
    with Live(
        display,
        console=screen,
        refresh_per_second=_REFRESHES,
        transient=True,
        redirect_stdout=False,
        vertical_overflow="crop",
    ):
        yield display.hear


@dataclass(slots=True)
class _Lineage:
    activity: Activity | None = None
    asking: tuple[Asking, datetime] | None = None
    """With the moment at which it was told."""
    steps: dict[StepKey, StepOutcome] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        return self.waits or self.activity is not None or self.asking is not None

    @property
    def waits(self) -> bool:
        return any(step.outcome is Outcome.WAITING for step in self.steps.values())


class Display:
    """What is known of a run at this moment. Heard from many threads, drawn from another."""

    def __init__(
        self, voice: Voice, now: Callable[[], datetime], *, changes_nothing: bool = False
    ) -> None:
        self._changes_nothing = changes_nothing
        self._all = self._done = 0
        self._voice = voice
        self._now = now
        self._begun = now()
        self._lineages: dict[str, _Lineage] = {}
        self._lock = threading.Lock()

    def hear(self, event: Event) -> None:
        """See `ports.progress.Progress`."""
        with self._lock:
            if isinstance(event, Begun):
                self._all += event.count
                return
            lineage = self._lineages.setdefault(event.lineage, _Lineage())
            match event:
                case Activity():
                    lineage.activity, lineage.asking = event, None
                case Asking():
                    # Beside what it waits for, each look would only flicker.
                    lineage.asking = None if lineage.waits else (event, self._now())
                case StepEnded():
                    lineage.activity = lineage.asking = None
                    lineage.steps[event.outcome.key] = event.outcome
                case Ended():
                    lineage.activity = lineage.asking = None
                    self._done += 1

    def __rich_console__(self, screen: Screen, options: ConsoleOptions) -> Iterator[RichText]:
        """Draw what fits."""
        width, height = options.max_width, max(screen.size.height - 1, 1)
        footer = _fitted(line(), self._footer(), screen, width)
        if len(footer) >= height:
            footer = []
        with self._lock:
            yield from self._rows(screen, width, height - len(footer))
        yield from footer

    def _rows(self, screen: Screen, width: int, most: int) -> list[RichText]:
        """Give the certificates that are busy, as many as fit; the others are counted."""
        busy = [(name, lineage) for name, lineage in self._lineages.items() if lineage.is_busy]
        rows: list[RichText] = []
        for shown, (name, lineage) in enumerate(busy):
            block = self._block(name, lineage, screen, width)
            is_last = shown == len(busy) - 1
            if len(rows) + len(block) > (most if is_last else most - 1):
                # A block alone that does not fit is cut; others are left out as a whole.
                kept = rows or block[: most - 1]
                return [*kept, self._more(len(busy) - shown - (0 if rows else 1))]
            rows += block
        return rows

    def _block(self, name: str, lineage: _Lineage, screen: Screen, width: int) -> list[RichText]:
        if lineage.asking is not None and lineage.activity is None:
            return _fitted(line(), self._asked(name, *lineage.asking), screen, width)
        rows = _fitted(line(), line(Span(name, Tone.STRONG)), screen, width)
        for head, body in self._parts(name, lineage):
            rows += _fitted(head, body, screen, width)
        return rows

    def _more(self, certificates: int) -> RichText:
        said = one_or_many(
            certificates,
            Text("… 1 more certificate"),
            Text("… {count} more certificates", count=certificates) if certificates else Text("…"),
        )
        return RichText(self._voice.say(said), style="dim", no_wrap=True, overflow="ellipsis")

    def _parts(self, name: str, lineage: _Lineage) -> Iterator[tuple[Line, Line]]:
        """Give the steps that are no longer what they were, and what goes on now."""
        for step in lineage.steps.values():
            if step.outcome is not Outcome.UNCHANGED:
                yield head_of(step, self._voice), line(subject_and_detail(step, self._voice))
            if step.waiting is not None:
                yield self._times(step.waiting)
        if lineage.activity is not None:
            activity = lineage.activity
            yield line(INDENT), line(once(name, self._voice.say(activity.what)))
            yield self._times(activity)

    def _asked(self, name: str, asking: Asking, since: datetime) -> Line:
        words = once(name, self._voice.say(asking.what))
        elapsed = _elapsed(self._now() - since)
        return line(Span(name, Tone.STRONG), f": {words} ", Span(f"({elapsed})", Tone.FAINT))

    def _times(self, what: Waiting | Activity) -> tuple[Line, Line]:
        now = self._now()
        begun, elapsed = self._voice.clock(what.since, now), _elapsed(now - what.since)
        said = Text("since {since} ({elapsed})", since=begun, elapsed=elapsed)
        if isinstance(what, Waiting) and what.usual is not None:
            usual = in_minutes(what.usual)
            said = Text("{since}, usually {least}–{most} min", since=said, **usual)
        if what.deadline is not None:
            until = self._voice.clock(what.deadline, now)
            said = Text("{since}, until {deadline} at most", since=said, deadline=until)
        return line(" " * BELOW), line(Span(self._voice.say(said), Tone.FAINT))

    def _footer(self) -> Line:
        elapsed = _elapsed(self._now() - self._begun)
        if self._changes_nothing:
            said = Text("{elapsed} · Ctrl-C stops", elapsed=elapsed)
        else:
            said = Text("{elapsed} · Ctrl-C stops; the next run goes on", elapsed=elapsed)
        if self._all > 1:
            said = Text("{done} of {all} done · {said}", done=self._done, all=self._all, said=said)
        return line(Span(self._voice.say(said), Tone.FAINT))


def _rich(written: Line) -> RichText:
    """Give a line as rich draws it."""
    return RichText.assemble(*((visible(span.words), _STYLES[span.tone]) for span in written))


def _fitted(head: Line, body: Line, screen: Screen, width: int) -> list[RichText]:
    """Break a line to the width; what follows the columns stays to the right of them.

    On a narrow terminal it goes below them.
    """
    first, rows = _rich(head), list[RichText]()
    indent = first.cell_len
    if width < _NARROW and indent > _NARROW_INDENT:
        indent = _NARROW_INDENT
        first.rstrip()
        rows += first.wrap(screen, width) if first.plain else []
        first = RichText(" " * indent)
    for wrapped in _rich(body).wrap(screen, max(width - indent, 1)):
        rows.append(RichText.assemble(first, wrapped))
        first = RichText(" " * indent)
    return rows


def _elapsed(duration: timedelta) -> str:
    """Write a duration so that it is seen to go on: 0:07, 12:34, 1:02:03."""
    seconds = max(int(duration.total_seconds()), 0)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
