"""What a run orders, and what it does not: after a slip, after the CA's refusal, in a rehearsal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from certferry_sandbox.world import World
from tests.acceptance.host import Host
from tests.adapters.acme.proxy import Proxy, refusal
from tests.support.tiers import thorough

FAILED, USAGE, PENDING, TRY_LATER = 1, 2, 4, 75


@thorough
def test_slip_that_was_put_right_orders_nothing(host: Host, name: str) -> None:
    """Another owner's name comes into the file and goes again: the certificate stays."""
    assert 0 == host.run("-q", "sync").code
    (kept,) = host.fingerprints(name)
    host.rewrite(f'names = ["{name}"]', f'names = ["{name}", "x.notmine.org"]')
    assert FAILED == host.run("-q", "sync").code
    host.rewrite(f'names = ["{name}", "x.notmine.org"]', f'names = ["{name}"]')

    plan = host.run("plan", "--check", "--json")
    sync = host.run("sync", "--json")

    assert (0, 0) == (plan.code, plan.document["changes"])
    assert (0, 0) == (sync.code, sync.left.orders)
    assert [kept] == host.fingerprints(name)


def test_moment_that_the_ca_names_is_kept(host: Host, world: World, name: str) -> None:
    """The run ends with "try later" and the moment; later ones ask the CA nothing, and the plan
    says until when.
    """
    with Proxy(world.pebble) as ca:
        ca.authority.cert_pem.write_to_path(host.directory / "directory-ca.pem")
        host.rewrite(world.pebble.directory_url, ca.directory_url)
        ca.faults.add(refusal("rateLimited", "too many orders", 429, "7200"), on="POST /order-plz")
        first = host.run("sync", "--json")
        asked = len(ca.journal)
        later = host.run("sync", "--json")
        plan = host.run("plan", "--check", "--json")
        words = host.run("plan")

        assert asked == len(ca.journal)

    (step,) = first.document["certificates"][0]["steps"]
    (again,) = later.document["certificates"][0]["steps"]
    assert (TRY_LATER, TRY_LATER) == (first.code, later.code)
    for told in (step, again):
        assert ("issue", "waiting") == (told["action"], told["outcome"])
        assert step["retry_at"] == told["retry_at"]
    left = datetime.fromisoformat(step["retry_at"]) - datetime.now(UTC)
    assert timedelta(minutes=118) < left <= timedelta(hours=2)
    assert ("rate_limited", "order_held_back") == (step["code"], again["code"])
    (planned,) = plan.document["certificates"]
    assert PENDING == plan.code
    assert "issue" not in {one["action"] for one in planned["steps"]}
    assert step["retry_at"] == planned["held_back"]["until"]
    assert "nothing is ordered before" in words.out
    assert "1 certificate to issue later, 1 deployment." in words.out
    assert (0, 0) == (first.left.orders, later.left.orders)


def rehearsing(host: Host) -> Host:
    """Let the world's CA be the staging directory of one that does not answer."""
    directory = host.world.pebble.directory_url
    host.rewrite(
        f'directory = "{directory}"',
        f'directory = "https://127.0.0.1:1/nobody"\nstaging = "{directory}"',
    )
    return host


def test_rehearsal_of_a_new_configuration(host: Host, world: World, name: str) -> None:
    """The order is proven and issued at the staging directory, and nothing of it is kept or
    deployed; what a run would do is told.
    """
    run = rehearsing(host).run("sync", "--rehearse", "--json")

    (lineage,) = run.document["certificates"]
    (step,) = lineage["steps"]
    assert (0, True, True) == (run.code, run.document["ok"], run.document["rehearsed"])
    assert ("issue", "done", None) == (step["action"], step["outcome"], lineage["fingerprint"])
    assert "rehearsed: a test certificate came from" in step["detail"]
    (planned,) = run.document["plan"]["certificates"]
    assert ["issue", "deploy", "verify"] == [one["action"] for one in planned["steps"]]
    assert (1, 0) == (run.left.orders, run.left.qiniu_writes)
    assert [] == host.fingerprints(name)
    with host.remembering() as state:
        assert None is state.order(name)
    words = host.run("sync", "--rehearse").out
    assert "1 certificate was rehearsed; nothing of it was kept." in words
    assert "1 certificate to issue, 1 deployment. Nothing was changed; run" in words
    assert None is world.qiniu.bound(name)


def test_rehearsal_finds_what_would_stop_an_order(host: Host, name: str) -> None:
    """The slip is told, before the CA that counts has heard of it."""
    rehearsing(host).rewrite(f'names = ["{name}"]', f'names = ["{name}", "x.notmine.org"]')

    run = host.run("-q", "sync", "--rehearse")

    assert FAILED == run.code
    assert "x.notmine.org" in run.complaint.error
    assert FAILED == host.run("sync", "--rehearse").code


@thorough
def test_rehearsal_of_what_is_as_declared(host: Host, name: str) -> None:
    """Nothing is ordered, unless a renewal is rehearsed; the certificate stays as it is."""
    assert 0 == host.run("-q", "sync").code
    (kept,) = host.fingerprints(name)
    rehearsing(host)

    idle = host.run("sync", "--rehearse")
    renewal = host.run("sync", "--rehearse", "--renew", "--json")

    assert (0, 0) == (idle.code, idle.left.orders)
    assert "Nothing was rehearsed" in idle.out
    assert (0, 1) == (renewal.code, renewal.left.orders)
    assert [kept] == host.fingerprints(name)


def test_directory_without_a_staging_directory(host: Host) -> None:
    """It says how to name one, and nothing is made or sent."""
    run = host.run("-q", "sync", "--rehearse")

    assert USAGE == run.code
    assert "" in run.complaint.error
    assert "`staging` under [acme]" in run.complaint.hint
    assert not host.state.exists()
    assert USAGE == host.run("sync", "--rehearse", "--no-wait").code


def test_rehearsal_that_the_ca_holds_back(host: Host, world: World) -> None:
    """It ends with "try later", as a run does."""
    with Proxy(world.pebble) as ca:
        ca.authority.cert_pem.write_to_path(host.directory / "directory-ca.pem")
        host.rewrite(world.pebble.directory_url, ca.directory_url)
        directory = ca.directory_url
        host.rewrite(f'directory = "{directory}"', f'staging = "{directory}"')
        ca.faults.add(refusal("rateLimited", "too many orders", 429, "7200"), on="POST /order-plz")
        first = host.run("sync", "--rehearse", "--json")
        asked = len(ca.journal)
        again = host.run("sync", "--rehearse", "--json")

        assert asked == len(ca.journal)
    assert (TRY_LATER, TRY_LATER) == (first.code, again.code)
    (step,) = again.document["certificates"][0]["steps"]
    assert ("waiting", "order_held_back") == (step["outcome"], step["code"])
    assert step["retry_at"] is not None
