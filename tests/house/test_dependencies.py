"""Every library is declared, and its reason is written down."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from certferry import __version__
from tests.house.tree import PACKAGE, ROOT, SANDBOX, modules, parse

RECORD = ROOT / "docs" / "decisions" / "0001-dependencies.md"
SANDBOX_FOLDER = ROOT / "sandbox"
FLOORS = ROOT / "docs" / "decisions" / "0020-floors-and-hashes.md"


@cache
def project(folder: Path = ROOT) -> dict[str, Any]:
    """Return the `[project]` table of a distribution."""
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    table: dict[str, Any] = tomllib.loads(text)["project"]
    return table


def names(requirements: list[str]) -> set[str]:
    """Give the distributions' names, without versions."""
    return {
        re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower() for requirement in requirements
    }


@cache
def imported(package: Path = PACKAGE) -> frozenset[str]:
    """Return the top-level names that a package imports from outside the standard library."""
    found: set[str] = set()
    for path in modules(package):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    return frozenset(found - sys.stdlib_module_names - {package.name})


def test_every_library_at_run_time_has_its_reason_and_no_other() -> None:
    """The first table of the decision record lists exactly the runtime dependencies."""
    section = RECORD.read_text(encoding="utf-8").partition("### At run time")[2]
    table = section.partition("\n### ")[0]

    recorded = set(re.findall(r"^\| `([\w.-]+)` \|", table, re.MULTILINE))

    assert names(project()["dependencies"]) == recorded


def test_every_other_library_is_named_too() -> None:
    """Extras, development tools and the sandbox's are named in the decision record."""
    record = RECORD.read_text(encoding="utf-8")
    sandbox = project(SANDBOX_FOLDER)
    extras = project()["optional-dependencies"] | sandbox["optional-dependencies"]
    extras["the sandbox"] = sandbox["dependencies"]

    for extra, requirements in extras.items():
        missing = {name for name in names(requirements) if f"`{name}`" not in record}
        assert set() == missing, f"extra {extra}"


def test_what_is_imported_is_declared() -> None:
    """Neither distribution imports a library that only comes along with another one; certferry
    imports nothing of the sandbox.
    """
    ours, sandbox = project(), project(SANDBOX_FOLDER)
    extras = [ours["optional-dependencies"][extra] for extra in ("apprise", "lexicon", "keyring")]
    declared = [*ours["dependencies"], *itertools.chain(*extras)]
    practice = [*sandbox["dependencies"], *sandbox["optional-dependencies"]["testing"]]

    assert set() == undeclared(PACKAGE, declared)
    assert set() == undeclared(SANDBOX, [*declared, *practice])


def undeclared(package: Path, requirements: list[str]) -> set[str]:
    """Return what a package imports that is in no distribution of these."""
    distributions, declared = packages_distributions(), names(requirements)
    return {
        module
        for module in imported(package)
        if not declared & {name.lower() for name in distributions.get(module, [module])}
    }


def test_the_sandbox_is_for_the_certferry_of_its_checkout_only() -> None:
    """A stand-in of another version is a mistake that no message would show."""
    assert f"certferry=={__version__}" == project(SANDBOX_FOLDER)["dependencies"][0]


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
