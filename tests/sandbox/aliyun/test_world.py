"""Alibaba Cloud in the world of the demo and of whole runs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from certferry_sandbox.world import ALIYUN_DOMAINS, World, demonstration


def test_demonstration_with_aliyun(tmp_path: Path) -> None:
    """All edges share a port, DNS points at the vendor's names, and the file has the account."""
    with demonstration(has_others=True) as world:
        aliyun = world.aliyun
        assert aliyun is not None

        assert world.qiniu.edges.port == aliyun.edges.port
        assert [None, True] == [
            aliyun.bound(name, product=product) and True for name, product in ALIYUN_DOMAINS
        ]
        [cname] = world.zones.records("example.com", name=ALIYUN_DOMAINS[0][0])
        assert "b.img.example.com.w.kunlunsl.com." == cname.value
        addresses = world.zones.records("kunlunsl.com", name=cname.value.rstrip("."))
        assert ["127.0.0.4", "127.0.0.5"] == [record.value for record in addresses]
        written = tomllib.loads(world.write_files(tmp_path).read_text())
        account = written["accounts"]["aliyun"]
        assert {"Ali_Key", "Ali_Secret"} < set(world.environment)
        assert aliyun.dcdn.url == account["dcdn"]
        assert world.credentials.aliyun_secret in world.secrets()


def test_world_without_the_vendor() -> None:
    """Other worlds have neither keys nor domains at the vendor."""
    world = World()

    assert "Ali_Key" not in world.environment
    with pytest.raises(RuntimeError):
        world.add_aliyun_domain("www.example.com")
