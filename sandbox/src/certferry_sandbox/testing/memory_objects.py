"""A private bucket in memory without overwriting, and the faults of buckets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from certferry.ports.objects import not_readable

T = TypeVar("T")

Before = Callable[[str, str], None]
"""Called with the names of a call and of an object before the bucket's work. An exception raised
here ends the call without the work."""

After = Before
"""The same after the bucket's work: an exception raised here loses the answer."""


class MemoryObjects:
    """See `ports.objects.ObjectStore`. `objects` are the bucket's objects, `calls` the calls so
    far.
    """

    def __init__(self, place: str = "memory://bucket") -> None:
        self.place = place
        self.objects: dict[str, bytes] = {}
        self.calls: list[tuple[str, str]] = []
        self.overwrites = False
        self.is_private = True
        self.before: Before = _nothing
        self.after: After = _nothing
        self._guard = threading.RLock()

    def names(self) -> Sequence[str]:
        return self._do("names", "", lambda: sorted(self.objects))

    def read(self, name: str) -> bytes:
        def read() -> bytes:
            if name not in self.objects:
                raise not_readable(self.place, name)
            return self.objects[name]

        return self._do("read", name, read)

    def create(self, name: str, content: bytes) -> bool:
        def create() -> bool:
            if name in self.objects and not self.overwrites:
                return self.objects[name] == content
            self.objects[name] = content
            return True

        return self._do("create", name, create)

    def remove(self, names: Sequence[str]) -> None:
        self._do("remove", " ".join(names), lambda: [self.objects.pop(one, None) for one in names])

    def may_anybody_read(self, name: str) -> bool:
        return self._do("anybody", name, lambda: not self.is_private)

    def _do(self, call: str, name: str, work: Callable[[], T]) -> T:
        with self._guard:
            self.before(call, name)
            self.calls.append((call, name))
            done = work()
            self.after(call, name)
            return done


def _nothing(_call: str, _name: str) -> None:
    pass
