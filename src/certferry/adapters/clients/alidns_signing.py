"""The signature of Alibaba Cloud's RPC calls: HMAC-SHA1 over its sorted parameters.

Documented: Alibaba Cloud's page "RPC mechanism" (V2 signature), with the example that
`tests/adapters/clients/test_alidns_signing.py` holds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from certferry.core.secret import Secret

VERSION = "2015-01-09"


def new_nonce() -> str:
    """Give a number that no request has had: one that comes again is refused."""
    return str(uuid.uuid4())


def common(access_key_id: str, *, now: datetime, nonce: str) -> dict[str, str]:
    """Give the parameters that every call has. `now` is refused when it is 15 minutes off."""
    return {
        "AccessKeyId": access_key_id,
        "Format": "JSON",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureNonce": nonce,
        "SignatureVersion": "1.0",
        "Timestamp": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Version": VERSION,
    }


def form(method: str, params: Mapping[str, str], secret: Secret) -> bytes:
    """Give the form to send: the parameters with their signature."""
    return urlencode({**params, "Signature": signature(method, params, secret)}).encode()


def signature(method: str, params: Mapping[str, str], secret: Secret) -> str:
    """Sign the parameters, in base64."""
    pairs = "&".join(f"{_encoded(key)}={_encoded(params[key])}" for key in sorted(params))
    message = f"{method}&{_encoded('/')}&{_encoded(pairs)}"
    key = f"{secret.reveal()}&".encode()
    return base64.b64encode(hmac.new(key, message.encode(), hashlib.sha1).digest()).decode()


def _encoded(value: str) -> str:
    """Percent-encode all but RFC 3986's unreserved characters, as the signature wants it."""
    return quote(value, safe="")
