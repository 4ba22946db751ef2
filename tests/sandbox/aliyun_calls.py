"""A signing client for the stand-in of Alibaba Cloud, and certificates.

The signature follows the vendor's page "RPC mechanism", apart from the stand-in and the adapter.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from itertools import count
from typing import Any
from urllib.parse import quote

import requests

from certferry_sandbox.aliyun.gateway import Endpoint
from certferry_sandbox.aliyun.service import AliyunService
from certferry_sandbox.authority import Issued
from tests.sandbox.qiniu_calls import START, Clock, issue

KEY_ID = "LTAI5tSandboxAccount"
KEY_SECRET = "sandbox-secret"
NAMES = ("img.example.com", "*.example.com")

Answer = tuple[int, dict[str, Any]]

__all__ = ["KEY_ID", "KEY_SECRET", "NAMES", "START", "Answer", "Client", "Clock", "issue"]

_nonces = count(1)


@dataclass(frozen=True)
class Client:
    """A client with a key. A parameter `None` is left out of the call, also a common one."""

    service: AliyunService
    clock: Clock
    key_id: str = KEY_ID
    secret: str = field(default=KEY_SECRET, repr=False)

    def cdn(self, action: str, **params: str | None) -> Answer:
        return self.send(self.service.cdn, action, params)

    def dcdn(self, action: str, **params: str | None) -> Answer:
        return self.send(self.service.dcdn, action, params)

    def cas(self, action: str, **params: str | None) -> Answer:
        return self.send(self.service.cas, action, params)

    def product(self, product: str, action: str, **params: str | None) -> Answer:
        """Call CDN, or DCDN with the name of DCDN's twin."""
        if product == "cdn":
            return self.cdn(action, **params)
        verb = "Set" if action.startswith("Set") else "Describe"
        return self.dcdn(f"{verb}Dcdn{action.removeprefix(verb).removeprefix('Cdn')}", **params)

    def send(
        self,
        endpoint: Endpoint,
        action: str,
        params: Mapping[str, str | None],
        *,
        method: str = "POST",
        in_query: bool = False,
    ) -> Answer:
        """Sign and send a call, and return the HTTP status and the body."""
        common = {
            "AccessKeyId": self.key_id,
            "Action": action,
            "Format": "JSON",
            "SignatureMethod": "HMAC-SHA1",
            "SignatureNonce": f"nonce-{next(_nonces)}",
            "SignatureVersion": "1.0",
            "Timestamp": self.clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Version": endpoint.api.version,
        }
        signed = {k: v for k, v in {**common, **params}.items() if v is not None}
        pairs = "&".join(f"{k}={quote(signed[k], safe='~')}" for k in sorted(signed))
        text = f"{method}&%2F&{quote(pairs, safe='~')}".encode()
        digest = hmac.new(f"{self.secret}&".encode(), text, hashlib.sha1).digest()
        signed.setdefault("Signature", base64.b64encode(digest).decode())
        is_query = in_query or method == "GET"
        answer = requests.request(
            method,
            f"{endpoint.url}/",
            params=signed if is_query else None,
            data=None if is_query else signed,
            timeout=10,
        )
        return answer.status_code, answer.json()

    def upload(self, issued: Issued, name: str = "test", **changes: str | None) -> Answer:
        params = {"Name": name, "Cert": issued.fullchain_pem, "Key": issued.privkey_pem}
        return self.cas("UploadUserCertificate", **{**params, **changes})

    def bind(self, name: str, number: int, product: str = "cdn", **changes: str | None) -> Answer:
        params = {
            "DomainName": name,
            "SSLProtocol": "on",
            "CertType": "cas",
            "CertId": str(number),
        }
        return self.product(product, "SetCdnDomainSSLCertificate", **{**params, **changes})


def refusal(answer: Answer) -> tuple[int, str]:
    """Return the HTTP status and the code of a refusal; the code is "" for a success."""
    status, body = answer
    return status, body.get("Code", "")


OK = (200, "")
