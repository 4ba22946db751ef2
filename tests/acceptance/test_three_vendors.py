"""One certificate at three vendors: Qiniu's CDN, Alibaba Cloud's CDN and DCDN, Tencent Cloud's CDN
and EdgeOne.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certferry_sandbox.world import World
from tests.acceptance.host import Host
from tests.acceptance.requests_made import challenges
from tests.support import forks
from tests.support.tiers import long, sampled, thorough

RUNNER = Path(__file__).with_name("killed.py")
PLACES = ("qiniu", "cdn", "dcdn", "tencent", "eo")
SHARES = 4
"""The tests among which the thorough tier divides the positions of a kill."""


@pytest.fixture
def vendors(world: World) -> Iterator[World]:
    """Run Alibaba Cloud and Tencent Cloud beside Qiniu."""
    with world.with_aliyun(), world.with_tencentcloud():
        yield world


def host_of(world: World, base: str, directory: Path) -> Host:
    """Add a domain at each of the five places, and return a host with a certificate for all."""
    world.add_http_domain(f"qiniu.{base}")
    for product in ("cdn", "dcdn"):
        world.add_aliyun_domain(f"{product}.{base}", product=product)
    for name, product in (("tencent", "cdn"), ("eo", "eo")):
        world.add_tencent_domain(f"{name}.{base}", product=product)
    lines = ["", "[[certificates]]", f'name = "{base}"', f'names = ["*.{base}"]', 'dns = "dnspod"']
    for account in ("qiniu", "aliyun", "tencentcloud"):
        lines += ["[[certificates.deploy]]", f'to = "{account}"']
    return Host(world, directory, "\n".join([*lines, ""]))


def writes(world: World) -> int:
    """Count the writes at all vendors and at DNS."""
    assert world.aliyun is not None
    assert world.tencentcloud is not None
    services = (world.qiniu, world.aliyun, world.tencentcloud, world.dnspod)
    return sum(len(service.writes()) for service in services)


def copies(world: World, fingerprint: str) -> list[int]:
    """Count the copies of a certificate at each vendor."""
    assert world.aliyun is not None
    assert world.tencentcloud is not None
    return [
        sum(stored.fingerprint == fingerprint for stored in kept)
        for kept in (
            world.qiniu.certificates.stored(),
            world.aliyun.store.stored(),
            world.tencentcloud.certificates.stored(),
        )
    ]


def test_one_certificate_at_five_places(
    vendors: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """A run issues once, uploads once to each vendor, and proves the certificate at every address.
    The second run writes nothing.
    """
    base = new_name()
    host = host_of(vendors, base, tmp_path)

    first = host.run("sync", "--json")
    written = writes(vendors)
    again = host.run("sync")

    assert 0 == first.code, first
    assert 0 == again.code, again
    verified = {step["domain"] for step in first.steps if step["action"] == "verify"}
    assert {f"{place}.{base}" for place in PLACES} == verified
    assert {"done"} == {step["outcome"] for step in first.steps}
    assert written == writes(vendors)
    [fingerprint] = host.fingerprints(base)
    assert [1, 1, 1] == copies(vendors, fingerprint)


def asked(world: World) -> list[int]:
    """Count the issued certificates, the uploads at each vendor, and the bindings at each place."""
    aliyun, tencent = world.aliyun, world.tencentcloud
    assert aliyun is not None
    assert tencent is not None
    actions = [call.action for call in tencent.writes()]
    return [
        world.pebble.log.count("Issued certificate serial "),
        len(world.qiniu.requests("POST /sslcert")),
        len(aliyun.calls("UploadUserCertificate")),
        actions.count("UploadCertificate"),
        len(world.qiniu.requests("PUT /domain/*/sslize")),
        len(aliyun.calls("SetCdnDomainSSLCertificate")),
        len(aliyun.calls("SetDcdnDomainSSLCertificate")),
        actions.count("UpdateDomainConfig") + actions.count("ModifyDomainConfig"),
        actions.count("ModifyHostsCertificate"),
    ]


@long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "share", [0, *(pytest.param(each, marks=thorough) for each in range(1, SHARES))]
)
def test_killed_after_every_request(
    vendors: World, tmp_path: Path, new_name: Callable[[], str], share: int
) -> None:
    """The next run finishes the job at all places, whatever the moment of the kill: one certificate
    issued, one upload at each vendor, one binding at each place, and no challenge record left. The
    gate tries three moments, the thorough tier all of them in four shares.
    """

    def killed_after(requests: int) -> tuple[str, Host, list[str]]:
        """Kill a run after that many requests. A run polls as often as the CA is slow, so that it
        may end with fewer.
        """
        base = new_name()
        folder = tmp_path / base
        folder.mkdir()
        host, log = host_of(vendors, base, folder), folder / "requests.log"
        command = [sys.executable, str(RUNNER), str(requests), str(log)]
        environ = {**os.environ, **vendors.environment}
        ended = forks.run([*command, "--config", str(host.config), "sync"], env=environ)
        made = log.read_text().splitlines()
        is_reached = 0 < requests <= len(made)
        assert ended.returncode == (-signal.SIGKILL if is_reached else 0), (requests, ended)
        return base, host, made

    _, _, calm = killed_after(0)
    left = challenges(vendors)
    for position in sampled(range(1 + share, len(calm) + 1, SHARES), 3):
        before = asked(vendors)
        base, host, _ = killed_after(position)
        finished = host.run("sync")
        written = writes(vendors)
        again = host.run("sync")

        assert (0, 0) == (finished.code, again.code), (position, finished, again)
        assert written == writes(vendors), position
        [fingerprint] = host.fingerprints(base)
        assert [1, 1, 1] == copies(vendors, fingerprint), position
        made = [now - then for now, then in zip(asked(vendors), before, strict=True)]
        assert [1] * len(made) == made, (position, calm[position - 1])
        assert left == challenges(vendors), position
