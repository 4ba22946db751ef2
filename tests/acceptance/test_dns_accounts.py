"""Certificates whose names are in zones of several DNS accounts, from the command to the edges."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry_sandbox.tencentcloud.service import TencentCloudService
from certferry_sandbox.world import World
from tests.acceptance.footprint import assert_nothing_written, challenges
from tests.acceptance.host import Host, Run

KEYS = {
    "Tencent_SecretId": "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE",
    "Tencent_SecretKey": "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
}
PROGRAM = Path(__file__).parents[1] / "data" / "dns_program.py"
USAGE, FAILED, PENDING = 2, 1, 4


class DnsHost(Host):
    """A machine with an account at Tencent Cloud, and one that a program writes for, besides the
    world's at DNSPod.
    """

    def __init__(
        self, world: World, tencent: TencentCloudService, directory: Path, certificates: str
    ) -> None:
        super().__init__(world, directory, certificates)
        keys = world.credentials
        program = [sys.executable, "-I", "-S", str(PROGRAM), world.dnspod.url, keys.dnspod_id]
        self.rewrite(
            "[accounts.dnspod]",
            '[accounts.tencentcloud]\nsecret_id = "env:Tencent_SecretId"\n'
            f'secret_key = "env:Tencent_SecretKey"\napi = "{tencent.url}"\n\n'
            f'[accounts.mine]\ntype = "command"\ncommand = {[*program, keys.dnspod_token]}\n\n'
            "[accounts.dnspod]",
        )

    def run(self, *arguments: str, **environ: str) -> Run:
        """With the keys of Tencent Cloud as well."""
        return super().run(*arguments, **{**KEYS, **environ})


@pytest.fixture(scope="module")
def tencent(shared_world: World) -> Iterator[TencentCloudService]:
    """Tencent Cloud, with an account that holds delegated.net in the same world."""
    with TencentCloudService(shared_world.zones) as service:
        service.add_key(*KEYS.values())
        service.add_domain("delegated.net")
        yield service


def tables(dns: str, *names: str) -> str:
    """Give a certificate that is only issued."""
    listed = ", ".join(f'"{name}"' for name in names)
    return f'\n[[certificates]]\nname = "both"\nnames = [{listed}]\ndns = {dns}\n'


TABLE = '{ "example.com" = "dnspod", "delegated.net" = "tencentcloud" }'


def test_each_account_proves_the_names_of_its_zones(
    world: World, tencent: TencentCloudService, tmp_path: Path, name: str
) -> None:
    """One certificate, one order, and nothing left at either; the second run does nothing."""
    host = DnsHost(world, tencent, tmp_path, tables(TABLE, name, "*.delegated.net"))
    before = len(tencent.calls("CreateRecord"))

    first, again = host.run("sync", "--json"), host.run("sync")

    assert 0 == first.code, first
    assert (1, 1, 0) == (first.left.orders, first.left.certificates, len(challenges(world)))
    assert 0 == again.code, again
    assert_nothing_written(again.left)
    assert 1 == len(tencent.calls("CreateRecord")) - before


def test_cname_leads_into_the_zone_of_another_account(
    world: World, tencent: TencentCloudService, tmp_path: Path, name: str
) -> None:
    """The end of the CNAME decides which account of the table writes."""
    world.zones.create(f"_acme-challenge.{name}", "CNAME", "led.delegated.net.")
    before = len(tencent.calls("CreateRecord"))
    host = DnsHost(world, tencent, tmp_path, tables(TABLE, name))

    run = host.run("sync")

    assert 0 == run.code, run
    created = tencent.calls("CreateRecord")[before:]
    assert ["led"] == [call.fields["SubDomain"] for call in created]
    assert (0, []) == (run.left.dnspod_writes, challenges(world))


def test_program_writes_for_a_zone(
    world: World, tencent: TencentCloudService, tmp_path: Path, name: str
) -> None:
    """As an account of the table, like any other; its keys are its own."""
    dns = TABLE.replace('"dnspod"', '"mine"')
    host = DnsHost(world, tencent, tmp_path, tables(dns, name, "delegated.net"))

    run = host.run("-v", "sync")

    assert 0 == run.code, run
    assert (2, 1) == (run.left.dnspod_writes, run.left.certificates)
    assert world.credentials.dnspod_token not in run.out + run.err


def test_program_beside_the_file_runs_without_the_accounts_keys(
    world: World, tencent: TencentCloudService, tmp_path: Path, name: str
) -> None:
    """Its path is relative to the file; what it fails with is told, and its record is forgotten
    once a later run has cleaned up.
    """
    host = DnsHost(world, tencent, tmp_path, tables('"script"', name))
    host.rewrite("[accounts.mine]", '[accounts.script]\ntype = "command"\ncommand = ["./dns"]\n'
                 "[accounts.mine]")  # fmt: skip
    script = tmp_path / "dns"
    script.write_text('#!/bin/sh\nenv > env\necho "$1 $2"\n[ "$1" = cleanup ]\n')
    script.chmod(0o755)

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert f"failed with exit code 1: present _acme-challenge.{name}" in run.complaint.error
    environment = (tmp_path / "env").read_text()
    assert "PATH=" in environment
    assert not [key for key in (*world.environment, *KEYS) if f"{key}=" in environment]


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("while :; do echo more; sleep 0.05; done", "still running after 1 second"),
        ("yes nonsense | head -c 4000000; echo the end; exit 1", "failed with exit code 1"),
    ],
    ids=["never ends", "prints megabytes"],
)
def test_program_of_no_use_costs_one_order(
    world: World, tmp_path: Path, name: str, does: str, told: str
) -> None:
    """The challenge's value is the order's: it is made before the program is called, and gone on
    with by every later run. What the program did is told in few words.
    """
    script = tmp_path / "dns"
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)
    host = Host(world, tmp_path, tables('"script"', name))
    host.rewrite(
        "[accounts.dnspod]",
        '[accounts.script]\ntype = "command"\ncommand = ["./dns"]\ntimeout = 1\n\n'
        "[accounts.dnspod]",
    )

    runs = [host.run("-q", "sync") for _ in range(2)]

    assert [FAILED, FAILED] == [run.code for run in runs]
    for run in runs:
        assert told in run.err
        assert len(run.out + run.err) < 5000
    assert (1, 0) == (sum(run.left.orders for run in runs), runs[-1].left.certificates)


def test_zone_that_no_account_has_is_told_with_the_cname_to_set(
    world: World, tencent: TencentCloudService, tmp_path: Path
) -> None:
    """By the plan, by the doctor and by the run, and nothing is ordered; once the record is set,
    the run goes through.
    """
    if "elsewhere.org" not in {zone.name for zone in world.zones.zones_above("elsewhere.org")}:
        world.zones.add_zone("elsewhere.org", [s.hostname for s in world.dns.servers])
    world.zones.create("*.elsewhere.org", "CNAME", "edge.qiniudns.com.")
    host = DnsHost(world, tencent, tmp_path, tables('"tencentcloud"', "img.elsewhere.org"))
    record = "_acme-challenge.img.elsewhere.org. CNAME _acme-challenge.delegated.net."

    plan, doctor, run = host.run("plan"), host.run("doctor", "--json"), host.run("sync")

    assert record in " ".join((plan.out + plan.err).split())
    assert "is a wildcard's" in " ".join((plan.out + plan.err).split())
    [missing] = [f for f in doctor.document["findings"] if f["code"] == "zone_missing"]
    assert record in missing["fix"]
    assert (FAILED, 0) == (run.code, run.left.orders)

    world.zones.create(record.split(". ", maxsplit=1)[0], "CNAME", "_acme-challenge.delegated.net.")
    cured = host.run("sync")

    assert 0 == cured.code, cured


def test_table_without_the_zone_of_a_name(
    world: World, tencent: TencentCloudService, tmp_path: Path, name: str
) -> None:
    """The line is named, and what to write there; certferry asks no service."""
    host = DnsHost(world, tencent, tmp_path, tables(TABLE, name, "img.elsewhere.org"))

    run = host.run("-q", "sync")

    assert USAGE == run.code
    assert 'none of its zones holds img.elsewhere.org: add "img.elsewhere.org" = "' in (
        run.complaint.error
    )
    assert (0, 0) == (run.left.dnspod_requests, run.left.ca_requests)


@pytest.mark.parametrize("variable", list(KEYS))
def test_wrong_kind_of_key_is_told(
    world: World, tencent: TencentCloudService, tmp_path: Path, variable: str
) -> None:
    """A DNSPod token where a key of Tencent Cloud belongs."""
    host = DnsHost(world, tencent, tmp_path, tables('"tencentcloud"', "delegated.net"))
    keys = world.credentials
    wrong = {"Tencent_SecretId": keys.dnspod_id, "Tencent_SecretKey": keys.dnspod_token}[variable]

    run = host.run("-q", "sync", **{variable: wrong})

    expected = USAGE if variable == "Tencent_SecretId" else FAILED
    assert expected == run.code
    assert "dnspod" in run.complaint.hint
    assert wrong not in run.out + run.err
    assert 0 == run.left.orders
