"""Challenges at an acme-dns server, to which a CNAME leads, from the file to the edges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry_sandbox.acme_dns import AcmeDnsService, Registered
from certferry_sandbox.dnspod.service import NAMESERVERS
from certferry_sandbox.world import World
from tests.acceptance.footprint import assert_nothing_written
from tests.acceptance.host import Host

SERVED = "auth.acme-dns.test"
FAILED = 1


@pytest.fixture(scope="module")
def server(shared_world: World) -> Iterator[AcmeDnsService]:
    """The server; its zone is the world's."""
    shared_world.zones.add_zone(SERVED, NAMESERVERS)
    with AcmeDnsService(shared_world.zones, SERVED) as server:
        yield server


def host_with(world: World, server: AcmeDnsService, one: Registered, path: Path, name: str) -> Host:
    """Give a machine with one registration, for a name and its wildcard."""
    return Host(
        world,
        path,
        f'\n[accounts.other]\ntype = "acme-dns"\napi = "{server.url}"\n'
        f'username = "env:ACMEDNS_USERNAME"\npassword = "env:ACMEDNS_PASSWORD"\n'
        f'subdomain = "{one.fulldomain}"\n'
        f'[[certificates]]\nname = "{name}"\nnames = ["{name}", "*.{name}"]\ndns = "other"\n',
    )


def keys(one: Registered) -> dict[str, str]:
    """Give the keys as the environment has them."""
    return {"ACMEDNS_USERNAME": one.username, "ACMEDNS_PASSWORD": one.password}


def test_challenges_are_written_at_the_end_of_the_cname(
    world: World, server: AcmeDnsService, tmp_path: Path, name: str
) -> None:
    """Both values of wildcard and apex; nothing is left to clean, and the second run does
    nothing.
    """
    one = server.register()
    world.zones.seed(f"_acme-challenge.{name}", "CNAME", f"{one.fulldomain}.")
    host = host_with(world, server, one, tmp_path, name)
    before = len(server.updates())

    first, again = host.run("sync", **keys(one)), host.run("sync", **keys(one))

    assert 0 == first.code, first
    assert 0 == again.code, again
    assert 2 == len(server.updates()) - before
    assert (1, 0) == (first.left.certificates, first.left.dnspod_writes)
    assert_nothing_written(again.left)
    with host.remembering() as store:
        assert not store.challenge_records(name)
    assert one.password not in first.out + first.err


def test_cname_that_is_missing_is_told_before_an_order(
    world: World, server: AcmeDnsService, tmp_path: Path, name: str
) -> None:
    """With the record to set, by `sync` and by `doctor`."""
    one = server.register()
    host = host_with(world, server, one, tmp_path, name)

    ended = host.run("-q", "sync", **keys(one))
    looked = host.run("doctor", **keys(one))

    record = f"_acme-challenge.{name}. CNAME {one.fulldomain}."
    assert FAILED == ended.code
    assert 0 == ended.left.orders
    assert record in ended.complaint.hint
    assert record in " ".join(looked.out.split())
