"""Signed requests to a CA, and the waits between polls.

`Network` differs from the library's own client in three points (docs/facts/libraries.md §1.1). The
library retries a refused nonce only once, which is too few at a busy CA; drops the Retry-After of a
refusal; and has a single time-out for connecting and reading.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import requests
from acme import errors
from acme.client import ClientNetwork
from josepy.jwa import ES256
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from certferry import __version__
from certferry.adapters.acme.problems import Refused, is_untrusted, moment_of, translating_errors
from certferry.adapters.http.http_client import ahead_of
from certferry.adapters.http.session import PlainSession
from certferry.core.desired.certificate import ExternalAccount
from certferry.core.network import is_loopback
from certferry.core.planning.limits import Limits
from certferry.core.redaction import quoted
from certferry.errors import CaUnavailable, Retry
from certferry.ports.progress import Pause
from certferry.text import Text

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 45.0  # seconds, the library's default
WHOLE = timedelta(seconds=90)  # for a whole answer; the first byte may take all of READ_TIMEOUT
LONGEST_ANSWER = 2**20  # bytes; a chain, or an order of a hundred names, has about 10,000
MOST_NONCES = 40  # tries; enough for a CA that refuses every other good nonce
RESTS = (0.25, 1.0)  # seconds before each retry after a lost connection or a 5xx
LONGEST_REST = 10.0  # seconds; a request fails if the CA asks for a longer wait
FIRST, GROWTH, LONGEST = 0.1, 1.5, 10.0  # seconds of the rests between polls, and their growth

_TRANSIENT = {500, 502, 503, 504}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """An operator's settings for one CA."""

    #: URL of the ACME directory.
    directory: str
    #: The account's contact.
    email: str | None = None
    #: PEM file: the CA of the directory's TLS certificate, and issuers that the chains lack.
    ca_bundle: Path | None = None
    #: URL of a proxy; the environment's proxy if `None`.
    proxy: str | None = None
    #: Common name of the root of the chain to download.
    preferred_chain: str | None = None
    #: Whether an order fails if the CA offers none of the desired profiles.
    must_have_profile: bool = True
    #: The external account to bind a new account to (RFC 8555 §7.3.4).
    external: ExternalAccount | None = None
    #: The CA's rate limits; `None` if unknown.
    limits: Limits | None = None
    #: Whether names may be proven by standing records.
    dns_persist: bool = False


class Network(ClientNetwork):
    """Sends requests to a CA, signed once `key` and `account` are set. Not thread-safe.

    Raises `Refused` for an error or a redirect, `CaUnavailable` for a plain HTTP address, and
    `requests` exceptions if no answer came.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        pause: Pause,
        now: Callable[[], datetime],
        whole: timedelta = WHOLE,
    ) -> None:
        super().__init__(alg=ES256, user_agent=f"certferry/{__version__}")
        self.session = PlainSession(whole, LONGEST_ANSWER)
        if settings.ca_bundle is not None:
            self.verify_ssl = str(settings.ca_bundle)  # type: ignore[assignment]  # requests takes a path
        proxy = settings.proxy
        self._proxies = {} if proxy is None else dict.fromkeys(("https", "http"), proxy)
        self._pause = pause
        self._now = now

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def get(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Fetch a resource; retry after a lost connection or a 5xx (`RESTS`)."""
        fetch = super().get
        return self._patiently(lambda: fetch(*args, **kwargs))

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a signed request; retry after a refused nonce, a lost connection or a 5xx."""
        return self._patiently(lambda: self._post_with_good_nonce(*args, **kwargs))

    def ahead_of_us(self, response: requests.Response) -> timedelta | None:
        """Return how far the CA's clock is ahead of this host's clock, by the Date of an answer.

        Return `None` for an answer without a date, or from a cache (RFC 9111 §5.1).
        """
        is_cached = response.headers.get("Age", "0") != "0"
        return None if is_cached else ahead_of(response.headers, self._now())

    def _post_with_good_nonce(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(MOST_NONCES - 1):
            try:
                return self._post_once(*args, **kwargs)
            except Refused as refused:
                if refused.kind != "badNonce":
                    raise
        return self._post_once(*args, **kwargs)

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        for rest in RESTS:
            try:
                return ask()
            except (Refused, requests.RequestException) as failure:
                seconds = self._rest_after(failure, rest)
                if seconds is None:
                    raise
            self._pause(seconds)
        return ask()

    def _rest_after(self, failure: Exception, rest: float) -> float | None:
        """Return the seconds until the next attempt; `None` if a retry is pointless."""
        if not isinstance(failure, Refused):
            return rest if _is_lost_connection(failure) else None
        if failure.status not in _TRANSIENT:
            return None
        now = self._now()
        asked = ((moment_of(failure.retry_after, now) or now) - now).total_seconds()
        return max(rest, asked) if asked <= LONGEST_REST else None

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        must_be_private(url)
        kwargs["timeout"] = (CONNECT_TIMEOUT, READ_TIMEOUT)
        kwargs["proxies"] = dict(self._proxies)  # requests adds the environment's
        try:
            response = super()._send_request(method, url, *args, **kwargs)
        except requests.RequestException:
            raise
        except OSError as missing:  # requests' error for a missing CA bundle
            raise requests.RequestException(str(missing)) from missing
        except ValueError as nonsense:  # urllib3's and idna's error for an impossible host
            raise requests.exceptions.InvalidURL("this is no address") from nonsense
        if not response.ok and self.REPLAY_NONCE_HEADER in response.headers:
            self._add_nonce(response)  # a refusal brings the next nonce (RFC 8555 §6.5)
        return response

    @classmethod
    def _check_response(
        cls, response: requests.Response, content_type: str | None = None
    ) -> requests.Response:
        if not response.ok or response.is_redirect:
            raise Refused.from_response(response)
        try:
            return super()._check_response(response, content_type)
        except RecursionError as deep:
            raise errors.ClientError("JSON that is nested too deeply") from deep


@contextlib.contextmanager
def opened_network(
    settings: IssuerSettings, pause: Pause, now: Callable[[], datetime]
) -> Iterator[Network]:
    """Yield a `Network` for a `with` block, and close the connections afterwards. Errors of the
    ACME library in the block are raised as `IssuanceError`.
    """
    with translating_errors(now), contextlib.closing(Network(settings, pause, now)) as network:
        yield network


def must_be_private(url: str) -> None:
    """Raise `CaUnavailable` for a URL with plain HTTP, unless the host is this machine: without
    TLS, a tampered answer could divert requests.
    """
    try:
        parts = parse_url(url)
    except (LocationParseError, TypeError):  # a CA may write a list where an address belongs
        return  # requests refuses the value
    if parts.scheme == "http" and not is_loopback((parts.host or "").strip("[]")):
        raise CaUnavailable(
            Text(
                "the CA's answer contains an address without https: {host}", host=quoted(parts.host)
            ),
            hint=Text("an ACME directory and all addresses in it must be https://"),
        )


def _is_lost_connection(failure: Exception) -> bool:
    """Return whether a connection failed in a way that a retry may cure."""
    exceptions = requests.exceptions
    hopeless = (exceptions.ProxyError, exceptions.Timeout)
    broken = (exceptions.ConnectionError, exceptions.ChunkedEncodingError)
    is_broken = isinstance(failure, broken) and not isinstance(failure, hopeless)
    return is_broken and not is_untrusted(failure)


def growing(first: float, longest: float) -> Iterator[float]:
    """Yield the seconds between polls: `first`, then ever longer, up to `longest`."""
    while True:
        yield first
        first = min(first * GROWTH, longest)


@dataclass(slots=True)
class Polling:
    """The rests between polls for one result of the CA."""

    #: The activity, as shown to operators.
    what: Text
    #: When to give up.
    deadline: datetime
    #: Waits, and ends when the run is stopped.
    pause: Pause
    #: The clock of the run.
    now: Callable[[], datetime]
    _rests: Iterator[float] = field(default_factory=lambda: growing(FIRST, LONGEST), init=False)

    def rest(self, retry_after: str | None = None) -> None:
        """Wait until the next poll, at least as long as Retry-After asks.

        Raises `CaUnavailable` at the deadline.
        """
        now = self.now()
        asked = moment_of(retry_after, now) or now
        if max(now, asked) >= self.deadline:
            raise CaUnavailable(
                Text("{what}: no result until {deadline}", what=self.what, deadline=self.deadline),
                hint=Text("the order is kept: the next `certferry sync` checks it again"),
                retry=Retry.at(asked) if asked > now else None,
            )
        seconds = max(next(self._rests), (asked - now).total_seconds())
        self.pause(min(seconds, (self.deadline - now).total_seconds()))
