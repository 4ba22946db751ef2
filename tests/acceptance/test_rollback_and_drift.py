"""Rollbacks to the previous certificate, and changes by another tool: the whole command at Qiniu's
stand-in with its edges.
"""

from __future__ import annotations

import json

import pytest

from certferry.core.planning.rollbacks import CONFIRMED_AFTER
from certferry.values import replace
from certferry_sandbox.world import World
from tests.acceptance.host import Host
from tests.sandbox.qiniu_calls import Client
from tests.support.tiers import long, thorough
from tests.support.waiting import eventually

FAILED, USAGE, REFUSED = 1, 2, 3


def bound(host: Host, name: str) -> str | None:
    return host.world.qiniu.bound(name)


def with_drift(host: Host, policy: str) -> None:
    """Declare a policy for changes by another tool."""
    host.rewrite('to = "qiniu"', f'to = "qiniu"\ndrift = "{policy}"')


def set_by_hand(world: World, name: str, cert_id: str, **more: bool) -> None:
    """Bind a certificate to a domain as another tool does."""
    keys = world.credentials
    client = Client(world.qiniu, keys.access_key, keys.secret_key)
    settings = {"forceHttps": False, "http2Enable": False, **more}
    answer = client.httpsconf(name, cert_id, **settings)
    assert 200 == answer.status_code, answer.text
    assert eventually(lambda: world.qiniu.bound(name) == cert_id)
    assert eventually(lambda: "success" == world.qiniu.domain(name).state)


@long
def test_rollback_and_the_way_forward_again(world: World, host: Host, name: str) -> None:
    """The previous certificate is served again, the next runs change nothing, and a new certificate
    takes its place.
    """
    host.run("sync")
    first = bound(host, name)
    host.run("sync", "--renew", "--all")
    second = bound(host, name)

    run = host.run("rollback", name, "--json")

    assert 0 == run.code, run.err
    assert first == bound(host, name)
    assert {("deploy", "done"), ("verify", "done")} <= {
        (step["action"], step["outcome"]) for step in run.steps
    }
    again = host.run("rollback", name)
    assert (0, 0) == (again.code, again.left.qiniu_writes)
    run = host.run("sync")
    assert (0, 0, 0) == (run.code, run.left.qiniu_writes, run.left.orders)
    assert "rolled back" in run.out
    assert "rolled back" in host.run("history", name).out
    assert 0 == host.run("sync", "--renew", "--all").code
    assert bound(host, name) not in {first, second}


def test_rollback_to_a_copy_that_was_removed_at_qiniu(world: World, host: Host, name: str) -> None:
    """Qiniu has lost the copy: the same run uploads and binds the certificate, and the next run
    changes nothing.
    """
    host.run("sync")
    first = bound(host, name)
    assert first is not None
    host.run("sync", "--renew", name)
    keys = world.credentials
    assert 200 == Client(world.qiniu, keys.access_key, keys.secret_key).delete(first).status_code

    run = host.run("rollback", name)

    assert (0, 1) == (run.code, run.left.qiniu_uploads), run
    _, previous = host.fingerprints(name)
    stored = {copy.id: copy.fingerprint for copy in world.qiniu.certificates.stored()}
    assert previous == stored[bound(host, name) or ""]
    again = host.run("sync")
    assert (0, 0) == (again.code, again.left.qiniu_writes)
    assert "rolled back" in again.out


def test_rollback_without_a_previous_certificate(host: Host, name: str) -> None:
    """The rollback is refused with an alternative and changes nothing; `check` does not report the
    refusal.
    """
    host.run("sync")

    run = host.run("-q", "rollback", name)

    assert REFUSED == run.code
    assert f"{name} has no previous certificate that is still valid" == run.complaint.error
    assert "sync --renew" in run.complaint.hint
    assert 0 == run.left.qiniu_writes
    assert 0 == host.run("check").code


def test_rollback_of_an_undeclared_name(host: Host, name: str) -> None:
    """The message quotes the name, and the hint suggests the nearest name."""
    run = host.run("-q", "rollback", f"{name}x")

    assert USAGE == run.code
    assert (
        f"there is no certificate called {name}x, and no certificate covers {name}x"
        == run.complaint.error
    )
    assert name in run.complaint.hint


@pytest.mark.parametrize("policy", ["warn", pytest.param("ignore", marks=thorough)])
def test_binding_of_another_tool_stays(world: World, host: Host, name: str, policy: str) -> None:
    """`plan`, `sync` and `status` report the foreign certificate; nothing is changed at the CDN,
    and the run succeeds.
    """
    with_drift(host, policy)
    host.run("sync")
    theirs = bound(host, name)
    assert theirs is not None
    host.run("sync", "--renew", "--all")
    set_by_hand(world, name, theirs)

    plan = host.run("plan", "--check", "--json")
    output = host.run("plan").out
    run = host.run("sync")

    assert 0 == plan.code
    assert "as declared" not in output
    assert "1 left unchanged. Nothing was changed." in output
    (planned,) = plan.document["certificates"]
    assert [(name, policy)] == [(d["domain"], d["policy"]) for d in planned["drifts"]]
    assert (0, 0) == (run.code, run.left.qiniu_writes)
    assert "changed outside certferry" in run.out
    assert theirs == bound(host, name)
    (status,) = host.run("status", "--json").document["certificates"]
    assert ["drifted"] == [domain["state"] for domain in status["domains"]]


@thorough
def test_two_tools_that_bind_the_same_domain(world: World, host: Host, name: str) -> None:
    """The third repair within a day is refused with the reason; nothing is changed at the CDN."""
    host.run("sync")
    ours = bound(host, name)
    host.run("sync", "--renew", "--all")
    newest = bound(host, name)
    assert ours is not None
    for _ in range(2):
        set_by_hand(world, name, ours)
        assert 0 == host.run("sync").code
        assert newest == bound(host, name)
    set_by_hand(world, name, ours)

    run = host.run("-q", "sync")

    assert REFUSED == run.code
    assert "another tool changes it" in run.complaint.error
    assert 0 == run.left.qiniu_writes
    document = json.loads(host.run("history", name, "--json").out)
    assert 2 == sum(entry["event"] == "drift found" for entry in document["entries"])


def test_stuck_change_comes_with_a_ticket(world: World, host: Host, name: str) -> None:
    """`sync`, `status` and the log show the ticket, in Chinese, with the request's id; the next run
    changes nothing at the CDN.
    """
    host.rewrite("[verify]", "[verify]\ntimeout = 1")
    world.qiniu.hold(name)

    run = host.run("--log-file", str(host.directory / "run.log"), "sync", "--json")

    assert FAILED == run.code
    (step,) = (step for step in run.steps if step["outcome"] == "failed")
    assert "target_stuck" == step["code"]
    assert step["ticket"].startswith("您好")
    for words in (name, "processing", "请求 ID"):
        assert words in step["ticket"]
    assert "您好" in (host.directory / "run.log").read_text(encoding="utf-8")
    status = host.run("status")
    assert "您好" in status.out
    [reported] = host.run("status", "--json").document["certificates"]
    [stuck] = (domain for domain in reported["domains"] if domain["domain"] == name)
    assert ("target_stuck", "processing") == (stuck["problem"]["code"], stuck["state"])
    assert stuck["ticket"].startswith("您好")
    assert name in stuck["ticket"]
    again = host.run("sync")
    assert (FAILED, 0) == (again.code, again.left.qiniu_writes)
    world.qiniu.release(name)
    assert eventually(lambda: 0 == host.run("sync").code)


def fullchain_of(world: World, cert_id: str | None) -> str:
    stored = world.qiniu.certificates.stored()
    return next(copy.fullchain_pem for copy in stored if copy.id == cert_id)


def is_refused(host: Host, name: str) -> bool:
    """Return whether a run has seen the edges refuse the certificate."""
    with host.remembering() as state:
        return any(record.refused_since for record in state.remembered(name).rollouts)


def another_run_is_refused(host: Host, name: str) -> bool:
    """Run again: on a loaded machine the edges may take longer than the first run waited."""
    assert 75 == host.run("sync", "--wait", "3").code
    return is_refused(host, name)


def let_minutes_pass(host: Host, name: str) -> None:
    """Set the beginning of the refusal back, beyond the time of an edge's restart."""
    with host.remembering() as state:
        (record,) = state.remembered(name).rollouts
        assert record.refused_since is not None
        earlier = record.refused_since - CONFIRMED_AFTER
        state.save_rollout(replace(record, refused_since=earlier))


def test_edges_that_break_get_the_previous_certificate_back(
    world: World, host: Host, name: str
) -> None:
    """Edges that served the previous certificate refuse every handshake of the new certificate:
    after two minutes the previous certificate is bound again. The run fails with the reason, and
    the next run is in order.
    """
    host.rewrite('to = "qiniu"', 'to = "qiniu"\non_failure = "rollback"')
    assert 0 == host.run("sync").code
    first = bound(host, name)
    for edge in world.qiniu.edges:
        edge.can_only_serve = fullchain_of(world, first)
    try:
        begun = host.run("sync", "--renew", "--all", "--wait", "3")
        assert 75 == begun.code
        assert eventually(lambda: is_refused(host, name) or another_run_is_refused(host, name))
        assert first != bound(host, name)
        let_minutes_pass(host, name)

        run = host.run("sync", "--json")

        assert FAILED == run.code
        assert eventually(lambda: first == bound(host, name))
        (step,) = (step for step in run.steps if step["action"] == "rollback")
        assert "refused the new certificate" in step["detail"]
        assert "sync --renew" in step["hint"]
        again = host.run("sync")
        assert (0, 0) == (again.code, again.left.qiniu_writes)
    finally:
        for edge in world.qiniu.edges:
            edge.can_only_serve = None
