"""Processor time of whole commands beside an older revision of certferry, by turns.

The program checks out the older revision beside this one, and sets up 200 certificates for each
revision, with the revision's own code and state, on one sandbox. Every round then runs each command
once with each revision. `check` may take 0.65 of 1515dfe4. A run with nothing to do observes every
edge with a TLS handshake, and most of its time is spent in OpenSSL and the kernel.

Usage: `python -m benchmarks.revisions [REVISION] [--certificates N] [--rounds N]`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.check import taken
from certferry_sandbox.world import ZONE, World
from tests.acceptance.host import certificate

HERE = Path(__file__).parent.parent

BEFORE = "1515dfe4"
"""The last revision with dataclasses as values, and with 425 modules imported by a command."""

LIMIT = 0.65
"""The highest ratio of processor time for `check`."""

COMMANDS = {
    "help": ["--help"],
    "check": ["check"],
    "scheduled run": ["-q", "sync", "--scheduled"],
    "run": ["-q", "sync"],
}


@dataclass(frozen=True, eq=False)
class Revision:
    """A revision of certferry, with a configuration and a state of its own."""

    #: The root of the checkout.
    root: Path
    #: The directory of the configuration and the state.
    host: Path
    #: The environment of the revision's processes.
    environment: dict[str, str]

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the interpreter's arguments for a command of certferry."""
        return ["-m", "certferry", "--config", str(self.host / "certferry.toml"), *arguments]


def prepare(world: World, root: Path, host: Path, count: int) -> Revision:
    """Set up `count` certificates, and run `sync` twice, so that no work is left."""
    host.mkdir()
    domains = [f"{host.name}{number}.{ZONE}" for number in range(count)]
    for domain in domains:
        world.add_http_domain(domain)
    config = world.write_files(host, "".join(map(certificate, domains)))
    # The sandbox's DNSPod has no limit on requests, and certferry's usual pace takes minutes.
    pace = "[accounts.dnspod]\nrequests_per_second = 50"
    config.write_text(config.read_text().replace("[accounts.dnspod]", pace))
    path = os.pathsep.join((f"{root}/src", f"{root}/sandbox/src"))
    variables = {**os.environ, **world.environment, "PYTHONPATH": path}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    revision = Revision(root, host, variables)
    for arguments in (["-q", "sync"], ["-q", "sync"]):
        subprocess.run(
            [sys.executable, *revision.command(arguments)], env=variables, check=True, cwd=host
        )
    return revision


def main() -> int:
    """Print the medians and the ratios, and say whether the limits are kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("revision", nargs="?", default=BEFORE)
    parser.add_argument("--certificates", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    exceeded = False
    with tempfile.TemporaryDirectory() as directory, World() as world:
        older = Path(directory, "older")
        subprocess.run(["git", "clone", "-q", "--no-checkout", HERE, older], check=True)
        subprocess.run(["git", "-C", older, "checkout", "-q", arguments.revision], check=True)
        before, now = (
            prepare(world, root, Path(directory, name), arguments.certificates)
            for root, name in ((older, "before"), (HERE, "now"))
        )
        for name, words in COMMANDS.items():
            times: dict[Revision, list[float]] = {before: [], now: []}
            for _ in range(arguments.rounds):
                for revision, measured in times.items():
                    measured.append(taken(revision.command(words), revision.environment).processor)
            of_before, of_now = (statistics.median(measured) for measured in times.values())
            ratio = of_now / of_before
            print(f"{name}: {of_now:.3f} s of the processor, {ratio:.2f} x {arguments.revision}")
            exceeded |= name == "check" and arguments.revision == BEFORE and ratio > LIMIT
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())
