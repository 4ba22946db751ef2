"""Whole runs at Alibaba Cloud: DNS, CDN and DCDN with one key, from the file to the edges."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from certferry_sandbox.aliyun.service import DNS_ALONE, WITHOUT_CAS, AliyunService
from certferry_sandbox.dnspod.service import NAMESERVERS
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run

ZONE = "example.com"
KEY_ID, KEY_SECRET = "LTAI5tAcceptance", "acceptance-secret"
LAST = "127.0.0.6"
"""The edge that only the product names: DNS has the others."""
LAGS = {
    "127.0.0.4": timedelta(0),
    "127.0.0.5": timedelta(seconds=0.3),
    LAST: timedelta(seconds=1.5),
}


@pytest.fixture
def name(new_name: Callable[[], str]) -> str:
    return new_name()


@contextmanager
def cloud_in(world: World) -> Iterator[AliyunService]:
    """Run Alibaba Cloud in a world: its DNS has the world's zone, its edges the world's port."""
    port = world.qiniu.edges.port
    with AliyunService(world.zones, edge_lags=LAGS, edge_port=port) as cloud:
        cloud.add_account(KEY_ID, KEY_SECRET)
        assert cloud.dns is not None
        cloud.dns.add_domain(ZONE)
        yield cloud


@pytest.fixture
def cloud(world: World) -> Iterator[AliyunService]:
    with cloud_in(world) as cloud:
        yield cloud


def add_domain(world: World, cloud: AliyunService, name: str, product: str) -> None:
    """Put a domain without HTTPS on a product, and point DNS at all edges but the last."""
    at_cdn = f"{name}.w.kunlunsl.com"
    if "kunlunsl.com" not in {zone.name for zone in world.zones.zones_above("w.kunlunsl.com")}:
        world.zones.add_zone("kunlunsl.com", NAMESERVERS)
    world.zones.seed(name, "CNAME", f"{at_cdn}.")
    for address in cloud.dns_addresses:
        world.zones.seed(at_cdn, "A", address)
    cloud.add_domain(name, product=product)


def tables(cloud: AliyunService, name: str, *deploy: str) -> str:
    """Return the tables of an account, and of a certificate for a name and everything below."""
    assert cloud.dns is not None
    more = "\n".join(deploy)
    return f"""
[accounts.aliyun]
access_key_id = "env:Ali_Key"
access_key_secret = "env:Ali_Secret"
dns = "{cloud.dns.url}"
cdn = "{cloud.cdn.url}"
dcdn = "{cloud.dcdn.url}"
cas = "{cloud.cas.url}"

[[certificates]]
name = "{name}"
names = ["{name}", "*.{name}"]
dns = "aliyun"

[[certificates.deploy]]
to = "aliyun"
{more}
"""


def run(host: Host, *arguments: str, key_id: str = KEY_ID) -> Run:
    return host.run(*arguments, Ali_Key=key_id, Ali_Secret=KEY_SECRET)


def test_certificate_is_issued_uploaded_bound_and_served(
    world: World, cloud: AliyunService, tmp_path: Path, name: str
) -> None:
    """One upload and one binding for each domain, at CDN and at DCDN; every edge serves the
    certificate, also the edge that only the product names. The second run writes nothing.
    """
    add_domain(world, cloud, name, "cdn")
    add_domain(world, cloud, f"app.{name}", "dcdn")
    host = Host(world, tmp_path, tables(cloud, name))

    first = run(host, "sync", "--json")
    written = len(cloud.writes())
    again = run(host, "sync", "--json")

    assert 0 == first.code, first
    assert 0 == again.code, again
    [fingerprint] = host.fingerprints(name)
    assert fingerprint == cloud.bound(name)
    assert fingerprint == cloud.bound(f"app.{name}", product="dcdn")
    actions = sorted(call.action for call in cloud.writes())
    assert written == len(actions)
    assert ["SetCdnDomainSSLCertificate", "SetDcdnDomainSSLCertificate"] == [
        action for action in actions if action.startswith("Set")
    ]
    assert 1 == actions.count("UploadUserCertificate")
    assert (2, 2) == (actions.count("AddDomainRecord"), actions.count("DeleteDomainRecord"))
    verified = [step for step in first.steps if step["action"] == "verify"]
    assert {"done"} == {step["outcome"] for step in verified}


def test_edge_that_only_the_product_names(
    world: World, cloud: AliyunService, tmp_path: Path, name: str
) -> None:
    """The change is open until that edge serves the certificate too. The run names the address."""
    cloud.edges[-1].lag = timedelta(hours=1)
    add_domain(world, cloud, name, "cdn")
    host = Host(world, tmp_path, tables(cloud, name))

    for _ in range(5):  # until the change is no longer in progress at the product
        ended = run(host, "sync", "--json", "--wait", "1s")
        verify = next((step for step in ended.steps if step["action"] == "verify"), None)
        if verify is not None:
            break

    assert host.fingerprints(name) == [cloud.bound(name)]
    assert verify is not None
    assert "waiting" == verify["outcome"]
    assert LAST in json.dumps(verify)
    assert LAST not in cloud.dns_addresses


def test_key_without_rights_for_certificates(
    world: World, cloud: AliyunService, tmp_path: Path, name: str
) -> None:
    """The plan says once that each binding sends the pair; the run succeeds."""
    add_domain(world, cloud, name, "cdn")
    cloud.add_ram_user("LTAI5tWithoutCas", KEY_SECRET, allowed=WITHOUT_CAS)
    host = Host(world, tmp_path, tables(cloud, name))

    plan = run(host, "plan", key_id="LTAI5tWithoutCas")
    first = run(host, "sync", "--json", key_id="LTAI5tWithoutCas")
    written = len(cloud.writes())
    again = run(host, "sync", "--json", key_id="LTAI5tWithoutCas")

    assert 1 == " ".join((plan.out + plan.err).split()).count("with each binding")
    assert [fingerprint] == host.fingerprints(name) if (fingerprint := cloud.bound(name)) else False
    assert [] == cloud.store.stored()
    assert written == len(cloud.writes())
    assert first.code == again.code


def test_key_with_dns_alone(world: World, cloud: AliyunService, tmp_path: Path, name: str) -> None:
    """The deployment is refused with the policy to paste; nothing is ordered or written."""
    add_domain(world, cloud, name, "cdn")
    cloud.add_ram_user("LTAI5tDnsAlone", KEY_SECRET, allowed=DNS_ALONE)
    host = Host(world, tmp_path, tables(cloud, name))

    ended = run(host, "sync", key_id="LTAI5tDnsAlone")

    assert 0 != ended.code
    assert "cdn:SetCdnDomainSSLCertificate" in ended.err + ended.out
    assert [] == cloud.writes()


def test_setting_without_a_call_is_refused_by_name(
    world: World, cloud: AliyunService, tmp_path: Path, name: str
) -> None:
    """The mistake is found when the file is read."""
    host = Host(world, tmp_path, tables(cloud, name, "force_https = true"))

    ended = run(host, "plan")

    assert 2 == ended.code, ended
    assert "force_https" in ended.err
    assert [] == cloud.calls()
