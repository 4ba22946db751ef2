"""How long `certferry --version` and `--help` take, as multiples of an empty Python program.

The empty program is timed in the same rounds, so that the ratios say something about certferry and
not about the machine. Usage: `python benchmarks/startup.py [--rounds N]`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

EMPTY = "python -c pass"
PROGRAMS = {
    EMPTY: ["-c", "pass"],
    "certferry --version": ["-m", "certferry", "--version"],
    "certferry --help": ["-m", "certferry", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Time one fresh interpreter, from start to exit."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def measure(rounds: int) -> dict[str, list[float]]:
    """Time every program once per round, so that a busy moment touches all of them."""
    for arguments in PROGRAMS.values():  # the first run compiles to bytecode
        seconds(arguments)
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds):
        for name, arguments in PROGRAMS.items():
            times[name].append(seconds(arguments))
    return times


def main() -> None:
    """Print one line per program: median, and the median of the ratios within a round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    times = measure(parser.parse_args().rounds)

    for name, measured in times.items():
        ratios = [one / empty for one, empty in zip(measured, times[EMPTY], strict=True)]
        print(
            f"{name:<22} {1000 * statistics.median(measured):6.1f} ms   "
            f"{statistics.median(ratios):5.2f} x"
        )


if __name__ == "__main__":
    main()
