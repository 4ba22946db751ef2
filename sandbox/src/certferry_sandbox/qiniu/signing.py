"""The account behind a request: both signature schemes, verified on the raw request.

Written from docs/facts/qiniu.md §2, without certferry's own signing code, so that each signing
code checks the other.
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
DATE_SKEW = timedelta(minutes=15)  # the window in Kodo's documents (§2.3)


class Scheme(StrEnum):
    """A signature scheme; the value is the word before the token in Authorization."""

    QBOX = "QBox"
    QINIU = "Qiniu"


@dataclass(frozen=True)
class Caller:
    """The account, key and scheme of a request. `iam`: the key belongs to a sub-account."""

    uid: int
    access_key: str
    scheme: Scheme
    iam: bool


@dataclass(frozen=True)
class SignedCall:
    """A request with a verified caller. `name`: the name in the path, such as a domain."""

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
        """Return the JSON body. `struct`: the Go struct that Qiniu names when a type is wrong."""
        return Fields(self.request.body, struct)


@dataclass(frozen=True)
class _AccessKey:
    uid: int
    secret_key: bytes
    iam: bool
    reads_only: bool = False


class Accounts:
    """The access keys of all accounts, and the check of signatures."""

    def __init__(self, date_skew: timedelta = DATE_SKEW) -> None:
        self.date_skew = date_skew
        self._keys: dict[str, _AccessKey] = {}

    def add(self, access_key: str, secret_key: str) -> int:
        """Open an account with a key, and return the uid."""
        uid = 1380000001 + len(self._keys)
        self._keys[access_key] = _AccessKey(uid, secret_key.encode(), iam=False)
        return uid

    def add_iam_key(
        self, access_key: str, secret_key: str, *, owner: str, reads_only: bool = False
    ) -> None:
        """Add a key of a sub-account. `owner` is a key of the main account.

        A key that `reads_only` gets 403 for every change (§2.4).
        """
        self._keys[access_key] = _AccessKey(
            self.uid(owner), secret_key.encode(), iam=True, reads_only=reads_only
        )

    @property
    def first(self) -> tuple[str, str]:
        """The first access key and the secret key. An account must exist."""
        access_key, key = next(iter(self._keys.items()))
        return access_key, key.secret_key.decode()

    def uid(self, access_key: str | None = None) -> int:
        """Return the uid of a key, by default of the first. An unknown key raises LookupError."""
        if access_key is None:
            return next(iter(self._keys.values())).uid
        return self._keys[access_key].uid

    def caller(self, request: Request, now: datetime) -> Caller:
        """Return the verified caller of a request.

        Raises `Refused`: 401 for a wrong signature, 403 for a date too far from `now`, or for a
        change by a key that only reads.
        """
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
        """Return the uid of the key that signed `message`, the policy of an upload or a URL.

        Raises `Refused`: 401 for a wrong signature, 403 for an upload by a key that only reads.
        """
        key = self._keys.get(access_key)
        expected = "" if key is None else sign(key.secret_key, message)
        if key is None or not hmac.compare_digest(expected.encode(), signature.encode()):
            raise Refused.bad_token()
        if key.reads_only and b"://" not in message:
            raise Refused(None, "no permission", status=HTTPStatus.FORBIDDEN)
        return key.uid

    def _check_date(self, request: Request, now: datetime) -> None:
        """Check that the date, if the request has a date, is within `date_skew` of now (§2.3)."""
        date = request.headers.get("X-Qiniu-Date")
        if date is not None and abs(now - _read_date(date)) > self.date_skew:
            raise Refused(None, "request time is too skewed", status=HTTPStatus.FORBIDDEN)


def sign(secret_key: bytes, message: bytes) -> str:
    """Return the HMAC-SHA1 in URL-safe base64, with padding (§2)."""
    digest = hmac.new(secret_key, message, hashlib.sha1).digest()
    return base64.urlsafe_b64encode(digest).decode()


def string_to_sign(scheme: Scheme, request: Request) -> bytes:
    """Return the bytes that the client must sign for a request."""
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
    """Return the signed part of the body: a form is signed, JSON is not (§2.1)."""
    return request.body if request.headers.get("Content-Type") == FORM else b""


def _body_under_qiniu(request: Request) -> bytes:
    """Return the signed part of the body, by the documents' rule (§2.2).

    A body without a Content-Type and an octet stream are not signed.
    """
    content_type = request.headers.get("Content-Type")
    return request.body if content_type and content_type != OCTET_STREAM else b""


def _qiniu_headers(request: Request) -> list[bytes]:
    """Return the X-Qiniu headers with canonical names, sorted by name, then by value (§2.2)."""
    headers = sorted(
        ("-".join(word.capitalize() for word in name.split("-")), value)
        for name, value in request.headers.fields
        if name.lower().startswith(HEADER_PREFIX) and len(name) > len(HEADER_PREFIX)
    )
    return [_raw(f"{name}: {value}") for name, value in headers]


def _raw(text: str) -> bytes:
    return text.encode("latin-1")  # http.server decodes requests as Latin-1


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
