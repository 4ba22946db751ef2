"""The search for the certificates of a domain: a page, checked field by field.

Facts of the answer that cannot be read stay empty, so an unreadable certificate still counts. An
answer without a readable id is refused as a whole, because the next page begins after the last id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from certferry.adapters.http.exchange import HttpFailure, Timeouts, seconds_asked_for
from certferry.adapters.http.http_client import HttpClient, Pacer
from certferry.core.observed.public_logs import LoggedCertificate
from certferry.core.redaction import Secret, quoted
from certferry.errors import LogSearchFailed, Retry
from certferry.ports.adapter import NO_HEADERS, Answer, json_object
from certferry.ports.progress import Pause
from certferry.text import Text

SERVICE = "Cert Spotter"
API = "https://api.certspotter.com"
"""The address of the service."""

LONGEST_ANSWER = 8 * 2**20
"""The most bytes of an answer. A page of a hundred certificates with a hundred names each has
400 kB.
"""
MOST_ENTRIES = 10_000
"""The most certificates of a page. The service sends about a hundred."""
MOST_LISTED_NAMES = 10_000
"""The most names read from a certificate. CAs issue for some hundred names at most."""

REQUESTS_PER_SECOND = 1.0
ATTEMPTS = 2
TIMEOUTS = Timeouts(timedelta(seconds=5), timedelta(seconds=15), whole=timedelta(seconds=30))

USUAL_WAIT = timedelta(hours=1)
"""The wait after "too many requests" without a Retry-After: the service counts by the hour
(docs/facts/transparency.md §1.2).
"""

_ID = re.compile(r"[\x21-\x7e]{1,64}")
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?=.{{1,253}}$)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
"""A name in the spelling of `core.certificates.names`, so `expected` can cover the name."""
_ORGANISATION, _COMMON_NAME = (
    re.compile(rf'(?:^|,\s*){attribute}=(?:"((?:[^"\\]|\\.)*)"|((?:[^,\\]|\\.)*))')
    for attribute in ("O", "CN")
)
"""Find the value of an attribute in an issuer's name, in quotes or without (RFC 4514)."""
_LONGEST_ISSUER = 200  # characters
_YEARS = range(1970, 9000)

_LATER = Text("the next run of all certificates tries again")


@dataclass(frozen=True)
class CertSpotter:
    """See `LogSearch`. Safe to use from any thread."""

    #: Sends the requests, within the limits of this module.
    http: HttpClient
    #: Returns this moment, aware and in UTC.
    now: Callable[[], datetime]
    #: The address of the service.
    api: str = API
    #: The key of an account, for more requests in an hour.
    token: Secret | None = None

    def page_after(self, domain: str, cursor: str) -> tuple[LoggedCertificate, ...]:
        query = [("domain", domain), ("include_subdomains", "true")]
        query += [("expand", "dns_names"), ("expand", "issuer")]
        if cursor:
            query.append(("after", cursor))
        url = f"{self.api.rstrip('/')}/v1/issuances?{urlencode(query)}"
        headers = {**NO_HEADERS, "Accept": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token.reveal()}"
        try:
            answer = self.http.send("GET", url, headers, repeatable=True)
        except HttpFailure as failure:
            raise LogSearchFailed(failure.problem, hint=_LATER) from None
        if answer.status != HTTPStatus.OK:
            raise self._refusal(answer, domain)
        return tuple(_logged_of(entry) for entry in _entries(answer))

    def _refusal(self, answer: Answer, domain: str) -> LogSearchFailed:
        status, secrets = answer.status, [] if self.token is None else [self.token]
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            seconds = seconds_asked_for(answer)
            wait = USUAL_WAIT if seconds is None else timedelta(seconds=seconds)
            after = self.now() + wait
            message = Text("{service} accepts no more requests until {moment}")
            hint = Text(
                "a later run goes on; with a key (`token` under [ct]) the service accepts more"
                " requests in an hour"
            )
            return LogSearchFailed(
                message.filled(service=SERVICE, moment=after),
                hint=hint,
                retry=Retry(allowed=True, after=after),
            )
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            message = Text("{service} refuses the request with status {status}: {words}")
            hint = Text("correct `token` under [ct], or remove the setting: a key is optional")
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            message = Text("{service} failed with status {status}: {words}")
            hint = _LATER
        else:
            message = Text("{service} does not search for {domain} (status {status}): {words}")
            hint = Text(
                "the service searches for registered domains only; see whether `api` under [ct] is"
                " the address of the service"
            )
        body = json_object(answer.body) or {}
        words = quoted(body.get("message") or body.get("code") or "-", secrets)
        return LogSearchFailed(
            message.filled(service=SERVICE, domain=domain, status=status, words=words), hint=hint
        )


def search_for(
    pause: Pause, now: Callable[[], datetime], api: str | None, token: Secret | None
) -> CertSpotter:
    """Return the search at `api`, by default at the service's usual address."""
    pace = Pacer(REQUESTS_PER_SECOND, pause=pause)
    http = HttpClient(
        pace=pace, pause=pause, attempts=ATTEMPTS, timeouts=TIMEOUTS, longest=LONGEST_ANSWER
    )
    return CertSpotter(http, now, api or API, token)


def _entries(answer: Answer) -> list[dict[str, Any]]:
    """Return the entries of a page. Raises `LogSearchFailed` unless the answer is a list of objects
    with readable ids.
    """
    try:
        page = json.loads(answer.body)
    except (ValueError, RecursionError):
        page = None
    if not isinstance(page, list) or len(page) > MOST_ENTRIES:
        raise _unreadable()
    for entry in page:
        logged_id = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(logged_id, str) or not _ID.fullmatch(logged_id):
            raise _unreadable()
    return page


def _unreadable() -> LogSearchFailed:
    message = Text("the answer of {service} is no list of certificates", service=SERVICE)
    hint = Text("see whether `api` under [ct] is the address of the service")
    return LogSearchFailed(message, hint=hint)


def _logged_of(entry: dict[str, Any]) -> LoggedCertificate:
    issuer = entry.get("issuer")
    issuer = issuer if isinstance(issuer, dict) else {}
    name = _words(issuer.get("name"))
    fingerprint = _digest(entry.get("cert_sha256"))
    names, is_partial = _names(entry.get("dns_names"))
    return LoggedCertificate(
        entry["id"],
        names,
        _words(issuer.get("friendly_name")) or _organisation(name),
        name,
        _moment(entry.get("not_before")),
        _moment(entry.get("not_after")),
        _digest(entry.get("pubkey_sha256")),
        _digest(entry.get("tbs_sha256")),
        # docs/facts/transparency.md §2
        f"https://crt.sh/?q={fingerprint}" if fingerprint else "",
        entry.get("revoked") is True,
        is_partial,
    )


def _names(listed: object) -> tuple[tuple[str, ...], bool]:
    """Return the readable names among the listed names, and whether there are unreadable names."""
    if not isinstance(listed, list):
        return (), True
    spelled = [
        name.lower().rstrip(".") if isinstance(name, str) else ""
        for name in listed[:MOST_LISTED_NAMES]
    ]
    names = tuple(dict.fromkeys(name for name in spelled if _NAME.fullmatch(name)))
    is_partial = len(listed) > len(spelled) or not all(map(_NAME.fullmatch, spelled))
    return names, is_partial


def _words(value: object) -> str:
    """Return a service's words on a single line, in visible characters; "" for a value other than a
    text.
    """
    return str(quoted(value))[:_LONGEST_ISSUER].strip() if isinstance(value, str) else ""


def _organisation(name: str) -> str:
    """Return the organisation in an issuer's name, or else the common name, or else nothing."""
    for pattern in (_ORGANISATION, _COMMON_NAME):
        if match := pattern.search(name):
            return re.sub(r"\\(.)", r"\1", match[1] if match[1] is not None else match[2]).strip()
    return ""


def _digest(value: object) -> str:
    return value.lower() if isinstance(value, str) and _DIGEST.fullmatch(value) else ""


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    readable = moment is not None and moment.tzinfo is not None and moment.year in _YEARS
    return moment if readable else None
