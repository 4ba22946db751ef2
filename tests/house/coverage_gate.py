"""A pytest plugin: fails the run when a room that must not break is not covered well enough.

Loaded by `scripts/test --thorough` (`-p tests.house.coverage_gate`), after pytest-cov has
combined what the workers and the processes started by tests have measured.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest

PACKAGE = "src/certferry"


@dataclass(frozen=True)
class Measured:
    """What a room's files reached, in percent: of lines and branches, and of branches alone."""

    room: str
    files: int
    overall: float
    branches: float

    @property
    def is_enough(self) -> bool:
        """Whether there are files at all, and both shares reach what the room must reach."""
        return self.files > 0 and min(self.overall, self.branches) >= LEAST[self.room]


WELL_COVERED = (
    *("core", "reconcile", "adapters/acme", "adapters/alidns", "adapters/cloudflare"),
    *("adapters/dnspod", "adapters/acme_dns", "adapters/lexicon", "adapters/rfc2136"),
    *("adapters/cdn", "adapters/qiniu"),
)
LEAST = {**dict.fromkeys(WELL_COVERED, 95), "": 85}
"""The least share by room; without a name, that of everything."""


def share(covered: int, total: int) -> float:
    """Return a share in percent; of nothing, everything is covered."""
    return 100 * covered / total if total else 100


def measure(room: str, files: dict[str, Any]) -> Measured:
    found = [
        one["summary"] for path, one in files.items() if Path(PACKAGE, room) in Path(path).parents
    ]

    def total(*fields: str) -> int:
        return sum(summary[field] for summary in found for field in fields)

    both = share(
        total("covered_lines", "covered_branches"), total("num_statements", "num_branches")
    )
    branches = share(total("covered_branches"), total("num_branches"))
    return Measured(room, len(found), both, branches)


def read_report(data: coverage.Coverage) -> dict[str, Any]:
    """Return the `files` part of coverage's JSON report; paths are relative to the checkout. Tests
    run copies of it elsewhere as well, whose sources are gone by now.
    """
    with tempfile.TemporaryDirectory() as folder:
        outfile = Path(folder) / "coverage.json"
        data.json_report(outfile=str(outfile), include=[f"{PACKAGE}/*"])
        files: dict[str, Any] = json.loads(outfile.read_text())["files"]
    # A database in memory has what was reported: Python 3.13 warns of one that is left open.
    data.get_data().close(force=True)
    return files


def as_table(rows: Iterable[Measured]) -> Generator[str]:
    """One line per threshold, for the terminal."""
    for row in rows:
        verdict = "ok" if row.is_enough else f"BELOW {LEAST[row.room]} %"
        yield (
            f"{row.room or 'everything':<19} {row.files:>3} files   lines and branches "
            f"{row.overall:5.1f} %   branches {row.branches:5.1f} %   {verdict}"
        )


class CoverageGate:
    """Measures when all tests have run, and counts as a failure what is below its threshold."""

    rows: tuple[Measured, ...] = ()

    # The outermost wrapper: pytest-cov's own, further in, has combined and saved by then.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Measure after the last test."""
        result = yield
        data = coverage.Coverage()
        data.load()
        files = read_report(data)
        self.rows = tuple(measure(room, files) for room in LEAST)
        session.testsfailed += sum(not row.is_enough for row in self.rows)
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show what was measured, above pytest's last line."""
        terminalreporter.section("coverage of the rooms")
        for line in as_table(self.rows):
            terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Stand at the gate once, in the process that gathers the workers' results."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(CoverageGate(), "coverage-gate")
