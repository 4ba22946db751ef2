"""The time of `certferry check` for many certificates, beside an empty Python program.

Both programs are timed in the same rounds. The benchmark fails if `check` takes a second or more of
the processor; a busy machine makes the time by the clock longer.

Usage: `python -m benchmarks.check [--certificates N] [--rounds N]`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certferry.adapters.state.connect import connect
from certferry.core.assessment.sightings import Sighting
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle

LONGEST = 1.0
"""Seconds: a monitor checks many hosts every five minutes."""

ACCOUNTS = """\
[state]
url = "sqlite:///state.db"
[accounts.qiniu]
access_key = "env:AK"
secret_key = "env:SK"
[accounts.dnspod]
id = "env:ID"
token = "env:TOKEN"
"""


def furnish(folder: Path, count: int) -> Path:
    """Write a configuration, and a state in which every certificate is served."""
    names = [f"img{number}.example.com" for number in range(count)]
    tables = [
        f'[[certificates]]\nnames = ["{name}"]\ndns = "dnspod"\n'
        f'[[certificates.deploy]]\nto = "qiniu"\ndomains = ["{name}"]\n'
        for name in names
    ]
    config = folder / "certferry.toml"
    config.write_text(ACCOUNTS + "".join(tables))
    config.chmod(0o600)
    now = datetime.now(UTC)
    sightings = []
    with closing(connect(folder / "state.db", folder / "secret.key")) as state:
        bundle = make_bundle(*names[:1], not_before=now - timedelta(days=1))
        for number, name in enumerate(names):
            leaf = replace(bundle.certificate, names=(name,), fingerprint=f"{number:064x}")
            lease = state.acquire(name, now)
            state.save_version(lease, replace(bundle, certificate=leaf), now)
            state.release(lease)
            sightings.append(
                Sighting(name, "qiniu", name, served=True, since=now, fingerprint=leaf.fingerprint)
            )
        state.update_sightings(lambda _: tuple(sightings))
        state.save_run(now, succeeded=True)
    return config


@dataclass(frozen=True, order=True)
class Taken:
    """The seconds of the processor for a program, and the seconds by the clock."""

    processor: float
    clock: float


def taken(arguments: list[str], environment: Mapping[str, str] | None = None) -> Taken:
    """Time a fresh interpreter, from start to exit. Raises `CalledProcessError` unless the exit
    code is 0.
    """
    before, started = os.times(), time.perf_counter()
    command = [sys.executable, *arguments]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)
    after, ended = os.times(), time.perf_counter()
    user = after.children_user - before.children_user
    return Taken(user + after.children_system - before.children_system, ended - started)


def main() -> int:
    """Print the best round and its ratio, and return whether the limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--certificates", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        config = furnish(Path(directory), arguments.certificates)
        check = ["-m", "certferry", "--config", str(config), "check"]
        taken(check)  # the first run compiles to bytecode
        rounds = [(taken(check), taken(["-c", "pass"])) for _ in range(arguments.rounds)]
    best = min(of_check for of_check, _ in rounds)
    clock = min(of_check.clock for of_check, _ in rounds)
    ratio = clock / min(empty.clock for _, empty in rounds)
    print(
        f"check, {arguments.certificates} certificates: {1000 * best.processor:6.1f} ms of the"
        f" processor, {1000 * clock:6.1f} ms by the clock, {ratio:5.1f} x an empty Python program"
    )
    return int(best.processor >= LONGEST)


if __name__ == "__main__":
    sys.exit(main())
