"""Answers that a stand-in gives in place of the true ones, so many times."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


@dataclass
class _Scripted(Generic[Answer]):
    pattern: str
    answer: Answer
    left: int
    does_the_work: bool


class Script(Generic[Answer]):
    """The answers that are to come, in the order in which they were added. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scripted: list[_Scripted[Answer]] = []

    def add(self, pattern: str, answer: Answer, *, times: int, does_the_work: bool) -> None:
        """Answer the next calls that match the shell pattern so; the work is done or left."""
        with self._lock:
            self._scripted.append(_Scripted(pattern, answer, times, does_the_work))

    def answer(self, label: str, work: Callable[[], Answer]) -> Answer:
        """Give the scripted answer to a call, or that of the work."""
        scripted = self._take(label)
        if scripted is None:
            return work()
        if scripted.does_the_work:
            work()
        return scripted.answer

    def _take(self, label: str) -> _Scripted[Answer] | None:
        with self._lock:
            for scripted in self._scripted:
                if fnmatchcase(label, scripted.pattern):
                    scripted.left -= 1
                    if not scripted.left:
                        self._scripted.remove(scripted)
                    return scripted
            return None
