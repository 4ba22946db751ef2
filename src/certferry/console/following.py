"""Runs as they are followed live: one task asks the state what is new in a run, for all who watch
it, and server-sent events bring it to browsers (HTML Standard, "Server-sent events").
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from certferry.core.observed.runs import RunEvent, RunState, StoredRun
from certferry.errors import StateError
from certferry.ports.runs import RunStore

ASK_EVERY = 0.5
BEAT_EVERY = 15.0
"""Seconds. The state is asked twice a second; a reader hears from a silent run within a beat, so
that a proxy does not take the stream for dead (the HTML Standard advises 15 seconds).
"""

AT_ONCE = 1000
"""Events that are read in one query, and that are held for those who watch."""

MOST_OF_ONE = 20
"""Streams of one viewer: each holds a connection, of which the server has 300 for all. A browser
opens six at most; its page goes on without a stream.
"""


@dataclass(eq=False)
class Feed:
    """What happens in one run. Belongs to the event loop; only the state is asked in a thread."""

    run: str
    runs: Callable[[], RunStore]
    is_closing: Callable[[], bool]
    watchers: int = 0
    has_ended: bool = False
    _recent: deque[RunEvent] = field(default_factory=lambda: deque(maxlen=AT_ONCE))
    _asked: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def after(self, number: int, is_over: Callable[[], bool]) -> Sequence[RunEvent]:
        """Return the events after this one; wait for one, for a beat, or for the end of the run or
        of the stream.
        """
        if self._recent and number < self._recent[0].number - 1:
            return await run_in_threadpool(self._read, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT_EVERY), self._news:
                await self._news.wait_for(lambda: is_over() or self._is_news(number))
        return [event for event in self._recent if event.number > number]

    def _is_news(self, number: int) -> bool:
        return self._asked > number or self.has_ended or self.is_closing()

    async def ask(self) -> None:
        """Ask the state until the run has ended. A state that does not answer is asked again."""
        while not (self.has_ended or self.is_closing()):
            is_more = False
            with suppress(StateError):
                is_more = self._add(*await run_in_threadpool(self._read_news))
            await self.notify()
            await asyncio.sleep(0 if is_more else ASK_EVERY)
        await self.notify()

    async def notify(self) -> None:
        """Have every stream see whether anything is new for it."""
        async with self._news:
            self._news.notify_all()

    def _add(self, run: StoredRun | None, found: Sequence[RunEvent]) -> bool:
        """Hold what was found; return whether the state may have more of it."""
        self._recent.extend(found)
        self._asked = found[-1].number if found else self._asked
        is_more = len(found) == AT_ONCE
        self.has_ended = not is_more and (run is None or run.state is not RunState.RUNNING)
        return is_more

    def _read_news(self) -> tuple[StoredRun | None, Sequence[RunEvent]]:
        # The end is stored after the last event: read in this order, no event is missing.
        return self.runs().stored_run(self.run), self._read(self._asked)

    def _read(self, number: int) -> Sequence[RunEvent]:
        return self.runs().run_events(self.run, number, AT_ONCE)


@dataclass(eq=False)
class Viewing:
    """One stream, which follows a run; `is_displaced` once its viewer has opened too many since."""

    feed: Feed
    is_displaced: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.is_displaced or self.feed.has_ended

    async def after(self, number: int) -> Sequence[RunEvent]:
        """See `Feed.after`."""
        return await self.feed.after(number, lambda: self.is_displaced)


@dataclass(eq=False)
class Feeds:
    """The runs that are watched at this moment."""

    runs: Callable[[], RunStore]
    is_closing: Callable[[], bool]
    _feeds: dict[str, Feed] = field(default_factory=dict)
    _asking: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _watches: dict[str, list[Viewing]] = field(default_factory=lambda: defaultdict(list))
    """The streams of each viewer, the oldest first."""

    @asynccontextmanager
    async def watching(self, run: str, viewer: str) -> AsyncIterator[Viewing]:
        """Follow a run for a `with` block; the first who does begins to ask, the last ends it. Of
        too many streams of one viewer, the oldest goes.
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
    """Write one server-sent event."""
    head = f"event: {event}\n" if number is None else f"id: {number}\nevent: {event}\n"
    return head + "".join(f"data: {line}\n" for line in data.splitlines() or [""]) + "\n"
