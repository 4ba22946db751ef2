"""Killed after every request in turn, the next run finishes the job."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry_sandbox.world import Pace, World
from tests.support.tiers import sampled, thorough

RUNNER = Path(__file__).with_name("killed.py")
SHARES = 4
"""The positions are shared out to so many tests, which run in parallel."""
RANDOM_KILLS, IN_A_ROW, RANDOM_SHARES = 300, 5, 15
IN_THE_GATE = 3
"""Of the first share: the first position, one in the middle, one at the end."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A world in which nothing is slower than it must be, and a request is made once."""
    with World(pace=Pace(nameserver_lags=(0.0, 0.0)), nonce_reject=0) as started:
        yield started


class Host:
    """A machine of its own in the world: one lineage, one domain, one state."""

    def __init__(self, world: World, directory: Path, name: str) -> None:
        self.world = world
        self.domain = f"{name}.example.com"
        self.directory = directory / name
        self.directory.mkdir()
        self.log = self.directory / "requests.log"
        world.add_http_domain(self.domain)
        self.config = world.write_files(self.directory, certificates="")
        quick = self.config.read_text().replace(
            "[accounts.dnspod]", "[accounts.dnspod]\nrequests_per_second = 50"
        )
        self.config.write_text(
            f'{quick}\n[[certificates]]\nnames = ["{self.domain}"]\ndns = "dnspod"\n'
            f'[[certificates.deploy]]\nto = "qiniu"\ndomains = ["{self.domain}"]\n'
        )

    def sync(self, kill_after: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `certferry sync`, killed after so many requests; 0 lets it live."""
        return subprocess.run(
            self._command(kill_after),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _command(self, kill_after: int) -> list[str]:
        runner = [sys.executable, str(RUNNER), str(kill_after), str(self.log)]
        return [*runner, "--config", str(self.config), "sync", "--json"]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.world.environment}

    def sync_killed_after(self, seconds: float) -> None:
        """Run `certferry sync`, and kill it when this time is over, unless it has ended."""
        with subprocess.Popen(
            self._command(0), env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()

    def requests(self, ending: str) -> int:
        """Count the requests so far whose URL ends so."""
        return sum(ending in line for line in self.log.read_text().splitlines())

    @property
    def uploads(self) -> list[str]:
        """The names of the uploaded certificates of this host's lineage."""
        mark = f"certferry-{self.domain}"[: len("certferry-") + 24]
        return [c.name for c in self.world.qiniu.certificates.stored() if c.name.startswith(mark)]

    @property
    def challenges(self) -> list[str]:
        """The challenge values left in DNS."""
        records = self.world.zones.records(name=f"_acme-challenge.{self.domain}", rtype="TXT")
        return [record.value for record in records]


@pytest.mark.parametrize(
    "share", [0, *(pytest.param(each, marks=thorough) for each in range(1, SHARES))]
)
def test_killed_after_every_request(world: World, tmp_path: Path, share: int) -> None:
    """Wherever it was killed, the next run ends with one certificate, one upload, no record."""
    calm = Host(world, tmp_path, f"calm{share}")
    first = calm.sync()
    assert 0 == first.returncode, first.stderr
    requests = len(calm.log.read_text().splitlines())
    assert requests > 20

    for position in sampled(range(1 + share, requests + 1, SHARES), IN_THE_GATE):
        host = Host(world, tmp_path, f"k{position}")
        killed = host.sync(kill_after=position)
        assert killed.returncode in {-signal.SIGKILL, 0}, killed.stderr

        finished = host.sync()

        assert 0 == finished.returncode, (position, finished.stdout, finished.stderr)
        report = json.loads(finished.stdout)
        assert report["ok"], position
        assert 1 == host.requests("/finalize-order/"), position
        assert 1 == len(host.uploads), position
        assert [] == host.challenges, position
        served = world.qiniu.bound(host.domain)
        assert served is not None, position


@thorough
@pytest.mark.parametrize("share", range(RANDOM_SHARES))
def test_killed_at_random_moments(world: World, tmp_path: Path, share: int) -> None:
    """Three hundred kills in all, several in a row: the next run that may live ends with one upload
    and no record. What went wrong can be tried again with the seed that is told.
    """
    calm = Host(world, tmp_path, f"unhurried{share}")
    begun = time.monotonic()
    assert 0 == calm.sync().returncode
    usual = time.monotonic() - begun

    for number in range(RANDOM_KILLS // RANDOM_SHARES // IN_A_ROW):
        seed = f"{share}/{number}/{os.urandom(4).hex()}"
        moments = random.Random(seed)  # noqa: S311 - when a test kills is no secret
        host = Host(world, tmp_path, f"r{share}-{number}")
        for _ in range(IN_A_ROW):
            host.sync_killed_after(moments.uniform(0, usual))

        finished = host.sync()

        assert 0 == finished.returncode, (seed, finished.stdout, finished.stderr)
        assert json.loads(finished.stdout)["ok"], seed
        assert 1 == len(host.uploads), seed
        assert [] == host.challenges, seed
        assert world.qiniu.bound(host.domain) is not None, seed
