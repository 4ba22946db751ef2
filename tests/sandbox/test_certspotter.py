"""The stand-in of the search of public logs over real HTTP: its pages and its refusals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from certferry_sandbox.authority import Authority
from certferry_sandbox.certspotter import CertSpotterService

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WHOLE = "domain=example.com&include_subdomains=true&expand=dns_names&expand=issuer"


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def service(time: Time) -> Iterator[CertSpotterService]:
    with CertSpotterService(now=time) as running:
        yield running


def ask(service: CertSpotterService, query: str, **headers: str) -> tuple[int, Any]:
    answer = requests.get(f"{service.url}/v1/issuances?{query}", headers=headers, timeout=5)
    return answer.status_code, answer.json()


def log(service: CertSpotterService, *names: str, days: int = 60, since: int = 1) -> str:
    begin, end = NOW - timedelta(days=since), NOW + timedelta(days=days)
    return service.log(Authority("Harbour").issue(names, begin, end).leaf)


@pytest.mark.parametrize(
    "query",
    [
        "domain=com",
        "domain=com.br",
        "domain=example",
        "domain=Example.com",
        "include_subdomains=true",
        f"{WHOLE}&domain=example.org",
        f"{WHOLE}&expand=issuer",
        f"{WHOLE}&expand=cert_der",
        f"{WHOLE}&limit=1",
        f"{WHOLE}&after=1",
        "domain=example.com&include_subdomains=yes",
    ],
)
def test_wrong_parameters_are_refused(service: CertSpotterService, query: str) -> None:
    """Public suffixes, unknown and repeated parameters, and unknown ids are refused."""
    status, body = ask(service, query)

    assert 400 == status
    assert {"code", "message"} == body.keys()


def test_list_in_the_order_of_discovery(service: CertSpotterService, time: Time) -> None:
    """A late entry comes last; an expired certificate leaves the list, and the id stays valid."""
    first = log(service, "a.example.com", days=1)
    log(service, "a.example.org")
    late = log(service, "*.b.example.com", since=300)

    assert [first, late] == [entry["id"] for entry in ask(service, WHOLE)[1]]
    assert [late] == [entry["id"] for entry in ask(service, f"{WHOLE}&after={first}")[1]]
    assert [] == ask(service, "domain=example.com")[1]
    time.now += timedelta(days=2)
    assert [late] == [entry["id"] for entry in ask(service, WHOLE)[1]]
    assert [late] == [entry["id"] for entry in ask(service, f"{WHOLE}&after={first}")[1]]


def test_precertificate_and_certificate_are_one_logged_of(service: CertSpotterService) -> None:
    """Logging again changes nothing; a duplicate has another id."""
    leaf = Authority("Harbour").issue(("example.com",), NOW, NOW + timedelta(days=9)).leaf

    assert service.log(leaf) == service.log(leaf)
    service.list_again(service.log(leaf))

    one, two = ask(service, WHOLE)[1]
    assert one["id"] != two["id"]
    assert one["tbs_sha256"] == two["tbs_sha256"]


def test_fields_come_only_if_expanded(service: CertSpotterService) -> None:
    """Names and issuer are left out by default."""
    log(service, "example.com")

    (entry,) = ask(service, "domain=example.com")[1]

    assert set() == {"dns_names", "issuer"} & entry.keys()


def test_requests_of_an_hour_are_counted(service: CertSpotterService, time: Time) -> None:
    """The refusal says when the next request is answered."""
    service.per_hour = 2
    statuses = [ask(service, WHOLE)[0] for _ in range(3)]
    time.now += timedelta(hours=1)

    assert [200, 200, 429] == statuses
    assert 200 == ask(service, WHOLE)[0]


def test_key_is_compared(service: CertSpotterService) -> None:
    """Without the right key nothing is listed."""
    service.token = "right"

    assert 401 == ask(service, WHOLE)[0]
    assert 401 == ask(service, WHOLE, Authorization="Bearer wrong")[0]
    assert 200 == ask(service, WHOLE, Authorization="Bearer right")[0]
