"""A proxy in front of Pebble, through which a test makes the CA misbehave."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from typing import Any

import requests
import trustme
from cryptography import x509
from josepy.b64 import b64decode

from certferry.values import replace
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import HttpService, Request, Response
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.testing.interruptions import Life

ERROR = "urn:ietf:params:acme:error:"
PASSED_BACK = ("Replay-Nonce", "Location", "Link", "Retry-After")


class AcmeService(HttpService):
    """A service over HTTPS with its own CA."""

    def __init__(self, handler: Callable[[Request], Response], host: str = "127.0.0.1") -> None:
        self.authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(host).configure_cert(context)
        super().__init__(handler, host=host, tls=context)

    @property
    def directory_url(self) -> str:
        return f"{self.url}/dir"


class Proxy(AcmeService):
    """Passes every request on to `upstream`. A test may replace `upstream`, as a reinstallation
    would.

    `rewrite` changes the answers. When the client's `life` ends, its last request is still carried
    out, and all answers are lost from then on.
    """

    def __init__(self, upstream: Pebble, host: str = "127.0.0.1") -> None:
        self.upstream = upstream
        self.rewrite: Callable[[Request, Response], Response] = lambda _, response: response
        self.life: Life | None = None
        self.finalized = 0
        super().__init__(self._pass_on, host)

    def _pass_on(self, request: Request) -> Response:
        life = self.life
        if life is None:
            return self.rewrite(request, self._ask(request))
        if life.left <= 0:
            return Response(503)
        life.before()
        response = self._ask(request)
        return Response(503) if life.is_over else response

    def _ask(self, request: Request) -> Response:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                request.method,
                self.upstream.directory_url.removesuffix("/dir") + request.path,
                data=request.body,
                # Pebble builds its URLs from this header, and checks the URLs in signatures.
                headers={
                    "Host": self.url.removeprefix("https://"),
                    "Content-Type": request.headers.get("Content-Type", ""),
                },
                verify=str(self.upstream.ca_bundle),
                timeout=20,
            )
        headers = [(name, answer.headers[name]) for name in PASSED_BACK if name in answer.headers]
        content_type = answer.headers.get("Content-Type", "application/json")
        self.finalized += answer.ok and request.path.startswith("/finalize-order/")
        return Response(answer.status_code, answer.content, content_type, tuple(headers))

    def last_csr(self) -> x509.CertificateSigningRequest:
        return x509.load_der_x509_csr(b64decode(self.payload("POST /finalize-order/*")["csr"]))

    def payload(self, pattern: str) -> dict[str, Any]:
        jws = json.loads(self.requests(pattern)[-1].body)
        payload: dict[str, Any] = json.loads(b64decode(jws["payload"]))
        return payload


def refusal(
    kind: str, detail: str, status: int = 403, retry_after: str | None = None, **more: Any
) -> Fault:
    """Return a fault that answers with a problem document (RFC 8555 §6.7)."""
    document = {"type": f"{ERROR}{kind}", "detail": detail, "status": status, **more}
    headers = [] if retry_after is None else [("Retry-After", retry_after)]
    body = json.dumps(document).encode()
    return Fault.status(status, body, "application/problem+json", headers)


def with_fields(response: Response, **fields: Any) -> Response:
    return replace(response, body=json.dumps({**json.loads(response.body), **fields}).encode())
