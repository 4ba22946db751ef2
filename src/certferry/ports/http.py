"""The port to services that speak HTTP, for adapters that bring no client of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from certferry.text import Text

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Answer:
    """What came back, whatever the status. Headers are found in any case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def json_object(raw: bytes) -> dict[str, Any] | None:
    """Read a body that should be a JSON object; `None` if it is not."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


class NoAnswer(Exception):
    """No usable answer came. `maybe_done`: the server may have carried the request out."""

    def __init__(self, problem: Text, *, maybe_done: bool) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.maybe_done = maybe_done


class Http(Protocol):
    """One service's connections. Safe to share between threads."""

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        *,
        repeatable: bool = False,
    ) -> Answer:
        """Send a request and give the answer, whatever its status.

        A repeatable request is made again after transport errors and statuses 5xx, any request
        where surely nothing was done: no connection was made, or there were too many requests.
        Waits for no answer for ever, follows no redirect and keeps no cookie. Raises `NoAnswer`,
        and `Interrupted` when the run is stopped.
        """


class Pace(Protocol):
    """Asked for a turn before each request."""

    def wait(self) -> None:
        """Return when the next request may be sent. Raises whatever a pause raises, and
        `StateError` where hosts share the pace by their state.
        """


OpenPace = Callable[[str, float], Pace]
"""Return the pace of an account's requests to a URL: so many a second, of all runs together; on
every host, where hosts share a state."""

OpenHttp = Callable[[float], Http]
"""Open connections to one service, with at most so many requests per second in this process."""
