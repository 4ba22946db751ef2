"""Pass on the events of runs in progress to browsers, as server-sent events (HTML Standard,
"Server-sent events"). For each watched run, a single task asks the state for new events.
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
"""The seconds between two queries of the state, and the seconds without news after which a stream
sends a beat: an event that shows proxies that the stream is alive (the HTML Standard advises 15
seconds).
"""

AT_ONCE = 1000
"""The most events that one query reads. Also the most events of a run that are kept in memory for
the streams.
"""

MOST_OF_ONE = 20
"""The most streams of a user at once, because each stream holds one of the server's 300
connections. A browser opens at most six streams, and a page without its stream still works.
"""


@dataclass(eq=False)
class Feed:
    """The events of a watched run. Only the event loop's thread uses this class; the state is
    queried in other threads.
    """

    #: The id of the run.
    run: str
    #: Returns the store of runs.
    runs: Callable[[], RunStore]
    #: Returns whether the process is ending.
    is_closing: Callable[[], bool]
    #: The number of streams that watch the run.
    watchers: int = 0
    #: Whether the run has ended, and all of its events are read.
    has_ended: bool = False
    #: How many certificates are done, and of how many.
    progress: tuple[int | None, int | None] = (None, None)
    #: The last events read.
    _recent: deque[RunEvent] = field(default_factory=lambda: deque(maxlen=AT_ONCE))
    #: The number of the last event read.
    _asked: int = 0
    #: Wakes the streams that wait for news.
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def after(
        self,
        number: int,
        progress: tuple[int | None, int | None],
        is_over: Callable[[], bool],
    ) -> Sequence[RunEvent]:
        """Return the events after a number, at most `AT_ONCE`.

        If there are none, first wait: for an event, for other progress than `progress`, for the end
        of the run, of the stream (`is_over`) or of the process, but at most `BEAT_EVERY`. So the
        result may be empty.
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
        """Query the state for events again and again, until the run has ended or the process ends.
        Errors of the state are ignored.
        """
        while not (self.has_ended or self.is_closing()):
            is_more = False
            with suppress(StateError):
                is_more = self._add(*await run_in_threadpool(self._read_news))
            await self.notify()
            await asyncio.sleep(0 if is_more else ASK_EVERY)
        await self.notify()

    async def notify(self) -> None:
        """Wake every stream of the run, so that the stream checks for news."""
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
        # The run is read before the events. Since a run stores its end after its last event, the
        # events are complete if the run has ended.
        return self.runs().stored_run(self.run), self._read(self._asked)

    def _read(self, number: int) -> Sequence[RunEvent]:
        return self.runs().run_events(self.run, number, AT_ONCE)


@dataclass(eq=False)
class Viewing:
    """A stream that follows a run."""

    #: The events of the run.
    feed: Feed
    #: Whether the stream must end, because the user has opened too many streams since.
    is_displaced: bool = False
    #: The progress that the stream has shown.
    _progress: tuple[int | None, int | None] = (None, None)

    @property
    def is_over(self) -> bool:
        """Whether the stream must end, because it is displaced or the run has ended."""
        return self.is_displaced or self.feed.has_ended

    async def after(self, number: int) -> Sequence[RunEvent]:
        """Return the events after a number, as `Feed.after` does. Wait for other progress than the
        progress at the last call.
        """
        events = await self.feed.after(number, self._progress, lambda: self.is_displaced)
        self._progress = self.feed.progress
        return events


@dataclass(eq=False)
class Feeds:
    """The runs that are watched at this moment."""

    #: Returns the store of runs.
    runs: Callable[[], RunStore]
    #: Returns whether the process is ending.
    is_closing: Callable[[], bool]
    #: The events of each watched run, by the run's id.
    _feeds: dict[str, Feed] = field(default_factory=dict)
    #: The task that queries the state, by the run's id.
    _asking: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    #: The streams of each user, oldest first.
    _watches: dict[str, list[Viewing]] = field(default_factory=lambda: defaultdict(list))

    @asynccontextmanager
    async def watching(self, run: str, viewer: str) -> AsyncIterator[Viewing]:
        """Follow a run within a `with` block. The state is queried as long as at least one stream
        follows the run. If the user `viewer` has too many streams, the user's oldest stream ends.
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
