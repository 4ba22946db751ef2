"""What is refused, held up, broken or stopped on the way: told, left in order, and finished by
the next run.
"""

from __future__ import annotations

import math
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certferry_sandbox.dnspod.service import DnspodService
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import HttpService
from certferry_sandbox.world import World
from tests.acceptance.conftest import PACE
from tests.acceptance.host import Host, certificate
from tests.acceptance.requests_made import RequestsMade, challenges
from tests.adapters.acme.proxy import Proxy
from tests.support.tiers import thorough

FAILED, REFUSED, TRY_LATER, STOPPED = 1, 3, 75, 130
DEADLINE = 30.0  # seconds until something that a test waits for has not happened


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it never said: {words}")


@contextmanager
def endless_challenge(world: World) -> Iterator[None]:
    """Keep a name server from showing any challenge, for a `with` block."""
    slow = world.dns.servers[1]
    slow.lag = math.inf
    try:
        yield
    finally:
        slow.lag = 0.0


def test_one_of_two_name_servers_is_dead(world: World, tmp_path: Path, name: str) -> None:
    """The order goes on after the wait for it, with a warning that names it."""
    host = Host(world, tmp_path, certificate(name))
    host.rewrite("[dns]\n", "[dns]\npropagation_timeout = 1\n")
    dead = world.dns.servers[1]
    dead.down()
    try:
        run = host.run("sync")
    finally:
        dead.recover()

    assert 0 == run.code
    assert f"warning: {dead.hostname} gave no answer about _acme-challenge.{name}" in run.err


@thorough
def test_domain_that_the_names_do_not_cover(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """It is refused with a hint, and the others of the certificate are served all the same."""
    covered, other = new_name(), new_name()
    for one in (covered, other):
        world.add_http_domain(one)
    host = Host(world, tmp_path, certificate(covered, name="pics", domains=(covered, other)))

    run = host.run("-q", "sync")

    assert REFUSED == run.code
    assert (
        f"pics: deploy refused: qiniu → {other}: {other} is not covered by {covered}"
        == run.complaint.error
    )
    assert f"add {other} to the names of pics" in run.complaint.hint
    assert world.qiniu.bound(covered) is not None
    assert world.qiniu.bound(other) is None

    again = host.run("sync", "--json")

    outcomes = {(step["action"], step["domain"]): step["outcome"] for step in again.steps}
    assert REFUSED == again.code
    assert {("deploy", other): "refused", ("verify", covered): "unchanged"} == outcomes
    assert (0, 0) == (again.left.orders, again.left.qiniu_writes)


@thorough
def test_no_domain_that_the_names_cover(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """Where nothing else is left, nothing at all is sent but questions."""
    covered, other = new_name(), new_name()
    for one in (covered, other):
        world.add_http_domain(one)
    host = Host(world, tmp_path, certificate(covered, name="pics", domains=(other,)))

    sync, plan = host.run("-q", "sync"), host.run("plan", "--json")

    (planned,) = plan.document["certificates"]
    (refusal,) = planned["refusals"]
    assert (REFUSED, REFUSED) == (sync.code, plan.code)
    assert f"{other} is not covered by {covered}" in sync.complaint.error
    assert "name_not_covered" == refusal["reason"]["code"]
    assert refusal["hint"]
    assert [] == planned["steps"]
    for run in (sync, plan):
        assert RequestsMade(qiniu_requests=run.left.qiniu_requests) == run.left


@thorough
def test_certificates_that_end_too_soon(tmp_path: Path) -> None:
    """A CA whose certificates have too little life for Qiniu: refused before any upload, by every
    run, and no run orders another one.
    """
    with World(pace=PACE, nonce_reject=0, certificate_validity=timedelta(days=20)) as world:
        world.add_http_domain("brief.example.com")
        host = Host(world, tmp_path, certificate("brief.example.com"))

        first, second = host.run("-q", "sync"), host.run("-q", "sync")

        for run in (first, second):
            assert REFUSED == run.code
            assert "qiniu → brief.example.com: 19 days left" in run.complaint.error
            assert "qiniu accepts only certificates with at least 30 days" in run.complaint.error
            assert "live longer" in run.complaint.hint
            assert "`min_remaining_days` of the account qiniu" in run.complaint.hint
            assert (0, 0) == (run.left.qiniu_writes, run.left.challenges)
        assert (1, 0) == (first.left.certificates, second.left.certificates)
        assert 1 == len(host.fingerprints("brief.example.com"))


@thorough
def test_lineage_that_another_run_works_on(host: Host, name: str) -> None:
    """A run that must not wait says who is at work, and leaves it alone."""
    with host.remembering() as store:
        store.acquire(name, datetime.now(UTC))

        runs = host.run("sync", "--no-wait", "--json"), host.run("sync", "--wait", "1", "--json")
        quiet = host.run("-q", "sync", "--no-wait")

    for run in runs:
        (step,) = run.steps
        assert TRY_LATER == run.code
        assert ("waiting", "lease_held") == (step["outcome"], step["code"])
        assert "has been working since" in step["detail"]
        assert "try again after that run has ended" in step["hint"]
        assert step["retry_at"]
        assert RequestsMade(qiniu_requests=run.left.qiniu_requests) == run.left
    assert (TRY_LATER, "", "") == (quiet.code, quiet.out, quiet.err)
    assert [] == host.fingerprints(name)


@thorough
def test_lineage_that_another_run_lets_go_of(host: Host, name: str) -> None:
    """A run that may wait goes on as soon as the other one has ended."""
    with host.remembering() as store:
        lease = store.acquire(name, datetime.now(UTC))
        with host.begin("sync") as process:
            read_until(process, "has been working since")
            assert [] == challenges(host.world)
            store.release(lease)
            out, _ = process.communicate(timeout=DEADLINE)

    assert 0 == process.returncode, out
    assert f"{name}: done" in out
    assert 1 == len(host.fingerprints(name))


@thorough
def test_change_that_is_stuck(host: Host, name: str) -> None:
    """A run ends when its patience does; a later one finds the change, and finishes it without
    asking for it again.
    """
    host.world.qiniu.hold(name)

    bounded = host.run("sync", "--wait", "2", "--json")
    brief = host.run("sync", "--no-wait", "--json")

    for run in (bounded, brief):
        (step,) = (step for step in run.steps if step["action"] == "deploy")
        assert TRY_LATER == run.code
        assert "waiting" == step["outcome"]
        assert "qiniu is applying the change (usually 8–15 min)" == step["detail"]
        assert step["retry_at"]
        assert not run.document["ok"]
    assert (1, 1) == (bounded.left.certificates, bounded.left.qiniu_uploads)
    assert RequestsMade(qiniu_requests=brief.left.qiniu_requests) == brief.left

    host.world.qiniu.release(name)
    finished = host.run("sync")

    assert 0 == finished.code
    assert "served by every address that answers" in finished.out
    assert RequestsMade(qiniu_requests=finished.left.qiniu_requests) == finished.left


@thorough
def test_change_that_is_begun_and_not_waited_for(host: Host, name: str) -> None:
    """`--no-wait` on a new domain begins everything, and leaves the rest to the next run."""
    host.world.qiniu.hold(name)

    begun = host.run("sync", "--no-wait")

    assert TRY_LATER == begun.code
    assert (1, 1, 2) == (begun.left.certificates, begun.left.qiniu_uploads, begun.left.qiniu_writes)

    host.world.qiniu.release(name)
    assert 0 == host.run("sync").code


@thorough
def test_change_that_is_stuck_for_too_long(host: Host, name: str) -> None:
    """After the time under [verify] it is a failure that says whom to ask."""
    host.rewrite("[verify]", "[verify]\ntimeout = 1")
    host.world.qiniu.hold(name)

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert f"qiniu → {name}: qiniu has not finished its change since" in run.complaint.error
    assert "send the ticket to the target's support" in run.complaint.hint

    host.rewrite("timeout = 1", "timeout = 60")
    host.world.qiniu.release(name)
    assert 0 == host.run("sync").code


def test_one_domain_that_fails_beside_another(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """The one is told, the other is seen served, and the exit code says that something failed."""
    good, frozen, elsewhere = new_name(), new_name(), new_name()
    world.add_http_domain(good)
    world.add_http_domain(elsewhere)
    world.qiniu.add_domain(frozen, state="frozen")
    host = Host(world, tmp_path, certificate(good, frozen, name="both") + certificate(elsewhere))

    run = host.run("sync", "--json")

    both, other = run.document["certificates"]
    outcomes = {(step["action"], step["domain"]): step["outcome"] for step in both["steps"]}
    assert FAILED == run.code
    assert {
        ("issue", None): "done",
        ("deploy", good): "done",
        ("verify", good): "done",
        ("deploy", frozen): "failed",
    } == outcomes
    assert (False, True) == (both["ok"], other["ok"])
    assert world.qiniu.bound(frozen) is None

    again = host.run("-q", "sync")

    assert FAILED == again.code
    assert f"{frozen} is frozen at Qiniu" in again.complaint.error
    assert RequestsMade(qiniu_requests=again.left.qiniu_requests) == again.left


def test_change_that_fails(host: Host, name: str) -> None:
    """Qiniu's description is told with what to do; the next run asks again, with the same
    certificate.
    """
    host.world.qiniu.fail_next(name, "verify https crt fail")

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert f"qiniu → {name}: Qiniu could not carry out sslize" in run.complaint.error
    assert "verify https crt fail" in run.complaint.error
    assert "Qiniu rejected the certificate; a later run tries again" in run.complaint.hint
    assert host.world.qiniu.bound(name) is None

    cured = host.run("sync")

    assert 0 == cured.code
    assert (0, 0, 1) == (cured.left.orders, cured.left.qiniu_uploads, cured.left.qiniu_writes)
    assert host.world.qiniu.bound(name) is not None


Calls = dict[HttpService | DnspodService, tuple[str, ...]]
"""The kinds of calls, by the stand-in that gets them."""


class Strain:
    """What the services are asked, and a machine that asks them all until it is served."""

    def __init__(self, host: Host, name: str, authority: Proxy) -> None:
        self.host = host
        self.name = name
        self._before = RequestsMade.of(host.world)
        world = host.world
        self.calls: dict[str, Calls] = {
            "qiniu": {
                world.qiniu.api: (f"GET /domain/{name}", f"PUT /domain/{name}/sslize"),
                world.qiniu.fusion: ("GET /sslcert", "POST /sslcert"),
            },
            "dnspod": {world.dnspod: ("POST /Domain.List", "POST /Record.Remove")},
            "record": {world.dnspod: ("POST /Record.Create",)},
            "order": {authority: ("POST /order-plz",)},
            "ca": {
                authority: (
                    "GET /dir",
                    "HEAD /nonce-plz",
                    "POST /sign-me-up",
                    "POST /order-plz",
                    "POST /authZ/*",
                    "POST /chalZ/*",
                    "POST /finalize-order/*",
                    "POST /certZ/*",
                )
            },
        }

    def arm(self, fault: Fault, service: str) -> None:
        for place, calls in self.calls[service].items():
            for call in calls:
                place.faults.add(fault, on=call)

    def must_be_done_once(self) -> None:
        """The certificate is served, the only one and uploaded once; every fault was met."""
        left = RequestsMade.of(self.host.world) - self._before
        assert (1, 0) == (left.certificates, left.challenges)
        stored = self.host.world.qiniu.certificates.stored()
        (copy,) = (one for one in stored if self.name in one.names)
        assert copy.id == self.host.world.qiniu.bound(self.name)
        assert [copy.fingerprint] == self.host.fingerprints(self.name)
        for calls in self.calls.values():
            for place, patterns in calls.items():
                assert [] == [pattern for pattern in patterns if place.faults.take(pattern)]


@pytest.fixture
def strain(host: Host, name: str) -> Iterator[Strain]:
    """A machine that has done nothing yet, and reaches its CA through a proxy."""
    world = host.world
    with Proxy(world.pebble) as authority:
        host.rewrite(world.pebble.directory_url, authority.directory_url)
        authority.authority.cert_pem.write_to_path(host.directory / "directory-ca.pem")
        yield Strain(host, name, authority)


FAULTS = {
    "reset before": Fault.reset_before(),
    "reset after": Fault.reset_after(),
    "a page with 502": Fault.html(502),
}


@thorough
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("service", ["qiniu", "dnspod", "ca"])
def test_every_call_that_goes_wrong_once(strain: Strain, service: str, fault: Fault) -> None:
    """Every kind of call to a service fails once, and the run gets by."""
    strain.arm(fault, service)

    assert 0 == strain.host.run("sync").code
    strain.must_be_done_once()


@thorough
@pytest.mark.parametrize("service", ["qiniu", "dnspod", "record"])
def test_every_call_that_is_one_too_many(strain: Strain, service: str) -> None:
    """A run waits for a service that asks for patience at any kind of call."""
    strain.arm(Fault.too_many(retry_after=1), service)

    assert 0 == strain.host.run("sync").code
    strain.must_be_done_once()


def test_record_whose_answer_is_lost(strain: Strain) -> None:
    """A challenge record that was written without an answer is found, and removed in the end."""
    strain.arm(Fault.reset_after(), "record")

    assert 0 == strain.host.run("sync").code
    strain.must_be_done_once()


@thorough
def test_record_that_was_not_written(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """A record in doubt is looked for until DNSPod would list it, and only then written again.

    That takes 40 seconds, so two machines take them together: one request is lost on its way, the
    other is answered by a gateway.
    """
    hosts = {}
    for one in (new_name(), new_name()):
        world.add_http_domain(one)
        (tmp_path / one).mkdir()
        hosts[one] = Host(world, tmp_path / one, certificate(one))
    world.dnspod.faults.add(Fault.reset_before(), on="POST /Record.Create")
    world.dnspod.faults.add(Fault.html(502), on="POST /Record.Create")
    before = RequestsMade.of(world)

    with ExitStack() as running:
        runs = [running.enter_context(host.begin("sync")) for host in hosts.values()]
        reported = [run.communicate(timeout=3 * DEADLINE) for run in runs]

    assert [0, 0] == [run.returncode for run in runs], reported
    left = RequestsMade.of(world) - before
    assert (2, 2, 2, 0) == (left.orders, left.certificates, left.qiniu_uploads, left.challenges)
    assert 4 + 2 == left.dnspod_writes  # each written twice, and removed once
    assert [1, 1] == [len(host.fingerprints(one)) for one, host in hosts.items()]


@thorough
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_while_the_challenge_spreads(
    world: World, tmp_path: Path, name: str, how: signal.Signals
) -> None:
    """Asked to end, a run removes its records, as slowly as DNSPod likes it, and gives its lease
    back; the next one finishes.
    """
    host = Host(world, tmp_path, certificate(name, f"*.{name}", domains=(name,)))
    host.rewrite("requests_per_second = 50", "requests_per_second = 2")
    before = RequestsMade.of(world)
    with endless_challenge(world), host.begin("sync") as process:
        read_until(process, "waiting for the challenge to appear at")
        assert [f"_acme-challenge.{name}"] * 2 == challenges(world)
        process.send_signal(how)
        out, _ = process.communicate(timeout=DEADLINE)

    assert STOPPED == process.returncode
    assert "sync` continues from here" in out
    assert [] == challenges(world)
    must_be_free(host, name)

    assert 0 == host.run("sync").code
    left = RequestsMade.of(world) - before
    assert (1, 1, 1) == (left.orders, left.certificates, left.qiniu_uploads)


@thorough
def test_killed_over_a_lineage_that_is_then_called_otherwise(host: Host, name: str) -> None:
    """No run of the old name comes again: its challenge record is the next run's to remove."""
    with endless_challenge(host.world), host.begin("sync") as process:
        read_until(process, "waiting for the challenge to appear at")
        process.kill()
        process.communicate(timeout=DEADLINE)
    assert [f"_acme-challenge.{name}"] == challenges(host.world)
    host.rewrite(f'name = "{name}"', 'name = "renamed"')

    run = host.run("sync")

    assert 0 == run.code
    assert f"{name}: removing challenge records left by an earlier run" in run.err
    assert [] == challenges(host.world)


@thorough
def test_stopped_while_it_renews_what_is_not_due(host: Host, name: str) -> None:
    """What has been ordered is finished without another `--renew`; what has not is said."""
    assert 0 == host.run("sync").code
    before = RequestsMade.of(host.world)
    with endless_challenge(host.world), host.begin("sync", "--renew", "--all") as process:
        read_until(process, "waiting for the challenge to appear at")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=DEADLINE)

    assert STOPPED == process.returncode
    assert "a renewal not yet ordered needs `--renew` again" in " ".join(out.split())
    assert "\n  stopped during: issue\n" in out
    assert "ordered at" in host.run("plan").out
    assert 0 == host.run("sync").code
    left = RequestsMade.of(host.world) - before
    assert (1, 1, 1) == (left.orders, left.certificates, left.qiniu_uploads)
    assert 2 == len(host.fingerprints(name))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_stopped_while_a_change_is_carried_out(host: Host, name: str, how: signal.Signals) -> None:
    """A run that only waits ends at once, and what it began goes on without it."""
    host.world.qiniu.hold(name)
    with host.begin("sync", "--json") as process:
        read_until(process, "deploy waiting")
        process.send_signal(how)
        process.communicate(timeout=DEADLINE)

    assert STOPPED == process.returncode
    must_be_free(host, name)

    host.world.qiniu.release(name)
    finished = host.run("sync")
    assert 0 == finished.code
    assert RequestsMade(qiniu_requests=finished.left.qiniu_requests) == finished.left


@thorough
def test_stopped_while_another_run_is_at_work(host: Host, name: str) -> None:
    """A run that waits for its turn ends at once, and takes nothing from the other one."""
    with host.remembering() as store:
        lease = store.acquire(name, datetime.now(UTC))
        with host.begin("sync") as process:
            read_until(process, "has been working since")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE)
        store.extend(lease)

    assert STOPPED == process.returncode


def must_be_free(host: Host, name: str) -> None:
    """No run holds the lineage's lease."""
    with host.remembering() as store:
        store.release(store.acquire(name, datetime.now(UTC)))
