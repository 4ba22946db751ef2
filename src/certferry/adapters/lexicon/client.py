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
        self._provider = provider
        self._options = options
        self._within = within
        self._pause = pause
        self._turns = Turns(pause)
        self._last: Future[Any] | None = None
        self._last_until = 0.0

    def in_turn(self, about: str, work: Callable[[], T]) -> T:
        """Give what a piece of work gives, when no other is going on. Raises `DnsUnavailable` where
        it takes too long: it is left to itself then, its outcome is not known, and until it ends
        nothing else is begun.
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
                    outcome.set_exception(self._refusal(about, refused[0]) if refused else exc)

        self._last, self._last_until = outcome, time.monotonic() + self._within.total_seconds()
        threading.Thread(target=run, name="lexicon", daemon=True).start()
        self._wait_for(outcome, about)
        return outcome.result()

    def _refusal(self, about: str, problem: Text) -> DnsRejected:
        said = Text("{about}: lexicon's {provider}: {problem}")
        return DnsRejected(said.filled(about=about, provider=self._provider, problem=problem))

    def _wait_for(self, last: Future[Any], about: str) -> None:
        """Wait for the piece of work that was begun last, as long as that may take."""
        while not last.done():
            left = self._last_until - time.monotonic()
            if left <= 0:
                raise _too_long(about, self._provider)
            wait([last], timeout=min(left, STOP_CHECK))
            self._pause(0)  # notices that the run was stopped


@cache
def _has_its_libraries(provider: str) -> bool:
    from lexicon._private.discovery import find_providers

    return bool(find_providers().get(provider, True))  # reads what is installed: slow


def _too_long(about: str, provider: str) -> DnsUnavailable:
    return DnsUnavailable(
        Text("{about}: lexicon's {provider} gives no answer", about=about, provider=provider),
        hint=Text("see the way from this host to the service, and `timeout` of the account"),
    )


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
class Told:
    """Whom errors are about: the provider, as lexicon calls it, and what they must not show."""

    provider: str
    hidden: Collection[Secret]

    def message(self, about: str, exc: BaseException) -> Text:
        """Say what was raised, on one line: of a request without an answer in certferry's words,
        since `requests` quotes addresses, in which some services have the key.
        """
        words = " ".join(str(exc).split())
        said = f"{type(exc).__name__}: {words}" if words else type(exc).__name__
        problem: Text | str = quoted(said, self.hidden)
        if isinstance(exc, requests.ConnectionError | requests.Timeout):
            url = None if exc.request is None else exc.request.url
            host = urlsplit(url or "").hostname or self.provider
            problem = explain(exc, host, TIMEOUTS).problem
        return Text(
            "{about}: lexicon's {provider}: {problem}",
            about=about,
            provider=self.provider,
            problem=problem,
        )

    @property
    def advice(self) -> Text:
        """Say what to compare."""
        return Text(
            "compare the account's other keys with what `lexicon {provider} --help` asks for, and"
            " with the service's console",
            provider=self.provider,
        )


def is_no_zone(exc: BaseException) -> bool:
    """Tell whether an authentication failed since the zone is not there."""
    if isinstance(exc, requests.HTTPError):
        return _status(exc) in _NOT_HERE
    return _is_authentication(exc) and _NO_ZONE.search(str(exc)) is not None


def may_pass(exc: BaseException) -> bool:
    """Tell whether surely the service was not heard: 500 may be its word for what it has not."""
    if isinstance(exc, requests.HTTPError):
        return _status(exc) in _NOT_NOW
    return isinstance(exc, requests.ConnectionError | requests.Timeout)


def error_of(exc: BaseException, told: Told, about: str) -> DnsError:
    """Give the error that something raised stands for. What is not known may have been done."""
    message = told.message(about, exc)
    status = _status(exc) if isinstance(exc, requests.HTTPError) else None
    if status in _DENIED or (status is None and _is_authentication(exc)):
        return DnsAccessDenied(message, hint=told.advice)
    if status is not None and _is_for_good(status):
        return DnsRejected(message, hint=told.advice)
    return DnsUnavailable(
        message, hint=Text("try again in some minutes; certferry looks for the record first")
    )


def no_zone(name: str, told: Told) -> ZoneNotFound:
    """Give the error for a name that the provider finds no zone for."""
    return ZoneNotFound(
        Text(
            "lexicon's {provider} has no zone that holds {name}", provider=told.provider, name=name
        ),
        hint=Text(
            "name the account that has the domain as `dns` of the certificate. Some providers of"
            " lexicon cannot tell: name the zones as `zones` of the account then"
        ),
    )


def _is_authentication(exc: BaseException) -> bool:
    # By its name: the library is an extra, and need not be there.
    return type(exc).__name__ == "AuthenticationError"


def _is_for_good(status: int) -> bool:
    is_ours = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return is_ours and status != HTTPStatus.TOO_MANY_REQUESTS


def _status(exc: requests.HTTPError) -> int | None:
    return None if exc.response is None else exc.response.status_code
