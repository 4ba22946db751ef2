"""Domains at the Qiniu stand-in, of the CDN, of Kodo and of Pili: what it takes and refuses, and
what it shows while a change is carried out.

What certferry relies on beyond that is shown by its adapter and by the targets' contract.
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
    """Have an HTTPS domain, and return the certificate it is bound to."""
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
    """Read a domain's state, the operation, and the description."""
    found = client.domain(name).json()
    return found["operatingState"], found["operationType"], found["operatingStateDesc"]


def test_domain_that_is_not_there(client: Client, new: str) -> None:
    """404001 on read, in Qiniu's words, and HTTP 612 on write."""
    read, written = client.domain(WWW), client.httpsconf("*.example.com", new)

    assert (refusal(404001), "无此域名") == (code(read), read.json()["error"])
    assert ((612, 612), "no such domain") == (code(written), written.json()["error"])
    assert (612, 612) == code(client.sslize(WWW, new))


def test_domain_of_another_account(
    client: Client, other: Client, stand_in: QiniuService, new: str
) -> None:
    """Not to be seen, not to be changed."""
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
    """Go's decoder complains; nothing is changed."""
    answer = client.httpsconf(WWW, new, **wrong)

    assert refusal(400000) == code(answer)
    assert words in answer.json()["error"]
    assert "success" == state_of(client)[0]


def test_https_is_switched_on(
    client: Client, stand_in: QiniuService, clock: Clock, new: str
) -> None:
    """Certificate and protocol change together, when the change is through; `httpsconf` wants
    HTTPS, `sslize` none unless it is switched off.
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
    """Put in a certificate that has a common name only."""
    private = Authority("Private")
    bare = Issued(private.root_pem, private.intermediate_pem, private.root)
    return stand_in.add_certificate(bare, "bare")


@pytest.mark.parametrize(
    ("seeded", "options", "expected"),
    [
        (lambda it: calls.seed(it, ["other.example.com"]), {}, 400326),
        (lambda it: calls.seed(it, ["*.example.com"]), {"name": "a.www.example.com"}, 400326),
        (lambda it: calls.seed(it, ["example.com", WWW]), {"name": ".example.com"}, 400326),
        (without_names, {}, 400326),
        (lambda _: "0" * 24, {}, 400401),
        (lambda _: "", {}, 400401),
        (lambda it: it.add_certificate(issue(WWW), "theirs", account="other-key"), {}, 404908),
        (lambda it: calls.seed(it, [WWW]), {"state": "frozen"}, 500923),
        (lambda it: calls.seed(it, [WWW]), {"state": "offlined"}, 400320),
        (lambda it: calls.seed(it, [WWW]), {"could_operate": False}, 400722),
        (lambda it: calls.seed(it, [WWW]), {"type": "pan", "parent": ".example.com"}, 400722),
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
    """The names are compared one label deep; the domain can be read all the same."""
    if "parent" in options:
        stand_in.add_domain(options["parent"])
    name = options.get("name", WWW)
    stand_in.add_domain(**{"name": name, **options})

    assert refusal(expected) == code(client.sslize(name, seeded(stand_in)))
    found = client.domain(name).json()
    assert options.get("state", "success") == found["operatingState"]
    assert options.get("could_operate", True) == found["couldOperateBySelf"]


def test_first_broken_rule_gives_the_code(client: Client, stand_in: QiniuService) -> None:
    """Domain, its state, then body, certificate, names, and the domain's protocol."""
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
    """Taken by default; 400910 with the switch, unless a flag differs."""
    same = {"forceHttps": True, "http2Enable": True}
    assert OK == code(client.httpsconf(WWW, old, **same))
    clock.advance(1)

    stand_in.domains.refuse_unchanged = True
    assert refusal(400910) == code(client.httpsconf(WWW, old, **same))
    assert OK == code(client.httpsconf(WWW, old, forceHttps=False, http2Enable=True))


@pytest.fixture
def files(stand_in: QiniuService) -> str:
    """Have an empty bucket, and one that has a domain of each kind; return a certificate."""
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
    """v3 has the type; the old call names source domains, in two forms. A bucket without domains
    is 404 for v3 only, one that is not there for both.
    """
    status, v3 = ask_kodo(client, "/v3/domains?tbl=files")
    found = [(item["domain"], item["domaintype"]) for item in v3]
    assert (200, [("cdn.example.com", 0), (SOURCE, 1)]) == (status, found)
    status, old = ask_kodo(client, "/domain?bucket=files")
    assert (200, [(SOURCE, "files")]) == (status, [(one["domain"], one["bucket"]) for one in old])
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
    """At once; a bound certificate is not removed (400911)."""
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
    """A missing domain or certificate, one that does not match, and any accelerated domain."""
    stand_in.add_domain("only.example.com")
    cert_id = calls.seed(stand_in, names) if names else "0" * 24

    assert (status, {"error": words}) == bind(client, cert_id, domain)


def test_keys_that_see_no_source_domain(
    client: Client, other: Client, stand_in: QiniuService, files: str
) -> None:
    """The unlisted API knows main accounts alone; another account's buckets are not there."""
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
    """Have two hubs, of which one has domains; return a certificate for them."""
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
def test_live_domain_that_is_not_there(
    client: Client, stand_in: QiniuService, studio: str, path: str, words: str, status: Any
) -> None:
    """The words of the SDK's tests; which status they come with is a switch."""
    stand_in.live.not_found = status

    assert (status, {"error": words}) == ask_pili(client, path)


def test_hub_of_another_account(other: Client, stand_in: QiniuService, studio: str) -> None:
    """It is not there, and not in the list; nor is another account's certificate bound."""
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
    """400, with words alone."""
    calls.seed(stand_in, ["www.example.org"], "foreign")
    found = stand_in.live.find(LIVE)
    assert found is not None
    found.disabled = name == "by name"

    answer = bind_live(client, name)

    assert 400 == answer.status_code
    assert words in answer.json()["error"]
    assert None is stand_in.bound_at_pili(LIVE)


@pytest.mark.parametrize("status", [403, 429])
def test_rate_limit(
    client: Client, other: Client, stand_in: QiniuService, clock: Clock, status: Any
) -> None:
    """So many per second, account and host; more is 403024, as 403 or 429."""
    stand_in.rate_limit.per_second = 2
    stand_in.rate_limit.status = status

    assert [200, 200] == [client.domains().status_code for _ in range(2)]
    assert (status, 403024) == code(client.domains())
    assert OK == code(client.certificates())
    assert 200 == other.domains().status_code
    clock.advance(1)
    assert 200 == client.domains().status_code
