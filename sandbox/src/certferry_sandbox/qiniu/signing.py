"""Which account calls Qiniu: both signature schemes verified from the raw request.

Written from docs/facts/qiniu.md §2, apart from the signing that certferry itself does, so that
one checks the other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import parse_qs

from certferry_sandbox.httpd import Request
from certferry_sandbox.qiniu.answers import Fields, Refused

FORM = "application/x-www-form-urlencoded"
OCTET_STREAM = "application/octet-stream"
HEADER_PREFIX = "x-qiniu-"
DATE_FORMAT = "%Y%m%dT%H%M%SZ"
DATE_SKEW = timedelta(minutes=15)  # §2.3, the window that Kodo documents


class Scheme(StrEnum):
    """The word before the token in Authorization."""

    QBOX = "QBox"
    QINIU = "Qiniu"


@dataclass(frozen=True)
class Caller:
    """Who signed a request, and how. `iam` marks the key of a sub-account."""

    uid: int
    access_key: str
    scheme: Scheme
    iam: bool


@dataclass(frozen=True)
class SignedCall:
    """A request whose caller is known; `name` is the part of the path that names a thing."""

    caller: Caller
    request: Request
    name: str
    now: datetime

    @property
    def uid(self) -> int:
        """The caller's account."""
        return self.caller.uid

    @property
    def query(self) -> dict[str, str]:
        """The last value of each query parameter."""
        return {
            name: values[-1]
            for name, values in parse_qs(self.request.query, keep_blank_values=True).items()
        }

    def fields(self, struct: str) -> Fields:
        """The JSON body; `struct` is what Qiniu's server would call it in a complaint."""
        return Fields(self.request.body, struct)


@dataclass(frozen=True)
class _AccessKey:
    uid: int
    secret_key: bytes
    iam: bool
    reads_only: bool = False


class Accounts:
    """The access keys that exist, and the check of what they sign."""

    def __init__(self, date_skew: timedelta = DATE_SKEW) -> None:
        self.date_skew = date_skew
        self._keys: dict[str, _AccessKey] = {}

    def add(self, access_key: str, secret_key: str) -> int:
        """Open an account with one key and return its uid."""
        uid = 1380000001 + len(self._keys)
        self._keys[access_key] = _AccessKey(uid, secret_key.encode(), iam=False)
        return uid

    def add_iam_key(
        self, access_key: str, secret_key: str, *, owner: str, reads_only: bool = False
    ) -> None:
        """Add the key of a sub-account of the account that `owner` is a key of. One that reads only
        is refused every change with 403 (§2.4).
        """
        self._keys[access_key] = _AccessKey(
            self.uid(owner), secret_key.encode(), iam=True, reads_only=reads_only
        )

    @property
    def first(self) -> tuple[str, str]:
        """The first access key, and its secret key. Raises LookupError."""
        access_key, key = next(iter(self._keys.items()))
        return access_key, key.secret_key.decode()

    def uid(self, access_key: str | None = None) -> int:
        """The account of a key; of the first key when none is given. Raises LookupError."""
        if access_key is None:
            return next(iter(self._keys.values())).uid
        return self._keys[access_key].uid

    def caller(self, request: Request, now: datetime) -> Caller:
        """Find out who sent a request. Raises Refused: 401, or 403 when its date is off."""
        scheme, access_key, signature = _read_authorization(request)
        key = self._keys.get(access_key)
        if key is None:
            raise Refused.bad_token()
        expected = sign(key.secret_key, string_to_sign(scheme, request))
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise Refused.bad_token()
        if scheme is Scheme.QINIU:
            self._check_date(request, now)
        if key.reads_only and request.method != "GET":
            raise Refused(None, "no permission", status=HTTPStatus.FORBIDDEN)
        return Caller(key.uid, access_key, scheme, key.iam)

    def signed(self, access_key: str, signature: str, message: bytes) -> int:
        """The account whose key signed a message itself: an upload's policy, a URL. Raises Refused:
        401, or 403 for a key that reads only, since only an upload has a policy.
        """
        key = self._keys.get(access_key)
        expected = "" if key is None else sign(key.secret_key, message)
        if key is None or not hmac.compare_digest(expected.encode(), signature.encode()):
            raise Refused.bad_token()
        if key.reads_only and b"://" not in message:
            raise Refused(None, "no permission", status=HTTPStatus.FORBIDDEN)
        return key.uid

    def _check_date(self, request: Request, now: datetime) -> None:
        """The date is optional; when it is there it is signed, and must be near (§2.3)."""
        date = request.headers.get("X-Qiniu-Date")
        if date is not None and abs(now - _read_date(date)) > self.date_skew:
            raise Refused(None, "request time is too skewed", status=HTTPStatus.FORBIDDEN)


def sign(secret_key: bytes, message: bytes) -> str:
    """HMAC-SHA1, base64 with the URL alphabet and its padding (§2)."""
    digest = hmac.new(secret_key, message, hashlib.sha1).digest()
    return base64.urlsafe_b64encode(digest).decode()


def string_to_sign(scheme: Scheme, request: Request) -> bytes:
    """The bytes that a client must have signed for this request."""
    if scheme is Scheme.QBOX:
        return _target(request) + b"\n" + _body_under_qbox(request)
    lines = [f"{request.method} ".encode() + _target(request)]
    lines.append(b"Host: " + _raw(request.headers.get("Host", "")))
    if content_type := request.headers.get("Content-Type"):
        lines.append(b"Content-Type: " + _raw(content_type))
    lines.extend(_qiniu_headers(request))
    return b"\n".join(lines) + b"\n\n" + _body_under_qiniu(request)


def _target(request: Request) -> bytes:
    return _raw(f"{request.path}?{request.query}" if request.query else request.path)


def _body_under_qbox(request: Request) -> bytes:
    """Only a form is covered; JSON is not (§2.1)."""
    return request.body if request.headers.get("Content-Type") == FORM else b""


def _body_under_qiniu(request: Request) -> bytes:
    """Everything with a Content-Type but octet streams is covered (§2.2, the documents' rule)."""
    content_type = request.headers.get("Content-Type")
    return request.body if content_type and content_type != OCTET_STREAM else b""


def _qiniu_headers(request: Request) -> list[bytes]:
    """X-Qiniu headers with canonical names, ascending by name and then by value (§2.2)."""
    found = sorted(
        ("-".join(word.capitalize() for word in name.split("-")), value)
        for name, value in request.headers.fields
        if name.lower().startswith(HEADER_PREFIX) and len(name) > len(HEADER_PREFIX)
    )
    return [_raw(f"{name}: {value}") for name, value in found]


def _raw(text: str) -> bytes:
    return text.encode("latin-1")  # http.server decoded the wire's bytes so


def _read_authorization(request: Request) -> tuple[Scheme, str, str]:
    word, _, token = request.headers.get("Authorization", "").partition(" ")
    access_key, colon, signature = token.partition(":")
    try:
        scheme = Scheme(word)
    except ValueError as problem:
        raise Refused.bad_token() from problem
    if not colon:
        raise Refused.bad_token()
    return scheme, access_key, signature


def _read_date(date: str) -> datetime:
    try:
        return datetime.strptime(date, DATE_FORMAT).replace(tzinfo=UTC)
    except ValueError as problem:
        raise Refused(None, "invalid X-Qiniu-Date", status=HTTPStatus.FORBIDDEN) from problem
