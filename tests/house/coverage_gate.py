"""A pytest plugin that fails the run if the coverage of an important room is too low.

Loaded by `scripts/test --thorough` (`-p tests.house.coverage_gate`), after pytest-cov has combined
the measurements of the workers and of the processes that tests start.
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
    """The coverage of a room in percent: of lines and branches, and of branches alone."""

    room: str
    files: int
    overall: float
    branches: float

    @property
    def is_enough(self) -> bool:
        """Whether the room has files, and both shares reach the room's minimum."""
        return self.files > 0 and min(self.overall, self.branches) >= LEAST[self.room]


WELL_COVERED = (
    *("core", "reconcile", "adapters/acme", "adapters/aliyun", "adapters/cloudflare"),
    "adapters/certspotter",
    *("adapters/dnspod", "adapters/acme_dns", "adapters/lexicon", "adapters/rfc2136"),
    "adapters/tencentcloud",
    *("adapters/cdn", "adapters/qiniu"),
)
LEAST = {**dict.fromkeys(WELL_COVERED, 95), "": 85}
"""The minimum by room; the empty name means everything."""


def share(covered: int, total: int) -> float:
    """Return a share in percent; an empty total counts as covered."""
    return 100 * covered / total if total else 100


def measure(room: str, files: dict[str, Any]) -> Measured:
    summaries = [
        file["summary"] for path, file in files.items() if Path(PACKAGE, room) in Path(path).parents
    ]

    def total(*fields: str) -> int:
        return sum(summary[field] for summary in summaries for field in fields)

    overall = share(
        total("covered_lines", "covered_branches"), total("num_statements", "num_branches")
    )
    branches = share(total("covered_branches"), total("num_branches"))
    return Measured(room, len(summaries), overall, branches)


def read_report(data: coverage.Coverage) -> dict[str, Any]:
    """Return the `files` part of coverage's JSON report, with paths relative to the checkout.

    Tests also run copies of the sources elsewhere, which are gone by now.
    """
    with tempfile.TemporaryDirectory() as folder:
        outfile = Path(folder) / "coverage.json"
        data.json_report(outfile=str(outfile), include=[f"{PACKAGE}/*"])
        files: dict[str, Any] = json.loads(outfile.read_text())["files"]
    # The report stays in a database in memory: Python 3.13 warns if the database is left open.
    data.get_data().close(force=True)
    return files


def as_table(rows: Iterable[Measured]) -> Generator[str]:
    """Yield a line for each threshold, for the terminal."""
    for row in rows:
        verdict = "ok" if row.is_enough else f"BELOW {LEAST[row.room]} %"
        yield (
            f"{row.room or 'everything':<19} {row.files:>3} files   lines and branches "
            f"{row.overall:5.1f} %   branches {row.branches:5.1f} %   {verdict}"
        )


class CoverageGate:
    """Measures after all tests, and counts each room below its threshold as a failure."""

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
        """Print the measurements above pytest's last line."""
        terminalreporter.section("coverage of the rooms")
        for line in as_table(self.rows):
            terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Register the gate once, in the process that collects the workers' results."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(CoverageGate(), "coverage-gate")
