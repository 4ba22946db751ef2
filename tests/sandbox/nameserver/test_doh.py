"""The resolver behind HTTPS takes what RFC 8484 has, and nothing else."""

from __future__ import annotations

import ssl
from pathlib import Path

import dns.message
import pytest
import requests
import trustme

from certferry_sandbox.nameserver.daemon import MESSAGE, HttpsDns, Reply, Transport

QUESTION = dns.message.make_query("a.example.com", "TXT", id=0)
HEADERS = {"Content-Type": MESSAGE, "Accept": MESSAGE}


def answer(wire: bytes, transport: Transport) -> Reply | None:
    """Answer any question; silence for one that is no message."""
    del transport
    if len(wire) < len(QUESTION.to_wire()):
        return None
    return Reply(dns.message.make_response(dns.message.from_wire(wire)).to_wire())


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("POST", "/dns-query", {}, QUESTION.to_wire(), 200),
        ("POST", "/", {}, QUESTION.to_wire(), 404),
        ("GET", "/dns-query", {}, b"", 405),
        ("POST", "/dns-query", {"Content-Type": "text/plain"}, QUESTION.to_wire(), 415),
        ("POST", "/dns-query", {"Accept": "*/*"}, QUESTION.to_wire(), 406),
        ("POST", "/dns-query", {}, b"\x00\x01" + QUESTION.to_wire()[2:], 400),
        ("POST", "/dns-query", {}, bytes(3), 504),
    ],
)
def test_what_a_resolver_behind_https_takes(
    tmp_path: Path, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    """A message by POST, with both headers, and 0 for its id."""
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with HttpsDns(answer, context) as service:
        got = requests.request(
            method,
            service.url + path,
            headers={**HEADERS, **headers},
            data=body,
            verify=str(tmp_path / "ca.pem"),
            timeout=10,
        )

    assert status == got.status_code
    if got.ok:
        assert MESSAGE == got.headers["Content-Type"]
        assert QUESTION.is_response(dns.message.from_wire(got.content))
