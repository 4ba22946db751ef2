"""Imports go one way, and the check that says so can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import PACKAGE, ROOT
from tests.support.tiers import thorough

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint_imports(source: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of pyproject.toml on a copy of the package."""
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", ROOT / "pyproject.toml"],
        env=os.environ | {"PYTHONPATH": str(source), "NO_COLOR": "1", "COLUMNS": "200"},
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give a copy of `src` that a test may break."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "certferry", ignore=ignored)
    return tmp_path


@thorough
def test_every_room_imports_only_downwards(source: Path) -> None:
    """All import contracts hold: in the gate, `scripts/check` asks the same."""
    result = lint_imports(source)

    assert 0 == result.returncode, result.stdout
    assert " 0 broken." in result.stdout


@pytest.mark.parametrize(
    ("room", "line", "complaint"),
    [
        ("core", "import os", "certferry.core is not allowed to import os"),
        ("ports", "import certferry.wiring", "certferry.ports is not allowed to import"),
        ("cli", "import certferry.adapters.dns", "Illegal imports of protected package"),
        (
            "reconcile",
            "import requests",
            "certferry.reconcile is not allowed to import requests",
        ),
        ("adapters/acme", "import certferry.adapters.qiniu", "adapters.acme is not allowed"),
        ("adapters/http", "import certferry.adapters.dns", "adapters.http is not allowed"),
        (
            "adapters/qiniu",
            "import certferry.adapters.dnspod",
            "Illegal imports of protected package",
        ),
        ("wiring", "import certferry_sandbox", "certferry is not allowed to import"),
        ("helpers", "", "certferry.helpers"),
    ],
)
def test_an_import_in_the_wrong_direction_is_reported(
    source: Path, room: str, line: str, complaint: str
) -> None:
    """The contracts bite: one wrong line in a room fails the check, and is named."""
    folder = source / "certferry" / room
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").touch()
    (folder / "stray.py").write_text(f'"""A stray module."""\n{line}\n', encoding="utf-8")

    result = lint_imports(source)

    assert 1 == result.returncode, result.stdout
    assert complaint in result.stdout
