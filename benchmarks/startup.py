"""The time of `certferry --version` and `--help`, as multiples of an empty Python program.

The empty program is timed in the same rounds, by the same interpreter, so that the ratios describe
certferry instead of the machine.

Usage: `python benchmarks/startup.py`, with `--rounds N`, and `--installed LAUNCHER`, such as
`~/.local/bin/certferry`.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

EMPTY = "python -c pass"


def programs(launcher: Path | None) -> dict[str, list[str]]:
    """Return the timed programs, of this environment or of an installed package."""
    python = sys.executable if launcher is None else interpreter_of(launcher)
    certferry = [python, "-m", "certferry"] if launcher is None else [str(launcher)]
    return {
        EMPTY: [python, "-c", "pass"],
        "certferry --version": [*certferry, "--version"],
        "certferry --help": [*certferry, "--help"],
    }


def interpreter_of(launcher: Path) -> str:
    """Return the Python in the first lines of a launcher; a long path follows a line with
    `/bin/sh`.
    """
    head = launcher.read_text(encoding="utf-8", errors="replace")[:1000]
    path = re.search(r"/[^'\"\n]*?python[\d.]*", head)
    if path is None:
        raise SystemExit(f"{launcher} names no Python")
    return path[0]


def seconds(command: list[str]) -> float:
    """Time a fresh process, from start to exit."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def measure(timed: Mapping[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Time every program once per round, so that a busy moment affects all of them."""
    for command in timed.values():  # the first run compiles to bytecode
        seconds(command)
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, command in timed.items():
            times[name].append(seconds(command))
    return times


def main() -> None:
    """Print a line per program: its median, and the median and quarters of the ratios within a
    round.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--installed", type=Path, metavar="LAUNCHER")
    arguments = parser.parse_args()
    times = measure(programs(arguments.installed), arguments.rounds)

    for name, measured in times.items():
        ratios = [
            of_program / empty for of_program, empty in zip(measured, times[EMPTY], strict=True)
        ]
        first, middle, third = statistics.quantiles(ratios, n=4)
        print(
            f"{name:<22} {1000 * statistics.median(measured):6.1f} ms   "
            f"{middle:5.2f} x   ({first:.2f}-{third:.2f})"
        )


if __name__ == "__main__":
    main()
