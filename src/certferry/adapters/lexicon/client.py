"""The calls to one provider of the library lexicon: bounded, one after the other.

Of dns-lexicon 3.25.2 (docs/facts/libraries.md §3): its HTTP requests have no time-out, and follow
redirects; many providers read a set of records, change it and write it whole;
`lexicon.client.Client` downloads the Public Suffix List when it is made, so that the provider is
made without it here.
"""

from __future__ import annotations

import logging
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from certferry.adapters.dns.records import STOP_CHECK, Turns
from certferry.adapters.http.client import TIMEOUTS
from certferry.adapters.http.held_requests import held
from certferry.adapters.http.problems import explain
from certferry.core.redaction import quoted
from certferry.core.secret import Secret
from certferry.errors import (
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    ZoneNotFound,
)
from certferry.ports.progress import Pause
from certferry.text import Text

T = TypeVar("T")


class LexiconCalls:
    """Makes providers and calls them. Safe to use from threads."""

    def __init__(
        self,
        provider: str,
        options: Mapping[str, Secret | str],
        within: timedelta,
        pause: Pause,
    ) -> None:
        hidden = [value for value in options.values() if isinstance(value, Secret)]
        self.errors = LexiconErrors(provider, hidden)
        self._provider = provider
        self._options = options
        self._within = within
        self._pause = pause
        self._turns = Turns(pause)
        self._last: Future[Any] | None = None
        self._last_until = 0.0

    def in_turn(self, about: str, work: Callable[[], T]) -> T:
        """Return what a piece of work returns, one at a time. Raises `DnsUnavailable` where it
        takes too long: its outcome is not known then, and nothing else begins until it ends.
        """
        with self._turns.ours():
            if self._last is not None:
                self._wait_for(self._last, about)
            return self._bounded(about, work)

    @contextmanager
    def opened(self, zone: str) -> Iterator[Any]:
        """Make a provider for a zone and let it authenticate, for a `with` block. Raises what the
        provider does, and `DnsRejected` where a library of its own is missing.
        """
        from lexicon._private.discovery import load_provider_module
        from lexicon.config import ConfigResolver

        if not _has_its_libraries(self._provider):
            raise DnsRejected(
                Text("lexicon's {provider} needs more libraries", provider=self._provider),
                hint=Text(
                    "run: {python} -m pip install 'dns-lexicon[{provider}]'",
                    python=shlex.quote(sys.executable),
                    provider=self._provider,
                ),
            )
        logging.getLogger("lexicon").setLevel(logging.CRITICAL)  # some of its words show keys
        plain = {
            key: value.reveal() if isinstance(value, Secret) else value
            for key, value in self._options.items()
        }
        config = ConfigResolver().with_dict(  # type: ignore[no-untyped-call]  # lexicon types it not
            {"provider_name": self._provider, "domain": zone, self._provider: plain}
        )
        provider = load_provider_module(self._provider).Provider(config)
        provider.authenticate()
        try:
            yield provider
        finally:
            with suppress(Exception):  # what it has done is done
                provider.cleanup()

    def _bounded(self, about: str, work: Callable[[], T]) -> T:
        outcome: Future[T] = Future()

        def run() -> None:
            with held() as refused:
                try:
                    outcome.set_result(work())
                except BaseException as exc:  # noqa: BLE001 - raised again where the caller waits
                    said = self.errors.message(about, refused[0]) if refused else None
                    outcome.set_exception(DnsRejected(said) if said else exc)

        self._last, self._last_until = outcome, time.monotonic() + self._within.total_seconds()
        threading.Thread(target=run, name="lexicon", daemon=True).start()
        self._wait_for(outcome, about)
        return outcome.result()

    def _wait_for(self, last: Future[Any], about: str) -> None:
        """Wait for the piece of work that was begun last, as long as that may take."""
        while not last.done():
            left = self._last_until - time.monotonic()
            if left <= 0:
                raise self.errors.too_long(about)
            wait([last], timeout=min(left, STOP_CHECK))
            self._pause(0)  # notices that the run was stopped


@cache
def _has_its_libraries(provider: str) -> bool:
    from lexicon._private.discovery import find_providers

    return bool(find_providers().get(provider, True))  # reads what is installed: slow


SERVICE = "lexicon"

_NO_ZONE = re.compile(
    r"not? (?:matching )?(?:domain|zone)|not found|not managed|unknown domain|not exist|not among"
    r"|not deployed|could not find|not defined",
    re.IGNORECASE,
)
_DENIED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NOT_NOW = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_NOT_HERE = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY}
)


@dataclass(frozen=True, slots=True)
class LexiconErrors:
    """The errors of one provider, as lexicon calls it; they never show what is `hidden`."""

    provider: str
    hidden: Collection[Secret]

    def message(self, about: str, problem: Text | str) -> Text:
        """Return a sentence on what is wrong."""
        words = Text("{about}: lexicon's {provider}: {problem}")
        return words.filled(about=about, provider=self.provider, problem=problem)

    def of(self, exc: BaseException, about: str) -> DnsError:
        """Return the error that an exception stands for. What is not known may have been done. A
        request without an answer is described in certferry's words: `requests` quotes addresses, in
        which some services have the key.
        """
        words = " ".join(str(exc).split())
        said = f"{type(exc).__name__}: {words}" if words else type(exc).__name__
        problem: Text | str = quoted(said, self.hidden)
        if isinstance(exc, requests.ConnectionError | requests.Timeout):
            url = None if exc.request is None else exc.request.url
            problem = explain(exc, urlsplit(url or "").hostname or self.provider, TIMEOUTS).problem
        message = self.message(about, problem)
        compare = Text(
            "compare the account's other keys with what `lexicon {provider} --help` asks for, and"
            " with the service's console",
            provider=self.provider,
        )
        status = _status(exc) if isinstance(exc, requests.HTTPError) else None
        if status in _DENIED or (status is None and _is_authentication(exc)):
            return DnsAccessDenied(message, hint=compare)
        if status is not None and _is_for_good(status):
            return DnsRejected(message, hint=compare)
        hint = Text("try again in some minutes; certferry looks for the record first")
        return DnsUnavailable(message, hint=hint)

    def too_long(self, about: str) -> DnsUnavailable:
        """Return the error for a call that takes longer than it may."""
        words = Text("{about}: lexicon's {provider} gives no answer")
        return DnsUnavailable(
            words.filled(about=about, provider=self.provider),
            hint=Text("see the way from this host to the service, and `timeout` of the account"),
        )

    def no_zone(self, name: str) -> ZoneNotFound:
        """Return the error for a name that the provider finds no zone for."""
        words = Text("lexicon's {provider} has no zone that holds {name}")
        hint = Text(
            "name the account that has the domain as `dns` of the certificate. Some providers of"
            " lexicon cannot tell: name the zones as `zones` of the account then"
        )
        return ZoneNotFound(words.filled(provider=self.provider, name=name), hint=hint)

    def not_done(self, name: str, *, is_wanted: bool) -> DnsUnavailable:
        """Return the error for a change that the provider's list does not show."""
        words = Text(
            "{name}: lexicon's {provider} reports no failure, and its list still has the record"
        )
        if is_wanted:
            words = Text(
                "{name}: lexicon's {provider} reports no failure, and its list lacks the record"
            )
        hint = Text("look at the zone in the service's console, and at a CNAME beside the record")
        return DnsUnavailable(words.filled(name=name, provider=self.provider), hint=hint)


def is_no_zone(exc: BaseException) -> bool:
    """Return whether an authentication failed because the zone is not there."""
    if isinstance(exc, requests.HTTPError):
        return _status(exc) in _NOT_HERE
    return _is_authentication(exc) and _NO_ZONE.search(str(exc)) is not None


def may_pass(exc: BaseException) -> bool:
    """Return whether the service surely did nothing: 500 may mean that it lacks the zone."""
    if isinstance(exc, requests.HTTPError):
        return _status(exc) in _NOT_NOW
    return isinstance(exc, requests.ConnectionError | requests.Timeout)


def _is_authentication(exc: BaseException) -> bool:
    # By its name: the library is an extra, and need not be there.
    return type(exc).__name__ == "AuthenticationError"


def _is_for_good(status: int) -> bool:
    is_ours = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return is_ours and status != HTTPStatus.TOO_MANY_REQUESTS


def _status(exc: requests.HTTPError) -> int | None:
    return None if exc.response is None else exc.response.status_code
