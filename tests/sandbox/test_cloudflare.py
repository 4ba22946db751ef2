"""The stand-in of Cloudflare over real HTTP: its requirements and its refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from certferry_sandbox.cloudflare import EDIT, READ, CloudflareService
from certferry_sandbox.zones import Zones

TOKEN = "t" * 40
RECORD = {"type": "TXT", "name": "_acme-challenge.example.com", "content": '"v"', "ttl": 120}

Answer = tuple[int, dict[str, Any]]
Send = Callable[..., Answer]


@pytest.fixture
def service() -> Iterator[CloudflareService]:
    """Run a service with two zones, and a token for both."""
    with CloudflareService(Zones()) as service:
        service.add_token(TOKEN)
        service.add_zone("example.com")
        service.add_zone("example.org")
        yield service


@pytest.fixture
def send(service: CloudflareService) -> Send:
    def send(method: str, path: str, body: object = None, token: str = TOKEN) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{service.url}{path}"
        answer = requests.request(method, url, json=body, headers=headers, timeout=5)
        return answer.status_code, answer.json()

    return send


@pytest.fixture
def records(send: Send) -> str:
    _, body = send("GET", "/zones?name=example.com")
    return f"/zones/{body['result'][0]['id']}/dns_records"


@pytest.mark.parametrize(
    ("header", "code", "inner"),
    [
        (None, 9106, None),
        (TOKEN, 6003, 6111),
        ("Bearer short", 6003, 6111),
        (f"Bearer {'c' * 37}", 6003, 6111),
        (f"Bearer {'u' * 40}", 9109, None),
    ],
    ids=["none", "bare", "short", "global-key", "unknown"],
)
def test_header_that_proves_nothing(
    service: CloudflareService, header: str | None, code: int, inner: int | None
) -> None:
    """The codes are those that clients report."""
    headers = {} if header is None else {"Authorization": header}
    body = requests.get(f"{service.url}/zones", headers=headers, timeout=5).json()

    [error] = body["errors"]
    assert (code, body["success"], body["result"]) == (error["code"], False, None)
    assert [inner] == [cause["code"] for cause in error.get("error_chain", [{"code": None}])]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"ttl": 59}, 400, 1004),
        ({"ttl": 86401}, 400, 1004),
        ({"ttl": "120"}, 400, 1004),
        ({"ttl": True}, 400, 1004),
        ({"proxied": True}, 400, 1004),
        ({"content": ""}, 400, 1004),
        ({"content": 'a"b'}, 400, 1004),
        ({"name": None}, 400, 1004),
        ({"host": "a"}, 400, 9207),
    ],
)
def test_malformed_record(
    send: Send, records: str, change: dict[str, Any], status: int, code: int
) -> None:
    """A field has a wrong value, or is unknown."""
    answered, body = send("POST", records, {**RECORD, **change})

    assert (status, code) == (answered, body["errors"][0]["code"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/zones?per_page=51", 400, 6007),
        ("GET", "/zones?page=0", 400, 6007),
        ("GET", "/zones?nam=example.com", 400, 6007),
        ("GET", "/zones?name=a&name=b", 400, 6007),
        ("GET", "/zones/abc/dns_records", 404, 7003),
        ("GET", f"/zones/{'0' * 32}/dns_records", 403, 10000),
        ("PUT", "/zones", 405, 10405),
        ("GET", "RECORDS?types=TXT", 400, 6007),
        ("GET", f"RECORDS/{'0' * 32}", 404, 81044),
        ("DELETE", f"RECORDS/{'0' * 32}", 404, 81044),
    ],
)
def test_malformed_call(
    send: Send, records: str, method: str, path: str, status: int, code: int
) -> None:
    """An address, a parameter or an id does not exist."""
    answered, body = send(method, path.replace("RECORDS", records))

    assert (status, code) == (answered, body["errors"][0]["code"])


def test_body_that_is_no_json(service: CloudflareService, records: str) -> None:
    """Both a declared form and broken JSON are refused."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"{service.url}{records}"
    as_form = requests.post(url, data=RECORD, headers=headers, timeout=5)
    headers["Content-Type"] = "application/json"
    as_words = requests.post(url, data="{", headers=headers, timeout=5)

    assert [400, 400] == [as_form.status_code, as_words.status_code]


def test_name_outside_the_zone_is_extended_by_the_zone(send: Send, records: str) -> None:
    """The real service gives no warning about a wrong zone either."""
    _, added = send("POST", records, {**RECORD, "name": "a.example.net", "ttl": 1})

    assert "a.example.net.example.com" == added["result"]["name"]


def test_token_that_is_narrowed(service: CloudflareService, send: Send, records: str) -> None:
    """A token for a zone, for reading or for writing allows exactly its purpose."""
    service.add_token("a" * 40, zones=["example.org"])
    service.add_token("b" * 40, may=[READ])
    service.add_token("c" * 40, may=[EDIT])

    zones = [
        [zone["name"] for zone in send("GET", "/zones", token=letter * 40)[1]["result"]]
        for letter in "abc"
    ]
    may = [send("POST", records, RECORD, token=letter * 40)[0] for letter in "abc"]

    assert [["example.org"], ["example.com", "example.org"], []] == zones
    assert [403, 403, 200] == may
