"""Qiniu's endpoints, signatures and answers (docs/facts/qiniu.md §1 to §3).

Other clients use different hosts and signature schemes for the same call. An endpoint (a host with
a scheme) that works for most accounts may answer 401 or 404 for other accounts. Therefore most
groups of calls have several endpoints, tried in order. The account's memory stores the endpoint
that worked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from certferry.adapters.cdn.answers import decode
from certferry.adapters.http.exchange import Request, answers_too_many
from certferry.core.redaction import Secret, quoted, speech
from certferry.ports.adapter import Answer
from certferry.ports.state import AccountMemory
from certferry.text import Quoted, Text
from certferry.values import replace

log = logging.getLogger(__name__)


class Scheme(StrEnum):
    """The two signature schemes. Each value is the first word of the Authorization header."""

    QBOX = "QBox"
    QINIU = "Qiniu"


class CallGroup(StrEnum):
    """Groups of calls. All calls of a group have the same endpoints.

    A value is part of the name of the note that stores the endpoint that worked, for example `way:
    sslcert`.
    """

    CERTIFICATES = "sslcert"
    DOMAINS = "domain"
    BUCKETS = "buckets"
    BUCKET_DOMAINS = "bucket domains"
    BINDINGS = "bindings"
    BIND = "bind"
    LIVE = "pili"


ANSWERING_404 = {CallGroup.DOMAINS, CallGroup.BUCKET_DOMAINS, CallGroup.BIND, CallGroup.LIVE}
"""Groups for which a 404 is an answer about a domain or a bucket. For the other groups a 404 leads
to the next endpoint, as a 401 does."""
WITH_BACKUP = {CallGroup.BUCKETS, CallGroup.BUCKET_DOMAINS, CallGroup.BINDINGS}
"""Groups with a backup host, used if no connection to the first host is possible."""
UNDOCUMENTED = {CallGroup.BINDINGS, CallGroup.BIND}  # groups of undocumented calls (§6)


class Hosts(Struct, frozen=True):
    """The base URLs of Qiniu's hosts, without a final slash. An empty string means no such host."""

    api: str
    fusion: str
    uc: str
    api_backup: str = ""
    uc_backup: str = ""
    pili: str = ""


class Endpoint(Struct, frozen=True):
    """A host and a scheme for a group of calls."""

    #: The host's base URL.
    url: str
    scheme: Scheme
    #: Distinguishes two spellings of the same call at one host.
    form: str = ""

    @property
    def host(self) -> str:
        """The host's name, and the port if the URL names a port."""
        return urlsplit(self.url).netloc

    def __str__(self) -> str:
        """Return the host, the scheme, and the call's spelling (`form`) if there are several."""
        return f"{self.host} ({self.scheme}{', ' if self.form else ''}{self.form})"

    @property
    def as_note(self) -> str:
        """The endpoint as text, for a stored note."""
        return f"{self.scheme} {self.url} {self.form}".rstrip()


SOURCE_FORM = "/domain?bucket="  # uc's second call for the domains of a bucket (§6.4)


def endpoints_of(hosts: Hosts) -> Mapping[CallGroup, tuple[Endpoint, ...]]:
    """Return the endpoints of each group of calls. The first works for most accounts."""
    api_qbox, api = Endpoint(hosts.api, Scheme.QBOX), Endpoint(hosts.api, Scheme.QINIU)
    uc, uc_backup = Endpoint(hosts.uc, Scheme.QINIU), Endpoint(hosts.uc_backup, Scheme.QINIU)
    endpoints = {
        # Qiniu's documents of 2026 and several programs use the host fusion. acme.sh and certimate
        # use the host api.
        CallGroup.CERTIFICATES: (Endpoint(hosts.fusion, Scheme.QBOX), api_qbox, api),
        CallGroup.DOMAINS: (api, api_qbox),
        CallGroup.BUCKETS: (uc, uc_backup),
        CallGroup.BUCKET_DOMAINS: (uc, uc_backup, replace(uc, form=SOURCE_FORM)),
        # uc since 2024-11, api.qiniuapi.com earlier.
        CallGroup.BINDINGS: (uc, api_qbox, api, Endpoint(hosts.api_backup, Scheme.QINIU)),
        CallGroup.BIND: (api_qbox, api),
        CallGroup.LIVE: (Endpoint(hosts.pili, Scheme.QINIU),),
    }
    return {
        group: tuple(endpoint for endpoint in ordered if endpoint.url)
        for group, ordered in endpoints.items()
    }


class Endpoints:
    """The endpoints of one account, the last successful endpoint of each group first."""

    def __init__(self, hosts: Hosts, memory: AccountMemory) -> None:
        self._endpoints = endpoints_of(hosts)
        self._memory = memory
        self._preferred: dict[CallGroup, Endpoint | None] = {}

    def of(self, group: CallGroup) -> tuple[Endpoint, ...]:
        """Return the endpoints of a group, in the order of trial."""
        endpoints = self._endpoints[group]
        if group not in self._preferred:
            noted = self._memory.note(f"way: {group}")
            preferred = (endpoint for endpoint in endpoints if endpoint.as_note == noted)
            self._preferred[group] = next(preferred, None)
        first = self._preferred[group]
        return tuple(sorted(endpoints, key=lambda endpoint: endpoint != first))

    def worked(self, group: CallGroup, endpoint: Endpoint) -> None:
        """Store a successful endpoint, except the group's first, which needs no note."""
        if endpoint != self._endpoints[group][0] and self._preferred.get(group) != endpoint:
            log.info("Qiniu takes %s at %s", group, endpoint)
            self._prefer(group, endpoint)

    def failed(self, group: CallGroup, endpoint: Endpoint) -> None:
        """Forget a failed endpoint if the endpoint is stored as the preferred endpoint."""
        if self._preferred.get(group) == endpoint:
            self._prefer(group, None)

    def _prefer(self, group: CallGroup, endpoint: Endpoint | None) -> None:
        self._preferred[group] = endpoint
        noted = None if endpoint is None else endpoint.as_note
        self._memory.update(f"way: {group}", lambda _: noted)


class ApiCall(Struct, frozen=True):
    """One call to Qiniu, for any endpoint of the group."""

    group: CallGroup
    #: The path with the query, or a function returning the path for an endpoint.
    path: str | Callable[[Endpoint], str]
    #: Names the call in sentences, such as "the list of domains".
    what: Text
    method: str = "GET"
    #: Sent as JSON.
    body: msgspec.Struct | Mapping[str, object] | None = None

    @property
    def is_change(self) -> bool:
        """Whether the call changes anything. Only reads are sent again after a lost answer."""
        return self.method != "GET"

    def request(self, endpoint: Endpoint) -> Request:
        """Return the unsigned request for an endpoint, with the body as compact JSON."""
        path = self.path if isinstance(self.path, str) else self.path(endpoint)
        if self.body is None:
            return Request(self.method, endpoint.url + path)
        headers = {"Content-Type": "application/json"}
        return Request(self.method, endpoint.url + path, headers, msgspec.json.encode(self.body))

    def signed(self, endpoint: Endpoint, keys: QiniuKeys, now: Callable[[], datetime]) -> Request:
        """Return the request for an endpoint, signed now by the endpoint's scheme."""
        if endpoint.scheme is Scheme.QBOX:
            return sign_qbox(self.request(endpoint), keys)
        return sign_qiniu(self.request(endpoint), keys, now())


FORM = "application/x-www-form-urlencoded"
OCTET_STREAM = "application/octet-stream"
PREFIX = "X-Qiniu-"
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class QiniuKeys(Struct, frozen=True):
    """An account's key pair. Only the access key goes over the wire."""

    access_key: Secret
    secret_key: Secret


def sign_qbox(request: Request, keys: QiniuKeys) -> Request:
    """Return the request with a QBox signature over path, query and a form's body."""
    signed = token(keys, qbox_message(request.url, request.headers, request.body))
    return replace(request, headers={**request.headers, "Authorization": f"QBox {signed}"})


def sign_qiniu(request: Request, keys: QiniuKeys, now: datetime) -> Request:
    """Return the request with a date and a Qiniu signature over the whole request.

    A request without a Content-Type gets the Content-Type of a form, whatever the method, as in
    Qiniu's SDKs.
    """
    date = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"Content-Type": FORM, **request.headers, "X-Qiniu-Date": date}
    signed = token(keys, qiniu_message(request.method, request.url, headers, request.body))
    return replace(request, headers={**headers, "Authorization": f"Qiniu {signed}"})


def qbox_message(url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return the bytes covered by a QBox signature (§2.1): path, query and a form's body."""
    covered = body if headers.get("Content-Type") == FORM else None
    return f"{_path_and_query(url)}\n".encode() + (covered or b"")


def qiniu_message(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return the bytes covered by a Qiniu signature (§2.2): request line, host, Content-Type,
    headers with the prefix X-Qiniu-, and body. The body is left out without a Content-Type, and for
    an octet stream.

    An empty line ends the headers, even before an empty body.
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
    """Return access key and signature: HMAC-SHA1 in URL-safe base64 with padding (§2)."""
    key = keys.secret_key.reveal().encode()
    digest = hmac.new(key, message, hashlib.sha1).digest()
    return f"{keys.access_key.reveal()}:{base64.urlsafe_b64encode(digest).decode()}"


def _path_and_query(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _qiniu_headers(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    # Only this spelling of the prefix counts, as in the SDKs (§2.2).
    for name, value in headers.items():
        if name.startswith(PREFIX) and name != PREFIX:
            yield "-".join(word.capitalize() for word in name.split("-")), value


_GREATEST_CODE = 999_999
SUCCESS_CODES = frozenset({None, 0, 200})
TOO_MANY = frozenset({400039, 403024})
NO_CODE = frozenset({None, 401, 404, 401001, 401002})
"""Codes that add nothing to a status of 401 or 404. 401001 is a wrong signature, 401002 a wrong
header (§2.4)."""


class QiniuReply(Struct, frozen=True):
    """The outcome in an answer, common to all of Qiniu's APIs (§3)."""

    status: int
    #: The `code` of the body; `None` if absent.
    code: int | None
    words: Quoted
    """Only for decisions: Qiniu may quote a private key in any answer after an upload."""
    #: The checked X-Reqid, or "".
    request_id: str

    @property
    def shown(self) -> Quoted:
        """The words with a mask over possible keys, for operators."""
        return speech(self.words)

    @property
    def has_own_code(self) -> bool:
        """Whether the code adds to a status of 401 or 404."""
        return self.code not in NO_CODE

    @property
    def number(self) -> int:
        """The code if it has at most six digits (§3.1), else the status: a longer number may be a
        quoted part of a key.
        """
        is_code = self.code is not None and abs(self.code) <= _GREATEST_CODE
        return self.code if is_code and self.code is not None else self.status

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx and the code agrees. The words are ignored."""
        return (
            HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES
            and self.code in SUCCESS_CODES
        )


class _Body(msgspec.Struct, frozen=True):
    code: Any = None
    error: Any = None


def read_reply(answer: Answer) -> QiniuReply:
    """Read code and words from an answer's body. Both may be absent."""
    try:
        body = decode(answer.body, _Body)
    except ValueError:  # an array, or other than JSON
        body = _Body()
    code = body.code if isinstance(body.code, int) else None
    words = quoted(body.error if isinstance(body.error, str) else "")
    return QiniuReply(answer.status, code, words, request_id(answer.headers))


_ID_OF_REQUEST = re.compile(r"[0-9A-Za-z_-]{16}")
_SAME_MOMENT = timedelta(hours=1)


def request_id(headers: Mapping[str, str]) -> str:
    """Return the request's id, the last part of X-Reqid; "" if the text may be a part of a key.

    A genuine id contains the moment of the answer (§1.4). Sixteen characters of a key do not.
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
    """Return whether Qiniu refused a request for the rate of requests, by status or code (§9)."""
    return answers_too_many(answer) or (
        answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}
        and read_reply(answer).code in TOO_MANY
    )
