"""Show a run live on the terminal.

For each certificate in progress, the display shows the steps and the current wait: for which
service, since when, and until when at most. If a certificate has many steps, waiting steps come
first, and equal steps share a line. The display is never higher than the terminal, and disappears
at the end of the run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rich.console import Console as Screen
from rich.console import ConsoleOptions
from rich.live import Live
from rich.text import Text as RichText

from certferry.core.events import Activity, Asking, Begun, Counted, Event, LineageEnded, StepEnded
from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome, StepKey, StepOutcome
from certferry.core.reasons import Waiting, in_minutes
from certferry.ports.progress import Progress
from certferry.present.console import Console
from certferry.present.language import WORDS, Voice, once, one_or_many
from certferry.present.layout import Line, Span, Tone, line, visible
from certferry.present.plan_text import INDENT
from certferry.present.report_text import BELOW, head_of, subject_and_detail
from certferry.text import Text
from certferry.values import replace

_REFRESHES = 4
"""Redraws per second: enough to see the seconds of a wait advance."""

_NARROW = 60
"""A width in cells. On a narrower terminal, details go below the step's name instead of beside it.
"""

_FEW = 8
"""Up to this many steps of a certificate each get a line. If there are more, equal steps share a
line that gives their number.
"""

_FEW_DOMAINS = 3
"""In a run with more domains than this, a line at the bottom counts the finished domains, until all
are finished.
"""

_NAMED = 3
"""The most domains named below a line of equal steps. The others are only counted."""

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
    """Show a run on the terminal of stderr within a `with` block, which gets the listener for the
    run's events. With `changes_nothing`, the display does not say that the next run continues.
    """
    display = Display(console.voice, now, changes_nothing=changes_nothing)
    # Without a colour system, rich writes no codes at all, as `Console` does under NO_COLOR. rich's
    # own option `no_color` would keep bold and dim.
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
        yield display.on_event


_WELL = {Outcome.DONE, Outcome.UNCHANGED, Outcome.ELSEWHERE}


@dataclass(slots=True)
class _Lineage:
    activity: Activity | None = None
    """The current activity, such as a wait for DNS, if any."""
    counted: Counted | None = None
    """The progress of the current activity."""
    asking: tuple[Asking, datetime] | None = None
    """The current request to a service, and the moment when the event arrived."""
    steps: dict[StepKey, StepOutcome] = field(default_factory=dict)
    """The last reported outcome of each step."""

    @property
    def is_busy(self) -> bool:
        return bool(self.waiting) or self.activity is not None or self.asking is not None

    @property
    def waiting(self) -> list[StepOutcome]:
        return [step for step in self.steps.values() if step.outcome is Outcome.WAITING]

    @property
    def shown(self) -> list[StepOutcome]:
        """The steps with an outcome other than unchanged."""
        return [step for step in self.steps.values() if step.outcome is not Outcome.UNCHANGED]

    def begin(self, activity: Activity | None) -> None:
        """Set the current activity, or none, and forget the previous activity's progress and the
        current request.
        """
        self.activity, self.counted, self.asking = activity, None, None

    def of(self, action: Action | None) -> tuple[int, int]:
        """Return for DEPLOY, or else for VERIFY, the number of domains with this step finished and
        the number of all domains. A domain bound before the run counts as deployed. Any `action`
        but DEPLOY means VERIFY.
        """
        by_key = {(step.action, step.target, step.domain): step for step in self.steps.values()}
        deploys = {key[1:]: step for key, step in by_key.items() if key[0] is Action.DEPLOY}
        verifies = {key[1:]: step for key, step in by_key.items() if key[0] is Action.VERIFY}
        if action is Action.DEPLOY:
            # A domain with a Verify but no Deploy was bound before the run.
            done = [step for step in deploys.values() if step.outcome in _WELL]
            return len(done) + len(verifies.keys() - deploys), len(deploys | verifies)
        # A receiver without `serves` has no Verify, because no handshake shows its certificate.
        left = {place for place, step in deploys.items() if step.outcome not in _WELL}
        done = [step for step in verifies.values() if step.outcome in _WELL]
        return len(done), len(left | verifies.keys())


class Display:
    """Keeps the state of a run by the events, and draws the state. Several threads report events,
    and another thread draws, so a lock guards the state.
    """

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

    def on_event(self, event: Event) -> None:
        """See `ports.progress.Progress`."""
        with self._lock:
            if isinstance(event, Begun):
                self._all += event.count
                return
            lineage = self._lineages.setdefault(event.lineage, _Lineage())
            match event:
                case Activity():
                    lineage.begin(event)
                case Counted():
                    lineage.counted = event
                case Asking():
                    # Beside a wait, each short request would only flicker.
                    lineage.asking = None if lineage.waiting else (event, self._now())
                case StepEnded():
                    lineage.begin(None)
                    lineage.steps[event.outcome.key] = event.outcome
                case LineageEnded():
                    lineage.begin(None)
                    self._done += 1

    def __rich_console__(self, screen: Screen, options: ConsoleOptions) -> Iterator[RichText]:
        """Draw the certificates, and below them the counts and the footer. If the counts and the
        footer alone would fill the terminal, leave out both.
        """
        width, height = options.max_width, max(screen.size.height - 1, 1)
        with self._lock:
            counts = self._counts()
            footer = [] if counts is None else _fitted(line(), counts, screen, width)
            footer += _fitted(line(), self._footer(), screen, width)
            if len(footer) >= height:
                footer = []
            yield from self._rows(screen, width, height - len(footer))
        yield from footer

    def _rows(self, screen: Screen, width: int, most: int) -> list[RichText]:
        """Return at most `most` rows for the busy certificates. A certificate gets all its rows, or
        one row if they do not fit. A last row counts the certificates that do not fit at all. The
        rows of a single busy certificate are cut off instead.
        """
        busy = [(name, lineage) for name, lineage in self._lineages.items() if lineage.is_busy]
        rows: list[RichText] = []
        for left, (name, lineage) in zip(reversed(range(len(busy))), busy, strict=True):
            block = self._block(name, lineage, screen, width)
            if len(rows) + len(block) + left > most:
                if len(busy) == 1:
                    return [*block[: most - 1], self._more(0)]
                block = [_on_one_row(self._in_short(name, lineage))]
            if len(rows) + len(block) > (most - 1 if left else most):
                return [*rows, self._more(left + 1)]
            rows += block
        return rows

    def _block(self, name: str, lineage: _Lineage, screen: Screen, width: int) -> list[RichText]:
        if lineage.asking is not None and lineage.activity is None:
            return _fitted(line(), self._asked(name, *lineage.asking), screen, width)
        rows = _fitted(line(), line(Span(name, Tone.STRONG)), screen, width)
        parts = self._parts if len(lineage.shown) <= _FEW else self._counted_parts
        for head, body in parts(name, lineage):
            rows += _fitted(head, body, screen, width)
        return rows

    def _in_short(self, name: str, lineage: _Lineage) -> Line:
        if lineage.activity is not None:
            words, since = self._doing(name, lineage, lineage.activity), lineage.activity.since
        elif lineage.asking is not None:
            return self._asked(name, *lineage.asking)
        else:
            step, *others = lineage.waiting
            detail = once(step.domain or step.target, self._voice.say(step.detail))
            if step.domain not in {None, name}:
                detail = f"{step.domain}: {detail}"
            words = f"{self._voice.word(step.word)} {self._voice.word(step.outcome)}: {detail}"
            if others:
                words = f"{words} {self._voice.say(_and_more(len(others)))}"
            since = self._now() if step.waiting is None else step.waiting.since
        elapsed = Span(f" ({_elapsed(self._now() - since)})", Tone.FAINT)
        return line(Span(name, Tone.STRONG), elapsed, f": {words}")

    def _more(self, certificates: int) -> RichText:
        many = Text("… {count} more certificates") if certificates else Text("…")
        message = one_or_many(certificates, Text("… 1 more certificate"), many)
        return RichText(self._voice.say(message), style="dim", no_wrap=True, overflow="ellipsis")

    def _parts(self, name: str, lineage: _Lineage) -> Iterator[tuple[Line, Line]]:
        for step in lineage.shown:
            yield from self._alike([step], "", 1)
        yield from self._activity(name, lineage)

    def _counted_parts(self, name: str, lineage: _Lineage) -> Iterator[tuple[Line, Line]]:
        """Yield the current activity, then each group of equal steps with their number."""
        yield from self._activity(name, lineage)
        alike: dict[tuple[Action | None, Outcome, str], list[StepOutcome]] = {}
        for step in sorted(lineage.shown, key=_what_waits_first):
            detail = once(step.domain or step.target, self._voice.say(step.detail))
            key = (step.action, step.outcome, "" if step.outcome in _WELL else detail)
            alike.setdefault(key, []).append(step)
        for (action, _, detail), steps in alike.items():
            yield from self._alike(steps, detail, lineage.of(action)[1])

    def _alike(
        self, steps: Sequence[StepOutcome], detail: str, domains: int
    ) -> Iterator[tuple[Line, Line]]:
        first = steps[0]
        if len(steps) == 1:
            yield head_of(first, self._voice), line(subject_and_detail(first, self._voice))
            yield from self._wait_of(steps)
            return
        count = Text("{count} of {all}", count=len(steps), all=max(domains, len(steps)))
        if not detail:
            yield head_of(first, self._voice), line(self._voice.say(count))
            return
        words = Text("{count}: {said}", count=count, said=detail)
        yield head_of(first, self._voice), line(self._voice.say(words))
        # The comma has a space in Chinese too, so rows break between names and not inside a name.
        names = ", ".join(step.domain or step.label or "" for step in steps[:_NAMED])
        if len(steps) > _NAMED:
            more = _and_more(len(steps) - _NAMED)
            names = self._voice.say(Text("{names} {more}", names=names, more=more))
        yield line(" " * BELOW), line(Span(names, Tone.FAINT))
        yield from self._wait_of(steps)

    def _wait_of(self, steps: Sequence[StepOutcome]) -> Iterator[tuple[Line, Line]]:
        wait = _first_wait(steps)
        if wait is not None:
            if "least" in steps[0].detail.values:  # the detail already gives the usual duration
                wait = replace(wait, usual=None)
            yield line(" " * BELOW), line(Span(self._voice.say(self._times(wait)), Tone.FAINT))

    def _activity(self, name: str, lineage: _Lineage) -> Iterator[tuple[Line, Line]]:
        activity = lineage.activity
        if activity is not None:
            yield line(INDENT), line(self._doing(name, lineage, activity))
            message = self._voice.say(self._times(activity))
            yield line(" " * BELOW), line(Span(message, Tone.FAINT))

    def _doing(self, name: str, lineage: _Lineage, activity: Activity) -> str:
        doing, counted = activity.what, lineage.counted
        if counted is not None:
            doing = Text("{what}: {done} of {all}", what=doing, done=counted.done, all=counted.all)
        return once(name, self._voice.say(doing))

    def _asked(self, name: str, asking: Asking, since: datetime) -> Line:
        words, elapsed = once(name, self._voice.say(asking.what)), _elapsed(self._now() - since)
        return line(Span(name, Tone.STRONG), f": {words} ", Span(f"({elapsed})", Tone.FAINT))

    def _times(self, wait: Waiting | Activity, *, until: bool = True) -> Text:
        now = self._now()
        begun, elapsed = self._voice.clock(wait.since, now), _elapsed(now - wait.since)
        message = Text("since {since} ({elapsed})", since=begun, elapsed=elapsed)
        if isinstance(wait, Waiting) and wait.usual is not None:
            usual = in_minutes(wait.usual)
            message = Text("{since}, usually {least}–{most} min", since=message, **usual)
        if wait.deadline is not None and until:
            deadline = self._voice.clock(wait.deadline, now)
            message = Text("{since}, until {deadline} at most", since=message, deadline=deadline)
        return message

    def _counts(self) -> Line | None:
        """Render how many domains are deployed and how many are verified, each number until all
        domains have that step, and since when the first waiting step waits. Return `None` for few
        domains (`_FEW_DOMAINS`), and once all domains are verified.
        """
        lineages = self._lineages.values()
        counts = []
        for action in (Action.DEPLOY, Action.VERIFY):
            each = [lineage.of(action) for lineage in lineages]
            done, domains = (
                sum(well for well, _ in each),
                sum(domain_count for _, domain_count in each),
            )
            if done < domains and domains > _FEW_DOMAINS:
                counts.append(
                    Text("{step} {done} of {all}", step=WORDS[action], done=done, all=domains)
                )
        if not counts:
            return None
        message = Text("{counts}", counts=counts)
        wait = _first_wait([step for lineage in lineages for step in lineage.waiting])
        if wait is not None:
            message = Text(
                "{counts} · {since}", counts=message, since=self._times(wait, until=False)
            )
        return line(self._voice.say(message))

    def _footer(self) -> Line:
        elapsed = _elapsed(self._now() - self._begun)
        message = Text("{elapsed} · Ctrl-C stops; the next run continues")
        if self._changes_nothing:
            message = Text("{elapsed} · Ctrl-C stops")
        message = message.filled(elapsed=elapsed)
        if self._all > 1:
            message = Text(
                "{done} of {all} done · {said}", done=self._done, all=self._all, said=message
            )
        return line(Span(self._voice.say(message), Tone.FAINT))


def _what_waits_first(step: StepOutcome) -> int:
    return 0 if step.outcome is Outcome.WAITING else 2 if step.outcome in _WELL else 1


def _and_more(count: int) -> Text:
    return one_or_many(count, Text("and 1 more"), Text("and {count} more"))


def _first_wait(steps: Sequence[StepOutcome]) -> Waiting | None:
    """Return one wait to show for the waits of several steps, or `None` if no step waits. Take the
    earliest wait with a usual duration, or else the earliest wait, and give it the latest deadline
    of all the waits.
    """
    waits = [step.waiting for step in steps if step.waiting is not None]
    if not waits:
        return None
    deadlines = [wait.deadline for wait in waits if wait.deadline is not None]
    first = min(waits, key=lambda wait: (wait.usual is None, wait.since))
    return replace(first, deadline=max(deadlines, default=None))


def _on_one_row(row_line: Line) -> RichText:
    row = _rich(tuple(Span(span.words.replace("\n", " "), span.tone) for span in row_line))
    row.no_wrap, row.overflow = True, "ellipsis"
    return row


def _rich(row_line: Line) -> RichText:
    return RichText.assemble(*((visible(span.words), _STYLES[span.tone]) for span in row_line))


def _fitted(head: Line, body: Line, screen: Screen, width: int) -> list[RichText]:
    """Return `head` and `body` as rows of at most `width` cells. The body is wrapped to the right
    of the head. On a narrow terminal, the body stands below a long head.
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
    """Return a duration with seconds, such as 0:07, 12:34 or 1:02:03, so that the operator sees the
    time advance.
    """
    seconds = max(int(duration.total_seconds()), 0)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
