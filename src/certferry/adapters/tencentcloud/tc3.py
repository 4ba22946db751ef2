"""Tencent Cloud's API 3.0 on the wire: the signature TC3-HMAC-SHA256, requests and answers
(docs/facts/dnspod.md §2.1).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from certferry import __version__
from certferry.adapters.dns import answers
from certferry.adapters.http import exchange, http_client
from certferry.core.redaction import Secret
from certferry.ports.adapter import Answer, json_object

ALGORITHM = "TC3-HMAC-SHA256"
SIGNED = "content-type;host"
CONTENT_TYPE = "application/json"
_ACTION = "X-TC-Action"
LANGUAGES = {"zh": "zh-CN"}  # languages of error messages; English by default
TOO_MANY = (
    "RequestLimitExceeded",
    "LimitExceeded.RateLimitExceeded",
    "LimitExceeded.SslCertRequestLimitExceeded",
    "LimitExceeded.CdnHostOpTooOften",
    "UnauthorizedOperation.OperationTooOften",
)
"""Codes of calls refused, without effect, for too many calls. A code may have further parts."""


class TencentKeys(Struct, frozen=True):
    """An API key of Tencent Cloud."""

    #: The key's id, sent with each call.
    secret_id: str
    #: The secret that signs.
    secret_key: Secret


class Api(Struct, frozen=True):
    """The API of one service, by which calls are signed."""

    #: The service's name, for example `dnspod`.
    service: str
    #: The version of the service's actions.
    version: str
    #: The address, without a path.
    url: str

    @property
    def host(self) -> str:
        """The host with the port, as signed."""
        return urlsplit(self.url).netloc

    @property
    def root(self) -> str:
        """The address that calls are posted to."""
        return f"{urlsplit(self.url).scheme}://{self.host}/"

    def request(
        self, keys: TencentKeys, action: str, params: Mapping[str, Any], moment: datetime, to: str
    ) -> exchange.Request:
        """Return a call, signed at this moment; a signature is valid for five minutes. `to` is the
        language of the person reading the service's words.
        """
        body = json.dumps(params).encode()
        call = SignedCall(self.service, self.host, "/", CONTENT_TYPE, body)
        headers = {
            "Host": self.host,
            "Content-Type": CONTENT_TYPE,
            "User-Agent": f"certferry/{__version__}",
            _ACTION: action,
            "X-TC-Version": self.version,
            "X-TC-Timestamp": timestamp(moment),
            "X-TC-Language": LANGUAGES.get(to, "en-US"),
            "Authorization": authorization(keys, call, moment),
        }
        return exchange.Request("POST", self.root, headers, body)


def action_of(request: exchange.Request) -> str:
    """Return the action of a signed request; "" for another request."""
    return request.headers.get(_ACTION, "")


def code_of(body: Mapping[str, Any]) -> str:
    """Return the code of a refusal; "" for a success."""
    response = body.get("Response")
    error = response.get("Error") if isinstance(response, dict) else None
    code = error.get("Code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""


class SignedCall(Struct, frozen=True):
    """The parts of a POST covered by the signature."""

    #: The API's service name, for example `dnspod`.
    service: str
    #: The header Host.
    host: str
    #: The path of the URL.
    path: str
    #: The header Content-Type.
    content_type: str
    #: The body as sent.
    body: bytes


def authorization(keys: TencentKeys, call: SignedCall, moment: datetime) -> str:
    """Return the header `Authorization` for a call at this moment, in whole seconds."""
    date = f"{moment.astimezone(UTC):%Y-%m-%d}"
    scope = f"{date}/{call.service}/tc3_request"
    message = "\n".join([ALGORITHM, timestamp(moment), scope, _digest(_canonical(call))])
    key = f"TC3{keys.secret_key.reveal()}".encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    signature = _mac(key, message).hex()
    return (
        f"{ALGORITHM} Credential={keys.secret_id}/{scope}, SignedHeaders={SIGNED},"
        f" Signature={signature}"
    )


def timestamp(moment: datetime) -> str:
    """Return the header `X-TC-Timestamp`: Unix time in seconds."""
    return str(int(moment.timestamp()))


def response_of(answer: Answer) -> dict[str, Any] | None:
    """Return the object `Response` of an answer, for a success and for a failure (§2.1). Return
    `None` for a server error, and for an answer that does not come from the service.
    """
    body = None if http_client.is_server_error(answer) else json_object(answer.body)
    response = body.get("Response") if body else None
    return response if isinstance(response, dict) else None


def says_too_many(answer: Answer) -> bool:
    """Return whether a call was refused, without effect, for too many calls."""
    if exchange.answers_too_many(answer):
        return True
    code = answers.as_text(answers.object_in(response_of(answer), "Error").get("Code"))
    return code.startswith(TOO_MANY)


def _canonical(call: SignedCall) -> bytes:
    headers = f"content-type:{call.content_type}\nhost:{call.host}\n"
    parts = ["POST", call.path, "", headers, SIGNED, _digest(call.body)]
    return "\n".join(parts).encode()


def _digest(data: bytes | str) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()


def _mac(key: bytes, message: str) -> bytes:
    return hmac.new(key, message.encode(), hashlib.sha256).digest()
