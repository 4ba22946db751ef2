"""The search of public logs against the strict stand-in: pages, facts, refusals, limits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from certferry.adapters.certspotter import search
from certferry.adapters.certspotter.search import CertSpotter, search_for
from certferry.core.observed.public_logs import LoggedCertificate
from certferry.core.redaction import Secret
from certferry.errors import LogSearchFailed, Severity
from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.certspotter import CertSpotterService
from certferry_sandbox.faults import Fault

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DOMAIN = "example.com"
TOKEN = "k1234_" + "s" * 30

Find = Callable[..., tuple[LoggedCertificate, ...]]


@pytest.fixture
def service() -> Iterator[CertSpotterService]:
    with CertSpotterService(now=lambda: NOW) as running:
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(service: CertSpotterService, pauses: list[float]) -> CertSpotter:
    return search_for(pauses.append, lambda: NOW, service.url, None)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Harbour")


def issued(authority: Authority, *names: str, days: int = 60) -> Issued:
    begin = NOW - timedelta(days=1)
    return authority.issue(names or (DOMAIN,), begin, NOW + timedelta(days=days))


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "tbs_sha256": "ab" * 32,
        "cert_sha256": "cd" * 32,
        "dns_names": [DOMAIN],
        "pubkey_sha256": "ef" * 32,
        "issuer": {"name": "C=US, O=Let's Encrypt, CN=R13", "pubkey_sha256": "00" * 32},
        "not_before": "2026-11-01T00:00:00Z",
        "not_after": "2027-01-30T00:00:00-00:00",
        "revoked": False,
        **changes,
    }


def found(client: CertSpotter, service: CertSpotterService, **changes: Any) -> LoggedCertificate:
    service.log_entry(entry(**changes))
    (logged,) = client.page_after(DOMAIN, "")
    return logged


def failure(client: CertSpotter, cursor: str = "") -> LogSearchFailed:
    with pytest.raises(LogSearchFailed) as caught:
        client.page_after(DOMAIN, cursor)
    assert caught.value.hint is not None
    assert Severity.ERROR is caught.value.problem().severity
    return caught.value


# --- Pages


def test_pages_in_the_order_of_discovery(
    client: CertSpotter, service: CertSpotterService, authority: Authority
) -> None:
    """Each page begins after the last id, and an empty page is the end."""
    service.page_size = 2
    ids = [service.log(issued(authority, f"n{number}.{DOMAIN}").leaf) for number in range(3)]

    first = client.page_after(DOMAIN, "")
    second = client.page_after(DOMAIN, first[-1].id)

    assert ids == [logged.id for logged in (*first, *second)]
    assert () == client.page_after(DOMAIN, second[-1].id)


def test_only_the_domain_leaves_the_house(client: CertSpotter, service: CertSpotterService) -> None:
    """A request has the registered domain, the cursor and what to list; no key without a token."""
    client.page_after(DOMAIN, "")

    (request,) = service.http.requests()
    assert "GET /v1/issuances" == request.label
    assert f"domain={DOMAIN}&include_subdomains=true&expand=dns_names&expand=issuer" == (
        request.query
    )
    assert "Authorization" not in request.headers


def test_facts_of_a_certificate(
    client: CertSpotter, service: CertSpotterService, authority: Authority
) -> None:
    """Digests of key and TBSCertificate, names, issuer, validity, and a page about all."""
    leaf = issued(authority, "Shop.example.com", "*.example.com").leaf
    service.log(leaf, "Harbour CA")

    (logged,) = client.page_after(DOMAIN, "")

    key = leaf.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert hashlib.sha256(key).hexdigest() == logged.key_digest
    assert hashlib.sha256(leaf.tbs_certificate_bytes).hexdigest() == logged.tbs_digest
    assert ("shop.example.com", "*.example.com") == logged.names
    assert "Harbour CA" == logged.issuer
    assert "CN=Harbour Intermediate" == logged.issuer_name
    assert leaf.not_valid_before_utc == logged.not_before
    assert leaf.not_valid_after_utc == logged.not_after
    assert logged.link.endswith(f"={hashlib.sha256(_der(logged, leaf)).hexdigest()}")


def _der(_: LoggedCertificate, leaf: Any) -> bytes:
    der: bytes = leaf.public_bytes(serialization.Encoding.DER)
    return der


@pytest.mark.parametrize(
    ("name", "issuer"),
    [
        ("C=US, O=Let's Encrypt, CN=R13", "Let's Encrypt"),
        ('C=US, O="Cloudflare, Inc.", CN=Cloudflare Inc ECC CA-3', "Cloudflare, Inc."),
        ("CN=R13,O=Example\\, Ltd.,C=US", "Example, Ltd."),
        ("CN=Lone CA", "Lone CA"),
        ("C=US", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_issuer_without_a_friendly_name(
    client: CertSpotter, service: CertSpotterService, name: object, issuer: str
) -> None:
    """The organisation counts, then the common name."""
    assert issuer == found(client, service, issuer={"name": name}).issuer


@pytest.mark.parametrize(
    "change",
    [
        {"dns_names": None},
        {"dns_names": ["", 7, "http://example.com/", "x" * 300]},
        {"issuer": None},
        {"issuer": []},
        {"not_before": "soon", "not_after": None},
        {"not_after": "2027-01-30T00:00:00"},
        {"not_after": "9999-12-31T23:59:59Z"},
        {"pubkey_sha256": "zz", "tbs_sha256": 7, "cert_sha256": None},
        {"revoked": "yes"},
    ],
)
def test_certificate_that_cannot_be_read_still_counts(
    client: CertSpotter, service: CertSpotterService, change: dict[str, object]
) -> None:
    """Unreadable facts stay empty, and no fact hides the certificate."""
    service.change = lambda listed: {**listed, **change}

    logged = found(client, service)

    assert logged.id
    assert not logged.is_revoked


def test_unreadable_names_are_told(client: CertSpotter, service: CertSpotterService) -> None:
    """A name that cannot be read may be any name, so no entry of `expected` covers the
    certificate.
    """
    logged = found(client, service, dns_names=[DOMAIN, "*.a_b.example.com", "-"])

    assert (DOMAIN,) == logged.names
    assert logged.is_partial


def test_revoked_certificate(client: CertSpotter, service: CertSpotterService) -> None:
    """The service tells of the revocation."""
    assert found(client, service, revoked=True).is_revoked


def test_issuer_is_a_single_line_without_control_characters(
    client: CertSpotter, service: CertSpotterService
) -> None:
    """A certificate's issuer can hold anything."""
    logged = found(client, service, issuer={"friendly_name": "A\x1b[31m\nB\u202e" + "c d" * 999})

    assert logged.issuer.isprintable()
    assert len(logged.issuer) <= 200


# --- Refusals and limits


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'{"code": "x"}',
        b"[7]",
        b"[[]]",
        b'[{"tbs_sha256": "ab"}]',
        b'[{"id": 7}]',
        b'[{"id": "a b"}]',
        b'[{"id": ""}]',
        b"[" * 100_000,
        b"[" + b"9" * 5000 + b"]",
        b"\xff\xfe",
        json.dumps([{"id": str(number)} for number in range(10_001)]).encode(),
    ],
)
def test_answer_that_is_no_list_of_certificates(
    client: CertSpotter, service: CertSpotterService, body: bytes
) -> None:
    """An answer without ids is refused whole, because the next page begins after an id."""
    service.faults.add(Fault.status(200, body))

    assert "no list of certificates" in str(failure(client).message)


def test_answer_of_fifty_megabytes(client: CertSpotter, service: CertSpotterService) -> None:
    """The answer is bounded."""
    service.faults.add(Fault.status(200, b'["' + b"x" * 50 * 2**20 + b'"]'))

    assert "too long" in str(failure(client).message)


def test_web_page(client: CertSpotter, service: CertSpotterService) -> None:
    """A gateway's page is no answer, with any status."""
    for status in (200, 502):
        service.faults.add(Fault.html(status), times=2)

        assert "web page" in str(failure(client).message)


def test_too_many_requests(
    client: CertSpotter, service: CertSpotterService, pauses: list[float]
) -> None:
    """The error has the moment that the service names, and the client does not wait so long."""
    service.per_hour = 0

    refused = failure(client)

    assert NOW + timedelta(hours=1) == refused.retry.after
    assert "token" in str(refused.hint)
    assert 1 == len(service.http.requests())
    assert sum(pauses) < 2


def test_too_many_requests_without_a_moment(
    client: CertSpotter, service: CertSpotterService
) -> None:
    """The service counts by the hour, so the client waits for an hour."""
    service.faults.add(Fault.too_many(), times=2)

    assert NOW + search.USUAL_WAIT == failure(client).retry.after


def test_refused_key(service: CertSpotterService, pauses: list[float]) -> None:
    """The key goes in a header, and into no message."""
    service.token = TOKEN
    right = search_for(pauses.append, lambda: NOW, f"{service.url}/", Secret(TOKEN))
    wrong = search_for(pauses.append, lambda: NOW, service.url, Secret("wrong-" + "w" * 30))

    assert () == right.page_after(DOMAIN, "")
    refused = failure(wrong)
    assert "status 401: The API key is not valid." in str(refused.message)
    assert "token" in str(refused.hint)
    assert refused.retry.after is None


def test_key_that_the_service_quotes(service: CertSpotterService, pauses: list[float]) -> None:
    """A message masks the key."""
    client = search_for(pauses.append, lambda: NOW, service.url, Secret(TOKEN))
    service.faults.add(Fault.status(403, json.dumps({"message": f"bad {TOKEN}"}).encode()))

    assert "s" * 8 not in str(failure(client).message)


def test_domain_that_the_service_refuses(client: CertSpotter, service: CertSpotterService) -> None:
    """The error names the domain, the status and the service's words."""
    with pytest.raises(LogSearchFailed, match=r"does not search for com\.br \(status 400\)"):
        client.page_after("com.br", "")


def test_server_that_fails(client: CertSpotter, service: CertSpotterService) -> None:
    """A read is repeated once."""
    service.faults.add(Fault.status(503, b"{}"))
    assert () == client.page_after(DOMAIN, "")

    service.faults.add(Fault.status(503, b"{}"), times=2)
    assert "failed with status 503" in str(failure(client).message)


def test_redirect_is_not_followed(client: CertSpotter, service: CertSpotterService) -> None:
    """The key goes to one address only."""
    service.faults.add(Fault.status(302, headers=[("Location", "http://127.0.0.1:1/")]))

    assert "status 302" in str(failure(client).message)


def test_silent_service(pauses: list[float]) -> None:
    """A refused connection is an error in a sentence."""
    client = search_for(pauses.append, lambda: NOW, "http://127.0.0.1:9", None)

    assert "cannot connect" in str(failure(client).message)
