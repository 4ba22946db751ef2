"""A signing client for the Qiniu stand-in, a clock, and certificates.

Tokens come from Qiniu's own SDK, so that the stand-in is tested against the SDK instead of itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import qiniu
import requests

from certferry_sandbox.authority import Authority, Issued, KeyType
from certferry_sandbox.qiniu.service import QiniuService

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"
START = datetime(2026, 5, 1, 12, tzinfo=UTC)
JSON = "application/json"


class Clock:
    """A clock that stands until a test moves it."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@lru_cache
def authority() -> Authority:
    return Authority("Trusted")


def issue(
    *names: str,
    start: datetime = START - timedelta(days=1),
    days: float = 90,
    key_type: KeyType = "ec256",
    common_name: str | None = None,
    by: Authority | None = None,
) -> Issued:
    """Issue a certificate, by default valid from the day before START."""
    issuer = by or authority()
    return issuer.issue(
        names or ("www.example.com",), start, start + timedelta(days=days), key_type, common_name
    )


@dataclass(frozen=True)
class Client:
    """A client with a key, which signs by the documents of 2026."""

    service: QiniuService
    access_key: str = ACCESS_KEY
    secret_key: str = field(default=SECRET_KEY, repr=False)

    def qbox(
        self, method: str, url: str, body: Any = None, *, content_type: str | None = JSON
    ) -> requests.Response:
        data = _encode(body)
        token = qiniu.Auth(self.access_key, self.secret_key).token_of_request(
            url, data, content_type
        )
        return send(method, url, data, _headers(f"QBox {token}", content_type))

    def qiniu(
        self,
        method: str,
        url: str,
        body: Any = None,
        *,
        content_type: str | None = JSON,
        date: datetime | None = None,
    ) -> requests.Response:
        """Send a request signed under Qiniu, with X-Qiniu-Date if a date is given."""
        data, headers = _encode(body), {}
        if date is not None:
            headers["X-Qiniu-Date"] = date.strftime("%Y%m%dT%H%M%SZ")
        token = qiniu.QiniuMacAuth(self.access_key, self.secret_key).token_of_request(
            method,
            urlsplit(url).netloc,
            url,
            "\n".join(f"{name}: {value}" for name, value in headers.items()),
            content_type,
            data,
        )
        return send(method, url, data, headers | _headers(f"Qiniu {token}", content_type))

    def upload(self, issued: Issued, name: str = "test", **changed: Any) -> requests.Response:
        body = {
            "name": name,
            "common_name": "anything",
            "ca": issued.fullchain_pem,
            "pri": issued.privkey_pem,
        }
        return self.qbox("POST", self.service.fusion_url + "/sslcert", body | changed)

    def certificates(self, query: str = "") -> requests.Response:
        return self.qbox("GET", self.service.fusion_url + "/sslcert" + query)

    def certificate(self, cert_id: str) -> requests.Response:
        return self.qbox("GET", f"{self.service.fusion_url}/sslcert/{cert_id}")

    def delete(self, cert_id: str) -> requests.Response:
        return self.qbox("DELETE", f"{self.service.fusion_url}/sslcert/{cert_id}")

    def domain(self, name: str) -> requests.Response:
        return self.qiniu("GET", f"{self.service.api_url}/domain/{name}")

    def domains(self, query: str = "") -> requests.Response:
        return self.qiniu("GET", f"{self.service.api_url}/domain{query}")

    def httpsconf(self, name: str, cert_id: str, **more: Any) -> requests.Response:
        url = f"{self.service.api_url}/domain/{name}/httpsconf"
        return self.qiniu("PUT", url, {"certId": cert_id, **more})

    def sslize(self, name: str, cert_id: str, **more: Any) -> requests.Response:
        url = f"{self.service.api_url}/domain/{name}/sslize"
        return self.qiniu("PUT", url, {"certId": cert_id, **more})


def send(
    method: str, url: str, data: bytes | None = None, headers: dict[str, str] | None = None
) -> requests.Response:
    return requests.request(method, url, data=data, headers=headers, timeout=10)


def code(response: requests.Response) -> tuple[int, int | None]:
    return response.status_code, response.json().get("code")


def refusal(number: int) -> tuple[int, int]:
    """Return the result of `code` for a refusal with this code."""
    return int(str(number)[:3]), number


OK = (200, 200)


def service(clock: Clock | None = None, **options: Any) -> QiniuService:
    """Return a stand-in with an account that trusts the authority; the caller starts the
    service.
    """
    if clock is not None:
        options["clock"] = clock
    made = QiniuService(**options)
    made.trust(authority().root_pem)
    made.add_account(ACCESS_KEY, SECRET_KEY)
    return made


def seed(stand_in: QiniuService, names: Sequence[str], name: str = "old") -> str:
    return stand_in.add_certificate(issue(*names), name)


def _encode(body: Any) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _headers(authorization: str, content_type: str | None) -> dict[str, str]:
    more = {} if content_type is None else {"Content-Type": content_type}
    return {"Authorization": authorization, **more}
