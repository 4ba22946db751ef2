"""Pili at the Qiniu stand-in: hubs, their domains, and the certificates of live domains."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import hashes

from certferry_sandbox.authority import Issued
from certferry_sandbox.qiniu.service import QiniuService
from tests.sandbox import qiniu_calls as calls
from tests.sandbox.qiniu_calls import Client, Clock
from tests.sandbox.test_edges import shake_hands

LIVE = "live.example.com"
OTHER_KEYS = ("other-key", "other-secret")


@pytest.fixture
def clock() -> Clock:
    """Give a clock to the service under test."""
    return Clock()


@pytest.fixture
def stand_in(clock: Clock) -> Iterator[QiniuService]:
    """Run a strict stand-in with two hubs, of which one has domains."""
    lags = {"127.0.0.2": timedelta(0), "127.0.0.3": timedelta(seconds=3)}
    with calls.service(clock, processing_time=timedelta(seconds=10), edge_lags=lags) as running:
        running.add_account(*OTHER_KEYS)
        uid = running.accounts.uid()
        running.live.add_hub("empty", uid)
        running.add_live_domain(LIVE, "studio")
        running.add_live_domain("push.example.com", "studio", type="publishRtmp")
        yield running


def ask(client: Client, path: str) -> tuple[int, Any]:
    """GET from the Pili host."""
    answer = client.qiniu("GET", client.service.pili_url + path)
    return answer.status_code, answer.json()


def bind(
    client: Client, name: str, domain: str = LIVE, hub: str = "studio", **more: Any
) -> requests.Response:
    """Set the certificate of a live domain."""
    url = f"{client.service.pili_url}/v2/hubs/{hub}/domains/{domain}/cert"
    return client.qiniu("POST", url, {"certName": name} | more)


def test_hubs_and_their_domains(client: Client) -> None:
    """Objects with names, and what the Go SDK reads of domains; a hub may be empty."""
    assert (200, {"items": [{"name": "empty"}, {"name": "studio"}]}) == ask(client, "/v2/hubs")
    assert (200, {"domains": []}) == ask(client, "/v2/hubs/empty/domains")
    status, listed = ask(client, "/v2/hubs/studio/domains")
    assert (200, [(LIVE, "liveHls"), ("push.example.com", "publishRtmp")]) == (
        status,
        [(one["domain"], one["type"]) for one in listed["domains"]],
    )
    assert {"type", "domain", "cname", "certEnable", "certName"} == set(listed["domains"][0])


def test_empty_lists_may_be_null(client: Client, stand_in: QiniuService) -> None:
    """As others of Qiniu's; an answer without a body stays without one."""
    stand_in.null_lists = True
    calls.seed(stand_in, [LIVE], "by name")

    assert (200, {"domains": None}) == ask(client, "/v2/hubs/empty/domains")
    assert b"" == bind(client, "by name").content


def test_a_certificate_is_bound_by_its_name(client: Client, stand_in: QiniuService) -> None:
    """200 with nothing in it; list and detail tell the name at once, and the id is no name."""
    cert_id = calls.seed(stand_in, ["*.example.com"], "by name")

    answer = bind(client, "by name")

    assert (200, b"") == (answer.status_code, answer.content)
    assert cert_id == stand_in.bound_at_pili(LIVE)
    _, detail = ask(client, f"/v2/hubs/studio/domains/{LIVE}")
    assert (True, "by name", False) == tuple(
        detail[k] for k in ("certEnable", "certName", "disable")
    )
    assert detail["playSecurity"]["key1"]
    refused = bind(client, cert_id)
    assert (400, {"error": "cert not found"}) == (refused.status_code, refused.json())


def test_the_other_reading_of_the_documents(client: Client, stand_in: QiniuService) -> None:
    """`certName` is an id: their sample value looks like one."""
    stand_in.live.certificates_by = "id"
    cert_id = calls.seed(stand_in, ["*.example.com"], "by name")

    assert 400 == bind(client, "by name").status_code
    assert 200 == bind(client, cert_id).status_code
    assert cert_id == ask(client, f"/v2/hubs/studio/domains/{LIVE}")[1]["certName"]


def test_edges_serve_it_later(client: Client, stand_in: QiniuService, clock: Clock) -> None:
    """In real handshakes: after the delay, and each edge after its own lag."""
    old = calls.issue(LIVE)
    stand_in.add_certificate(old, "old")
    new = calls.issue(LIVE)
    stand_in.add_certificate(new, "new")
    bind(client, "old")
    clock.advance(20)
    bind(client, "new")

    fast, slow = stand_in.edges
    prints = {"old": fingerprint(old), "new": fingerprint(new)}
    assert prints["old"] == shake_hands(fast, LIVE)
    clock.advance(11)
    assert (prints["new"], prints["old"]) == (shake_hands(fast, LIVE), shake_hands(slow, LIVE))
    clock.advance(3)
    assert prints["new"] == shake_hands(slow, LIVE)


def fingerprint(issued: Issued) -> str:
    """Give what a handshake would show."""
    return issued.leaf.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v2/hubs/nowhere/domains", "hub not found"),
        (f"/v2/hubs/nowhere/domains/{LIVE}", "hub not found"),
        (f"/v2/hubs/empty/domains/{LIVE}", "no such domain"),
    ],
)
@pytest.mark.parametrize("status", [404, 612])
def test_what_is_not_there(
    client: Client, stand_in: QiniuService, path: str, words: str, status: Any
) -> None:
    """The words of the SDK's tests; which status they come with is a switch."""
    stand_in.live.not_found = status

    assert (status, {"error": words}) == ask(client, path)


def test_a_hub_of_another_account(stand_in: QiniuService) -> None:
    """It is not there, and not in the list; nor is another account's certificate bound."""
    other = Client(stand_in, *OTHER_KEYS)
    calls.seed(stand_in, [LIVE], "not theirs")
    stand_in.add_live_domain("live.example.org", "theirs", account=OTHER_KEYS[0])

    assert (200, {"items": [{"name": "theirs"}]}) == ask(other, "/v2/hubs")
    assert (404, {"error": "hub not found"}) == ask(other, "/v2/hubs/studio/domains")
    answer = bind(other, "not theirs", "live.example.org", "theirs")
    assert {"error": "cert not found"} == answer.json()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "invalid args"),
        ("unknown", "cert not found"),
        ("foreign", "cert does not match the domain"),
    ],
)
def test_a_wrong_binding(client: Client, stand_in: QiniuService, name: str, words: str) -> None:
    """400, with words alone."""
    calls.seed(stand_in, ["www.example.org"], "foreign")

    answer = bind(client, name)

    assert (400, {"error": words}) == (answer.status_code, answer.json())
    assert None is stand_in.bound_at_pili(LIVE)


def test_a_body_of_another_form(client: Client) -> None:
    """Go says which field it could not decode."""
    answer = bind(client, "x", certName=["x"])

    assert "Go struct field SetDomainCertArgs.certName" in answer.json()["error"]


def test_a_disabled_domain(client: Client, stand_in: QiniuService) -> None:
    """It takes no certificate."""
    calls.seed(stand_in, [LIVE], "ours")
    found = stand_in.live.find(LIVE)
    assert found is not None
    found.disabled = True

    assert "domain is disabled" == bind(client, "ours").json()["error"]


def test_only_the_newer_signature_is_taken(client: Client, stand_in: QiniuService) -> None:
    """And only a right one; the calls are nowhere else."""
    url = stand_in.pili_url + "/v2/hubs"
    assert 401 == client.qbox("GET", url).status_code
    assert 401 == Client(stand_in, secret_key="wrong").qiniu("GET", url).status_code
    assert 404 == client.qiniu("GET", stand_in.uc_url + "/v2/hubs").status_code
    assert 404 == client.qiniu("GET", stand_in.pili_url + "/buckets").status_code


def test_pili_keeps_no_certificate(client: Client, stand_in: QiniuService) -> None:
    """That a live domain's certificate cannot be removed is in no document."""
    cert_id = calls.seed(stand_in, [LIVE], "ours")
    bind(client, "ours")

    assert 200 == client.delete(cert_id).status_code
