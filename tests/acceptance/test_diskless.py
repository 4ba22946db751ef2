"""A state in a bucket: runs on machines that are empty before, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry_sandbox.world import World
from tests.acceptance.diskless import Runner
from tests.acceptance.host import certificate


@pytest.fixture
def runner(world: World, tmp_path: Path, name: str) -> Runner:
    return Runner(world, tmp_path, certificate(name))


def test_first(runner: Runner, name: str) -> None:
    objects = runner.world.qiniu.objects
    run = runner.run("sync")
    print(run)
    for one in objects.services:
        print(one.url, [(c.request.label,c.status) for c in one.journal])
    n=len(objects.requests())
    print(runner.run("sync"))
    print([r.label for r in objects.requests()][n:])
    print(runner.run("state","check"))
    print(runner.run("doctor"))
    print(runner.run("status"))
    print(runner.run("hosts"))
    print(runner.run("history"))
    print(runner.run("backup", "x"))
    assert 0
