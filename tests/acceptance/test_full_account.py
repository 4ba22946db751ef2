"""An account at Qiniu that takes no more certificates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate


def test_an_account_that_is_full(
    world: World, tmp_path: Path, name: str, new_name: Callable[[], str]
) -> None:
    """One upload is refused; from then on nothing is sent before there is room, and the plan says
    what to do. Unused certificates that the operator lets go make it.
    """
    unused = world.qiniu.add_certificate(world.old_certificate(new_name()), "by hand")
    certificates = world.qiniu.certificates
    certificates.quota = len(certificates.stored())
    try:
        host = Host(world, tmp_path, certificate(name))
        assert 0 != host.run("sync").code
        before = len(world.qiniu.writes())

        plan, again = host.run("plan", "--json"), host.run("sync")

        [refusal] = plan.document["certificates"][0]["refusals"]
        assert "account_full" in str(refusal)
        assert 'retire = "all-unused"' in again.out
        assert before == len(world.qiniu.writes())
        assert 0 != again.code
        declared = certificate(name).replace('to = "qiniu"', 'to = "qiniu"\nretire = "all-unused"')
        host = Host(world, tmp_path, declared)
        host.run("sync")
        assert unused not in {stored.id for stored in certificates.stored()}
        assert 0 == host.run("sync").code
        assert world.qiniu.bound(name) is not None
    finally:
        certificates.quota = None
