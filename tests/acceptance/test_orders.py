"""The orders of a run: the CA, the proof, and the cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from josepy.b64 import b64encode

from benchmarks.run_cost import MOST, Cost, measure, missed
from certferry.core.certificates.pem import common_name
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate
from tests.acceptance.requests_made import assert_nothing_written
from tests.adapters.acme.persist_ca import DNS_01, ISSUERS, PREFIX, PersistCa, bundle_of
from tests.adapters.acme.proxy import Proxy, refusal
from tests.support.tiers import thorough

# --- The CA, the profile and the chain: the whole command at Pebble


FAILED, USAGE = 1, 2
HMAC_KEY = b64encode(bytes(range(32))).decode()
BINDING = f'eab_kid = "customer-1"\neab_hmac_key = "{HMAC_KEY}"'
DEAD = "https://127.0.0.1:1/dir"


@pytest.fixture(scope="module")
def other_ca(shared_world: World) -> Iterator[Pebble]:
    """A second CA in the same DNS, with three chains and a required external account."""
    dns, eab = shared_world.dns.resolver_endpoint, {"customer-1": HMAC_KEY}
    with Pebble(dns, nonce_reject=0, alternate_roots=2, eab=eab) as pebble:
        yield pebble


@pytest.fixture
def ca_host(world: World, tmp_path: Path, name: str) -> Host:
    """A machine that only stores its certificate."""
    return Host(world, tmp_path, certificate(name, to=None))


def with_acme(ca_host: Host, lines: str) -> None:
    ca_host.rewrite("[acme]\n", f"[acme]\n{lines}\n")


def with_fallback(ca_host: Host, other: Pebble) -> None:
    """Declare another CA for failures of the usual CA near the deadline."""
    with_acme(ca_host, 'fallback = ["spare"]')
    (ca_host.directory / "spare-ca.pem").write_bytes(other.ca_bundle.read_bytes())
    ca_host.rewrite(
        "[dns]\n",
        f'[acme.spare]\ndirectory = "{other.directory_url}"\nca_bundle = "spare-ca.pem"\n'
        f"{BINDING}\n[dns]\n",
    )


def fail_since(ca_host: Host, name: str, past: timedelta) -> None:
    with ca_host.remembering() as store:
        store.save_issue_try(name, datetime.now(UTC) - past, failed=True, by_ca=True)


@pytest.mark.parametrize("profile", ['"classic"', '["shortlived", "classic"]'])
def test_profile_that_the_directory_does_not_know(ca_host: Host, name: str, profile: str) -> None:
    """The message lists the directory's profiles, and nothing is ordered."""
    with_acme(ca_host, f"profile = {profile}")

    run = ca_host.run("sync", name)

    assert FAILED == run.code
    assert "the CA lists no profiles; asked for: " in run.out + run.err
    assert 0 == run.left.orders
    assert_nothing_written(run.left)


def test_chain_is_the_preferred_one(ca_host: Host, name: str, other_ca: Pebble) -> None:
    """The issuer of the topmost certificate selects the chain, as in certbot."""
    root = common_name(x509.load_pem_x509_certificate(other_ca.root_pem(2)).subject)
    ca_host.rewrite(ca_host.world.pebble.directory_url, other_ca.directory_url)
    ca_host.rewrite('"directory-ca.pem"', f'"{other_ca.ca_bundle}"')
    with_acme(ca_host, f'preferred_chain = "{root}"\n{BINDING}')

    assert 0 == ca_host.run("sync", name).code

    with ca_host.remembering() as store:
        bundle = store.bundle(name, 1)
    [*_, topmost] = x509.load_pem_x509_certificates(bundle.fullchain_pem.encode())
    assert root == common_name(topmost.issuer)


def test_key_is_used_again(ca_host: Host, name: str) -> None:
    """`reuse_key` keeps the key as long as the key is of the declared kind."""
    with_acme(ca_host, "reuse_key = true")
    for _ in range(2):
        assert 0 == ca_host.run("sync", "--renew", name).code
    ca_host.rewrite("[acme]\n", '[acme]\nkey_type = "rsa2048"\n')
    assert 0 == ca_host.run("sync", name).code

    with ca_host.remembering() as store:
        first, second, third = (store.bundle(name, number).privkey_pem for number in (1, 2, 3))
    assert first == second
    assert third != second


def test_other_ca_near_the_deadline(ca_host: Host, name: str, other_ca: Pebble) -> None:
    """The plan names both CAs, and the history the CA that issued; the usual CA is asked first."""
    with_fallback(ca_host, other_ca)
    ca_host.rewrite(ca_host.world.pebble.directory_url, DEAD)
    assert FAILED == ca_host.run("sync", name).code
    again = ca_host.run("sync", name)
    assert FAILED == again.code
    assert "spare" not in ca_host.run("plan", name).out
    with ca_host.remembering() as store:
        store.save_issue_try(name, datetime.now(UTC))  # as if a certificate had come since
    fail_since(ca_host, name, timedelta(hours=25))

    plan = ca_host.run("plan", "--json", name).document
    (issue,) = plan["certificates"][0]["steps"]
    assert ["127.0.0.1:1", "spare"] == issue["authorities"]
    assert "(at 127.0.0.1:1; if that fails, at spare)" in ca_host.run("plan", name).out
    run = ca_host.run("sync", name)

    assert 0 == run.code, run
    history = ca_host.run("history", name).out
    assert "ca: spare" in history
    assert "ca failed" in history
    with ca_host.remembering() as store:
        (version,) = store.versions(name)
        assert other_ca.directory_url == version.directory
        assert None is store.remembered(name).failing_since


@thorough
def test_every_ca_that_failed_is_reported(ca_host: Host, name: str, other_ca: Pebble) -> None:
    """A single sentence reports the failures of all CAs, with the hint of the usual CA."""
    with_fallback(ca_host, other_ca)
    ca_host.rewrite(ca_host.world.pebble.directory_url, DEAD)
    ca_host.rewrite(other_ca.directory_url, f"{DEAD}2")
    fail_since(ca_host, name, timedelta(days=2))

    run = ca_host.run("sync", name)

    assert FAILED == run.code
    assert "spare: the CA could not be reached" in " ".join((run.out + run.err).split())


# --- The orders of a run: after a slip, after the CA's refusal, in a rehearsal


RUN_FAILED, MISUSED, PENDING, TRY_LATER = 1, 2, 4, 75


@thorough
def test_slip_that_was_corrected_orders_nothing(host: Host, name: str) -> None:
    """Another owner's name comes into the file and goes again: the certificate stays."""
    assert 0 == host.run("-q", "sync").code
    (fingerprint,) = host.fingerprints(name)
    host.rewrite(f'names = ["{name}"]', f'names = ["{name}", "x.notmine.org"]')
    assert RUN_FAILED == host.run("-q", "sync").code
    host.rewrite(f'names = ["{name}", "x.notmine.org"]', f'names = ["{name}"]')

    plan = host.run("plan", "--check", "--json")
    sync = host.run("sync", "--json")

    assert (0, 0) == (plan.code, plan.document["changes"])
    assert (0, 0) == (sync.code, sync.left.orders)
    assert [fingerprint] == host.fingerprints(name)


def test_retry_time_of_the_ca_is_kept(host: Host, world: World, name: str) -> None:
    """The run ends with "try later" and the time; later runs do not ask the CA, and the plan names
    the time.
    """
    with Proxy(world.pebble) as ca:
        ca.authority.cert_pem.write_to_path(host.directory / "directory-ca.pem")
        host.rewrite(world.pebble.directory_url, ca.directory_url)
        ca.faults.add(refusal("rateLimited", "too many orders", 429, "7200"), on="POST /order-plz")
        first = host.run("sync", "--json")
        requests = len(ca.journal)
        later = host.run("sync", "--json")
        plan = host.run("plan", "--check", "--json")
        words = host.run("plan")
        ended, status, check = host.run("sync"), host.run("status"), host.run("check")

        assert requests == len(ca.journal)

    (step,) = first.steps
    (again,) = later.steps
    assert (TRY_LATER, TRY_LATER) == (first.code, later.code)
    for reported in (step, again):
        assert ("issue", "waiting") == (reported["action"], reported["outcome"])
        assert step["retry_at"] == reported["retry_at"]
    left = datetime.fromisoformat(step["retry_at"]) - datetime.now(UTC)
    assert timedelta(minutes=118) < left <= timedelta(hours=2)
    assert ("rate_limited", "order_held_back") == (step["code"], again["code"])
    (planned,) = plan.document["certificates"]
    assert PENDING == plan.code
    assert "issue" not in {each["action"] for each in planned["steps"]}
    assert step["retry_at"] == planned["held_back"]["until"]
    assert "certferry orders nothing before" in words.out
    assert "1 certificate to issue later, 1 deployment." in words.out
    assert re.search(r"A run after [-\d]+ [\d:]+ UTC continues\.", " ".join(ended.out.split()))
    assert "certferry orders nothing before" in status.out
    assert f"to see the cause: certferry status {name}" in check.out
    assert (0, 0) == (first.left.orders, later.left.orders)


def rehearsing(host: Host) -> Host:
    """Make the world's CA the staging directory of a CA that is out of reach."""
    directory = host.world.pebble.directory_url
    host.rewrite(
        f'directory = "{directory}"',
        f'directory = "https://127.0.0.1:1/nobody"\nstaging = "{directory}"',
    )
    return host


def test_rehearsal_of_a_new_configuration(host: Host, world: World, name: str) -> None:
    """The order is proven and issued at the staging directory, and the certificate is discarded;
    the output shows the plan of a real run.
    """
    run = rehearsing(host).run("sync", "--rehearse", "--json")

    (lineage,) = run.document["certificates"]
    (step,) = lineage["steps"]
    assert (0, True, True) == (run.code, run.document["ok"], run.document["rehearsed"])
    assert ("issue", "done", None) == (step["action"], step["outcome"], lineage["fingerprint"])
    assert "rehearsed: " in step["detail"]
    (planned,) = run.document["plan"]["certificates"]
    assert ["issue", "deploy", "verify"] == [each["action"] for each in planned["steps"]]
    assert (1, 0) == (run.left.orders, run.left.qiniu_writes)
    assert [] == host.fingerprints(name)
    with host.remembering() as state:
        assert None is state.order(name)
    words = host.run("sync", "--rehearse").out
    assert "1 certificate was rehearsed and discarded." in words
    assert "1 certificate to issue, 1 deployment. Nothing was changed; run" in words
    assert None is world.qiniu.bound(name)


def test_rehearsal_finds_an_obstacle(host: Host, name: str) -> None:
    """The slip is reported before the real CA hears of the name."""
    rehearsing(host).rewrite(f'names = ["{name}"]', f'names = ["{name}", "x.notmine.org"]')

    run = host.run("-q", "sync", "--rehearse")

    assert RUN_FAILED == run.code
    assert "x.notmine.org" in run.complaint.error
    assert RUN_FAILED == host.run("sync", "--rehearse").code


@thorough
def test_rehearsal_with_a_fresh_certificate(host: Host, name: str) -> None:
    """A rehearsal orders only for `--renew`, and the certificate stays."""
    assert 0 == host.run("-q", "sync").code
    (fingerprint,) = host.fingerprints(name)
    rehearsing(host)

    idle = host.run("sync", "--rehearse")
    renewal = host.run("sync", "--rehearse", "--renew", "--json")

    assert (0, 0) == (idle.code, idle.left.orders)
    assert "Nothing was rehearsed" in idle.out
    assert (0, 1) == (renewal.code, renewal.left.orders)
    assert [fingerprint] == host.fingerprints(name)


def test_directory_without_a_staging_directory(host: Host) -> None:
    """The hint names the setting, and nothing is made or sent."""
    run = host.run("-q", "sync", "--rehearse")

    assert MISUSED == run.code
    assert "" in run.complaint.error
    assert "`staging` under [acme]" in run.complaint.hint
    assert not host.state.exists()
    assert MISUSED == host.run("sync", "--rehearse", "--no-wait").code


def test_rehearsal_that_the_ca_holds_back(host: Host, world: World) -> None:
    """The rehearsal ends with "try later", like a run."""
    with Proxy(world.pebble) as ca:
        ca.authority.cert_pem.write_to_path(host.directory / "directory-ca.pem")
        host.rewrite(world.pebble.directory_url, ca.directory_url)
        directory = ca.directory_url
        host.rewrite(f'directory = "{directory}"', f'staging = "{directory}"')
        ca.faults.add(refusal("rateLimited", "too many orders", 429, "7200"), on="POST /order-plz")
        first = host.run("sync", "--rehearse", "--json")
        requests = len(ca.journal)
        again = host.run("sync", "--rehearse", "--json")

        assert requests == len(ca.journal)
    assert (TRY_LATER, TRY_LATER) == (first.code, again.code)
    (step,) = again.steps
    assert ("waiting", "order_held_back") == (step["outcome"], step["code"])
    assert step["retry_at"] is not None


# --- dns-persist-01 by the whole command: the record is printed, set by hand, examined, and used


@pytest.fixture
def ca(world: World) -> Iterator[PersistCa]:
    """A CA that accepts permanent records, in front of the world's CA."""
    with PersistCa(world.pebble, world.zones, world.dns.resolver_endpoint) as ca:
        yield ca


@pytest.fixture
def persist_host(world: World, ca: PersistCa, tmp_path: Path, name: str) -> Host:
    """A machine that declares a certificate for permanent records alone."""
    tables = certificate(name, f"*.{name}", to=None).replace('dns = "dnspod"\n', "")
    persist_host = Host(world, tmp_path, tables)
    persist_host.rewrite(world.pebble.directory_url, ca.directory_url)
    trusted = bundle_of(ca, tmp_path / "persist-ca.pem").read_text()
    directory_ca = tmp_path / "directory-ca.pem"
    directory_ca.write_text(directory_ca.read_text() + trusted)
    persist_host.rewrite("[acme]\n", "[acme]\ndns_persist = true\n")
    return persist_host


def record_of(persist_host: Host, name: str) -> dict[str, Any]:
    run = persist_host.run("dns-persist", name, "--json")
    assert 0 == run.code, run
    assert_nothing_written(run.left)
    document: dict[str, Any] = run.document
    return document


def findings(persist_host: Host) -> list[tuple[str, str, str]]:
    """Return weight, code and subject of doctor's findings about permanent records, and assert that
    each problem has a fix.
    """
    run = persist_host.run("doctor", "--json")
    assert_nothing_written(run.left)
    about_records = [
        finding for finding in run.document["findings"] if finding["code"].startswith("dns_persist")
    ]
    assert all(finding["fix"] for finding in about_records if finding["code"] != "dns_persist")
    return [(finding["severity"], finding["code"], finding["subject"]) for finding in about_records]


def test_record_is_printed_set_and_used(
    persist_host: Host, ca: PersistCa, world: World, name: str
) -> None:
    """At each step the command names the next step; afterwards runs are independent of DNS
    accounts.
    """
    plan = persist_host.run("-q", "plan")
    assert (FAILED, 0) == (plan.code, plan.left.orders)
    assert "the CA has no account yet" in " ".join(plan.out.split())
    assert f" dns-persist {name}`" in " ".join(plan.out.split())
    assert [("error", "dns_persist_missing", name)] == findings(persist_host)

    record = record_of(persist_host, name)
    assert (f"_validation-persist.{name}", "TXT") == (record["name"], record["type"])
    assert record["value"].startswith(f"{min(ISSUERS)}; accounturi={PREFIX}sha-256/")
    assert record["value"].endswith("; policy=wildcard")
    line = f'{record["name"]}. TXT "{record["value"]}"'
    run = persist_host.run("-q", "sync")
    assert (FAILED, 0) == (run.code, run.left.orders)
    assert f"there is no TXT record for this CA at {record['name']}" in run.complaint.error
    assert f"set the record once, by hand: {line}" in run.complaint.hint

    world.zones.seed(record["name"], record["type"], record["value"])
    plan = persist_host.run("plan")
    assert 0 == plan.code, plan
    assert (
        f"proven by permanent records (dns-persist-01, experimental), without a DNS account: {name}"
    ) in plan.out
    [planned] = persist_host.run("plan", "--json").document["certificates"]
    assert [[name]] == [step["standing"] for step in planned["steps"]]
    assert [("info", "dns_persist", name)] == findings(persist_host)

    first, again = persist_host.run("sync"), persist_host.run("sync")
    renewed = persist_host.run("sync", "--renew", name)
    assert (0, 0, 0) == (first.code, again.code, renewed.code), (first, again, renewed)
    assert (1, 0, 1) == (first.left.orders, again.left.orders, renewed.left.orders)
    assert (0, 0) == (first.left.dnspod_requests, renewed.left.dnspod_requests)
    assert [] == [r for r in world.zones.records(rtype="TXT") if "_acme-challenge" in r.name]
    assert {name} == set(ca.proven)


def test_record_that_is_reported_to_an_operator(persist_host: Host, name: str) -> None:
    """Name, type and value are on stdout; the warning about the experiment is on stderr."""
    run = persist_host.run("dns-persist", f"*.{name}")

    rows = [line.split(maxsplit=1) for line in run.out.splitlines()]
    record = record_of(persist_host, name)
    assert [["name", record["name"]], ["type", "TXT"], ["value", record["value"]]] == rows
    assert "Experimental: dns-persist-01 is a draft (-02)" in run.err
    assert "dns_persist = true" not in run.err

    persist_host.rewrite("dns_persist = true", "")
    persist_host.rewrite("[[certificates]]", '[[certificates]]\ndns = "dnspod"')
    assert "dns_persist = true" in persist_host.run("dns-persist", name).err
    assert record == record_of(persist_host, name)


@pytest.mark.parametrize("name_given", ["https://x.example.com/", "localhost"])
def test_word_that_is_no_domain_name(persist_host: Host, name_given: str) -> None:
    """The command refuses the name before a request to the CA."""
    run = persist_host.run("-q", "dns-persist", name_given)

    assert (USAGE, 0) == (run.code, run.left.ca_requests)
    assert "is not a domain name" in run.complaint.error


def test_what_a_record_is_worth(persist_host: Host, world: World, ca: PersistCa, name: str) -> None:
    """`doctor` reports when a record ends, what is wrong with a record, and a CA that does not
    offer the method.
    """
    record = record_of(persist_host, name)
    now = datetime.now(UTC)

    def with_value(value: str) -> list[tuple[str, str, str]]:
        seeded = world.zones.seed(record["name"], "TXT", value)
        reported = findings(persist_host)
        world.zones.remove(seeded.id)
        return reported

    def until(moment: datetime) -> str:
        return f"{record['value']}; persistUntil={int(moment.timestamp())}"

    assert [("info", "dns_persist", name)] == with_value(until(now + timedelta(days=90)))
    assert [("warning", "dns_persist_ends", name)] == with_value(until(now + timedelta(days=9)))
    assert [("error", "dns_persist_wrong", name)] == with_value(until(now))
    assert [("error", "dns_persist_wrong", name)] == with_value(f"{ISSUERS[0]}; accounturi=x")
    ca.meta = {}
    assert [("error", "dns_persist_not_offered", name)] == findings(persist_host)

    persist_host.rewrite("[[certificates]]", '[[certificates]]\ndns = "dnspod"')
    assert [("warning", "dns_persist_not_offered", name)] == findings(persist_host)


def test_an_account_for_some_names_and_a_record_for_the_others(
    persist_host: Host, world: World, ca: PersistCa, name: str
) -> None:
    """Each name is proven in its own way; `doctor` misses zones only for names that need a DNS
    account.
    """
    other = f"{name.partition('.')[0]}.elsewhere.net"
    if "elsewhere.net" not in {zone.name for zone in world.zones.zones_above("elsewhere.net")}:
        world.zones.add_zone("elsewhere.net", [s.hostname for s in world.dns.servers])
    persist_host.rewrite(f'"*.{name}"', f'"{other}"')
    persist_host.rewrite("[[certificates]]", '[[certificates]]\ndns = "dnspod"')
    ca.offers.add(DNS_01)
    record = record_of(persist_host, other)
    codes = {
        finding["code"] for finding in persist_host.run("doctor", "--json").document["findings"]
    }
    assert {"zone_missing", "dns_persist_missing"} <= codes

    world.zones.seed(record["name"], record["type"], record["value"])
    codes = {
        finding["code"] for finding in persist_host.run("doctor", "--json").document["findings"]
    }
    run = persist_host.run("sync")

    assert "zone_missing" not in codes
    assert 0 == run.code, run
    assert [other] == ca.proven
    assert 2 == run.left.dnspod_writes


def test_rehearsal_needs_an_account(persist_host: Host, world: World, name: str) -> None:
    """A record names the account at the usual directory, so the record proves nothing at the
    staging directory.
    """
    record = record_of(persist_host, name)
    world.zones.seed(record["name"], record["type"], record["value"])
    persist_host.rewrite(
        "dns_persist = true", f'dns_persist = true\nstaging = "{world.pebble.directory_url}"'
    )

    run = persist_host.run("sync", "--rehearse")

    assert FAILED == run.code
    assert "the certificate has no account that writes" in " ".join((run.out + run.err).split())


# --- The cost of a certificate for the CA, the DNS service and the CDN stays within the promise


@thorough
def test_runs_cost_no_more_than_promised() -> None:
    """The first order, a renewal and runs without work stay within the limits, by the whole
    command.
    """
    costs = measure()

    assert [] == missed(costs)
    assert all(costs[kind].ca > 0 for kind in list(MOST)[:3])


def test_run_that_costs_more_is_found() -> None:
    """An excess at any of the services is found."""
    for more in (Cost(1, 0, 0), Cost(0, 1, 0), Cost(0, 0, 1)):
        for kind, most in MOST.items():
            cost = Cost(most.ca + more.ca, most.dns + more.dns, most.cdn + more.cdn)
            assert [kind] == missed({**MOST, kind: cost})
