"""The stand-in of acme-dns: its answers and its refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest
import requests

from certferry_sandbox.acme_dns import AcmeDnsService
from certferry_sandbox.zones import Zones

ZONE = "auth.example.org"
VALUE = "v" * 43


@pytest.fixture
def zones() -> Zones:
    zones = Zones()
    zones.add_zone(ZONE, [f"ns.{ZONE}"])
    return zones


@pytest.fixture
def service(zones: Zones) -> Iterator[AcmeDnsService]:
    with AcmeDnsService(zones, ZONE) as service:
        yield service


def posted(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, object]:
    answer = requests.post(url, body, headers=headers, timeout=5)
    return answer.status_code, answer.json()


def registered(service: AcmeDnsService) -> dict[str, str]:
    """Register as an operator does."""
    status, answered = posted(f"{service.url}/register", b"")
    assert 201 == status
    assert isinstance(answered, dict)
    return answered


def update(service: AcmeDnsService, of: Mapping[str, str], txt: object) -> tuple[int, object]:
    headers = {"X-Api-User": of["username"], "X-Api-Key": of["password"]}
    body = json.dumps({"subdomain": of["subdomain"], "txt": txt}).encode()
    return posted(f"{service.url}/update", body, headers)


def test_registration_writes_its_own_name(service: AcmeDnsService, zones: Zones) -> None:
    """The server's answer gives the fields in their forms; the oldest of three values is gone."""
    registration = registered(service)
    values = ["a" * 43, "b" * 43, "c" * 43]

    assert [(200, {"txt": value}) for value in values] == [
        update(service, registration, v) for v in values
    ]

    records = zones.records(name=registration["fulldomain"], rtype="TXT")
    assert values[1:] == [record.value for record in records]
    assert f"{registration['subdomain']}.{ZONE}" == registration["fulldomain"]
    assert 40 == len(registration["password"])


@pytest.mark.parametrize("key", ["username", "password", "subdomain"])
def test_key_of_another_registration_is_refused(service: AcmeDnsService, key: str) -> None:
    """User, password and subdomain must belong to the same registration."""
    registration, other = registered(service), registered(service)

    refused = update(service, {**registration, key: other[key]}, VALUE)

    assert (401, {"error": "forbidden"}) == refused


@pytest.mark.parametrize("txt", ["v" * 42, "v" * 44, "v" * 42 + "=", "", None])
def test_value_that_is_no_challenge_is_refused(service: AcmeDnsService, txt: object) -> None:
    """A challenge has 43 characters of base64url."""
    assert (400, {"error": "bad_txt"}) == update(service, registered(service), txt)


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", "malformed_json_payload"), (b'{"allowfrom": ["here"]}', "invalid_allowfrom_cidr")],
)
def test_registration_that_cannot_be_read_is_refused(
    service: AcmeDnsService, body: bytes, code: str
) -> None:
    """The codes are the server's own; an unreadable update has no subdomain for its keys."""
    registration = registered(service)
    headers = {"X-Api-User": registration["username"], "X-Api-Key": registration["password"]}

    assert (400, {"error": code}) == posted(f"{service.url}/register", body)
    assert (401, {"error": "forbidden"}) == posted(f"{service.url}/update", b"{", headers)
