"""The coverage gate can fail."""

from __future__ import annotations

from typing import Any

import pytest

from tests.house.coverage_gate import THRESHOLDS, Threshold, as_table, measure
from tests.house.tree import PACKAGE, ROOT

CORE = Threshold("core", ("core/*",), 95)


def covered(lines: int, branches: int) -> dict[str, Any]:
    """Give the summary of a file with a hundred lines and a hundred branches."""
    return {
        "summary": {
            "covered_lines": lines,
            "num_statements": 100,
            "covered_branches": branches,
            "num_branches": 100,
        }
    }


@pytest.mark.parametrize(
    ("files", "enough"),
    [
        ({"src/certferry/core/planning/plan.py": covered(100, 100)}, True),
        ({"src/certferry/core/planning/plan.py": covered(95, 95)}, True),
        ({"src/certferry/core/planning/plan.py": covered(100, 94)}, False),
        ({"src/certferry/core/planning/plan.py": covered(94, 95)}, False),
        ({"src/certferry/cli/plan.py": covered(100, 100)}, False),
        ({}, False),
    ],
)
def test_a_room_is_measured_by_lines_and_by_branches(files: dict[str, Any], enough: object) -> None:
    """Both shares must reach the threshold, and a room without files is not covered."""
    assert enough is measure(CORE, files).is_enough


def test_files_of_a_room_add_up() -> None:
    """A room's share is that of all its files together, in sub-folders too."""
    files = {
        "src/certferry/core/planning/plan.py": covered(100, 100),
        "src/certferry/core/rules/due.py": covered(90, 80),
    }

    measured = measure(CORE, files)

    assert (2, 92.5, 90.0) == (measured.files, measured.overall, measured.branches)
    assert ["core", "BELOW 95 %"] == [
        part for line in as_table([measured]) for part in (line[:4], line[-10:])
    ]


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=lambda threshold: threshold.name)
def test_every_threshold_speaks_of_files_that_exist(threshold: Threshold) -> None:
    """A renamed room does not slip through the gate."""
    patterns = [f"{PACKAGE.relative_to(ROOT)}/{pattern}" for pattern in threshold.patterns]

    assert all(list(ROOT.glob(pattern)) for pattern in patterns)
