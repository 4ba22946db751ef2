"""How a call of Tencent Cloud's API 3.0 is signed: TC3-HMAC-SHA256.

After https://cloud.tencent.com/document/api/1427/56189 and the vendor's SDK, which the tests ask.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime

from certferry.core.secret import Secret

ALGORITHM = "TC3-HMAC-SHA256"
SIGNED = "content-type;host"


@dataclass(frozen=True, slots=True)
class Keys:
    """An API key: its id, which is sent, and what signatures are made with."""

    secret_id: str
    secret_key: Secret


@dataclass(frozen=True, slots=True)
class Call:
    """What a signature covers: where a POST goes, what its body is declared as, and the body."""

    service: str
    host: str
    path: str
    content_type: str
    body: bytes


def authorization(keys: Keys, call: Call, moment: datetime) -> str:
    """Give the value of `Authorization` for a call that is sent at this moment, to the second."""
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
    """Give the value of `X-TC-Timestamp`."""
    return str(int(moment.timestamp()))


def _canonical(call: Call) -> bytes:
    headers = f"content-type:{call.content_type}\nhost:{call.host}\n"
    parts = ["POST", call.path, "", headers, SIGNED, _digest(call.body)]
    return "\n".join(parts).encode()


def _digest(data: bytes | str) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()


def _mac(key: bytes, message: str) -> bytes:
    return hmac.new(key, message.encode(), hashlib.sha256).digest()
