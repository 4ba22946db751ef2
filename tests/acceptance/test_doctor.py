"""`certferry doctor` in a world: in order, and with each trouble that an operator may have."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certferry_sandbox.dnspod.service import DnspodService
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import HttpService, Response
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run, certificate
from tests.acceptance.requests_made import RequestsMade, assert_nothing_written
from tests.adapters.qiniu.account import refusal
from tests.support.permissions import bound_by_permissions
from tests.support.tiers import thorough

IN_ORDER, FAILED = 0, 1
TO_BE_KNOWN = {"schedule_missing", "nobody_told", "back_up", "ways", "certificates_kept"}
"""What is told of a machine without a daily run, a channel and a heartbeat, whose certificate was
never ordered.
"""


def examined(host: Host, **environ: str) -> set[tuple[str, str]]:
    """Examine, and return the codes beyond what is to be known, with their subjects. Nothing may
    have been changed, and the code has to say whether an error is among them.
    """
    run = host.run("doctor", "--json", **environ)
    assert_nothing_written(run.left)
    assert 0 == run.left.orders
    document = json.loads(run.out)
    errors = [one for one in document["findings"] if one["severity"] == "error"]
    assert (not errors) is document["ok"] is (IN_ORDER == run.code)
    assert all(one["fix"] for one in document["findings"] if one["severity"] != "info"), document
    found = {(one["code"], one["subject"]) for one in document["findings"]}
    assert TO_BE_KNOWN - {"ways", "certificates_kept"} <= {code for code, _ in found}
    return {one for one in found if one[0] not in TO_BE_KNOWN}


@pytest.fixture
def zones(world: World) -> Iterator[World]:
    """The world, from which what a test seeds goes away again."""
    before = {record.id for record in world.zones.records()}
    yield world
    for record in world.zones.records():
        if record.id not in before:
            world.zones.remove(record.id)


def test_machine_in_order(host: Host) -> None:
    """No error and no warning but that nothing is scheduled, and no failure told; what to back up
    is told, and not even a state is made.
    """
    assert set() == examined(host)
    assert not host.state.exists()


def test_machine_in_order_after_a_run(host: Host, name: str) -> None:
    """What happened last is told."""
    assert 0 == host.run("sync").code

    assert {("last_change", name), ("last_run", "sync")} == examined(host)


def test_what_is_looked_at_is_reported_from_the_beginning(host: Host) -> None:
    """On stderr, in the operator's language, before the findings."""
    run = host.run("--lang", "zh", "doctor")

    reported = run.err.splitlines()
    for subject in ("dnspod", "qiniu", host.world.pebble.directory_url[8:-4]):
        assert any(line.startswith(f"{subject}: ") for line in reported), reported
    assert "back_up" in run.out
    assert not run.out.isascii()


def test_secrets_are_in_no_finding(host: Host, world: World) -> None:
    """Whatever is refused."""
    run = host.run("-v", "doctor", DP_Key="0123456789abcdef" * 2)

    assert FAILED == run.code
    for secret in (*world.secrets(), "0123456789abcdef" * 2):
        assert secret not in run.out + run.err


def test_wrong_token_of_the_dns_account(host: Host) -> None:
    """It is told of the account; the plan tells it as well, before an order."""
    wrong = "0123456789abcdef" * 2

    assert {("keys_refused", "dnspod")} == examined(host, DP_Key=wrong)

    plan = host.run("plan", DP_Key=wrong)
    assert FAILED == plan.code
    assert "`token` does not belong to `id`" in plan.out
    assert_nothing_written(plan.left)


def test_wrong_keys_of_the_target(host: Host) -> None:
    """Once, and not for each call."""
    assert {("keys_refused", "qiniu")} == examined(host, QINIU_SECRET_KEY="x" * 40)


def test_call_that_the_keys_may_not_make(host: Host, world: World) -> None:
    """The others are told as accepted."""
    try:
        world.qiniu.uc.faults.add(
            refusal(403, words="no permission"), on="GET /buckets", times=None
        )
        found = examined(host)
    finally:
        world.qiniu.uc.faults.clear()

    assert ("call_refused", "qiniu") in found


def test_keys_that_may_read_and_not_write(host: Host, world: World, name: str) -> None:
    """That reading is all that was seen is said beforehand; what the run was refused for is told
    until one succeeds, and nothing was changed.
    """
    key, secret = f"IAM-{secrets.token_hex(20)}", secrets.token_hex(20)
    owner = world.credentials.access_key
    world.qiniu.add_iam_key(key, secret, owner=owner, reads_only=True)
    keys = {"QINIU_ACCESS_KEY": key, "QINIU_SECRET_KEY": secret}
    assert {("sub_account_key", "qiniu")} == examined(host, **keys)

    run = host.run("-q", "sync", **keys)

    assert FAILED == run.code
    assert "can only read" in run.complaint.hint
    assert 0 == run.left.qiniu_uploads - run.left.qiniu_writes
    assert None is world.qiniu.bound(name)
    assert ("last_try_failed", name) in examined(host, **keys)
    assert 0 == host.run("sync").code
    assert ("last_try_failed", name) not in examined(host)


def test_service_that_does_not_answer(host: Host, world: World) -> None:
    """It is told of its account, and what else there is, is looked at."""
    try:
        world.dnspod.faults.add(Fault.reset_before(), times=None)
        found = examined(host)
    finally:
        world.dnspod.faults.clear()

    assert {("unreachable", "dnspod")} == found


def test_clock_that_is_wrong(world: World, tmp_path: Path, name: str) -> None:
    """It is told with how much."""
    host = Host(world, tmp_path, certificate(name))
    keys = world.credentials
    with DnspodService(
        world.zones, now=lambda: datetime.now(UTC) + timedelta(minutes=25)
    ) as dnspod:
        dnspod.add_account(keys.dnspod_id, keys.dnspod_token)
        dnspod.add_domain("example.com")
        host.rewrite(f'api = "{world.dnspod.url}"', f'api = "{dnspod.url}"')
        run = host.run("doctor")

    assert FAILED == run.code
    assert "dnspod: this host's clock is 24 minutes behind that of dnspod [clock_off]" in run.out


def test_name_without_a_zone(world: World, tmp_path: Path, name: str) -> None:
    """The challenge that cannot be written is named."""
    host = Host(world, tmp_path, certificate(name, "x.notmine.org", domains=[name]))

    assert ("zone_missing", "_acme-challenge.x.notmine.org") in examined(host)


def test_zone_that_is_delegated_elsewhere(world: World, tmp_path: Path, name: str) -> None:
    """The account has it, and the world asks others."""
    zone = f"z{secrets.token_hex(4)}.org"
    world.zones.add_zone(zone, ["ns1.elsewhere.test", "ns2.elsewhere.test"])
    world.dnspod.add_domain(zone)
    host = Host(world, tmp_path, certificate(name, f"www.{zone}", domains=[name]))

    assert {("delegated_elsewhere", zone)} == examined(host)


def test_name_server_that_is_dead(host: Host, world: World) -> None:
    """It is named, and what an order does about it; it is no failure."""
    world.dns.servers[1].down()
    try:
        run = host.run("doctor", "--json")
    finally:
        world.dns.servers[1].recover()

    [found] = [
        one for one in json.loads(run.out)["findings"] if one["code"] == "name_server_silent"
    ]
    assert ("warning", "example.com") == (found["severity"], found["subject"])
    assert world.dns.servers[1].hostname in found["message"]
    assert "an order waits 75 seconds for them" in found["fix"]


def test_caa_that_forbids_the_ca(zones: World, host: Host, name: str) -> None:
    """By the identity that its directory tells; a CA that tells none, as Pebble, is not judged."""
    zones.zones.seed(name, "CAA", '0 issue "other.test"')
    assert {("caa_not_judged", name)} == examined(host)

    endpoints = {one: f"http://127.0.0.1/{one}" for one in ("newNonce", "newAccount", "newOrder")}
    directory = json.dumps(endpoints | {"meta": {"caaIdentities": ["ca.test"]}}).encode()
    with HttpService(lambda _: Response(200, directory)) as ca:
        host.rewrite(zones.pebble.directory_url, f"{ca.url}/dir")
        run = host.run("doctor")

    assert FAILED == run.code
    assert (
        f"{name}: the CAA records at {name} allow other.test to issue, but not ca.test" in run.out
    )


def test_broken_dnssec(host: Host, world: World, name: str) -> None:
    """What a CA that checks would not accept."""
    world.dns.resolver.bogus.add(name)

    assert ("dnssec_broken", name) in examined(host)


def test_resolver_that_makes_up_answers(host: Host, world: World) -> None:
    """It is named."""
    world.dns.resolver.invented = "192.0.2.66"

    assert ("resolver_invents", world.dns.resolver.address) in examined(host)


@pytest.mark.parametrize(
    ("state", "code"), [("frozen", "domain_unusable"), ("offlined", "domain_unusable")]
)
def test_domain_that_is_switched_off(
    world: World, tmp_path: Path, new_name: Callable[[], str], state: str, code: str
) -> None:
    """By its name."""
    fresh = new_name()
    world.point_at_edges(fresh)
    world.qiniu.add_domain(fresh, state=state)
    host = Host(world, tmp_path, certificate(fresh))

    assert {(code, fresh)} == examined(host)


def test_domain_that_is_not_pointed_at_the_cdn(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """It is at the CDN, and no visitor comes there."""
    fresh = new_name()
    world.qiniu.add_domain(fresh)
    host = Host(world, tmp_path, certificate(fresh))

    assert {("not_pointed", fresh)} == examined(host)


@thorough
def test_key_that_does_not_open_the_state(host: Host, name: str) -> None:
    """It is told of the file, with the way out."""
    assert 0 == host.run("sync").code
    host.key_file.write_bytes(base64.b64encode(secrets.token_bytes(32)))

    assert ("seal_broken", str(host.key_file)) in examined(host)


@thorough
def test_key_that_others_can_read(host: Host) -> None:
    """Its mode, and what that means for the state."""
    assert 0 == host.run("sync").code
    host.key_file.chmod(0o644)

    codes = {code for code, _ in examined(host)}

    assert {"file_open", "seal_broken"} <= codes


def test_state_that_cannot_be_used(host: Host) -> None:
    """Files and schedule are looked at all the same."""
    host.state.parent.mkdir(mode=0o700)
    host.state.write_bytes(b"a diary, and no database\n" * 99)
    host.state.chmod(0o600)

    run = host.run("doctor", "--json")

    assert FAILED == run.code
    codes = [one["code"] for one in json.loads(run.out)["findings"]]
    assert ["state_unusable", "schedule_missing", "nobody_told"] == codes
    assert RequestsMade() == run.left


def test_state_that_cannot_be_written(host: Host) -> None:
    """A run would fail of it, whether there is a state by now or none."""
    host.state.parent.mkdir(mode=0o500)

    run = host.run_apart("doctor", "--json", wrapped_in=bound_by_permissions())

    findings = [one for one in json.loads(run.out)["findings"] if one["severity"] == "error"]
    assert FAILED == run.code
    assert [("state_unusable", str(host.state.parent))] == [
        (one["code"], one["subject"]) for one in findings
    ]


def test_mistake_in_the_file_is_reported_as_everywhere(host: Host) -> None:
    """Nothing can be looked at then."""
    host.rewrite('to = "qiniu"', 'to = "quiniu"')

    run: Run = host.run("-q", "doctor")

    assert 2 == run.code
    assert "quiniu" in run.complaint.error
