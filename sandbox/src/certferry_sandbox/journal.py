"""Requests to a stand-in as they stood on the wire, and every exchange in its order."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime


class Headers(Mapping[str, str]):
    """Header fields as they came: spelling and order kept, looked up without regard to case."""

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self.fields = tuple(fields)
        self._by_name = {name.lower(): value for name, value in self.fields}

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(name for name, _ in self.fields)

    def __len__(self) -> int:
        return len(self.fields)


@dataclass(frozen=True)
class Request:
    """One request as it stood on the wire: `path` and `query` are neither decoded nor tidied.

    The body and the headers are left out of the repr, since they carry keys and tokens.
    """

    method: str
    path: str
    query: str = ""
    headers: Headers = field(default_factory=Headers, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def label(self) -> str:
        """What fault and journal patterns are matched against: "METHOD /path"."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Call:
    """A journal entry. `status` is None while unanswered, and for ever if the answer was lost."""

    at: datetime
    request: Request
    status: int | None = None


class Journal:
    """Every exchange of one service, in the order of arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []

    def arrived(self, request: Request) -> int:
        """Note a request; the number is its entry."""
        with self._lock:
            self._calls.append(Call(datetime.now(UTC), request))
            return len(self._calls) - 1

    def answered(self, entry: int, status: int) -> None:
        """Complete an entry, before the answer leaves."""
        with self._lock:
            self._calls[entry] = replace(self._calls[entry], status=int(status))

    def calls(self) -> list[Call]:
        """A copy of the entries."""
        with self._lock:
            return list(self._calls)
