"""Runs that are refused, held up, broken or stopped on the way: reported, left in order, and
finished by the next run.
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
DEADLINE = 30.0  # the most seconds that a test waits


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it never said: {words}")


@contextmanager
def endless_challenge(world: World) -> Iterator[None]:
    """Keep a name server from showing challenges, for a `with` block."""
    slow = world.dns.servers[1]
    slow.lag = math.inf
    try:
        yield
    finally:
        slow.lag = 0.0


def test_one_of_two_name_servers_is_dead(world: World, tmp_path: Path, name: str) -> None:
    """The order continues after a wait for the dead server, and a warning names the server."""
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
    """The domain is refused with a hint, and the other domains of the certificate are served all
    the same.
    """
    covered, other = new_name(), new_name()
    for domain in (covered, other):
        world.add_http_domain(domain)
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
    """If every domain is refused, the run only reads."""
    covered, other = new_name(), new_name()
    for domain in (covered, other):
        world.add_http_domain(domain)
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
    """The CA's certificates have too little life for Qiniu: every run refuses the deployment before
    an upload, and the certificate is ordered once.
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
    """A run with a limited wait names the run at work, and leaves the lineage alone."""
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
def test_lineage_that_another_run_releases(host: Host, name: str) -> None:
    """A run that may wait continues as soon as the other run has ended."""
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
    """A run ends with its patience; a later run finds the change, and finishes without another
    request to change the domain.
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
    """On a new domain `--no-wait` begins every step, and leaves the waits to the next run."""
    host.world.qiniu.hold(name)

    begun = host.run("sync", "--no-wait")

    assert TRY_LATER == begun.code
    assert (1, 1, 2) == (begun.left.certificates, begun.left.qiniu_uploads, begun.left.qiniu_writes)

    host.world.qiniu.release(name)
    assert 0 == host.run("sync").code


@thorough
def test_change_that_is_stuck_for_too_long(host: Host, name: str) -> None:
    """After the time under [verify] the change is a failure, and the hint names the support."""
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
    """The frozen domain is reported, the other domains are served, and the exit code is that of a
    failure.
    """
    good, frozen, elsewhere = new_name(), new_name(), new_name()
    world.add_http_domain(good)
    world.add_http_domain(elsewhere)
    world.qiniu.add_domain(frozen, state="frozen")
    host = Host(world, tmp_path, certificate(good, frozen, name="both") + certificate(elsewhere))

    run = host.run("sync", "--json")

    of_both, other = run.document["certificates"]
    outcomes = {(step["action"], step["domain"]): step["outcome"] for step in of_both["steps"]}
    assert FAILED == run.code
    assert {
        ("issue", None): "done",
        ("deploy", good): "done",
        ("verify", good): "done",
        ("deploy", frozen): "failed",
    } == outcomes
    assert (False, True) == (of_both["ok"], other["ok"])
    assert world.qiniu.bound(frozen) is None

    again = host.run("-q", "sync")

    assert FAILED == again.code
    assert f"{frozen} is frozen at Qiniu" in again.complaint.error
    assert RequestsMade(qiniu_requests=again.left.qiniu_requests) == again.left


def test_change_that_fails(host: Host, name: str) -> None:
    """The message quotes Qiniu's description and the hint names the remedy; the next run asks
    again, with the same certificate.
    """
    host.world.qiniu.fail_next(name, "verify https crt fail")

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert f"qiniu → {name}: Qiniu could not carry out sslize" in run.complaint.error
    assert "verify https crt fail" in run.complaint.error
    assert "Qiniu rejected the certificate; try once more" in run.complaint.hint
    assert host.world.qiniu.bound(name) is None

    cured = host.run("sync")

    assert 0 == cured.code
    assert (0, 0, 1) == (cured.left.orders, cured.left.qiniu_uploads, cured.left.qiniu_writes)
    assert host.world.qiniu.bound(name) is not None


Calls = dict[HttpService | DnspodService, tuple[str, ...]]
"""The kinds of calls, by stand-in."""


class FaultyServices:
    """The calls to each service, and a machine that makes them until its domain is served."""

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
        """Assert that the certificate is served, was issued and uploaded once, and that every fault
        was met.
        """
        left = RequestsMade.of(self.host.world) - self._before
        assert (1, 0) == (left.certificates, left.challenges)
        stored = self.host.world.qiniu.certificates.stored()
        (copy,) = (stored_copy for stored_copy in stored if self.name in stored_copy.names)
        assert copy.id == self.host.world.qiniu.bound(self.name)
        assert [copy.fingerprint] == self.host.fingerprints(self.name)
        for calls in self.calls.values():
            for place, patterns in calls.items():
                assert [] == [pattern for pattern in patterns if place.faults.take(pattern)]


@pytest.fixture
def faulty(host: Host, name: str) -> Iterator[FaultyServices]:
    """A new machine that reaches its CA through a proxy."""
    world = host.world
    with Proxy(world.pebble) as authority:
        host.rewrite(world.pebble.directory_url, authority.directory_url)
        authority.authority.cert_pem.write_to_path(host.directory / "directory-ca.pem")
        yield FaultyServices(host, name, authority)


FAULTS = {
    "reset before": Fault.reset_before(),
    "reset after": Fault.reset_after(),
    "a page with 502": Fault.html(502),
}


@thorough
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("service", ["qiniu", "dnspod", "ca"])
def test_failure_at_every_call(faulty: FaultyServices, service: str, fault: Fault) -> None:
    """Every kind of call to a service fails once, and the run succeeds."""
    faulty.arm(fault, service)

    assert 0 == faulty.host.run("sync").code
    faulty.must_be_done_once()


@thorough
@pytest.mark.parametrize("service", ["qiniu", "dnspod", "record"])
def test_rate_limit_at_every_call(faulty: FaultyServices, service: str) -> None:
    """A run waits for a service that demands patience, at any kind of call."""
    faulty.arm(Fault.too_many(retry_after=1), service)

    assert 0 == faulty.host.run("sync").code
    faulty.must_be_done_once()


def test_record_whose_answer_is_lost(faulty: FaultyServices) -> None:
    """A challenge record whose answer was lost is found, and removed in the end."""
    faulty.arm(Fault.reset_after(), "record")

    assert 0 == faulty.host.run("sync").code
    faulty.must_be_done_once()


@thorough
def test_record_that_was_not_written(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """A doubtful record is sought until DNSPod would list the record, and only then written again.

    The wait takes 40 seconds, so two machines wait together: one request is lost on its way, and a
    gateway answers the other.
    """
    hosts = {}
    for domain in (new_name(), new_name()):
        world.add_http_domain(domain)
        (tmp_path / domain).mkdir()
        hosts[domain] = Host(world, tmp_path / domain, certificate(domain))
    world.dnspod.faults.add(Fault.reset_before(), on="POST /Record.Create")
    world.dnspod.faults.add(Fault.html(502), on="POST /Record.Create")
    before = RequestsMade.of(world)

    with ExitStack() as running:
        runs = [running.enter_context(host.begin("sync")) for host in hosts.values()]
        reported = [run.communicate(timeout=3 * DEADLINE) for run in runs]

    assert [0, 0] == [run.returncode for run in runs], reported
    left = RequestsMade.of(world) - before
    assert (2, 2, 2, 0) == (left.orders, left.certificates, left.qiniu_uploads, left.challenges)
    assert 4 + 2 == left.dnspod_writes  # each record is written twice and removed once
    assert [1, 1] == [len(host.fingerprints(domain)) for domain, host in hosts.items()]


@thorough
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_while_the_challenge_spreads(
    world: World, tmp_path: Path, name: str, how: signal.Signals
) -> None:
    """A stopped run removes its records at DNSPod's pace and gives its lease back; the next run
    finishes.
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
def test_killed_before_a_lineage_is_renamed(host: Host, name: str) -> None:
    """The old name has no later run, so the next run of any name removes its challenge record."""
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
def test_stopped_while_a_forced_renewal_is_ordered(host: Host, name: str) -> None:
    """An order that was made is finished by a plain run, and the output says that a renewal before
    its order needs `--renew` again.
    """
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
    """A waiting run ends at once, and the change continues at Qiniu."""
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
    """A run that waits for its turn ends at once, and leaves the other run's lease alone."""
    with host.remembering() as store:
        lease = store.acquire(name, datetime.now(UTC))
        with host.begin("sync") as process:
            read_until(process, "has been working since")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE)
        store.extend(lease)

    assert STOPPED == process.returncode


def must_be_free(host: Host, name: str) -> None:
    """Assert that the lineage's lease is free."""
    with host.remembering() as store:
        store.release(store.acquire(name, datetime.now(UTC)))
