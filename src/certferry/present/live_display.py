"""The live display of a run: for each certificate, what the run waits for, at whose hands, since
when, and until when at most. Of many domains what waits stands first, and what is done is counted.
It fits the terminal at every moment, and leaves nothing behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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

_REFRESHES = 4
"""Times a second that the display is drawn, so that the time waited is seen to go on."""

_NARROW = 60
"""Cells below which words go under their columns instead of beside them."""

_FEW = 8
"""Steps of a certificate that are shown one by one; of more, those that are alike are counted."""

_FEW_DOMAINS = 3
"""Domains of a run of which no line needs to say how many are done."""

_NAMED = 3
"""Domains that are named of those that wait for the same."""

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


_WELL = {Outcome.DONE, Outcome.UNCHANGED, Outcome.ELSEWHERE}


@dataclass(slots=True)
class _Lineage:
    activity: Activity | None = None
    counted: Counted | None = None
    """How far that is which goes on."""
    asking: tuple[Asking, datetime] | None = None
    """With the moment at which it was heard."""
    steps: dict[StepKey, StepOutcome] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        return bool(self.waiting) or self.activity is not None or self.asking is not None

    @property
    def waiting(self) -> list[StepOutcome]:
        return [step for step in self.steps.values() if step.outcome is Outcome.WAITING]

    @property
    def shown(self) -> list[StepOutcome]:
        """The steps that are no longer what they were."""
        return [step for step in self.steps.values() if step.outcome is not Outcome.UNCHANGED]

    def begin(self, activity: Activity | None) -> None:
        """Be busy with this, or with nothing."""
        self.activity, self.counted, self.asking = activity, None, None

    def of(self, action: Action | None) -> tuple[int, int]:
        """Count at how many domains a step has ended well, of at how many it is to."""
        known = {(step.action, step.target, step.domain): step for step in self.steps.values()}
        deploys = {key[1:]: one for key, one in known.items() if key[0] is Action.DEPLOY}
        verifies = {key[1:]: one for key, one in known.items() if key[0] is Action.VERIFY}
        if action is Action.DEPLOY:
            # What is verified alone was bound before.
            done = [one for one in deploys.values() if one.outcome in _WELL]
            return len(done) + len(verifies.keys() - deploys), len(deploys | verifies)
        # What is delivered to a receiver is not looked at from outside.
        left = {place for place, one in deploys.items() if one.outcome not in _WELL}
        done = [one for one in verifies.values() if one.outcome in _WELL]
        return len(done), len(left | verifies.keys())


class Display:
    """What a run is doing at this moment. Many threads report it, another draws it."""

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
                    lineage.begin(event)
                case Counted():
                    lineage.counted = event
                case Asking():
                    # Beside what it waits for, each look would only flicker.
                    lineage.asking = None if lineage.waiting else (event, self._now())
                case StepEnded():
                    lineage.begin(None)
                    lineage.steps[event.outcome.key] = event.outcome
                case LineageEnded():
                    lineage.begin(None)
                    self._done += 1

    def __rich_console__(self, screen: Screen, options: ConsoleOptions) -> Iterator[RichText]:
        """Draw what fits."""
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
        """Return the busy certificates that fit, a row for each at least, and count the others."""
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
            what = once(step.domain or step.target, self._voice.say(step.detail))
            if step.domain not in {None, name}:
                what = f"{step.domain}: {what}"
            words = f"{self._voice.word(step.word)} {self._voice.word(step.outcome)}: {what}"
            if others:
                words = f"{words} {self._voice.say(_and_more(len(others)))}"
            since = self._now() if step.waiting is None else step.waiting.since
        elapsed = Span(f" ({_elapsed(self._now() - since)})", Tone.FAINT)
        return line(Span(name, Tone.STRONG), elapsed, f": {words}")

    def _more(self, certificates: int) -> RichText:
        many = Text("… {count} more certificates") if certificates else Text("…")
        said = one_or_many(certificates, Text("… 1 more certificate"), many)
        return RichText(self._voice.say(said), style="dim", no_wrap=True, overflow="ellipsis")

    def _parts(self, name: str, lineage: _Lineage) -> Iterator[tuple[Line, Line]]:
        for step in lineage.shown:
            yield from self._alike([step], "", 1)
        yield from self._activity(name, lineage)

    def _counted_parts(self, name: str, lineage: _Lineage) -> Iterator[tuple[Line, Line]]:
        """Return what goes on, then alike steps together with the number of their domains."""
        yield from self._activity(name, lineage)
        alike: dict[tuple[Action | None, Outcome, str], list[StepOutcome]] = {}
        for step in sorted(lineage.shown, key=_what_waits_first):
            said = once(step.domain or step.target, self._voice.say(step.detail))
            key = (step.action, step.outcome, "" if step.outcome in _WELL else said)
            alike.setdefault(key, []).append(step)
        for (action, _, said), steps in alike.items():
            yield from self._alike(steps, said, lineage.of(action)[1])

    def _alike(
        self, steps: Sequence[StepOutcome], said: str, domains: int
    ) -> Iterator[tuple[Line, Line]]:
        first = steps[0]
        if len(steps) == 1:
            yield head_of(first, self._voice), line(subject_and_detail(first, self._voice))
            yield from self._wait_of(steps)
            return
        count = Text("{count} of {all}", count=len(steps), all=max(domains, len(steps)))
        if not said:
            yield head_of(first, self._voice), line(self._voice.say(count))
            return
        words = Text("{count}: {said}", count=count, said=said)
        yield head_of(first, self._voice), line(self._voice.say(words))
        # With spaces in Chinese as well: the row is broken there, and not within a name.
        names = ", ".join(step.domain or step.label or "" for step in steps[:_NAMED])
        if len(steps) > _NAMED:
            more = _and_more(len(steps) - _NAMED)
            names = self._voice.say(Text("{names} {more}", names=names, more=more))
        yield line(" " * BELOW), line(Span(names, Tone.FAINT))
        yield from self._wait_of(steps)

    def _wait_of(self, steps: Sequence[StepOutcome]) -> Iterator[tuple[Line, Line]]:
        wait = _longest(steps)
        if wait is not None:
            if "least" in steps[0].detail.values:  # the sentence itself says what is usual
                wait = replace(wait, usual=None)
            yield line(" " * BELOW), line(Span(self._voice.say(self._times(wait)), Tone.FAINT))

    def _activity(self, name: str, lineage: _Lineage) -> Iterator[tuple[Line, Line]]:
        activity = lineage.activity
        if activity is not None:
            yield line(INDENT), line(self._doing(name, lineage, activity))
            said = self._voice.say(self._times(activity))
            yield line(" " * BELOW), line(Span(said, Tone.FAINT))

    def _doing(self, name: str, lineage: _Lineage, activity: Activity) -> str:
        what, counted = activity.what, lineage.counted
        if counted is not None:
            what = Text("{what}: {done} of {all}", what=what, done=counted.done, all=counted.all)
        return once(name, self._voice.say(what))

    def _asked(self, name: str, asking: Asking, since: datetime) -> Line:
        words, elapsed = once(name, self._voice.say(asking.what)), _elapsed(self._now() - since)
        return line(Span(name, Tone.STRONG), f": {words} ", Span(f"({elapsed})", Tone.FAINT))

    def _times(self, what: Waiting | Activity, *, until: bool = True) -> Text:
        now = self._now()
        begun, elapsed = self._voice.clock(what.since, now), _elapsed(now - what.since)
        said = Text("since {since} ({elapsed})", since=begun, elapsed=elapsed)
        if isinstance(what, Waiting) and what.usual is not None:
            usual = in_minutes(what.usual)
            said = Text("{since}, usually {least}–{most} min", since=said, **usual)
        if what.deadline is not None and until:
            deadline = self._voice.clock(what.deadline, now)
            said = Text("{since}, until {deadline} at most", since=said, deadline=deadline)
        return said

    def _counts(self) -> Line | None:
        """Render how many domains are deployed and verified, and since when the others wait."""
        lineages = self._lineages.values()
        counts = []
        for action in (Action.DEPLOY, Action.VERIFY):
            each = [one.of(action) for one in lineages]
            done, domains = sum(well for well, _ in each), sum(found for _, found in each)
            if done < domains and domains > _FEW_DOMAINS:
                counts.append(
                    Text("{step} {done} of {all}", step=WORDS[action], done=done, all=domains)
                )
        if not counts:
            return None
        said = Text("{counts}", counts=counts)
        wait = _longest([step for one in lineages for step in one.waiting])
        if wait is not None:
            said = Text("{counts} · {since}", counts=said, since=self._times(wait, until=False))
        return line(self._voice.say(said))

    def _footer(self) -> Line:
        elapsed = _elapsed(self._now() - self._begun)
        said = Text("{elapsed} · Ctrl-C stops; the next run goes on")
        if self._changes_nothing:
            said = Text("{elapsed} · Ctrl-C stops")
        said = said.filled(elapsed=elapsed)
        if self._all > 1:
            said = Text("{done} of {all} done · {said}", done=self._done, all=self._all, said=said)
        return line(Span(self._voice.say(said), Tone.FAINT))


def _what_waits_first(step: StepOutcome) -> int:
    return 0 if step.outcome is Outcome.WAITING else 2 if step.outcome in _WELL else 1


def _and_more(count: int) -> Text:
    return one_or_many(count, Text("and 1 more"), Text("and {count} more"))


def _longest(steps: Sequence[StepOutcome]) -> Waiting | None:
    """Join waits: the first of those of which is known how long they take, until the last ends."""
    waits = [step.waiting for step in steps if step.waiting is not None]
    if not waits:
        return None
    deadlines = [wait.deadline for wait in waits if wait.deadline is not None]
    first = min(waits, key=lambda wait: (wait.usual is None, wait.since))
    return replace(first, deadline=max(deadlines, default=None))


def _on_one_row(written: Line) -> RichText:
    row = _rich(tuple(Span(span.words.replace("\n", " "), span.tone) for span in written))
    row.no_wrap, row.overflow = True, "ellipsis"
    return row


def _rich(written: Line) -> RichText:
    return RichText.assemble(*((visible(span.words), _STYLES[span.tone]) for span in written))


def _fitted(head: Line, body: Line, screen: Screen, width: int) -> list[RichText]:
    """Break a line to the width, to the right of its columns, or on a narrow terminal below."""
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
