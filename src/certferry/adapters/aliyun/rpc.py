"""Alibaba Cloud's RPC calls: the signature (HMAC-SHA1), the requests, and the answers.

The vendor's page "RPC mechanism" describes the signature (docs/facts/aliyun.md §1).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from msgspec import Struct

from certferry.adapters.http.exchange import Request
from certferry.core.redaction import Secret
from certferry.ports.adapter import Answer, json_object

FORM = "application/x-www-form-urlencoded"


class AccessKey(Struct, frozen=True):
    """The AccessKey of a RAM user."""

    #: The key's id, which begins with LTAI.
    id: str
    secret: Secret


class RpcReply(Struct, frozen=True):
    """A service's answer as JSON."""

    status: int
    #: The code of a refusal; empty for a success.
    code: str
    #: The service's words, only for decisions: the words may quote a private key.
    words: str
    body: Mapping[str, Any]
    #: The id of the request, for the vendor's support.
    request_id: str


def read_reply(answer: Answer) -> RpcReply | None:
    """Read an answer; return `None` for any content but a JSON object."""
    body = json_object(answer.body)
    if body is None:
        return None
    is_refused = answer.status >= HTTPStatus.BAD_REQUEST or "Code" in body
    code, words, request_id = (_word(body.get(key)) for key in ("Code", "Message", "RequestId"))
    return RpcReply(answer.status, (code or "?") if is_refused else "", words, body, request_id)


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def answers_too_many(answer: Answer) -> bool:
    """Return whether a call was refused only for its rate, by status or by code."""
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return True
    words = (b'"Throttling', b'"FlowControlError')
    return answer.status >= HTTPStatus.BAD_REQUEST and any(word in answer.body for word in words)


def signed_request(
    url: str, version: str, key: AccessKey, now: datetime, params: Mapping[str, str]
) -> Request:
    """Return the request of a call, with a new nonce: the service accepts a nonce once."""
    shared = common(key.id, version, now=now, nonce=new_nonce())
    body = form("POST", {**shared, **params}, key.secret)
    return Request("POST", url, {"Content-Type": FORM}, body)


def action_of(request: Request) -> str:
    """Return the action of a signed request; "" for another request."""
    return parse_qs((request.body or b"").decode()).get("Action", [""])[0]


def code_of(body: Mapping[str, Any]) -> str:
    """Return the code of a refusal; "" for a success."""
    return _word(body.get("Code"))


def new_nonce() -> str:
    """Return a new nonce: the service refuses a repeated nonce."""
    return str(uuid.uuid4())


def common(access_key_id: str, version: str, *, now: datetime, nonce: str) -> dict[str, str]:
    """Return the parameters of every call. Calls fail if `now` is 15 minutes off."""
    return {
        "AccessKeyId": access_key_id,
        "Format": "JSON",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureNonce": nonce,
        "SignatureVersion": "1.0",
        "Timestamp": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Version": version,
    }


def form(method: str, params: Mapping[str, str], secret: Secret) -> bytes:
    """Return the form to send: the parameters and the signature."""
    return urlencode({**params, "Signature": signature(method, params, secret)}).encode()


def signature(method: str, params: Mapping[str, str], secret: Secret) -> str:
    """Return the signature of the parameters, in base64."""
    pairs = "&".join(f"{_encoded(key)}={_encoded(params[key])}" for key in sorted(params))
    message = f"{method}&{_encoded('/')}&{_encoded(pairs)}"
    key = f"{secret.reveal()}&".encode()
    return base64.b64encode(hmac.new(key, message.encode(), hashlib.sha1).digest()).decode()


def _encoded(value: str) -> str:
    """Percent-encode all except RFC 3986's unreserved characters, as the signature demands."""
    return quote(value, safe="")
