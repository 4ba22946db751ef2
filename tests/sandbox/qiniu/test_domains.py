"""Domains at the Qiniu stand-in, of the CDN, of Kodo and of Pili: bindings, refusals, and changes
in progress.

Qiniu's adapter and the contract of targets show the other properties that certferry relies on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.qiniu.kodo import DomainType
from certferry_sandbox.qiniu.service import QiniuService
from tests.sandbox import qiniu_calls as calls
from tests.sandbox.qiniu_calls import ACCESS_KEY, OK, Client, Clock, code, issue, refusal

WWW = "www.example.com"
SOURCE = "src.example.com"
LIVE = "live.example.com"


@pytest.fixture
def old(stand_in: QiniuService) -> str:
    """Add an HTTPS domain, and return its certificate."""
    cert_id = calls.seed(stand_in, [WWW])
    stand_in.add_domain(WWW, https=cert_id, force_https=True, http2=True)
    return cert_id


@pytest.fixture
def new(stand_in: QiniuService) -> str:
    return calls.seed(stand_in, [WWW, "*.example.com"], "new")


@pytest.fixture
def other(stand_in: QiniuService) -> Client:
    """Return a client of another account."""
    stand_in.add_account("other-key", "other-secret")
    return Client(stand_in, "other-key", "other-secret")


def https_of(client: Client, name: str = WWW) -> Any:
    return client.domain(name).json().get("https", "missing")


def state_of(client: Client, name: str = WWW) -> tuple[str, str, str]:
    """Return a domain's state, the operation, and the description."""
    domain = client.domain(name).json()
    return domain["operatingState"], domain["operationType"], domain["operatingStateDesc"]


def test_missing_domain(client: Client, new: str) -> None:
    """A read gives 404001 in Qiniu's words, and a write gives HTTP 612."""
    answer_to_read, answer_to_write = client.domain(WWW), client.httpsconf("*.example.com", new)

    assert (refusal(404001), "无此域名") == (code(answer_to_read), answer_to_read.json()["error"])
    assert ((612, 612), "no such domain") == (
        code(answer_to_write),
        answer_to_write.json()["error"],
    )
    assert (612, 612) == code(client.sslize(WWW, new))


def test_domain_of_another_account(
    client: Client, other: Client, stand_in: QiniuService, new: str
) -> None:
    """The domain is hidden from reads and refused for writes."""
    stand_in.add_domain(WWW, account=other.access_key)

    assert [] == client.domains().json()["domains"]
    assert refusal(404001) == code(client.domain(WWW))
    assert refusal(403023) == code(client.sslize(WWW, new))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"tlsVersions": "TLSv1.2"}, "UpdateHttpsConfArgs.tlsVersions of type []string"),
        ({"tlsVersions": ["SSLv3"]}, ""),
        ({"tlsVersions": [1.2]}, ""),
        ({"forceHttps": 1}, "UpdateHttpsConfArgs.forceHttps of type bool"),
        ({"http2Enable": "true"}, "UpdateHttpsConfArgs.http2Enable of type bool"),
    ],
)
def test_setting_of_another_type(
    client: Client, old: str, new: str, wrong: dict[str, Any], words: str
) -> None:
    """The error has the words of Go's decoder, and the domain stays unchanged."""
    answer = client.httpsconf(WWW, new, **wrong)

    assert refusal(400000) == code(answer)
    assert words in answer.json()["error"]
    assert "success" == state_of(client)[0]


def test_https_is_switched_on(
    client: Client, stand_in: QiniuService, clock: Clock, new: str
) -> None:
    """Certificate and protocol change together at the end of the change. `httpsconf` needs HTTPS;
    `sslize` needs a domain without HTTPS, unless switched off.
    """
    stand_in.add_domain(WWW)
    assert refusal(400302) == code(client.httpsconf(WWW, new))
    assert OK == code(client.sslize(WWW, new, http2Enable=True))
    assert ("processing", "sslize", "") == state_of(client)
    assert "http" == client.domain(WWW).json()["protocol"]
    clock.advance(1)
    assert "https" == client.domain(WWW).json()["protocol"]
    assert (new, True) == (https_of(client)["certId"], https_of(client)["http2Enable"])

    assert refusal(400013) == code(client.sslize(WWW, new))
    stand_in.domains.refuse_repeated_sslize = False
    assert OK == code(client.sslize(WWW, new))


def without_names(stand_in: QiniuService) -> str:
    """Add a certificate with a common name alone."""
    private = Authority("Private")
    bare = Issued(private.root_pem, private.intermediate_pem, private.root)
    return stand_in.add_certificate(bare, "bare")


@pytest.mark.parametrize(
    ("seeded", "options", "expected"),
    [
        (lambda stand_in: calls.seed(stand_in, ["other.example.com"]), {}, 400326),
        (
            lambda stand_in: calls.seed(stand_in, ["*.example.com"]),
            {"name": "a.www.example.com"},
            400326,
        ),
        (
            lambda stand_in: calls.seed(stand_in, ["example.com", WWW]),
            {"name": ".example.com"},
            400326,
        ),
        (without_names, {}, 400326),
        (lambda _: "0" * 24, {}, 400401),
        (lambda _: "", {}, 400401),
        (
            lambda stand_in: stand_in.add_certificate(issue(WWW), "theirs", account="other-key"),
            {},
            404908,
        ),
        (lambda stand_in: calls.seed(stand_in, [WWW]), {"state": "frozen"}, 500923),
        (lambda stand_in: calls.seed(stand_in, [WWW]), {"state": "offlined"}, 400320),
        (lambda stand_in: calls.seed(stand_in, [WWW]), {"could_operate": False}, 400722),
        (
            lambda stand_in: calls.seed(stand_in, [WWW]),
            {"type": "pan", "parent": ".example.com"},
            400722,
        ),
    ],
)
def test_binding_that_is_refused(
    client: Client,
    other: Client,
    stand_in: QiniuService,
    seeded: Callable[[QiniuService], str],
    options: dict[str, Any],
    expected: int,
) -> None:
    """Names are compared one label deep; the domain stays readable."""
    if "parent" in options:
        stand_in.add_domain(options["parent"])
    name = options.get("name", WWW)
    stand_in.add_domain(**{"name": name, **options})

    assert refusal(expected) == code(client.sslize(name, seeded(stand_in)))
    domain = client.domain(name).json()
    assert options.get("state", "success") == domain["operatingState"]
    assert options.get("could_operate", True) == domain["couldOperateBySelf"]


def test_first_broken_rule_gives_the_code(client: Client, stand_in: QiniuService) -> None:
    """The order is domain, its state, body, certificate, names, and the domain's protocol."""
    stand_in.add_domain(WWW)
    stand_in.add_domain("stuck.example.com", state="processing")
    other = calls.seed(stand_in, ["other.example.com"])

    assert (612, 612) == code(client.httpsconf("unknown.example.com", "none", tlsVersions=""))
    assert refusal(400030) == code(client.httpsconf("stuck.example.com", "none", tlsVersions=""))
    assert refusal(400000) == code(client.httpsconf(WWW, "none", tlsVersions=""))
    assert refusal(400401) == code(client.httpsconf(WWW, "none"))
    assert refusal(400326) == code(client.httpsconf(WWW, other))


def test_change_that_changes_nothing(
    client: Client, stand_in: QiniuService, clock: Clock, old: str
) -> None:
    """Accepted by default; 400910 with the switch, unless a flag differs."""
    same = {"forceHttps": True, "http2Enable": True}
    assert OK == code(client.httpsconf(WWW, old, **same))
    clock.advance(1)

    stand_in.domains.refuse_unchanged = True
    assert refusal(400910) == code(client.httpsconf(WWW, old, **same))
    assert OK == code(client.httpsconf(WWW, old, forceHttps=False, http2Enable=True))


@pytest.fixture
def files(stand_in: QiniuService) -> str:
    """Add an empty bucket, and a bucket with a domain of each kind; return a certificate."""
    stand_in.add_bucket("empty")
    stand_in.add_bucket_domain("cdn.example.com", "files", domain_type=DomainType.CDN)
    stand_in.add_bucket_domain(SOURCE, "files")
    stand_in.add_domain("cdn.example.com")
    return calls.seed(stand_in, ["*.example.com"])


def ask_kodo(client: Client, target: str) -> tuple[int, Any]:
    answer = client.qiniu("GET", client.service.uc_url + target)
    return answer.status_code, answer.json()


def bind(
    client: Client, cert_id: str, domain: str = SOURCE, method: str = "POST"
) -> tuple[int, Any]:
    answer = client.qbox(
        method, f"{client.service.api_url}/cert/bind", {"certid": cert_id, "domain": domain}
    )
    return answer.status_code, answer.json()


def bindings(client: Client) -> list[tuple[str, str]]:
    return [(item["domain"], item["certid"]) for item in ask_kodo(client, "/cert/bindings")[1]]


def test_domains_in_three_dialects(client: Client, files: str) -> None:
    """v3 has the type; the old call lists source domains, in two forms. A bucket without domains
    gives 404 for v3 only, a missing bucket for both.
    """
    status, v3 = ask_kodo(client, "/v3/domains?tbl=files")
    typed_domains = [(item["domain"], item["domaintype"]) for item in v3]
    assert (200, [("cdn.example.com", 0), (SOURCE, 1)]) == (status, typed_domains)
    status, old = ask_kodo(client, "/domain?bucket=files")
    assert (200, [(SOURCE, "files")]) == (
        status,
        [(domain["domain"], domain["bucket"]) for domain in old],
    )
    typed = [{"domain": SOURCE, "domain_types": ["source"], "api_scope": 0}]
    assert (200, typed) == ask_kodo(client, "/domain?bucket=files&type=source")
    assert 400 == ask_kodo(client, "/domain?bucket=files&type=cdn")[0]
    assert (200, ["empty", "files"]) == ask_kodo(client, "/buckets")

    assert 404 == ask_kodo(client, "/v3/domains?tbl=empty")[0]
    assert (200, []) == ask_kodo(client, "/domain?bucket=empty")
    for target in ("/v3/domains?tbl=no", "/domain?bucket=no", "/domain"):
        assert 404 == ask_kodo(client, target)[0]


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_source_domain_is_bound(
    client: Client, stand_in: QiniuService, files: str, method: str
) -> None:
    """The binding is immediate; a bound certificate cannot be removed (400911)."""
    second = calls.seed(stand_in, ["*.example.com"])

    assert (200, {}) == bind(client, files, method=method)
    assert [(SOURCE, files)] == bindings(client)
    assert (200, {}) == bind(client, second, method=method)
    assert [(SOURCE, second)] == bindings(client)
    assert refusal(400911) == code(client.delete(second))


@pytest.mark.parametrize(
    ("names", "domain", "status", "words"),
    [
        (["*.example.com"], "unknown.example.com", 400, "invalid domain"),
        (["*.example.com"], "", 400, "invalid domain"),
        (["other.test"], SOURCE, 400, "cert does not match the domain"),
        (None, SOURCE, 400, "invalid certid"),
        (["*.example.com"], "cdn.example.com", 403, "domaintype is not allowed"),
        (["*.example.com"], "only.example.com", 403, "domaintype is not allowed"),
    ],
)
def test_wrong_binding_has_words_alone(
    client: Client,
    stand_in: QiniuService,
    files: str,
    names: list[str] | None,
    domain: str,
    status: int,
    words: str,
) -> None:
    """A missing domain or certificate, a certificate with other names, and accelerated domains are
    refused.
    """
    stand_in.add_domain("only.example.com")
    cert_id = calls.seed(stand_in, names) if names else "0" * 24

    assert (status, {"error": words}) == bind(client, cert_id, domain)


def test_keys_that_see_no_source_domain(
    client: Client, other: Client, stand_in: QiniuService, files: str
) -> None:
    """The unlisted API accepts main accounts alone, and another account's buckets are missing."""
    stand_in.add_iam_key("IAM-key", "iam-secret", owner=ACCESS_KEY)
    sub_account = Client(stand_in, "IAM-key", "iam-secret")
    bind(client, files)

    assert 200 == sub_account.certificates().status_code
    assert (401, {"error": "bad token"}) == bind(sub_account, files)
    assert 401 == ask_kodo(sub_account, "/cert/bindings")[0]
    assert (200, []) == ask_kodo(other, "/buckets")
    assert 404 == ask_kodo(other, "/v3/domains?tbl=files")[0]
    assert (400, {"error": "invalid domain"}) == bind(other, files)
    assert [] == bindings(other)


@pytest.fixture
def studio(stand_in: QiniuService) -> str:
    """Add two hubs, a single one with domains; return a certificate for the domains."""
    stand_in.live.add_hub("empty", stand_in.accounts.uid())
    stand_in.add_live_domain(LIVE, "studio")
    stand_in.add_live_domain("push.example.com", "studio", type="publishRtmp")
    return calls.seed(stand_in, ["*.example.com"], "by name")


def ask_pili(client: Client, path: str) -> tuple[int, Any]:
    answer = client.qiniu("GET", client.service.pili_url + path)
    return answer.status_code, answer.json()


def bind_live(
    client: Client, name: str, domain: str = LIVE, hub: str = "studio", **more: Any
) -> requests.Response:
    url = f"{client.service.pili_url}/v2/hubs/{hub}/domains/{domain}/cert"
    return client.qiniu("POST", url, {"certName": name} | more)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v2/hubs/nowhere/domains", "hub not found"),
        (f"/v2/hubs/nowhere/domains/{LIVE}", "hub not found"),
        (f"/v2/hubs/empty/domains/{LIVE}", "no such domain"),
    ],
)
@pytest.mark.parametrize("status", [404, 612])
def test_missing_live_domain(
    client: Client, stand_in: QiniuService, studio: str, path: str, words: str, status: Any
) -> None:
    """The words come from the SDK's tests; a switch sets their status."""
    stand_in.live.not_found = status

    assert (status, {"error": words}) == ask_pili(client, path)


def test_hub_of_another_account(other: Client, stand_in: QiniuService, studio: str) -> None:
    """The hub is missing, also in the list; another account's certificate cannot be bound."""
    stand_in.add_live_domain("live.example.org", "theirs", account=other.access_key)

    assert (200, {"items": [{"name": "theirs"}]}) == ask_pili(other, "/v2/hubs")
    assert (404, {"error": "hub not found"}) == ask_pili(other, "/v2/hubs/studio/domains")
    answer = bind_live(other, "by name", "live.example.org", "theirs")
    assert {"error": "cert not found"} == answer.json()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "invalid args"),
        ("unknown", "cert not found"),
        ("foreign", "cert does not match the domain"),
        ("by name", "domain is disabled"),
        (["x"], "Go struct field SetDomainCertArgs.certName"),
    ],
)
def test_wrong_binding_of_a_live_domain(
    client: Client, stand_in: QiniuService, studio: str, name: Any, words: str
) -> None:
    """The status is 400, with words alone."""
    calls.seed(stand_in, ["www.example.org"], "foreign")
    live_domain = stand_in.live.find(LIVE)
    assert live_domain is not None
    live_domain.disabled = name == "by name"

    answer = bind_live(client, name)

    assert 400 == answer.status_code
    assert words in answer.json()["error"]
    assert None is stand_in.bound_at_pili(LIVE)


@pytest.mark.parametrize("status", [403, 429])
def test_rate_limit(
    client: Client, other: Client, stand_in: QiniuService, clock: Clock, status: Any
) -> None:
    """Each account has a number of requests per second and host; more give 403024, with status 403
    or 429.
    """
    stand_in.rate_limit.per_second = 2
    stand_in.rate_limit.status = status

    assert [200, 200] == [client.domains().status_code for _ in range(2)]
    assert (status, 403024) == code(client.domains())
    assert OK == code(client.certificates())
    assert 200 == other.domains().status_code
    clock.advance(1)
    assert 200 == client.domains().status_code
