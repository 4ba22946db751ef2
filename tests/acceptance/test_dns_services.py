"""The main job with the challenge at another DNS service, from the file to the edges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from certferry_sandbox.alidns.service import AlidnsService
from certferry_sandbox.cloudflare import CloudflareService
from certferry_sandbox.world import World
from tests.acceptance.footprint import assert_nothing_written
from tests.acceptance.host import Host

ZONE = "example.com"
TOKEN = "t" * 40


@dataclass(frozen=True)
class Running:
    """A service that writes to the world's zones: its account's table, what the environment holds
    for it, and how often it was asked to write and to remove.
    """

    table: str
    writes: Callable[[], tuple[int, int]]
    environ: dict[str, str] = field(repr=False)


@contextmanager
def alidns(world: World) -> Iterator[Running]:
    """Run Alibaba Cloud DNS."""
    with AlidnsService(world.zones) as service:
        service.add_account("LTAI5t", "secret")
        service.add_domain(ZONE)
        table = 'access_key_id = "env:Ali_Key"\naccess_key_secret = "env:Ali_Secret"\n'
        yield Running(
            f'[accounts.other]\ntype = "alidns"\n{table}api = "{service.url}"\n',
            lambda: (len(service.calls("Add*")), len(service.calls("Delete*"))),
            {"Ali_Key": "LTAI5t", "Ali_Secret": "secret"},
        )


@contextmanager
def cloudflare(world: World) -> Iterator[Running]:
    """Run Cloudflare."""
    with CloudflareService(world.zones) as service:
        service.add_token(TOKEN)
        service.add_zone(ZONE)
        yield Running(
            '[accounts.other]\ntype = "cloudflare"\ntoken = "env:CF_Token"\n'
            f'api = "{service.url}"\n',
            lambda: (len(service.calls("POST *")), len(service.calls("DELETE *"))),
            {"CF_Token": TOKEN},
        )


@pytest.mark.parametrize("service", [alidns, cloudflare])
def test_wildcard_and_apex_are_proven_and_served(
    service: Callable[[World], AbstractContextManager[Running]],
    world: World,
    tmp_path: Path,
    name: str,
) -> None:
    """Two values at one name are written, seen, removed; the second run does nothing."""
    deploy = f'[[certificates.deploy]]\nto = "qiniu"\ndomains = ["{name}"]\n'
    names = f'[[certificates]]\nname = "{name}"\nnames = ["{name}", "*.{name}"]\ndns = "other"\n'
    with service(world) as running:
        host = Host(world, tmp_path, f"\n{running.table}\n{names}{deploy}")
        dnspod = len(world.dnspod.calls())

        first = host.run("sync", "--json", **running.environ)
        again = host.run("sync", "--json", **running.environ)

        assert 0 == first.code, first
        assert 0 == again.code, again
        assert (2, 2) == running.writes()
    assert (1, 1) == (first.left.certificates, first.left.qiniu_uploads)
    assert [] == world.zones.records(name=f"_acme-challenge.{name}", rtype="TXT")
    assert dnspod == len(world.dnspod.calls())
    assert_nothing_written(again.left)
