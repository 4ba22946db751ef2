"""Whole runs at Tencent Cloud: one certificate for the CDN and EdgeOne, proven at the edges."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certferry_sandbox.tencentcloud.service import TencentCloudService
from certferry_sandbox.world import World
from tests.acceptance.host import Host
from tests.support.tiers import long, sampled

RUNNER = Path(__file__).with_name("killed.py")
IN_THE_GATE = 3
"""The positions of a kill in the gate."""


@pytest.fixture
def tencent(world: World) -> Iterator[TencentCloudService]:
    with world.with_tencentcloud() as service:
        yield service


def tables(base: str, *deploy: str) -> str:
    lines = ["", "[[certificates]]", f'name = "{base}"', f'names = ["*.{base}"]', 'dns = "dnspod"']
    return "\n".join([*lines, "[[certificates.deploy]]", 'to = "tencentcloud"', *deploy, ""])


def test_one_certificate_for_both_products(
    world: World,
    tencent: TencentCloudService,
    tmp_path: Path,
    new_name: Callable[[], str],
) -> None:
    """A run issues, uploads once, binds both domains and proves both; the second run writes
    nothing.
    """
    base = new_name()
    cdn, host = f"cdn.{base}", f"eo.{base}"
    old = world.old_certificate(cdn)
    old_id = tencent.add_certificate(old, "by hand")
    tencent.add_cdn_domain(cdn, certificate=old_id, redirects=True, https={"Http2": "on"})
    for address in tencent.edges.addresses:
        world.zones.seed(cdn, "A", address)
    world.add_tencent_domain(host, product="eo")
    machine = Host(world, tmp_path, tables(base))

    first = machine.run("sync", "--json")
    written = len(tencent.writes())
    second = machine.run("sync")
    asked = len(tencent.calls())
    third = machine.run("sync")

    assert 0 == first.code, (first, machine.run("history"))
    verified = {step["domain"] for step in first.steps if step["action"] == "verify"}
    assert {cdn, host} == verified
    bound = tencent.domain(cdn).bound
    assert [bound] == [stored.id for stored in tencent.host(host).certificates]
    assert bound != old_id
    assert ["UploadCertificate"] == [
        call.action for call in tencent.writes() if call.action.startswith("Upload")
    ]
    domain = tencent.domain(cdn)
    assert ("on", "on") == (domain.https["Http2"], domain.redirect["Switch"])
    for again in (second, third):
        assert 0 == again.code, again
        assert "Nothing changed" in again.out
    assert written == len(tencent.writes())
    assert 4 >= len(tencent.calls()) - asked


def test_key_with_dns_alone(
    world: World, tencent: TencentCloudService, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """The plan shows the policy to paste, and nothing is issued. `doctor` reports the missing right
    once, because the key is good.
    """
    base = new_name()
    tencent.add_key("AKIDdns", "dns", services=frozenset({"dnspod"}))
    machine = Host(world, tmp_path, tables(base))

    keys = {"Tencent_SecretId": "AKIDdns", "Tencent_SecretKey": "dns"}
    run = machine.run("-q", "sync", **keys)
    doctor = machine.run("doctor", "--json", **keys)

    assert 1 == run.code
    assert '"cdn:ModifyDomainConfig"' in run.complaint.hint
    assert 0 == run.left.orders
    findings = [f for f in doctor.document["findings"] if f["subject"] == "tencentcloud"]
    assert ["call_refused"] == [finding["code"] for finding in findings]
    assert '"cdn:ModifyDomainConfig"' in findings[0]["fix"]


def test_setting_that_edgeone_has_no_call_for(
    world: World, tencent: TencentCloudService, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """The file is refused by the name of the setting, with its line."""
    lines = ('kind = "eo"', "force_https = true")
    machine = Host(world, tmp_path, tables(new_name(), *lines))

    run = machine.run("-q", "plan")

    assert 2 == run.code
    assert "force_https" in run.complaint.error
    assert [] == tencent.calls()


def test_every_reading_command(
    world: World, tencent: TencentCloudService, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """`discover`, `doctor` and `status` read the account, and write nothing."""
    base = new_name()
    name = f"cdn.{base}"
    world.add_tencent_domain(name)
    machine = Host(world, tmp_path, tables(base))

    discovered = machine.run("discover", "--json")
    doctor = machine.run("doctor", "--json")
    report = machine.run("doctor", "--report")
    status = machine.run("status")

    domains = {found["domain"] for found in discovered.document["domains"]}
    assert name in domains, discovered
    assert "certificates_kept" in {finding["code"] for finding in doctor.document["findings"]}
    assert "Tencent Cloud" in report.out
    assert base in status.out
    assert [] == tencent.writes()


def killed_after(position: int, machine: Host, log: Path) -> int:
    """Run `certferry sync`, killed after a number of requests (0: never), and return the code."""
    command = [sys.executable, str(RUNNER), str(position), str(log), "sync"]
    variables = {"CERTFERRY_CONFIG": str(machine.config), **machine.world.environment}
    ended = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, timeout=60, check=False
    )
    return ended.returncode


@long
def test_killed_after_every_request(
    world: World, tencent: TencentCloudService, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """After a kill at any request the next run ends with one copy, bound at both products, and
    proven.
    """

    def begin(folder: str) -> tuple[str, Host]:
        base, directory = new_name(), tmp_path / folder
        directory.mkdir()
        for product in ("cdn", "eo"):
            world.add_tencent_domain(f"{product}.{base}", product=product)
        return base, Host(world, directory, tables(base))

    _, undisturbed = begin("calm")
    log = tmp_path / "requests.log"
    assert 0 == killed_after(0, undisturbed, log)
    requests = len(log.read_text().splitlines())
    assert requests > 20

    for position in sampled(range(1, requests + 1), IN_THE_GATE):
        base, machine = begin(f"k{position}")
        assert killed_after(position, machine, tmp_path / "killed.log") in {-signal.SIGKILL, 0}

        finished = machine.run("sync")

        assert 0 == finished.code, (position, finished)
        copies = [one.id for one in tencent.certificates.stored() if f"*.{base}" in one.names]
        [copy] = copies
        assert copy == tencent.domain(f"cdn.{base}").bound, position
        assert [copy] == [one.id for one in tencent.host(f"eo.{base}").certificates], position
