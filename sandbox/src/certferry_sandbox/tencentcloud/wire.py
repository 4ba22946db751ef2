"""Tencent Cloud's API 3.0 on the wire: answers, the parameters of a call, and its signature.

Every answer has status 200; errors are in the body. The source is docs/facts/dnspod.md §2.1 and
§2.3. This module reads the bytes of a request and calls no code of certferry's client, so that
each side checks the other.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from hmac import new as hmac_of
from typing import Any

from certferry_sandbox.httpd import Request, Response

Body = Mapping[str, Any]


class Refused(Exception):
    """The refusal of a call: an error code and a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def answer(body: Body) -> Response:
    """Return the answer with this body."""
    return Response.json({"Response": {**body, "RequestId": str(uuid.uuid4())}})


def refusal(refused: Refused) -> Response:
    """Return the answer to a refused call."""
    return answer({"Error": {"Code": refused.code, "Message": refused.message}})


class Params:
    """The fields of one call. A caller takes each field once, by its type."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.given = dict(fields)
        self._fields = dict(fields)

    @classmethod
    def of(cls, request: Request) -> Params:
        """Read the body. Raises `Refused` unless a JSON object is there, and declared as JSON."""
        declared = request.headers.get("Content-Type", "").partition(";")[0].strip()
        if declared != "application/json":
            raise Refused("UnsupportedProtocol", "The Content-Type is not supported.")
        try:
            fields = json.loads(request.body)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise Refused("InvalidParameter", "The body is no JSON object.")
        return cls(fields)

    def text(self, name: str, default: str | None = None) -> str:
        """Take a string; a string without a default is mandatory. Raises `Refused`."""
        value = self._take(name, default)
        if not isinstance(value, str):
            raise Refused("InvalidParameter", f"The type of parameter `{name}` is wrong.")
        return value

    def number(self, name: str, default: int | None = None) -> int:
        """Take a whole number; a number without a default is mandatory. Raises `Refused`."""
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refused("InvalidParameter", f"The type of parameter `{name}` is wrong.")
        return value

    def boolean(self, name: str, *, default: bool) -> bool:
        """Take a truth value. Raises `Refused`."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise Refused("InvalidParameter", f"The type of parameter `{name}` is wrong.")
        return value

    def texts(self, name: str) -> list[str]:
        """Take a mandatory list of strings. Raises `Refused`."""
        value = self._take(name, None)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise Refused("InvalidParameter", f"The type of parameter `{name}` is wrong.")
        return list(value)

    def objects(self, name: str) -> list[Params]:
        """Take a list of objects, each with fields to take; empty if absent. Raises `Refused`."""
        value = self._fields.pop(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise Refused("InvalidParameter", f"The type of parameter `{name}` is wrong.")
        return [Params(item) for item in value]

    def object(self, name: str) -> Params | None:
        """Take an object with fields to take; `None` if absent. Raises `Refused`."""
        value = self._fields.pop(name, None)
        if value is not None and not isinstance(value, dict):
            raise Refused("InvalidParameter", f"The type of parameter `{name}` is wrong.")
        return None if value is None else Params(value)

    def done(self) -> None:
        """Check that the caller has taken every field. Raises `Refused`."""
        for name in self._fields:
            raise Refused("UnknownParameter", f"The parameter `{name}` is not recognized.")

    def _take(self, name: str, default: str | int | None) -> Any:
        if name not in self._fields and default is None:
            raise Refused("MissingParameter", f"The request is missing the parameter `{name}`.")
        return self._fields.pop(name, default)


WINDOW = 300  # seconds between a signature's time and the service's, at most (§2.1)
AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 Credential=([^/\s]+)/(\d{4}-\d\d-\d\d)/([a-z]+)/tc3_request, "
    r"SignedHeaders=([a-z;-]+), Signature=([0-9a-f]{64})"
)
HEADERS = "content-type;host"


def signed_service(request: Request) -> str:
    """Return the service that the signature is for; empty if the header is invalid."""
    parts = AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
    return "" if parts is None else parts[3]


def signed_by(
    request: Request, keys: Mapping[str, str], now: datetime, service: str = "dnspod"
) -> str:
    """Return the SecretId that signed a request to a service. Raises `Refused`.

    `keys` maps each SecretId to a SecretKey.
    """
    parts = AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
    if parts is None or parts[3] != service or parts[4] != HEADERS:
        raise Refused("AuthFailure.InvalidAuthorization", "The Authorization header is invalid.")
    secret_id, date, _, headers, signature = parts.groups()
    stamp = request.headers.get("X-TC-Timestamp", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(int(stamp) - now.timestamp()) > WINDOW:
        raise Refused("AuthFailure.SignatureExpire", "The signature has expired.")
    if secret_id not in keys:
        raise Refused("AuthFailure.SecretIdNotFound", "The SecretId is not found.")
    if date != datetime.fromtimestamp(int(stamp), UTC).date().isoformat():
        raise Refused("AuthFailure.SignatureFailure", "The date is not that of the timestamp.")
    canonical_headers = b"".join(
        name.encode() + b":" + request.headers.get(name, "").lower().encode() + b"\n"
        for name in headers.split(";")
    )
    hashed = sha256(
        b"POST\n"
        + request.path.encode()
        + b"\n"
        + request.query.encode()
        + b"\n"
        + canonical_headers
        + b"\n"
        + headers.encode()
        + b"\n"
        + sha256(request.body).hexdigest().encode()
    ).hexdigest()
    text = f"TC3-HMAC-SHA256\n{stamp}\n{date}/{service}/tc3_request\n{hashed}".encode()
    day = hmac_of(b"TC3" + keys[secret_id].encode(), date.encode(), sha256).digest()
    ours = hmac_of(day, service.encode(), sha256).digest()
    signing = hmac_of(ours, b"tc3_request", sha256).digest()
    if not compare_digest(hmac_of(signing, text, sha256).hexdigest(), signature):
        raise Refused("AuthFailure.SignatureFailure", "The signature is not what it should be.")
    return secret_id
