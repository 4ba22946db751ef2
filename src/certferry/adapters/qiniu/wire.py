"""Qiniu's endpoints, signatures and answers (docs/facts/qiniu.md §1 to §3).

Programs in production disagree: what one host and scheme does for most accounts, it refuses for
others with 401, or does not know (404). So endpoints are tried in an order, and what worked is
stored.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec

from certferry.adapters.http.client import Request, answers_too_many
from certferry.adapters.qiniu.records import decode
from certferry.core.redaction import Secret, quoted, speech
from certferry.ports.adapter import Answer
from certferry.ports.state import AccountMemory
from certferry.text import Quoted, Text

log = logging.getLogger(__name__)


class Scheme(StrEnum):
    """The two signatures, by the word that begins the Authorization header."""

    QBOX = "QBox"
    QINIU = "Qiniu"


class CallGroup(StrEnum):
    """Calls that one host answers under one scheme; the words are those of the notes."""

    CERTIFICATES = "sslcert"
    DOMAINS = "domain"
    BUCKETS = "buckets"
    BUCKET_DOMAINS = "bucket domains"
    BINDINGS = "bindings"
    BIND = "bind"
    LIVE = "pili"


ANSWERING_404 = {CallGroup.DOMAINS, CallGroup.BUCKET_DOMAINS, CallGroup.BIND, CallGroup.LIVE}
"""Groups of which a 404 is an answer, about a domain or a bucket; of others it asks for another
endpoint, as a 401 does."""
WITH_BACKUP = {CallGroup.BUCKETS, CallGroup.BUCKET_DOMAINS, CallGroup.BINDINGS}
"""Groups of which another host is asked when there is no connection to the first."""
UNDOCUMENTED = {CallGroup.BINDINGS, CallGroup.BIND}  # groups whose calls are in no document (§6)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Base URLs, without a slash at the end; backups and Pili are "" where there is none."""

    api: str
    fusion: str
    uc: str
    api_backup: str = ""
    uc_backup: str = ""
    pili: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host, by its base URL, and a scheme; `form` distinguishes calls that ask for the same."""

    url: str
    scheme: Scheme
    form: str = ""

    @property
    def host(self) -> str:
        """The host's name, with a port that is not the usual one."""
        return urlsplit(self.url).netloc

    def __str__(self) -> str:
        """Name it for the operator."""
        return f"{self.host} ({self.scheme}{', ' if self.form else ''}{self.form})"

    @property
    def as_note(self) -> str:
        """Return it as the account's notes spell it."""
        return f"{self.scheme} {self.url} {self.form}".rstrip()


SOURCE_FORM = "/domain?bucket="  # the second of uc's calls that list a bucket's domains (§6.4)


def endpoints_of(hosts: Hosts) -> Mapping[CallGroup, tuple[Endpoint, ...]]:
    """Return the endpoints of each group of calls, first what works for most accounts."""
    api_qbox, api = Endpoint(hosts.api, Scheme.QBOX), Endpoint(hosts.api, Scheme.QINIU)
    uc, uc_backup = Endpoint(hosts.uc, Scheme.QINIU), Endpoint(hosts.uc_backup, Scheme.QINIU)
    endpoints = {
        # fusion as in the documents of 2026 and several programs, api as in acme.sh and certimate.
        CallGroup.CERTIFICATES: (Endpoint(hosts.fusion, Scheme.QBOX), api_qbox, api),
        CallGroup.DOMAINS: (api, api_qbox),
        CallGroup.BUCKETS: (uc, uc_backup),
        CallGroup.BUCKET_DOMAINS: (uc, uc_backup, replace(uc, form=SOURCE_FORM)),
        # uc since 2024-11, api.qiniuapi.com before that.
        CallGroup.BINDINGS: (uc, api_qbox, api, Endpoint(hosts.api_backup, Scheme.QINIU)),
        CallGroup.BIND: (api_qbox, api),
        CallGroup.LIVE: (Endpoint(hosts.pili, Scheme.QINIU),),
    }
    return {group: tuple(one for one in found if one.url) for group, found in endpoints.items()}


class Endpoints:
    """The endpoints of one account. One that worked later than the first is tried first then."""

    def __init__(self, hosts: Hosts, memory: AccountMemory) -> None:
        self._endpoints = endpoints_of(hosts)
        self._memory = memory
        self._preferred: dict[CallGroup, Endpoint | None] = {}

    def of(self, group: CallGroup) -> tuple[Endpoint, ...]:
        """Return the endpoints of a group, in the order in which to try them."""
        endpoints = self._endpoints[group]
        if group not in self._preferred:
            noted = self._memory.note(f"way: {group}")
            known = (endpoint for endpoint in endpoints if endpoint.as_note == noted)
            self._preferred[group] = next(known, None)
        first = self._preferred[group]
        return tuple(sorted(endpoints, key=lambda one: one != first))

    def worked(self, group: CallGroup, endpoint: Endpoint) -> None:
        """Note an endpoint that worked. The first of all needs no note."""
        if endpoint != self._endpoints[group][0] and self._preferred.get(group) != endpoint:
            log.info("Qiniu takes %s at %s", group, endpoint)
            self._prefer(group, endpoint)

    def failed(self, group: CallGroup, endpoint: Endpoint) -> None:
        """Forget an endpoint that failed, if it is the noted one."""
        if self._preferred.get(group) == endpoint:
            self._prefer(group, None)

    def _prefer(self, group: CallGroup, endpoint: Endpoint | None) -> None:
        self._preferred[group] = endpoint
        noted = None if endpoint is None else endpoint.as_note
        self._memory.update(f"way: {group}", lambda _: noted)


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One call to Qiniu: `what` names it for sentences, `path` may depend on the endpoint."""

    group: CallGroup
    path: str | Callable[[Endpoint], str]
    what: Text
    method: str = "GET"
    body: msgspec.Struct | Mapping[str, object] | None = None

    @property
    def is_change(self) -> bool:
        """Whether it does more than read. What reads is sent again when no answer came."""
        return self.method != "GET"

    def request(self, endpoint: Endpoint) -> Request:
        """Return the request, unsigned. The body is compact JSON: what is signed is sent."""
        path = self.path if isinstance(self.path, str) else self.path(endpoint)
        if self.body is None:
            return Request(self.method, endpoint.url + path)
        headers = {"Content-Type": "application/json"}
        return Request(self.method, endpoint.url + path, headers, msgspec.json.encode(self.body))


FORM = "application/x-www-form-urlencoded"
OCTET_STREAM = "application/octet-stream"
PREFIX = "X-Qiniu-"
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class QiniuKeys:
    """An account's key pair. The access key goes over the wire; the secret key never does."""

    access_key: Secret
    secret_key: Secret


def sign_qbox(request: Request, keys: QiniuKeys) -> Request:
    """Return the request with its QBox signature, which covers path and query only."""
    signed = token(keys, qbox_message(request.url, request.headers, request.body))
    return replace(request, headers={**request.headers, "Authorization": f"QBox {signed}"})


def sign_qiniu(request: Request, keys: QiniuKeys, now: datetime) -> Request:
    """Return the request dated and with its Qiniu signature, which covers all of it. Without a
    Content-Type it gets that of forms, as from the vendor's SDKs, whatever its method.
    """
    date = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"Content-Type": FORM, **request.headers, "X-Qiniu-Date": date}
    signed = token(keys, qiniu_message(request.method, request.url, headers, request.body))
    return replace(request, headers={**headers, "Authorization": f"Qiniu {signed}"})


def qbox_message(url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return what QBox signs (§2.1): of the body, only a form."""
    covered = body if headers.get("Content-Type") == FORM else None
    return f"{_path_and_query(url)}\n".encode() + (covered or b"")


def qiniu_message(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return what Qiniu signs (§2.2): the line, the host, the headers that count, the body.

    The empty line at the end of the headers is there also when nothing follows it.
    """
    content_type = headers.get("Content-Type")
    parts = urlsplit(url)
    host = parts.netloc.lower().removesuffix(DEFAULT_PORTS.get(parts.scheme, ""))
    lines = [f"{method} {_path_and_query(url)}", f"Host: {host}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in sorted(_qiniu_headers(headers))]
    covered = body if content_type and content_type != OCTET_STREAM else None
    return "\n".join([*lines, "", ""]).encode() + (covered or b"")


def token(keys: QiniuKeys, message: bytes) -> str:
    """Return access key and signature: HMAC-SHA1 in URL-safe base64, its padding kept (§2)."""
    key = keys.secret_key.reveal().encode()
    digest = hmac.new(key, message, hashlib.sha1).digest()
    return f"{keys.access_key.reveal()}:{base64.urlsafe_b64encode(digest).decode()}"


def _path_and_query(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _qiniu_headers(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    # The SDKs look for the prefix in this very spelling, so nothing else counts (§2.2).
    for name, value in headers.items():
        if name.startswith(PREFIX) and name != PREFIX:
            yield "-".join(word.capitalize() for word in name.split("-")), value


_GREATEST_CODE = 999_999
SUCCESS_CODES = frozenset({None, 0, 200})
TOO_MANY = frozenset({400039, 403024})
NO_CODE = frozenset({None, 401, 404, 401001, 401002})
"""What says no more than a status of 401 or 404; 401001 is a wrong signature, 401002 a wrong header
(§2.4)."""


@dataclass(frozen=True, slots=True)
class QiniuReply:
    """The part of an answer that all of Qiniu's APIs share: the outcome (§3)."""

    status: int
    code: int | None
    words: Quoted
    """For decisions alone: Qiniu may quote a private key in any answer after an upload."""
    request_id: str

    @property
    def shown(self) -> Quoted:
        """The words as they may be shown."""
        return speech(self.words)

    @property
    def has_own_code(self) -> bool:
        """Whether the code says more than a status of 401 or 404 does."""
        return self.code not in NO_CODE

    @property
    def number(self) -> int:
        """The code, of six digits at most (§3.1), or else the status: a longer number may be words
        that were quoted.
        """
        is_code = self.code is not None and abs(self.code) <= _GREATEST_CODE
        return self.code if is_code and self.code is not None else self.status

    @property
    def is_success(self) -> bool:
        """2xx, and no code that says otherwise. Words alone say nothing."""
        return (
            HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES
            and self.code in SUCCESS_CODES
        )


class _Body(msgspec.Struct, frozen=True):
    code: Any = None
    error: Any = None


def read_reply(answer: Answer) -> QiniuReply:
    """Read code and words in an answer's body, which may have neither."""
    try:
        body = decode(answer.body, _Body)
    except ValueError:  # an array, or no JSON
        body = _Body()
    code = body.code if isinstance(body.code, int) else None
    words = quoted(body.error if isinstance(body.error, str) else "")
    return QiniuReply(answer.status, code, words, request_id(answer.headers))


_ID_OF_REQUEST = re.compile(r"[0-9A-Za-z_-]{16}")
_SAME_MOMENT = timedelta(hours=1)


def request_id(headers: Mapping[str, str]) -> str:
    """Return the id of a request, the last part of X-Reqid: "" unless the id holds the moment of
    the answer (§1.4). Sixteen characters of a key do not.
    """
    last = headers.get("X-Reqid", "").rpartition(".")[2]
    if not _ID_OF_REQUEST.fullmatch(last):
        return ""
    nanoseconds = int.from_bytes(base64.urlsafe_b64decode(last)[4:], "little")
    try:
        asked = datetime.fromtimestamp(nanoseconds / 1e9, UTC)
        is_moment = abs(parsedate_to_datetime(headers["Date"]) - asked) < _SAME_MOMENT
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return ""
    return last if is_moment else ""


def too_many(answer: Answer) -> bool:
    """Return whether Qiniu refused a request for its rate alone: by status, or by code (§9)."""
    return answers_too_many(answer) or (
        answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}
        and read_reply(answer).code in TOO_MANY
    )
