"""The requests that a certificate of two names costs the CA, the DNS service and the CDN.

Measured are its first issue, a renewal, and runs without work. The command runs as usual, against
Pebble and the sandbox's DNSPod and Qiniu, with immediate changes. The CA's requests are counted
from its log. The benchmark fails if a limit is exceeded.

Usage: `python -m benchmarks.run_cost`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from certferry.adapters.state.connect import connect
from certferry_sandbox.world import Pace, World

NAME = "img.example.com"
TIMEOUT = 120  # seconds for a run
_CALL = "-> calling handler()"
_AT_ONCE = timedelta(0)

CERTIFICATE = f"""
[[certificates]]
name = "img"
names = ["{NAME}", "*.{NAME}"]
dns = "dnspod"

[[certificates.deploy]]
to = "qiniu"
domains = ["{NAME}"]
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Requests to the CA, to the DNS service's API and to the CDN's API; and questions to name
    servers and resolvers, the CA's questions included.
    """

    ca: int
    dns: int
    cdn: int
    queries: int = 0

    def exceeds(self, most: Cost) -> bool:
        """Return whether any service gets more requests."""
        return self.ca > most.ca or self.dns > most.dns or self.cdn > most.cdn

    def __sub__(self, other: Cost) -> Cost:
        """Return the requests since then."""
        return Cost(
            self.ca - other.ca,
            self.dns - other.dns,
            self.cdn - other.cdn,
            self.queries - other.queries,
        )


MOST = {
    "first issue": Cost(18, 5, 10),
    "renewal": Cost(17, 5, 10),
    # The directory, and the renewal information. A run reads the directory once.
    "nothing due, first run of half a day": Cost(2, 0, 2),
    "nothing due, any other run": Cost(0, 0, 2),
}
"""The highest numbers. A slow CA is asked again, so a run may take a request or two less."""


class Runs:
    """A machine with a single certificate, in a world that counts requests."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._folder = folder
        self._config = world.write_files(folder, CERTIFICATE)

    def cost(self, *options: str) -> Cost:
        """Return the cost of a run, which must succeed."""
        before = self._spent()
        command = [
            sys.executable,
            "-m",
            "certferry",
            "-q",
            "--config",
            str(self._config),
            "sync",
            *options,
        ]
        environment = {**os.environ, **self._world.environment, "HOME": str(self._folder)}
        subprocess.run(command, env=environment, check=True, timeout=TIMEOUT)
        return self._spent() - before

    def pass_half_a_day(self) -> None:
        """Let the next run ask the CA for the moment of renewal, as in the next half of a day."""
        place, key = self._folder / "state.db", self._folder / "secret.key"
        with closing(connect(place, key)) as state:
            [lineage] = state.lineages()
            [version, *_] = state.versions(lineage)
            past = version.certificate.not_before
            state.save_renewal_info(lineage, version.fingerprint, version.window, past)

    def _spent(self) -> Cost:
        world = self._world
        servers = (*world.dns.servers, world.dns.resolver)
        return Cost(
            world.pebble.log.count(_CALL),
            len(world.dnspod.calls()),
            sum(len(service.journal) for service in world.qiniu.services),
            sum(len(server.queries) for server in servers),
        )


def measure() -> dict[str, Cost]:
    """Return the cost of each kind of run."""
    pace = Pace((0.0, 0.0), _AT_ONCE, (_AT_ONCE, _AT_ONCE))
    with World(pace=pace, nonce_reject=0) as world, tempfile.TemporaryDirectory() as folder:
        world.add_http_domain(NAME)
        runs = Runs(world, Path(folder))
        first, nothing = runs.cost(), runs.cost()
        runs.pass_half_a_day()
        next_half_day, renewal = runs.cost(), runs.cost("--renew", "--all")
    return dict(zip(MOST, (first, renewal, next_half_day, nothing), strict=True))


def missed(costs: Mapping[str, Cost]) -> list[str]:
    """Return the runs that cost more than allowed."""
    return [kind_of_run for kind_of_run, most in MOST.items() if costs[kind_of_run].exceeds(most)]


def main() -> None:
    """Print the counts; exit with 1 if a limit is exceeded."""
    costs = measure()
    print("| a run | CA | DNS service | CDN | DNS queries |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind_of_run, cost in costs.items():
        print(f"| {kind_of_run} | {cost.ca} | {cost.dns} | {cost.cdn} | {cost.queries} |")
    if missed(costs):
        raise SystemExit(f"more than promised: {', '.join(missed(costs))}")


if __name__ == "__main__":
    main()
