"""Every library is declared, and its reason is written down."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from typing import Any

from tests.house.tree import ROOT, modules, parse

RECORD = ROOT / "docs" / "decisions" / "0001-dependencies.md"
FLOORS = ROOT / "docs" / "decisions" / "0020-floors-and-hashes.md"


@cache
def project() -> dict[str, Any]:
    """Give the `[project]` table."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table: dict[str, Any] = tomllib.loads(text)["project"]
    return table


def names(requirements: list[str]) -> set[str]:
    """Give the distributions' names, without versions."""
    return {
        re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower() for requirement in requirements
    }


@cache
def imported() -> frozenset[str]:
    """Give the top-level names that production modules import from outside the standard library."""
    found: set[str] = set()
    for path in modules():
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    return frozenset(found - sys.stdlib_module_names - {"certferry"})


def test_every_library_at_run_time_has_its_reason_and_no_other() -> None:
    """The first table of the decision record lists exactly the runtime dependencies."""
    section = RECORD.read_text(encoding="utf-8").partition("### At run time")[2]
    table = section.partition("\n### ")[0]

    recorded = set(re.findall(r"^\| `([\w.-]+)` \|", table, re.MULTILINE))

    assert names(project()["dependencies"]) == recorded


def test_every_other_library_is_named_too() -> None:
    """Extras and development tools are named in the decision record."""
    record = RECORD.read_text(encoding="utf-8")
    extras = project()["optional-dependencies"]

    for extra, requirements in extras.items():
        missing = {name for name in names(requirements) if f"`{name}`" not in record}
        assert set() == missing, f"extra {extra}"


def test_what_is_imported_is_declared() -> None:
    """Production code imports no library that only comes along with another one."""
    distributions = packages_distributions()
    extras = project()["optional-dependencies"]
    used = [extras[extra] for extra in ("apprise", "lexicon", "sandbox", "keyring", "testing")]
    declared = names([*project()["dependencies"], *itertools.chain(*used)])

    undeclared = {
        module
        for module in imported()
        if not declared & {name.lower() for name in distributions.get(module, [module])}
    }

    assert set() == undeclared


def test_what_is_declared_is_imported() -> None:
    """No library is installed for nothing."""
    distributions = packages_distributions()
    used = {name.lower() for module in imported() for name in distributions.get(module, [module])}

    assert set() == names(project()["dependencies"]) - used


def test_every_floor_has_its_reason() -> None:
    """The decision record says for each library from which version on, and why."""
    recorded = re.findall(
        r"^\| `([\w.-]+)` \| ([\d.]+) \| \S", FLOORS.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert sorted(project()["dependencies"]) == sorted(f"{name}>={at}" for name, at in recorded)
