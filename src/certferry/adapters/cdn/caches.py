"""Keep a service's answers: in a cache during a run, and as notes in the state between runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from certferry.adapters.cdn.answers import decode
from certferry.ports.state import AccountMemory

log = logging.getLogger(__name__)

LIST_AGE = 5.0  # seconds until a cached list is read again

T = TypeVar("T")
Clock = Callable[[], float]  # monotonic seconds


class TtlCache(Generic[T]):
    """A cached value, fetched again once too old. Other callers wait during a fetch."""

    def __init__(self, fetch: Callable[[], T], age: float, clock: Clock) -> None:
        self._fetch = fetch
        self._age = age
        self._clock = clock
        self._lock = threading.Lock()
        self._cached: tuple[float, T] | None = None

    def get(self, *, anew: bool = False, age: float | None = None) -> T:
        """Return the value. Fetch the value first if `anew`, or if the cached value is too old:
        older than `age` seconds, or than the age given to the cache.
        """
        oldest = self._age if age is None else min(age, self._age)
        with self._lock:
            asked = self._clock()
            if anew or self._cached is None or asked - self._cached[0] >= oldest:
                self._cached = (asked, self._fetch())
            return self._cached[1]

    @property
    def cached(self) -> tuple[float, T] | None:
        """The moment of the last fetch and the fetched value, of any age; `None` before the first
        fetch and after `forget`.
        """
        return self._cached

    def forget(self) -> None:
        """Have the next caller fetch the value."""
        with self._lock:
            self._cached = None


class Notes(Struct, Generic[T], frozen=True):
    """Values of one type, stored in the account's memory for later runs."""

    #: The account's memory in the state.
    memory: AccountMemory
    #: The type of the values.
    type_: type[T]
    #: Precedes the names of these notes in the memory.
    prefix: str = ""

    def read(self, name: str) -> T | None:
        """Return a note's value; `None` if the note is missing, or unreadable for this version."""
        text = self.memory.note(self.prefix + name)
        if text is None:
            return None
        try:
            return decode(text.encode(), self.type_)
        except ValueError as problem:
            log.debug("the note %r is passed over: %s", name, problem)
            return None

    def write(self, name: str, value: T) -> None:
        """Store a value under a name, in place of an earlier value."""
        text = msgspec.json.encode(value).decode()
        self.memory.update(self.prefix + name, lambda _: text)

    def remove(self, name: str) -> None:
        """Remove a note, if present."""
        if self.memory.note(self.prefix + name) is not None:
            self.memory.update(self.prefix + name, lambda _: None)
