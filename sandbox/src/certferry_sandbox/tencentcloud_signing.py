"""Who signed a call to Tencent Cloud's API 3.0, found out from the bytes that arrived.

Written from docs/facts/dnspod.md §2.1, and not from the client: what it sends is taken apart
here, and nothing of the client's is called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from hmac import new as hmac_of

from certferry_sandbox.httpd import Request
from certferry_sandbox.tencentcloud_answers import Refused

WINDOW = 300  # seconds around the service's time in which a signature is good (§2.1)
AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 Credential=([^/\s]+)/(\d{4}-\d\d-\d\d)/([a-z]+)/tc3_request, "
    r"SignedHeaders=([a-z;-]+), Signature=([0-9a-f]{64})"
)
HEADERS = "content-type;host"


def signed_by(request: Request, keys: Mapping[str, str], now: datetime) -> str:
    """Give the SecretId that a request is signed with. `keys` are the SecretKeys by their ids.
    Raises `Refused`.
    """
    found = AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
    if found is None or found[3] != "dnspod" or found[4] != HEADERS:
        raise Refused("AuthFailure.InvalidAuthorization", "The Authorization header is invalid.")
    secret_id, date, service, headers, signature = found.groups()
    stamp = request.headers.get("X-TC-Timestamp", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(int(stamp) - now.timestamp()) > WINDOW:
        raise Refused("AuthFailure.SignatureExpire", "The signature has expired.")
    if secret_id not in keys:
        raise Refused("AuthFailure.SecretIdNotFound", "The SecretId is not found.")
    if date != datetime.fromtimestamp(int(stamp), UTC).date().isoformat():
        raise Refused("AuthFailure.SignatureFailure", "The date is not that of the timestamp.")
    told = b"".join(
        name.encode() + b":" + request.headers.get(name, "").lower().encode() + b"\n"
        for name in headers.split(";")
    )
    hashed = sha256(
        b"POST\n"
        + request.path.encode()
        + b"\n"
        + request.query.encode()
        + b"\n"
        + told
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
