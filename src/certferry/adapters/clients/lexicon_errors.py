"""What the library lexicon raises, as certferry's errors.

Its providers raise what they like (docs/facts/libraries.md §3): `AuthenticationError` for refused
keys and for a zone that is not there alike, told apart by its words; `requests.HTTPError`
with the service's status; `KeyError` where a list is empty.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import requests

from certferry.adapters.clients.http import TIMEOUTS
from certferry.adapters.clients.http_problems import explain
from certferry.core.foreign_words import quoted
from certferry.core.secret import Secret
from certferry.errors import (
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    ZoneNotFound,
)
from certferry.text import Text

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
            problem = explain(exc, host, TIMEOUTS).sentence
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
