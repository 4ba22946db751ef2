"""What a run orders, and what it does not: after a slip, after the CA's refusal, in a rehearsal."""

from __future__ import annotations

from tests.acceptance.host import Host

FAILED = 1


def test_slip_that_was_put_right_orders_nothing(host: Host, name: str) -> None:
    """A name of somebody else's comes into the file and goes again: the certificate stays."""
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
