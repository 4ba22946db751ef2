"""`retire = "all-unused"`: what the well-known script does, and what it must leave alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate
from tests.sandbox.qiniu_calls import Client, code

IN_USE = 400611  # bound to a CDN domain: docs/facts/qiniu.md §4.4


def test_a_strangers_certificate_that_a_cdn_domain_uses(
    world: World, tmp_path: Path, name: str, new_name: Callable[[], str]
) -> None:
    """Qiniu is not even asked to remove it, though the file does not name its domain: it is kept,
    counted, and goes on being served, while the one beside it that nothing uses goes.
    """
    shop = new_name()
    world.add_https_domain(shop)
    used = world.qiniu.bound(shop)
    unused = world.qiniu.add_certificate(world.old_certificate(new_name()), "by hand")
    assert used is not None
    declared = certificate(name).replace('to = "qiniu"', 'to = "qiniu"\nretire = "all-unused"')
    host = Host(world, tmp_path, declared)

    run = host.run("sync", "--json")

    assert 0 == run.code, run
    [counted] = [
        step for step in run.steps if (step["action"], step["outcome"]) == ("retire", "unchanged")
    ]
    assert "others that are still in use are kept: 1" == counted["detail"]
    assert 0 == len(world.qiniu.requests(f"DELETE /sslcert/{used}"))
    assert refused(world, used)
    assert used == world.qiniu.bound(shop)
    left = {stored.id for stored in world.qiniu.certificates.stored()}
    assert used in left
    assert unused not in left
    assert host.run("sync").out.startswith(f"{name}: unchanged")


def refused(world: World, certificate_id: str) -> bool:
    """Ask for the removal by hand: whether the answer is that a CDN domain uses it."""
    keys = world.credentials
    client = Client(world.qiniu, keys.access_key, keys.secret_key)
    return IN_USE == code(client.delete(certificate_id))[1]
