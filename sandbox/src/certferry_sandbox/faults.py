"""Faults on demand: late, broken, refused and lost answers of a stand-in, and answers in place of
the true answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Generic, Self, TypeVar


class FaultKind(Enum):
    """The kinds of faults of an exchange."""

    DELAY = "delay"
    RESET_BEFORE = "reset before the work"
    RESET_AFTER = "reset after the work"
    ANSWER = "another answer"
    TRUNCATE = "half an answer"


_LONGEST = 60.0
"""Seconds that a gate holds an answer back, so that a test that failed leaves no thread behind."""


@dataclass(frozen=True)
class Fault:
    """A fault of one exchange; made by the constructors below.

    `seconds` and `gate` belong to DELAY; `code`, `body`, `content_type`, `headers` and `quote` to
    ANSWER.
    """

    kind: FaultKind
    seconds: float = 0.0
    gate: threading.Event | None = None
    code: int = 0
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    quote: Callable[[bytes], bytes] | None = None

    @classmethod
    def delay(cls, seconds: float) -> Self:
        """The work is done and answered, but only after `seconds`."""
        return cls(FaultKind.DELAY, seconds=seconds)

    @classmethod
    def held_until(cls, gate: threading.Event) -> Self:
        """The work is done and answered, but only once the gate is set."""
        return cls(FaultKind.DELAY, seconds=_LONGEST, gate=gate)

    @classmethod
    def reset_before(cls) -> Self:
        """The connection is reset and the work is not done."""
        return cls(FaultKind.RESET_BEFORE)

    @classmethod
    def reset_after(cls) -> Self:
        """The work is done, then the connection is reset without an answer."""
        return cls(FaultKind.RESET_AFTER)

    @classmethod
    def status(
        cls,
        code: int,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: Iterable[tuple[str, str]] = (),
    ) -> Self:
        """The work is not done; this is the answer instead."""
        return cls(
            FaultKind.ANSWER,
            code=code,
            body=body,
            content_type=content_type,
            headers=tuple(headers),
        )

    @classmethod
    def quoting(
        cls, code: int, quote: Callable[[bytes], bytes], headers: Iterable[tuple[str, str]] = ()
    ) -> Self:
        """The work is not done; `quote` makes the answer from the request's body."""
        return cls(FaultKind.ANSWER, code=code, quote=quote, headers=tuple(headers))

    @classmethod
    def html(cls, status: int = HTTPStatus.BAD_GATEWAY) -> Self:
        """The work is not done; a gateway answers with a page in place of JSON."""
        title = f"{status} {HTTPStatus(status).phrase}"
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
        return cls.status(status, page.encode(), "text/html; charset=utf-8")

    @classmethod
    def too_many(cls, retry_after: int | str | None = None) -> Self:
        """The work is not done: 429, with Retry-After (seconds or an HTTP date) when given."""
        headers = () if retry_after is None else (("Retry-After", str(retry_after)),)
        return cls.status(
            HTTPStatus.TOO_MANY_REQUESTS, b'{"error":"too many requests"}', headers=headers
        )

    @classmethod
    def truncated(cls) -> Self:
        """The work is done; the answer declares its full length, stops half-way and closes."""
        return cls(FaultKind.TRUNCATE)


@dataclass
class _Armed:
    fault: Fault
    pattern: str
    left: int | None


class Faults:
    """The faults armed on one service, taken in the order in which they were added."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []

    def add(self, fault: Fault, *, on: str = "*", times: int | None = 1) -> None:
        """Arm `fault` for the next `times` exchanges (None: until cleared) that match `on`.

        `on` is a shell pattern over "METHOD /path", for instance "PUT /domain/*/httpsconf".
        """
        with self._lock:
            self._armed.append(_Armed(fault, on, times))

    def clear(self) -> None:
        """Disarm everything."""
        with self._lock:
            self._armed.clear()

    def take(self, label: str) -> Fault | None:
        """Use up and return the first fault armed for `label`, or None."""
        with self._lock:
            for armed in self._armed:
                if fnmatchcase(label, armed.pattern):
                    self._use(armed)
                    return armed.fault
            return None

    def _use(self, armed: _Armed) -> None:
        if armed.left is None:
            return
        armed.left -= 1
        if armed.left <= 0:
            self._armed.remove(armed)


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
        """Answer the next calls that match the shell pattern with `answer`. `does_the_work` also
        does the work of the call.
        """
        with self._lock:
            self._scripted.append(_Scripted(pattern, answer, times, does_the_work))

    def answer(self, label: str, work: Callable[[], Answer]) -> Answer:
        """Return the scripted answer to a call, or else the answer of the work."""
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
