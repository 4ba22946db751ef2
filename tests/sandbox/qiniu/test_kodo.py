"""Kodo at the Qiniu stand-in: buckets, their domains, certificates of source domains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from certferry_sandbox.qiniu.kodo import DomainType
from certferry_sandbox.qiniu.service import QiniuService
from tests.sandbox import qiniu_calls as calls
from tests.sandbox.qiniu_calls import ACCESS_KEY, Client

SOURCE = "src.example.com"


@pytest.fixture
def stand_in() -> Iterator[QiniuService]:
    """Run a strict stand-in with a bucket that has a domain of each kind."""
    with calls.service(calls.Clock()) as running:
        running.add_bucket("empty")
        running.add_bucket_domain("cdn.example.com", "files", domain_type=DomainType.CDN)
        running.add_bucket_domain(SOURCE, "files")
        running.add_domain("cdn.example.com")
        yield running


def ask(client: Client, target: str) -> tuple[int, Any]:
    """GET from the uc host."""
    answer = client.qiniu("GET", client.service.uc_url + target)
    return answer.status_code, answer.json()


def bind(
    client: Client, cert_id: str, domain: str = SOURCE, call: str = "bind", method: str = "POST"
) -> tuple[int, Any]:
    """Call /cert/bind or /cert/unbind."""
    url = f"{client.service.api_url}/cert/{call}"
    answer = client.qbox(method, url, {"certid": cert_id, "domain": domain})
    return answer.status_code, answer.json()


def bindings(client: Client) -> list[tuple[str, str]]:
    """Ask which source domain is bound to which certificate."""
    answer = client.qiniu("GET", client.service.uc_url + "/cert/bindings")
    return [(item["domain"], item["certid"]) for item in answer.json()]


def test_buckets_are_names(client: Client) -> None:
    """An array of strings."""
    assert (200, ["empty", "files"]) == ask(client, "/buckets")


def test_domains_in_four_dialects(client: Client) -> None:
    """v3 tells the type, v2 names all; the old call names source domains, in two forms."""
    status, v3 = ask(client, "/v3/domains?tbl=files")
    assert (200, [("cdn.example.com", 0), (SOURCE, 1)]) == (
        status,
        [(item["domain"], item["domaintype"]) for item in v3],
    )
    assert (200, ["cdn.example.com", SOURCE]) == ask(client, "/v2/domains?tbl=files")
    status, old = ask(client, "/domain?bucket=files")
    assert (200, [(SOURCE, "files")]) == (
        status,
        [(item["domain"], item["bucket"]) for item in old],
    )
    status, typed = ask(client, "/domain?bucket=files&type=source")
    assert (200, [{"domain": SOURCE, "domain_types": ["source"], "api_scope": 0}]) == (
        status,
        typed,
    )
    assert 400 == ask(client, "/domain?bucket=files&type=cdn")[0]


def test_bucket_without_domains(client: Client) -> None:
    """v3 has 404 for it, the others an empty array; an unknown bucket is 404 everywhere."""
    assert 404 == ask(client, "/v3/domains?tbl=empty")[0]
    assert (200, []) == ask(client, "/v2/domains?tbl=empty")
    assert (200, []) == ask(client, "/domain?bucket=empty")
    for target in ("/v3/domains?tbl=no", "/v2/domains?tbl=no", "/domain?bucket=no", "/domain"):
        assert 404 == ask(client, target)[0]


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_bind_takes_effect_at_once(client: Client, stand_in: QiniuService, method: str) -> None:
    """The binding is listed, replaced by the next, and its body carries no code."""
    first, second = (calls.seed(stand_in, ["*.example.com"]) for _ in range(2))

    assert (200, {}) == bind(client, first, method=method)
    assert [(SOURCE, first)] == bindings(client)
    assert (200, {}) == bind(client, second, method=method)
    assert [(SOURCE, second)] == bindings(client)


def test_unbind_names_what_is_bound(client: Client, stand_in: QiniuService) -> None:
    """Another certificate than the bound one is refused."""
    bound, other = (calls.seed(stand_in, ["*.example.com"]) for _ in range(2))
    bind(client, bound)

    assert (400, {"error": "cert is not bound"}) == bind(client, other, call="unbind")
    assert (200, {}) == bind(client, bound, call="unbind")
    assert [] == bindings(client)


def test_cdn_domain_is_not_allowed(client: Client, stand_in: QiniuService) -> None:
    """403 without a code, for any domain that is accelerated."""
    cert_id = calls.seed(stand_in, ["*.example.com"])
    stand_in.add_domain("only.example.com")

    expected = (403, {"error": "domaintype is not allowed"})
    assert expected == bind(client, cert_id, "cdn.example.com")
    assert expected == bind(client, cert_id, "only.example.com")


def test_source_domain_is_no_cdn_domain(client: Client, stand_in: QiniuService) -> None:
    """The other half of the mistake: 612 on write and 404001 on read."""
    cert_id = calls.seed(stand_in, ["*.example.com"])

    assert (612, 612) == calls.code(client.httpsconf(SOURCE, cert_id))
    assert (404, 404001) == calls.code(client.domain(SOURCE))


@pytest.mark.parametrize(
    ("names", "domain", "words"),
    [
        (["*.example.com"], "unknown.example.com", "invalid domain"),
        (["*.example.com"], "", "invalid domain"),
        (["other.test"], SOURCE, "cert does not match the domain"),
        (None, SOURCE, "invalid certid"),
    ],
)
def test_wrong_binding_is_400_with_words_alone(
    client: Client, stand_in: QiniuService, names: list[str] | None, domain: str, words: str
) -> None:
    """Missing domain, missing certificate, or one that does not match."""
    cert_id = calls.seed(stand_in, names) if names else "0" * 24

    assert (400, {"error": words}) == bind(client, cert_id, domain)


def test_sub_account_key_is_a_bad_token(client: Client, stand_in: QiniuService) -> None:
    """The unlisted API knows main accounts alone, although the same key works elsewhere."""
    stand_in.add_iam_key("IAM-key", "iam-secret", owner=ACCESS_KEY)
    sub_account = Client(stand_in, "IAM-key", "iam-secret")
    cert_id = calls.seed(stand_in, [SOURCE])

    assert 200 == sub_account.certificates().status_code
    assert (401, {"error": "bad token"}) == bind(sub_account, cert_id)
    answer = sub_account.qiniu("GET", stand_in.uc_url + "/cert/bindings")
    assert 401 == answer.status_code


def test_accounts_do_not_see_each_other(client: Client, stand_in: QiniuService) -> None:
    """Buckets, source domains and bindings belong to their account."""
    cert_id = calls.seed(stand_in, [SOURCE])
    bind(client, cert_id)
    stand_in.add_account("other-key", "other-secret")
    other = Client(stand_in, "other-key", "other-secret")

    assert (200, []) == ask(other, "/buckets")
    assert 404 == ask(other, "/v2/domains?tbl=files")[0]
    assert (400, {"error": "invalid domain"}) == bind(other, cert_id)
    assert [] == bindings(other)
