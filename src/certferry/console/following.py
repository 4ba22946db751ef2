"""Live events of runs. For each watched run, a single task asks the state for new events. Browsers
get the events as server-sent events (HTML Standard, "Server-sent events").
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from certferry.core.observed.stored_runs import RunEvent, RunState, StoredRun
from certferry.errors import StateError
from certferry.ports.run_store import RunStore

ASK_EVERY = 0.5
BEAT_EVERY = 15.0
"""Seconds between two questions to the state, and seconds of silence until a stream sends a beat. A
beat shows proxies that the stream is alive (the HTML Standard advises 15 seconds).
"""

AT_ONCE = 1000
"""The most events read by one query, and the most events of a run held for its watchers."""

MOST_OF_ONE = 20
"""The most streams of a viewer at once. Each stream holds one of the server's 300 connections. A
browser opens at most six streams, and a page that loses its stream still works.
"""


@dataclass(eq=False)
class Feed:
    """The events of a run. Belongs to the event loop; only the state is asked in a thread."""

    run: str
    runs: Callable[[], RunStore]
    #: Returns whether the process is ending.
    is_closing: Callable[[], bool]
    watchers: int = 0
    has_ended: bool = False
    #: How many certificates are done, and of how many.
    progress: tuple[int | None, int | None] = (None, None)
    _recent: deque[RunEvent] = field(default_factory=lambda: deque(maxlen=AT_ONCE))
    #: The number of the last event read.
    _asked: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def after(
        self,
        number: int,
        progress: tuple[int | None, int | None],
        is_over: Callable[[], bool],
    ) -> Sequence[RunEvent]:
        """Return the events after a number, or some of them if there are many. If there are none,
        first wait for an event, for other progress, for the time of a beat, or for the end of the
        run, the stream or the process. Then there may still be no event to return.
        """
        if self._recent and number < self._recent[0].number - 1:
            return await run_in_threadpool(self._read, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT_EVERY), self._news:
                await self._news.wait_for(lambda: is_over() or self._is_news(number, progress))
        return [event for event in self._recent if event.number > number]

    def _is_news(self, number: int, progress: tuple[int | None, int | None]) -> bool:
        is_news = self._asked > number or self.progress != progress
        return is_news or self.has_ended or self.is_closing()

    async def ask(self) -> None:
        """Ask the state for events until the run has ended, or the process ends. If the state does
        not answer, ask again.
        """
        while not (self.has_ended or self.is_closing()):
            is_more = False
            with suppress(StateError):
                is_more = self._add(*await run_in_threadpool(self._read_news))
            await self.notify()
            await asyncio.sleep(0 if is_more else ASK_EVERY)
        await self.notify()

    async def notify(self) -> None:
        """Wake every stream of the run to check for news."""
        async with self._news:
            self._news.notify_all()

    def _add(self, run: StoredRun | None, events: Sequence[RunEvent]) -> bool:
        """Add events just read from the state. Return whether the state may have more events."""
        self._recent.extend(events)
        self._asked = events[-1].number if events else self._asked
        if run is not None:
            self.progress = (run.done, run.count)
        is_more = len(events) == AT_ONCE
        self.has_ended = not is_more and (run is None or run.state is not RunState.RUNNING)
        return is_more

    def _read_news(self) -> tuple[StoredRun | None, Sequence[RunEvent]]:
        # The end is stored after the last event, so reading in this order misses no event.
        return self.runs().stored_run(self.run), self._read(self._asked)

    def _read(self, number: int) -> Sequence[RunEvent]:
        return self.runs().run_events(self.run, number, AT_ONCE)


@dataclass(eq=False)
class Viewing:
    """A stream following a run."""

    feed: Feed
    #: Whether the stream must end because the viewer has opened too many streams since.
    is_displaced: bool = False
    #: The progress that the stream has shown.
    _progress: tuple[int | None, int | None] = (None, None)

    @property
    def is_over(self) -> bool:
        """Whether the stream must end, because it is displaced or the run has ended."""
        return self.is_displaced or self.feed.has_ended

    async def after(self, number: int) -> Sequence[RunEvent]:
        """See `Feed.after`. Other progress is news once."""
        events = await self.feed.after(number, self._progress, lambda: self.is_displaced)
        self._progress = self.feed.progress
        return events


@dataclass(eq=False)
class Feeds:
    """The runs watched at this moment."""

    runs: Callable[[], RunStore]
    is_closing: Callable[[], bool]
    #: By run.
    _feeds: dict[str, Feed] = field(default_factory=dict)
    #: The task asking the state, by run.
    _asking: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    #: The streams of each viewer, oldest first.
    _watches: dict[str, list[Viewing]] = field(default_factory=lambda: defaultdict(list))

    @asynccontextmanager
    async def watching(self, run: str, viewer: str) -> AsyncIterator[Viewing]:
        """Follow a run for a `with` block. The first watcher starts asking the state, and the last
        watcher stops asking. If the viewer has too many streams, the oldest stream ends.
        """
        feed = self._feeds.get(run)
        if feed is None:
            feed = self._feeds[run] = Feed(run, self.runs, self.is_closing)
            self._asking[run] = asyncio.create_task(feed.ask())
        feed.watchers += 1
        watch, own = Viewing(feed), self._watches[viewer]
        own.append(watch)
        try:
            if len(own) > MOST_OF_ONE:
                oldest = own.pop(0)
                oldest.is_displaced = True
                await oldest.feed.notify()
            yield watch
        finally:
            if not watch.is_displaced:
                own.remove(watch)
            feed.watchers -= 1
            if not feed.watchers:
                del self._feeds[run]
                self._asking.pop(run).cancel()


def message(event: str, data: str, number: int | None = None) -> str:
    """Return a server-sent event as text. `number` is the event's id."""
    head = f"event: {event}\n" if number is None else f"id: {number}\nevent: {event}\n"
    return head + "".join(f"data: {line}\n" for line in data.splitlines() or [""]) + "\n"
