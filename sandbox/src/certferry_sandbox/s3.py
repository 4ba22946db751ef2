"""A stand-in for Amazon S3, as far as a state in a bucket needs the API.

Clients create, read, list and delete objects. Signatures are verified after the API reference,
"Authenticating Requests (AWS Signature Version 4)". The library that certferry signs with is not
used here, so each checks the other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from certferry_sandbox.httpd import HttpService, HttpStandIn, Request, Response, utc_now

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = timedelta(minutes=15)  # the limit of RequestTimeTooSkewed (list of error codes)
UNSIGNED = "UNSIGNED-PAYLOAD"
MOST_LISTED = 1000  # keys in one answer


class _Refused(Exception):
    """The refusal of a request: an error code of S3 and an HTTP status."""

    def __init__(self, code: str, status: int = HTTPStatus.FORBIDDEN) -> None:
        super().__init__(code)
        self.code = code
        self.status = status

    def response(self) -> Response:
        """Return the error as an XML answer."""
        return _xml(f"<Error><Code>{self.code}</Code></Error>", self.status)


@dataclass
class S3Bucket:
    """A bucket with objects.

    A bucket that `overwrites` ignores `If-None-Match`, as some gateways do. A bucket that
    `lacks_conditions` refuses the header, as other gateways do. `refusal` is the code and status
    that answer every upload; `None` accepts uploads.
    """

    is_private: bool = True
    overwrites: bool = False
    lacks_conditions: bool = False
    refusal: tuple[str, int] | None = None
    objects: dict[str, bytes] = field(default_factory=dict)


class S3Service(HttpStandIn):
    """S3 on loopback, for one key and one region. The clock runs `ahead` of the real time."""

    def __init__(self, access_key: str, secret_key: str, region: str = "us-east-1") -> None:
        self.access_key = access_key
        self.secret_key = secret_key
        self._region = region
        self._lock = threading.RLock()
        self.ahead = timedelta(0)
        self.buckets: dict[str, S3Bucket] = {}
        self.http = HttpService(self._answer, clock=self._now)

    def add_bucket(self, name: str) -> S3Bucket:
        """Add a private bucket without objects, and return the bucket."""
        return self.buckets.setdefault(name, S3Bucket())

    def requests(self, pattern: str = "*") -> list[Request]:
        """Return the requests whose "METHOD /path" matches the shell pattern."""
        return self.http.requests(pattern)

    def _now(self) -> datetime:
        return utc_now() + self.ahead

    def _answer(self, request: Request) -> Response:
        try:
            with self._lock:
                return self._work(request)
        except _Refused as refusal:
            return refusal.response()

    def _work(self, request: Request) -> Response:
        name, _, key = unquote(request.path.removeprefix("/")).partition("/")
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        is_anonymous = "Authorization" not in request.headers
        if not is_anonymous:
            self._must_be_signed(request)
        bucket = self.buckets.get(name)
        if is_anonymous and (bucket is None or bucket.is_private or request.method != "GET"):
            raise _Refused("AccessDenied")
        if bucket is None:
            raise _Refused("NoSuchBucket", HTTPStatus.NOT_FOUND)
        match request.method, bool(key):
            case "GET", False if query.get("list-type") == "2":
                return _listing(name, bucket, query)
            case "POST", False if "delete" in query:
                return _delete(bucket, request)
            case "GET", True:
                return _read(bucket, key)
            case "PUT", True:
                return _create(bucket, key, request)
        raise _Refused("NotImplemented", HTTPStatus.NOT_IMPLEMENTED)

    def _must_be_signed(self, request: Request) -> None:
        word, _, fields = request.headers["Authorization"].partition(" ")
        parts = dict(field.strip().split("=", 1) for field in fields.split(","))
        access_key, date, region, service, end = parts["Credential"].split("/")
        if word != ALGORITHM or (service, end) != ("s3", "aws4_request"):
            raise _Refused("AuthorizationHeaderMalformed", HTTPStatus.BAD_REQUEST)
        if access_key != self.access_key:
            raise _Refused("InvalidAccessKeyId")
        if region != self._region:
            raise _Refused("AuthorizationHeaderMalformed", HTTPStatus.BAD_REQUEST)
        at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(at - self._now()) > SKEW or f"{at:%Y%m%d}" != date:
            raise _Refused("RequestTimeTooSkewed")
        signed = parts["SignedHeaders"].split(";")
        if "host" not in signed or signed != sorted(signed):
            raise _Refused("SignatureDoesNotMatch")
        content = request.headers["x-amz-content-sha256"]
        if content not in {UNSIGNED, hashlib.sha256(request.body).hexdigest()}:
            raise _Refused("XAmzContentSHA256Mismatch", HTTPStatus.BAD_REQUEST)
        key = f"AWS4{self.secret_key}".encode()
        for step in (date, region, service, end):
            key = hmac.digest(key, step.encode(), "sha256")
        message = _to_sign(request, signed, content, f"{date}/{region}/{service}/{end}")
        expected = hmac.new(key, message.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, parts["Signature"]):
            raise _Refused("SignatureDoesNotMatch")


def _to_sign(request: Request, signed: list[str], content: str, scope: str) -> str:
    """Return the string to sign: algorithm, date, scope, and the canonical request's hash."""
    asked = parse_qsl(request.query, keep_blank_values=True)
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in asked)
    canonical = "\n".join(
        [
            request.method,
            quote(unquote(request.path), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in signed),
            "",
            ";".join(signed),
            content,
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return "\n".join([ALGORITHM, request.headers["x-amz-date"], scope, digest])


def _listing(name: str, bucket: S3Bucket, query: dict[str, str]) -> Response:
    prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
    most = min(int(query.get("max-keys", MOST_LISTED)), MOST_LISTED)
    keys = [key for key in sorted(bucket.objects) if key.startswith(prefix) and key > after]
    page, is_cut = keys[:most], len(keys) > most
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-01T00:00:00.000Z</LastModified>"
        f"<ETag>{_etag(bucket.objects[key])}</ETag><Size>{len(bucket.objects[key])}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key in page
    )
    more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if is_cut else ""
    return _xml(
        f"<ListBucketResult><Name>{name}</Name><Prefix>{escape(prefix)}</Prefix>"
        f"<KeyCount>{len(page)}</KeyCount><MaxKeys>{most}</MaxKeys>"
        f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>{contents}{more}</ListBucketResult>"
    )


def _read(bucket: S3Bucket, key: str) -> Response:
    if key not in bucket.objects:
        raise _Refused("NoSuchKey", HTTPStatus.NOT_FOUND)
    content = bucket.objects[key]
    headers = (("ETag", _etag(content)), ("Last-Modified", format_datetime(utc_now(), usegmt=True)))
    return Response(HTTPStatus.OK, content, "application/octet-stream", headers)


def _create(bucket: S3Bucket, key: str, request: Request) -> Response:
    if bucket.refusal is not None:
        raise _Refused(*bucket.refusal)
    condition = request.headers.get("If-None-Match")
    if condition not in {None, "*"} or (condition and bucket.lacks_conditions):
        raise _Refused("NotImplemented", HTTPStatus.NOT_IMPLEMENTED)
    if condition and key in bucket.objects and not bucket.overwrites:
        raise _Refused("PreconditionFailed", HTTPStatus.PRECONDITION_FAILED)
    bucket.objects[key] = request.body
    return Response(HTTPStatus.OK, b"", "application/xml", (("ETag", _etag(request.body)),))


def _delete(bucket: S3Bucket, request: Request) -> Response:
    digest = base64.b64encode(hashlib.md5(request.body, usedforsecurity=False).digest()).decode()
    checks = {
        "Content-MD5": digest,
        "x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(request.body).digest()).decode(),
    }
    stated = {name: request.headers[name] for name in checks if name in request.headers}
    if not stated or any(checks[name] != value for name, value in stated.items()):
        raise _Refused("InvalidRequest", HTTPStatus.BAD_REQUEST)
    keys = [
        str(element.text)
        for element in ET.fromstring(request.body).iter()  # noqa: S314 - the tested client's body
        if element.tag.rpartition("}")[2] == "Key"
    ]
    for key in keys:
        bucket.objects.pop(key, None)
    deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
    return _xml(f"<DeleteResult>{deleted}</DeleteResult>")


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _xml(body: str, status: int = HTTPStatus.OK) -> Response:
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    return Response(status, (head + body).encode(), "application/xml")
