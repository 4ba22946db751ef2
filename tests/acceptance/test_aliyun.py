"""Whole runs at Alibaba Cloud: DNS, CDN and DCDN with one key, from the file to the edges."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from certferry_sandbox.aliyun.service import DNS_ALONE, WITHOUT_CAS, AliyunService
from certferry_sandbox.world import World
from tests.acceptance.host import Host
from tests.support import forks
from tests.support.tiers import long, sampled

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


@pytest.fixture
def cloud(world: World) -> Iterator[AliyunService]:
    with world.with_aliyun(LAGS) as cloud:
        yield cloud


def tables(name: str, *deploy: str) -> str:
    """Return the tables of a certificate for a name and everything below."""
    lines = ["", "[[certificates]]", f'name = "{name}"', f'names = ["{name}", "*.{name}"]']
    lines += ['dns = "aliyun"', "[[certificates.deploy]]", 'to = "aliyun"', *deploy]
    return "\n".join([*lines, ""])


def as_user(world: World, cloud: AliyunService, *allowed: str) -> dict[str, str]:
    """Return the environment of a RAM user with a policy."""
    secret = world.credentials.aliyun_secret
    cloud.add_ram_user("LTAI5tRamUser", secret, allowed=allowed)
    return {"Ali_Key": "LTAI5tRamUser"}


def test_certificate_is_issued_uploaded_bound_and_served(
    world: World, cloud: AliyunService, tmp_path: Path, name: str
) -> None:
    """One upload and one binding for each domain, at CDN and at DCDN; every edge serves the
    certificate, also the edge that only the product names. The second run writes nothing.
    """
    world.add_aliyun_domain(name)
    world.add_aliyun_domain(f"app.{name}", product="dcdn")
    host = Host(world, tmp_path, tables(name))

    first = host.run("sync", "--json")
    written = len(cloud.writes())
    again = host.run("sync", "--json")

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
    world.add_aliyun_domain(name)
    host = Host(world, tmp_path, tables(name))

    for _ in range(5):  # until the change is no longer in progress at the product
        ended = host.run("sync", "--json", "--wait", "1s")
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
    world.add_aliyun_domain(name)
    user = as_user(world, cloud, *WITHOUT_CAS)
    host = Host(world, tmp_path, tables(name))

    plan = host.run("plan", **user)
    first = host.run("sync", "--json", **user)
    written = len(cloud.writes())
    again = host.run("sync", "--json", **user)

    assert 1 == " ".join((plan.out + plan.err).split()).count("with each binding")
    assert [fingerprint] == host.fingerprints(name) if (fingerprint := cloud.bound(name)) else False
    assert [] == cloud.store.stored()
    assert written == len(cloud.writes())
    assert (0, 0) == (first.code, again.code), first


def test_key_with_dns_alone(world: World, cloud: AliyunService, tmp_path: Path, name: str) -> None:
    """The deployment is refused with the policy to paste; nothing is ordered or written. `doctor`
    reports the missing right once, because the key is good.
    """
    world.add_aliyun_domain(name)
    user = as_user(world, cloud, *DNS_ALONE)
    host = Host(world, tmp_path, tables(name))

    ended = host.run("sync", **user)
    doctor = host.run("doctor", "--json", **user)

    assert 0 != ended.code
    assert "cdn:SetCdnDomainSSLCertificate" in ended.err + ended.out
    findings = [f for f in doctor.document["findings"] if f["subject"] == "aliyun"]
    assert ["call_refused"] == [finding["code"] for finding in findings]
    assert "cdn:SetCdnDomainSSLCertificate" in findings[0]["fix"]
    assert [] == cloud.writes()


def test_setting_without_a_call_is_refused_by_name(
    world: World, cloud: AliyunService, tmp_path: Path, name: str
) -> None:
    """The mistake is found when the file is read."""
    host = Host(world, tmp_path, tables(name, "force_https = true"))

    ended = host.run("plan")

    assert 2 == ended.code, ended
    assert "force_https" in ended.err
    assert [] == cloud.calls()


# --- Killed after a request


RUNNER = Path(__file__).with_name("killed.py")


def killed_after(host: Host, requests: int) -> list[str]:
    """Run `sync`, kill the run after a number of requests (0: never), and return the requests."""
    log = host.directory / "requests.log"
    forks.run(
        [
            sys.executable,
            str(RUNNER),
            str(requests),
            str(log),
            "--config",
            str(host.config),
            "sync",
        ],
        env={**os.environ, **host.world.environment},
    )
    return log.read_text().splitlines()


@long
@pytest.mark.timeout(1200)
def test_killed_after_every_request(
    world: World, cloud: AliyunService, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """The next run finishes the job: one upload, one binding and one order, whatever the moment of
    the kill. The gate tries three moments.
    """

    def new_host() -> tuple[Host, str]:
        name = new_name()
        world.add_aliyun_domain(name)
        folder = tmp_path / name
        folder.mkdir()
        return Host(world, folder, tables(name)), name

    count = len(killed_after(new_host()[0], 0))
    for position in sampled(range(1, count + 1), 3):
        host, name = new_host()
        before = len(cloud.calls("Upload*")), len(cloud.calls("Set*"))

        killed_after(host, position)
        ended = host.run("sync")

        assert 0 == ended.code, (position, ended)
        [fingerprint] = host.fingerprints(name)
        assert fingerprint == cloud.bound(name)
        copies = [stored.fingerprint for stored in cloud.store.stored()]
        assert 1 == copies.count(fingerprint), position
        since = len(cloud.calls("Upload*")) - before[0], len(cloud.calls("Set*")) - before[1]
        assert (1, 1) == since, position
