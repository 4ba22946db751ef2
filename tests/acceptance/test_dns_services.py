"""Whole runs with challenges at every kind of DNS service, from the file to the edges."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from certferry_sandbox.acme_dns import AcmeDnsService, Registered
from certferry_sandbox.aliyun.dns import AlidnsService
from certferry_sandbox.cloudflare import CloudflareService
from certferry_sandbox.dnspod.service import NAMESERVERS
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.tencentcloud.service import TencentCloudService
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run
from tests.acceptance.requests_made import assert_nothing_written, challenges
from tests.support.bind import KEY_NAME, SECRET, Bind
from tests.support.command import Ended, run_here
from tests.support.powerdns import KEY, PowerDns
from tests.support.tiers import long

# --- Challenges at another DNS service, from the file to the edges


ZONE = "example.com"
TOKEN = "t" * 40


@dataclass(frozen=True)
class Running:
    """A service that writes to the world's zones: the account's table, the environment, and the
    number of writes and removals.
    """

    table: str
    writes: Callable[[], tuple[int, int]]
    environ: dict[str, str] = field(repr=False)


@contextmanager
def alidns(world: World) -> Iterator[Running]:
    with AlidnsService(world.zones) as service:
        service.add_account("LTAI5t", "secret")
        service.add_domain(ZONE)
        table = 'access_key_id = "env:Ali_Key"\naccess_key_secret = "env:Ali_Secret"\n'
        yield Running(
            f'[accounts.other]\ntype = "alidns"\n{table}api = "{service.url}"\n',
            lambda: (len(service.calls("Add*")), len(service.calls("Delete*"))),
            {"Ali_Key": "LTAI5t", "Ali_Secret": "secret"},
        )


@contextmanager
def cloudflare(world: World) -> Iterator[Running]:
    with CloudflareService(world.zones) as service:
        service.add_token(TOKEN)
        service.add_zone(ZONE)
        yield Running(
            '[accounts.other]\ntype = "cloudflare"\ntoken = "env:CF_Token"\n'
            f'api = "{service.url}"\n',
            lambda: (len(service.calls("POST *")), len(service.calls("DELETE *"))),
            {"CF_Token": TOKEN},
        )


@pytest.mark.parametrize("service", [alidns, cloudflare])
def test_wildcard_and_apex_are_proven_and_served(
    service: Callable[[World], AbstractContextManager[Running]],
    world: World,
    tmp_path: Path,
    name: str,
) -> None:
    """Two values at one name are written, seen and removed; the second run changes nothing."""
    deploy = f'[[certificates.deploy]]\nto = "qiniu"\ndomains = ["{name}"]\n'
    names = f'[[certificates]]\nname = "{name}"\nnames = ["{name}", "*.{name}"]\ndns = "other"\n'
    with service(world) as running:
        host = Host(world, tmp_path, f"\n{running.table}\n{names}{deploy}")
        dnspod = len(world.dnspod.calls())

        first = host.run("sync", "--json", **running.environ)
        again = host.run("sync", "--json", **running.environ)

        assert 0 == first.code, first
        assert 0 == again.code, again
        assert (2, 2) == running.writes()
    assert (1, 1) == (first.left.certificates, first.left.qiniu_uploads)
    assert [] == world.zones.records(name=f"_acme-challenge.{name}", rtype="TXT")
    assert dnspod == len(world.dnspod.calls())
    assert_nothing_written(again.left)


# --- Challenges at an acme-dns server at the end of a CNAME, from the file to the edges


SERVED = "auth.acme-dns.test"
FAILED = 1


@pytest.fixture(scope="module")
def server(shared_world: World) -> Iterator[AcmeDnsService]:
    """Run the acme-dns server; its zone is in the world."""
    if SERVED not in {zone.name for zone in shared_world.zones.zones_above(SERVED)}:
        shared_world.zones.add_zone(SERVED, NAMESERVERS)
    with AcmeDnsService(shared_world.zones, SERVED) as server:
        yield server


def host_with(
    world: World, server: AcmeDnsService, registration: Registered, path: Path, name: str
) -> Host:
    """Return a machine with the account of a registration, for a name and its wildcard."""
    return Host(
        world,
        path,
        f'\n[accounts.other]\ntype = "acme-dns"\napi = "{server.url}"\n'
        f'username = "env:ACMEDNS_USERNAME"\npassword = "env:ACMEDNS_PASSWORD"\n'
        f'subdomain = "{registration.fulldomain}"\n'
        f'[[certificates]]\nname = "{name}"\nnames = ["{name}", "*.{name}"]\ndns = "other"\n',
    )


def keys(registration: Registered) -> dict[str, str]:
    return {"ACMEDNS_USERNAME": registration.username, "ACMEDNS_PASSWORD": registration.password}


def test_challenges_are_written_at_the_end_of_the_cname(
    world: World, server: AcmeDnsService, tmp_path: Path, name: str
) -> None:
    """The values of wildcard and apex are written; no record needs cleaning, and the second run
    changes nothing.
    """
    registration = server.register()
    world.zones.seed(f"_acme-challenge.{name}", "CNAME", f"{registration.fulldomain}.")
    host = host_with(world, server, registration, tmp_path, name)
    before = len(server.updates())

    first, again = host.run("sync", **keys(registration)), host.run("sync", **keys(registration))

    assert 0 == first.code, first
    assert 0 == again.code, again
    assert 2 == len(server.updates()) - before
    assert (1, 0) == (first.left.certificates, first.left.dnspod_writes)
    assert_nothing_written(again.left)
    with host.remembering() as store:
        assert not store.challenge_records(name)
    assert registration.password not in first.out + first.err


def test_cname_that_is_missing_is_reported_before_an_order(
    world: World, server: AcmeDnsService, tmp_path: Path, name: str
) -> None:
    """`sync` and `doctor` print the record to set."""
    registration = server.register()
    host = host_with(world, server, registration, tmp_path, name)

    ended = host.run("-q", "sync", **keys(registration))
    looked = host.run("doctor", **keys(registration))

    record = f"_acme-challenge.{name}. CNAME {registration.fulldomain}."
    assert FAILED == ended.code
    assert 0 == ended.left.orders
    assert record in ended.complaint.hint
    assert record in " ".join(looked.out.split())


# --- A certificate with the operator's own name server, from the file to the certificate: a real
# BIND or PowerDNS is the zone's name server and the only resolver, also for Pebble


NAME = "www.example.com"


@dataclass(frozen=True)
class OwnServer:
    """A name server, the account's table, and the environment."""

    address: str
    table: str
    values: Callable[[str], list[str]]
    environ: dict[str, str] = field(repr=False)


@pytest.fixture
def at_bind(bind: Bind) -> OwnServer:
    """A BIND, with dynamic updates."""
    table = (
        f'type = "rfc2136"\nserver = "env:RFC2136_NAMESERVER"\nkey_name = "{KEY_NAME}"\n'
        'key_secret = "env:RFC2136_TSIG_SECRET"\n'
    )
    environ = {"RFC2136_NAMESERVER": bind.address, "RFC2136_TSIG_SECRET": SECRET}
    return OwnServer(bind.address, table, bind.values, environ)


@pytest.fixture
def at_powerdns(powerdns: PowerDns) -> OwnServer:
    """A PowerDNS, with lexicon."""
    table = (
        'type = "lexicon"\nprovider = "powerdns"\nauth_token = "env:LEXICON_TOKEN"\n'
        f'pdns_server = "{powerdns.url}"\n'
    )
    return OwnServer(powerdns.address, table, powerdns.values, {"LEXICON_TOKEN": KEY})


def write_config(directory: Path, pebble: Pebble, running: OwnServer, *names: str) -> Path:
    (directory / "ca.pem").write_bytes(pebble.ca_bundle.read_bytes())
    config = directory / "certferry.toml"
    listed = ", ".join(f'"{name}"' for name in names)
    config.write_text(
        f'[state]\nurl = "sqlite:///{directory / "state.db"}"\n'
        f'[acme]\ndirectory = "{pebble.directory_url}"\nca_bundle = "ca.pem"\n'
        f'[dns]\nresolvers = ["{running.address}"]\nport = {running.address.partition(":")[2]}\n'
        f"[accounts.own]\n{running.table}"
        f'[[certificates]]\nname = "www"\nnames = [{listed}]\ndns = "own"\n'
    )
    config.chmod(0o600)
    return config


def run(config: Path, running: OwnServer, *words: str, **environ: str) -> Ended:
    variables = {**os.environ, **running.environ, **environ}
    return run_here(["--config", str(config), *words], variables)


@pytest.fixture(scope="module")
def ca_of_bind(one_bind: Bind) -> Iterator[Pebble]:
    with Pebble(one_bind.address) as pebble:
        yield pebble


@pytest.fixture(scope="module")
def ca_of_powerdns(one_powerdns: PowerDns) -> Iterator[Pebble]:
    with Pebble(one_powerdns.address) as pebble:
        yield pebble


def assert_proven(running: OwnServer, pebble: Pebble, directory: Path) -> None:
    """Two values at one name are written, seen and removed; the next plan is empty."""
    config = write_config(directory, pebble, running, NAME, f"*.{NAME}")

    first, again = run(config, running, "sync"), run(config, running, "plan", "--check")

    assert 0 == first.code, first
    assert 0 == again.code, again
    for secret in running.environ.values():
        if secret != running.address:
            assert secret not in first.out + first.err


def test_dynamic_updates_prove_wildcard_and_apex(
    at_bind: OwnServer, ca_of_bind: Pebble, bind: Bind, tmp_path: Path
) -> None:
    """Another client's value at the name stays."""
    bind.put("example.com", f"_acme-challenge.{NAME}", "TXT", "theirs")

    assert_proven(at_bind, ca_of_bind, tmp_path)

    assert ["theirs"] == at_bind.values(f"_acme-challenge.{NAME}")


def test_lexicon_proves_wildcard_and_apex(
    at_powerdns: OwnServer, ca_of_powerdns: Pebble, tmp_path: Path
) -> None:
    """The name is empty afterwards."""
    assert_proven(at_powerdns, ca_of_powerdns, tmp_path)

    assert [] == at_powerdns.values(f"_acme-challenge.{NAME}")


def test_zone_that_the_server_lacks_is_reported_before_an_order(
    at_bind: OwnServer, ca_of_bind: Pebble, tmp_path: Path
) -> None:
    """A server cannot list its zones, so certferry asks for the zone of the name."""
    config = write_config(tmp_path, ca_of_bind, at_bind, "www.away.example.com")

    ended = run(config, at_bind, "-q", "sync")

    assert FAILED == ended.code
    assert "delegates away.example.com to other name servers" in ended.err
    assert "primary of away.example.com" in ended.err


def test_secret_that_is_not_the_servers_is_reported(
    at_bind: OwnServer, ca_of_bind: Pebble, tmp_path: Path
) -> None:
    """The message says what to compare, and hides the secret."""
    config = write_config(tmp_path, ca_of_bind, at_bind, NAME)
    wrong = "MDEyMzQ1Njc4OWFiY2RlZg=="

    ended = run(config, at_bind, "-q", "sync", RFC2136_TSIG_SECRET=wrong)

    assert FAILED == ended.code
    assert "BADSIG" in ended.err
    assert "named-checkconf" in ended.err
    assert wrong not in ended.err


def test_doctor_looks_at_the_name_server(
    at_bind: OwnServer, ca_of_bind: Pebble, tmp_path: Path
) -> None:
    """`doctor` checks the key and the zones with queries alone."""
    config = write_config(tmp_path, ca_of_bind, at_bind, NAME, "www.away.example.com")

    wrong = "MDEyMzQ1Njc4OWFiY2RlZg=="

    looked = findings_of(run(config, at_bind, "doctor", "--json"))
    refused = findings_of(run(config, at_bind, "doctor", "--json", RFC2136_TSIG_SECRET=wrong))

    assert "delegates away.example.com" in looked["_acme-challenge.www.away.example.com"]
    assert f"_acme-challenge.{NAME}" not in looked
    assert "BADSIG" in refused[f"_acme-challenge.{NAME}"]


def findings_of(ended: Ended) -> dict[str, str]:
    """Return the messages of doctor's findings, by subject."""
    return {finding["subject"]: finding["message"] for finding in json.loads(ended.out)["findings"]}


# --- Certificates with names in zones of several DNS accounts, from the command to the edges


# The keys avoid the words of the tests' domains: `3EXAMPLE` would be masked in `n3.example.com`.
KEYS = {
    "Tencent_SecretId": "AKIDz8krbsJ5yKBZQpn74WFkmLPx3Qw7Rt2u",
    "Tencent_SecretKey": "Gu5t9xGARNpq86cd98joQYCN3Qw7Rt2u",
}
PROGRAM = Path(__file__).parents[1] / "data" / "dns_program.py"
USAGE, RUN_FAILED, PENDING = 2, 1, 4


class DnsHost(Host):
    """A machine with an account at Tencent Cloud and an account of a program, besides the world's
    account at DNSPod.
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
        return super().run(*arguments, **{**KEYS, **environ})


@pytest.fixture(scope="module")
def tencent(shared_world: World) -> Iterator[TencentCloudService]:
    """Run Tencent Cloud, with an account that holds delegated.net in the same world."""
    with TencentCloudService(shared_world.zones) as service:
        service.add_key(*KEYS.values())
        service.add_domain("delegated.net")
        yield service


def tables(dns: str, *names: str) -> str:
    """Return the table of a certificate that is only issued."""
    listed = ", ".join(f'"{name}"' for name in names)
    return f'\n[[certificates]]\nname = "both"\nnames = [{listed}]\ndns = {dns}\n'


TABLE = '{ "example.com" = "dnspod", "delegated.net" = "tencentcloud" }'


def test_each_account_proves_the_names_of_its_zones(
    world: World, tencent: TencentCloudService, tmp_path: Path, name: str
) -> None:
    """A single order proves the names at two accounts, all records are removed, and the second run
    changes nothing.
    """
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
    """The zone at the end of the CNAME selects the account of the table."""
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
    """The program is an account of the table like any other account, with its own keys."""
    dns = TABLE.replace('"dnspod"', '"mine"')
    host = DnsHost(world, tencent, tmp_path, tables(dns, name, "delegated.net"))

    run = host.run("-v", "sync")

    assert 0 == run.code, run
    assert (2, 1) == (run.left.dnspod_writes, run.left.certificates)
    assert world.credentials.dnspod_token not in run.out + run.err


def test_program_beside_the_file_runs_without_the_accounts_keys(
    world: World, tencent: TencentCloudService, tmp_path: Path, name: str
) -> None:
    """The program's path is relative to the file. The message quotes the program's failure, and the
    program's environment contains none of the accounts' keys.
    """
    host = DnsHost(world, tencent, tmp_path, tables('"script"', name))
    host.rewrite("[accounts.mine]", '[accounts.script]\ntype = "command"\ncommand = ["./dns"]\n'
                 "[accounts.mine]")  # fmt: skip
    script = tmp_path / "dns"
    script.write_text('#!/bin/sh\nenv > env\necho "$1 $2"\n[ "$1" = cleanup ]\n')
    script.chmod(0o755)

    run = host.run("-q", "sync")

    assert RUN_FAILED == run.code
    assert f"failed with exit code 1: present _acme-challenge.{name}" in run.complaint.error
    environment = (tmp_path / "env").read_text()
    assert "PATH=" in environment
    assert not [key for key in (*world.environment, *KEYS) if f"{key}=" in environment]


@long
@pytest.mark.parametrize(
    ("does", "reported"),
    [
        ("while :; do echo more; sleep 0.05; done", "still running after 1 second"),
        ("yes nonsense | head -c 4000000; echo the end; exit 1", "failed with exit code 1"),
    ],
    ids=["never ends", "prints megabytes"],
)
def test_program_of_no_use_costs_one_order(
    world: World, tmp_path: Path, name: str, does: str, reported: str
) -> None:
    """The challenge's value belongs to the order, so the order precedes the program's call; every
    later run continues the same order. The message about the program is short.
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

    assert [RUN_FAILED, RUN_FAILED] == [run.code for run in runs]
    for run in runs:
        assert reported in run.err
        assert len(run.out + run.err) < 5000
    assert (1, 0) == (sum(run.left.orders for run in runs), runs[-1].left.certificates)


def test_zone_that_no_account_has_is_reported_with_the_cname_to_set(
    world: World, tencent: TencentCloudService, tmp_path: Path
) -> None:
    """`plan`, `doctor` and `sync` report the record to set, and the order is withheld; with the
    record in place the run succeeds.
    """
    if "elsewhere.org" not in {zone.name for zone in world.zones.zones_above("elsewhere.org")}:
        world.zones.add_zone("elsewhere.org", [s.hostname for s in world.dns.servers])
    world.zones.create("*.elsewhere.org", "CNAME", "edge.qiniudns.com.")
    host = DnsHost(world, tencent, tmp_path, tables('"tencentcloud"', "img.elsewhere.org"))
    record = "_acme-challenge.img.elsewhere.org. CNAME _acme-challenge.delegated.net."

    plan, doctor, run = host.run("plan"), host.run("doctor", "--json"), host.run("sync")

    assert record in " ".join((plan.out + plan.err).split())
    assert "comes from a wildcard" in " ".join((plan.out + plan.err).split())
    [missing] = [f for f in doctor.document["findings"] if f["code"] == "zone_missing"]
    assert record in missing["fix"]
    assert (RUN_FAILED, 0) == (run.code, run.left.orders)

    world.zones.create(record.split(". ", maxsplit=1)[0], "CNAME", "_acme-challenge.delegated.net.")
    cured = host.run("sync")

    assert 0 == cured.code, cured


def test_table_without_the_zone_of_a_name(
    world: World, tencent: TencentCloudService, tmp_path: Path, name: str
) -> None:
    """The message includes the line to add; no service is asked."""
    host = DnsHost(world, tencent, tmp_path, tables(TABLE, name, "img.elsewhere.org"))

    run = host.run("-q", "sync")

    assert USAGE == run.code
    assert 'none of the zones contains img.elsewhere.org: add "img.elsewhere.org" = "' in (
        run.complaint.error
    )
    assert (0, 0) == (run.left.dnspod_requests, run.left.ca_requests)


@pytest.mark.parametrize("variable", list(KEYS))
def test_wrong_kind_of_key_is_reported(
    world: World, tencent: TencentCloudService, tmp_path: Path, variable: str
) -> None:
    """A DNSPod token in the place of a key of Tencent Cloud is recognized."""
    host = DnsHost(world, tencent, tmp_path, tables('"tencentcloud"', "delegated.net"))
    keys = world.credentials
    wrong = {"Tencent_SecretId": keys.dnspod_id, "Tencent_SecretKey": keys.dnspod_token}[variable]

    run = host.run("-q", "sync", **{variable: wrong})

    expected = USAGE if variable == "Tencent_SecretId" else RUN_FAILED
    assert expected == run.code
    assert "dnspod" in run.complaint.hint
    assert wrong not in run.out + run.err
    assert 0 == run.left.orders
