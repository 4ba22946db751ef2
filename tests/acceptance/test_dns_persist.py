"""dns-persist-01 by the whole command: the record printed, set by hand, looked at, and used."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certferry_sandbox.world import World
from tests.acceptance.footprint import assert_nothing_written
from tests.acceptance.host import Host, certificate
from tests.adapters.acme.persist_ca import DNS_01, ISSUERS, PREFIX, PersistCa, bundle_of

FAILED, USAGE = 1, 2


@pytest.fixture
def ca(world: World) -> Iterator[PersistCa]:
    """A CA that takes such records, before the world's."""
    with PersistCa(world.pebble, world.zones, world.dns.resolver_endpoint) as ca:
        yield ca


@pytest.fixture
def host(world: World, ca: PersistCa, tmp_path: Path, name: str) -> Host:
    """A machine whose certificate names no DNS account."""
    tables = certificate(name, f"*.{name}", to=None).replace('dns = "dnspod"\n', "")
    host = Host(world, tmp_path, tables)
    host.rewrite(world.pebble.directory_url, ca.directory_url)
    trusted = bundle_of(ca, tmp_path / "persist-ca.pem").read_text()
    directory_ca = tmp_path / "directory-ca.pem"
    directory_ca.write_text(directory_ca.read_text() + trusted)
    host.rewrite("[acme]\n", "[acme]\ndns_persist = true\n")
    return host


def record_of(host: Host, name: str) -> dict[str, Any]:
    """Have the record printed."""
    run = host.run("dns-persist", name, "--json")
    assert 0 == run.code, run
    assert_nothing_written(run.left)
    document: dict[str, Any] = run.document
    return document


def findings(host: Host) -> list[tuple[str, str, str]]:
    """What the doctor says of such records: weight, code, subject; with a fix unless in order."""
    run = host.run("doctor", "--json")
    assert_nothing_written(run.left)
    found = [one for one in run.document["findings"] if one["code"].startswith("dns_persist")]
    assert all(one["fix"] for one in found if one["code"] != "dns_persist")
    return [(one["severity"], one["code"], one["subject"]) for one in found]


def test_record_is_printed_set_and_used(host: Host, ca: PersistCa, world: World, name: str) -> None:
    """At each step the command says what is missing; then no DNS account is needed, ever."""
    plan = host.run("-q", "plan")
    assert (FAILED, 0) == (plan.code, plan.left.orders)
    assert "there is no account at the CA yet" in " ".join(plan.out.split())
    assert f"`certferry dns-persist {name}`" in " ".join(plan.out.split())
    assert [("error", "dns_persist_missing", name)] == findings(host)

    record = record_of(host, name)
    assert (f"_validation-persist.{name}", "TXT") == (record["name"], record["type"])
    assert record["value"].startswith(f"{min(ISSUERS)}; accounturi={PREFIX}sha-256/")
    assert record["value"].endswith("; policy=wildcard")
    line = f'{record["name"]}. TXT "{record["value"]}"'
    run = host.run("-q", "sync")
    assert (FAILED, 0) == (run.code, run.left.orders)
    assert f"there is no TXT record for this CA at {record['name']}" in run.complaint.error
    assert f"set this record once, by hand: {line}" in run.complaint.hint

    world.zones.seed(record["name"], record["type"], record["value"])
    plan = host.run("plan")
    assert 0 == plan.code, plan
    assert (
        f"proven by records that stay (dns-persist-01, experimental), without a DNS account: {name}"
    ) in plan.out
    [planned] = host.run("plan", "--json").document["certificates"]
    assert [[name]] == [step["standing"] for step in planned["steps"]]
    assert [("info", "dns_persist", name)] == findings(host)

    first, again = host.run("sync"), host.run("sync")
    renewed = host.run("sync", "--renew", name)
    assert (0, 0, 0) == (first.code, again.code, renewed.code), (first, again, renewed)
    assert (1, 0, 1) == (first.left.orders, again.left.orders, renewed.left.orders)
    assert (0, 0) == (first.left.dnspod_requests, renewed.left.dnspod_requests)
    assert [] == [r for r in world.zones.records(rtype="TXT") if "_acme-challenge" in r.name]
    assert {name} == set(ca.proven)


def test_record_that_is_told_to_an_operator(host: Host, name: str) -> None:
    """Name, type and value by themselves, and that it is experimental, beside them."""
    run = host.run("dns-persist", f"*.{name}")

    rows = [line.split(maxsplit=1) for line in run.out.splitlines()]
    record = record_of(host, name)
    assert [["name", record["name"]], ["type", "TXT"], ["value", record["value"]]] == rows
    assert "Experimental: dns-persist-01 is a draft (-02)" in run.err
    assert "dns_persist = true" not in run.err

    host.rewrite("dns_persist = true", "")
    host.rewrite("[[certificates]]", '[[certificates]]\ndns = "dnspod"')
    assert "dns_persist = true" in host.run("dns-persist", name).err
    assert record == record_of(host, name)


@pytest.mark.parametrize("name_given", ["https://x.example.com/", "localhost"])
def test_what_is_no_name(host: Host, name_given: str) -> None:
    """It is refused before the CA is asked."""
    run = host.run("-q", "dns-persist", name_given)

    assert (USAGE, 0) == (run.code, run.left.ca_requests)
    assert "is not a domain name" in run.complaint.error


def test_what_a_record_is_worth(host: Host, world: World, ca: PersistCa, name: str) -> None:
    """The doctor tells when it ends, what is wrong with it, and when the CA takes none."""
    record = record_of(host, name)
    now = datetime.now(UTC)

    def with_value(value: str) -> list[tuple[str, str, str]]:
        seeded = world.zones.seed(record["name"], "TXT", value)
        found = findings(host)
        world.zones.remove(seeded.id)
        return found

    def until(moment: datetime) -> str:
        return f"{record['value']}; persistUntil={int(moment.timestamp())}"

    assert [("info", "dns_persist", name)] == with_value(until(now + timedelta(days=90)))
    assert [("warning", "dns_persist_ends", name)] == with_value(until(now + timedelta(days=9)))
    assert [("error", "dns_persist_wrong", name)] == with_value(until(now))
    assert [("error", "dns_persist_wrong", name)] == with_value(f"{ISSUERS[0]}; accounturi=x")
    ca.meta = {}
    assert [("error", "dns_persist_not_offered", name)] == findings(host)

    host.rewrite("[[certificates]]", '[[certificates]]\ndns = "dnspod"')
    assert [("warning", "dns_persist_not_offered", name)] == findings(host)


def test_an_account_for_some_names_and_a_record_for_the_others(
    host: Host, world: World, ca: PersistCa, name: str
) -> None:
    """Each is proven in its own way; the doctor misses no zone for what a record proves."""
    other = f"{name.partition('.')[0]}.elsewhere.net"
    if "elsewhere.net" not in {zone.name for zone in world.zones.zones_above("elsewhere.net")}:
        world.zones.add_zone("elsewhere.net", [s.hostname for s in world.dns.servers])
    host.rewrite(f'"*.{name}"', f'"{other}"')
    host.rewrite("[[certificates]]", '[[certificates]]\ndns = "dnspod"')
    ca.offers.add(DNS_01)
    record = record_of(host, other)
    codes = {one["code"] for one in host.run("doctor", "--json").document["findings"]}
    assert {"zone_missing", "dns_persist_missing"} <= codes

    world.zones.seed(record["name"], record["type"], record["value"])
    codes = {one["code"] for one in host.run("doctor", "--json").document["findings"]}
    run = host.run("sync")

    assert "zone_missing" not in codes
    assert 0 == run.code, run
    assert [other] == ca.proven
    assert 2 == run.left.dnspod_writes


def test_rehearsal_needs_an_account(host: Host, world: World, name: str) -> None:
    """A record names the account at the usual directory: at the staging one it proves nothing."""
    record = record_of(host, name)
    world.zones.seed(record["name"], record["type"], record["value"])
    host.rewrite(
        "dns_persist = true", f'dns_persist = true\nstaging = "{world.pebble.directory_url}"'
    )

    run = host.run("sync", "--rehearse")

    assert FAILED == run.code
    assert "the certificate names no account that writes" in " ".join((run.out + run.err).split())
