"""A state in a bucket: runs on machines that are empty before, and gone afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.adapters.state.generations import Generations
from certferry.adapters.state.sealing import new_key
from certferry.cli.exits import Exit
from certferry.core.secret import Secret
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Request
from certferry_sandbox.qiniu.answers import Refused
from certferry_sandbox.s3 import S3Service
from certferry_sandbox.world import World
from tests.acceptance.diskless import Runner, S3Runner
from tests.acceptance.footprint import Footprint, challenges
from tests.acceptance.host import Run, certificate
from tests.support.objects import objects_in
from tests.support.tiers import THOROUGH, spread, thorough

MOST_FOR_ONE, MOST_FOR_NOTHING = 25, 3


@pytest.fixture
def runner(world: World, tmp_path: Path, name: str) -> Runner:
    return Runner(world, tmp_path, certificate(name))


def asked_of(runner: Runner, *arguments: str) -> tuple[Run, list[Request]]:
    """Run the command; return what it asked of the bucket."""
    objects = runner.world.qiniu.objects
    before = [len(service.requests()) for service in objects.services]
    run = runner.run(*arguments)
    services = zip(objects.services, before, strict=True)
    return run, [one for service, known in services for one in service.requests()[known:]]


# --- An empty machine goes on from what the last one has stored


def test_next_machine_knows_what_the_last_one_did(runner: Runner, name: str) -> None:
    """It changes nothing, and knows the history; few requests are made for that."""
    first, asked = asked_of(runner, "sync")
    assert (Exit.OK, 1, 1) == (first.code, first.left.orders, first.left.qiniu_uploads), first
    assert len(asked) <= MOST_FOR_ONE

    second, asked = asked_of(runner, "sync")
    assert (Exit.OK, 0, 0) == (second.code, second.left.orders, second.left.qiniu_writes), second
    assert len(asked) <= MOST_FOR_NOTHING

    assert "issued" in runner.run("history").out
    assert Exit.OK == runner.run("state", "check").code


@pytest.mark.parametrize(
    "command", [("status",), ("plan",), ("check",), ("history",), ("hosts",), ("state", "check")]
)
def test_command_that_reads(runner: Runner, command: tuple[str, ...]) -> None:
    """It changes nothing in the bucket: neither where there is no state, nor where there is one."""
    runner.run(*command)
    assert {} == runner.bucket.objects

    runner.run("sync")
    before = dict(runner.bucket.objects)
    run = runner.run(*command)
    assert Exit.OK == run.code, run
    assert before == runner.bucket.objects


def test_nothing_in_the_bucket_can_be_read_without_the_key(runner: Runner, name: str) -> None:
    """Neither a key, nor a name, nor an address of the CA."""
    runner.run("sync")
    stored = b"".join(runner.bucket.objects.values())
    for secret in (name, "PRIVATE KEY", "example", runner.key):
        assert secret.encode() not in stored


# --- Killed anywhere, an empty machine goes on


def goes_on_after_kills(runner: Runner, name: str, kills: list[int]) -> None:
    """Kill runs after these requests; the one that may live then ends in order: with one upload,
    with one order besides those of which a killed run did not see the answer, and no record.
    """
    before, unanswered = Footprint.of(runner.world), 0
    for position in kills:
        made = runner.killed_after(position, "sync")
        unanswered += made == position and "/order-plz" in runner.asked[-1]

    last = runner.run("sync")
    assert Exit.OK == last.code, (last, kills)
    left = Footprint.of(runner.world) - before
    assert (1, 1) == (left.certificates, left.qiniu_uploads), kills
    assert left.orders <= 1 + unanswered, kills
    assert 1 == len(runner.fingerprints(name)), kills
    assert runner.world.qiniu.bound(name) is not None, kills
    assert not [one for one in challenges(runner.world) if name in one], kills
    checked = runner.run("state", "check")
    assert Exit.OK == checked.code, (checked, kills)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Service]:
    with S3Service("access", "secret/+key") as started:
        yield started


NewRunner = Callable[[], tuple[Runner, str]]


@pytest.fixture(params=["kodo", pytest.param("s3", marks=thorough)])
def new_runner(
    request: pytest.FixtureRequest,
    world: World,
    tmp_path: Path,
    new_name: Callable[[], str],
    s3: S3Service,
) -> NewRunner:
    """Return what makes a runner with an empty bucket, and a name that it is to serve."""

    def made() -> tuple[Runner, str]:
        name = new_name()
        folder = tmp_path / name
        folder.mkdir()
        world.add_http_domain(name)
        tables = certificate(name)
        if request.param == "s3":
            return S3Runner(world, folder, tables, s3), name
        return Runner(world, folder, tables), name

    return made


def requests_of_a_run(new_runner: NewRunner) -> int:
    """Return how many requests a run makes that is not killed."""
    runner, _ = new_runner()
    return runner.killed_after(0, "sync")


@pytest.mark.timeout(1200)
def test_killed_after_every_request(new_runner: NewRunner) -> None:
    """After each request, of the bucket's too, before its answer is seen."""
    count = requests_of_a_run(new_runner)
    assert count > MOST_FOR_ONE
    for position in spread(range(1, count + 1), 9):
        goes_on_after_kills(*new_runner(), [position])


SHARES = 10


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "share", [0, *(pytest.param(each, marks=thorough) for each in range(1, SHARES))]
)
def test_killed_several_times_in_a_row(new_runner: NewRunner, share: int) -> None:
    """Three hundred kills in all at each of the services, each on another empty machine."""
    seed = f"{share}/{os.urandom(4).hex()}"
    moments = random.Random(seed)  # noqa: S311 - when a test kills is no secret
    count = requests_of_a_run(new_runner)
    for _ in range(10 if THOROUGH else 3):
        kills = [moments.randint(1, count) for _ in range(3)]
        goes_on_after_kills(*new_runner(), kills)
