"""`certferry doctor` in a world: on a machine in order, and with each trouble of an operator."""

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
"""The findings on a machine whose certificate was never ordered, as long as a daily run, a channel
and a heartbeat are missing.
"""


def examined(host: Host, **environ: str) -> set[tuple[str, str]]:
    """Run `doctor`, and return the unexpected codes with their subjects. Assert that nothing was
    changed, and that the exit code tells whether an error was found.
    """
    run = host.run("doctor", "--json", **environ)
    assert_nothing_written(run.left)
    assert 0 == run.left.orders
    document = json.loads(run.out)
    errors = [finding for finding in document["findings"] if finding["severity"] == "error"]
    assert (not errors) is document["ok"] is (IN_ORDER == run.code)
    assert all(each["fix"] for each in document["findings"] if each["severity"] != "info"), document
    findings = {(each["code"], each["subject"]) for each in document["findings"]}
    assert TO_BE_KNOWN - {"ways", "certificates_kept"} <= {code for code, _ in findings}
    return {(code, subject) for code, subject in findings if code not in TO_BE_KNOWN}


@pytest.fixture
def zones(world: World) -> Iterator[World]:
    """Return the world, and remove the records of the test afterwards."""
    before = {record.id for record in world.zones.records()}
    yield world
    for record in world.zones.records():
        if record.id not in before:
            world.zones.remove(record.id)


def test_machine_in_order(host: Host) -> None:
    """On a new machine, `doctor` reports only the missing schedule, the missing channel and the
    data to back up, and makes no state.
    """
    assert set() == examined(host)
    assert not host.state.exists()


def test_machine_in_order_after_a_run(host: Host, name: str) -> None:
    """After a run, `doctor` reports the last change and the last run."""
    assert 0 == host.run("sync").code

    assert {("last_change", name), ("last_run", "sync")} == examined(host)


def test_progress_is_reported_from_the_beginning(host: Host) -> None:
    """The progress is on stderr, in the operator's language, before the findings."""
    run = host.run("--lang", "zh", "doctor")

    reported = run.err.splitlines()
    for subject in ("dnspod", "qiniu", host.world.pebble.directory_url[8:-4]):
        assert any(line.startswith(f"{subject}: ") for line in reported), reported
    assert "back_up" in run.out
    assert not run.out.isascii()


def test_secrets_are_in_no_finding(host: Host, world: World) -> None:
    """A refused secret stays hidden on both streams, also with -v."""
    run = host.run("-v", "doctor", DP_Key="0123456789abcdef" * 2)

    assert FAILED == run.code
    for secret in (*world.secrets(), "0123456789abcdef" * 2):
        assert secret not in run.out + run.err


def test_wrong_token_of_the_dns_account(host: Host) -> None:
    """`doctor` reports the account once, and `plan` reports the token before an order."""
    wrong = "0123456789abcdef" * 2

    assert {("keys_refused", "dnspod")} == examined(host, DP_Key=wrong)

    plan = host.run("plan", DP_Key=wrong)
    assert FAILED == plan.code
    assert "`token` does not belong to `id`" in plan.out
    assert_nothing_written(plan.left)


def test_wrong_keys_of_the_target(host: Host) -> None:
    """The account is reported once, whatever the number of refused calls."""
    assert {("keys_refused", "qiniu")} == examined(host, QINIU_SECRET_KEY="x" * 40)


def test_call_that_the_keys_may_not_make(host: Host, world: World) -> None:
    """The refused call is a finding; the other calls are reported as accepted."""
    try:
        world.qiniu.uc.faults.add(
            refusal(403, words="no permission"), on="GET /buckets", times=None
        )
        findings = examined(host)
    finally:
        world.qiniu.uc.faults.clear()

    assert ("call_refused", "qiniu") in findings


def test_keys_that_may_read_and_not_write(host: Host, world: World, name: str) -> None:
    """Before the first write `doctor` only knows that the keys are a sub-account's. After a refused
    write `doctor` reports the failure until a run succeeds; nothing is changed at the CDN.
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
    """The account is reported as unreachable, and the other checks go on."""
    try:
        world.dnspod.faults.add(Fault.reset_before(), times=None)
        findings = examined(host)
    finally:
        world.dnspod.faults.clear()

    assert {("unreachable", "dnspod")} == findings


def test_clock_that_is_wrong(world: World, tmp_path: Path, name: str) -> None:
    """The message tells by how many minutes the clocks differ."""
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
    """The message names the challenge that no zone can hold."""
    host = Host(world, tmp_path, certificate(name, "x.notmine.org", domains=[name]))

    assert ("zone_missing", "_acme-challenge.x.notmine.org") in examined(host)


def test_zone_that_is_delegated_elsewhere(world: World, tmp_path: Path, name: str) -> None:
    """The account holds the zone, but the delegation leads to other servers."""
    zone = f"z{secrets.token_hex(4)}.org"
    world.zones.add_zone(zone, ["ns1.elsewhere.test", "ns2.elsewhere.test"])
    world.dnspod.add_domain(zone)
    host = Host(world, tmp_path, certificate(name, f"www.{zone}", domains=[name]))

    assert {("delegated_elsewhere", zone)} == examined(host)


def test_name_server_that_is_dead(host: Host, world: World) -> None:
    """The warning names the server and the wait of an order."""
    world.dns.servers[1].down()
    try:
        run = host.run("doctor", "--json")
    finally:
        world.dns.servers[1].recover()

    [finding] = [
        each for each in json.loads(run.out)["findings"] if each["code"] == "name_server_silent"
    ]
    assert ("warning", "example.com") == (finding["severity"], finding["subject"])
    assert world.dns.servers[1].hostname in finding["message"]
    assert "an order waits 75 seconds for them" in finding["fix"]


def test_caa_that_forbids_the_ca(zones: World, host: Host, name: str) -> None:
    """The identity in the CA's directory decides; a CA that tells no identity, as Pebble, is not
    judged.
    """
    zones.zones.seed(name, "CAA", '0 issue "other.test"')
    assert {("caa_not_judged", name)} == examined(host)

    endpoints = {
        resource: f"http://127.0.0.1/{resource}"
        for resource in ("newNonce", "newAccount", "newOrder")
    }
    directory = json.dumps(endpoints | {"meta": {"caaIdentities": ["ca.test"]}}).encode()
    with HttpService(lambda _: Response(200, directory)) as ca:
        host.rewrite(zones.pebble.directory_url, f"{ca.url}/dir")
        run = host.run("doctor")

    assert FAILED == run.code
    assert (
        f"{name}: the CAA records at {name} allow other.test to issue, but not ca.test" in run.out
    )


def test_broken_dnssec(host: Host, world: World, name: str) -> None:
    """A validating CA would refuse the name."""
    world.dns.resolver.bogus.add(name)

    assert ("dnssec_broken", name) in examined(host)


def test_resolver_that_makes_up_answers(host: Host, world: World) -> None:
    """The finding names the resolver's address."""
    world.dns.resolver.invented = "192.0.2.66"

    assert ("resolver_invents", world.dns.resolver.address) in examined(host)


@pytest.mark.parametrize(
    ("state", "code"), [("frozen", "domain_unusable"), ("offlined", "domain_unusable")]
)
def test_domain_that_is_switched_off(
    world: World, tmp_path: Path, new_name: Callable[[], str], state: str, code: str
) -> None:
    """The finding names the domain."""
    fresh = new_name()
    world.point_at_edges(fresh)
    world.qiniu.add_domain(fresh, state=state)
    host = Host(world, tmp_path, certificate(fresh))

    assert {(code, fresh)} == examined(host)


def test_domain_that_is_not_pointed_at_the_cdn(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """The domain is at the CDN, but DNS leads visitors elsewhere."""
    fresh = new_name()
    world.qiniu.add_domain(fresh)
    host = Host(world, tmp_path, certificate(fresh))

    assert {("not_pointed", fresh)} == examined(host)


@thorough
def test_key_that_does_not_open_the_state(host: Host, name: str) -> None:
    """The finding is about the key file, with the remedy."""
    assert 0 == host.run("sync").code
    host.key_file.write_bytes(base64.b64encode(secrets.token_bytes(32)))

    assert ("seal_broken", str(host.key_file)) in examined(host)


@thorough
def test_key_that_others_can_read(host: Host) -> None:
    """The findings name the file's mode and the consequence for the state."""
    assert 0 == host.run("sync").code
    host.key_file.chmod(0o644)

    codes = {code for code, _ in examined(host)}

    assert {"file_open", "seal_broken"} <= codes


def test_state_that_cannot_be_used(host: Host) -> None:
    """The files and the schedule are examined all the same."""
    host.state.parent.mkdir(mode=0o700)
    host.state.write_bytes(b"a diary, and no database\n" * 99)
    host.state.chmod(0o600)

    run = host.run("doctor", "--json")

    assert FAILED == run.code
    codes = [finding["code"] for finding in json.loads(run.out)["findings"]]
    assert ["state_unusable", "schedule_missing", "nobody_told"] == codes
    assert RequestsMade() == run.left


def test_state_that_cannot_be_written(host: Host) -> None:
    """A run would fail on the folder, whether a state exists or not."""
    host.state.parent.mkdir(mode=0o500)

    run = host.run_apart("doctor", "--json", wrapped_in=bound_by_permissions())

    findings = [
        finding for finding in json.loads(run.out)["findings"] if finding["severity"] == "error"
    ]
    assert FAILED == run.code
    assert [("state_unusable", str(host.state.parent))] == [
        (finding["code"], finding["subject"]) for finding in findings
    ]


def test_mistake_in_the_file_is_reported_as_everywhere(host: Host) -> None:
    """A mistake in the file ends the command before any check."""
    host.rewrite('to = "qiniu"', 'to = "quiniu"')

    run: Run = host.run("-q", "doctor")

    assert 2 == run.code
    assert "quiniu" in run.complaint.error
