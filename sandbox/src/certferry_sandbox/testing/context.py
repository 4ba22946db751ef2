"""The context that connects an adapter in the tests of the adapter's author."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from certferry.ports.adapter import NO_HEADERS, Answer, Context, Ended, Http, NoAnswer
from certferry.ports.progress import Pause, no_listener
from certferry.ports.state import AccountMemory
from certferry.text import Quoted, verbatim
from certferry_sandbox.testing.memory_issuer import MemoryAccount

ANSWER_WITHIN = 5.0
"""Seconds to wait for the answer of a test's service."""


def connected_with(
    *,
    pause: Pause = time.sleep,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    memory: AccountMemory | None = None,
    contact: str = "",
) -> Context:
    """Return the context that a run gives to an adapter. Its notes end with the test's process."""
    notes = MemoryAccount() if memory is None else memory
    return Context(pause, now, notes, _connections, no_listener, _run, contact)


def _run(arguments: Sequence[str], within: timedelta, given: bytes = b"") -> Ended:
    ended = subprocess.run(
        arguments, input=given, capture_output=True, timeout=within.seconds, check=False
    )
    return Ended(ended.returncode, Quoted((ended.stdout + ended.stderr).decode()))


def _connections(per_second: float) -> Http:
    del per_second  # a test's service has no limit, except in tests of limits
    return _OneTry()


class _OneTry:
    """Sends each request once, so that a test's service sees only the adapter's own retries."""

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        *,
        repeatable: bool = False,
    ) -> Answer:
        """See `ports.adapter.Http.send`."""
        request = urllib.request.Request(url, body, dict(headers), method=method)  # noqa: S310 - a test's
        try:
            with _as_it_is().open(request, timeout=ANSWER_WITHIN) as response:
                return Answer(response.status, _headers(response), response.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(refused.code, _headers(refused), refused.read())
        except OSError as problem:
            raise NoAnswer(verbatim(str(problem)), maybe_done=True) from problem


def _headers(answered: Any) -> Mapping[str, str]:
    return cast("Mapping[str, str]", answered.headers)  # lookups ignore the case of names


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow no redirect: return the answer itself."""


def _as_it_is() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
