"""The checks of the gate on the sources: rules, directions, libraries, coverage."""

from __future__ import annotations

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import coverage
import pytest

from certferry import __version__
from tests.house import source_rules
from tests.house.coverage_gate import LEAST, as_table, measure, read_report
from tests.house.source_rules import Breach, Rule
from tests.house.tree import PACKAGE, ROOT, SANDBOX, committed_files, modules, parse, relative

# --- The rules of `source_rules` can fail; further rules for every file


S = "\N{SECTION SIGN}"
QINIU = f"docs/facts/{'qiniu.md'}"
"""An existing page, written in a way that this file cites no page."""

VAGUE = {"base", "common", "helpers", "manager", "misc", "utils"}

# Example paths such as /opt/ssl are fine, and so is acme.sh's home, which operators know.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|farm|home/\w|root/(?!\.acme\.sh))[/\w]")


def literal(tree: ast.Module, text: str) -> Iterator[Breach]:
    """Apply the rule of sentences, without exceptions."""
    return source_rules.literal_sentences(tree, text, frozenset())


@pytest.mark.parametrize(
    ("rule", "source", "refused"),
    [
        (source_rules.docstring, "x = 1", True),
        (source_rules.docstring, '"""A."""', True),
        (source_rules.docstring, '"""What each address serves."""', False),
        (source_rules.described, "class A:\n def b(self): ...", True),
        (source_rules.described, "class A:\n 'One of many.'\n def b(self): ...", True),
        (source_rules.described, "class A:\n 'See `ports.a.Box`.'\n def b(self): ...", False),
        (source_rules.described, "class A:\n def b(self):\n  'Return b.'", False),
        (source_rules.length, "\n" * 601, True),
        (source_rules.length, "\n" * 600, False),
        (source_rules.late_annotations, "def f(): ...", True),
        (source_rules.late_annotations, "x = 1", False),
        (source_rules.late_annotations, "from __future__ import annotations\ndef f(): ...", False),
        (source_rules.exceptions, "x = 1  # noqa", True),
        (source_rules.exceptions, "x = 1  # noqa: S101", True),
        (source_rules.exceptions, "x = 1  # type: ignore", True),
        (source_rules.exceptions, "x = 1  # type: ignore[attr-defined]", True),
        (source_rules.exceptions, "x = 1  # pragma: no cover", True),
        (source_rules.exceptions, "x = 1  # noqa: S101 - the caller has checked", False),
        (source_rules.exceptions, "x = 1  # noqa: SLF001, S101 - there is no public way", False),
        (source_rules.exceptions, "x = 1  # type: ignore[attr]  # josepy has no types", False),
        (source_rules.exceptions, "x = 1  # pragma: no cover - only on other systems", False),
        (source_rules.warnings, "_log.warning('%s: gone', name)", True),
        (source_rules.warnings, "logging.getLogger(__name__).error(f'{name}: gone')", True),
        (source_rules.warnings, "log.log(logging.WARNING, 'gone')", True),
        (source_rules.warnings, "log.exception(words)", True),
        (source_rules.warnings, "log.warning(Text('{name}: gone', name=name))", False),
        (source_rules.warnings, "log.info('%s: gone', name)", False),
        (source_rules.warnings, "self.desk.error('gone')", False),
        (source_rules.plain_words, "# whoever comes next", True),
        (source_rules.plain_words, '"""Nobody is asked."""', True),
        (source_rules.plain_words, "NOBODY = 'nobody@example.com'  # a name", False),
        (source_rules.retired_words, "def tell(x): ...", True),
        (source_rules.retired_words, "WishList = 1", True),
        (source_rules.retired_words, 'def f():\n    """Give a name."""', True),
        (source_rules.retired_words, "x = 1  # a change that is under way", True),
        (source_rules.retired_words, 'def intelligent():\n    """Return a name."""', False),
        (source_rules.properties, "def test_it(): ...", True),
        (source_rules.properties, "class TestIt:\n def test_it(self): ...", True),
        (source_rules.properties, "def prepare(): ...", False),
        (source_rules.vendors, "x = 'Qiniu refused it'", True),
        (source_rules.vendors, "def ask_dnspod(x): ...", True),
        (source_rules.vendors, "from certferry.adapters import cloudflare", True),
        (source_rules.vendors, '"""About 30 days, as Qiniu has it."""', True),
        (source_rules.vendors, '"""About 30 days (docs/facts/qiniu.md §4.6)."""', False),
        (literal, "Text(words)", True),
        (literal, "Text('said', x=words)", False),
    ],
)
def test_a_rule_can_fail(rule: Rule, source: str, refused: object) -> None:
    """Each rule refuses a breach and accepts a good source."""
    assert refused is bool(list(rule(ast.parse(source), source)))


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        (f"# as {QINIU} {S}5.1 has it", False),
        (f"# as {QINIU}\n# {S}5.1 and {S}5.3 to {S}5.7 have it", False),
        (f"# as {QINIU} {S}5.1 and {S}5.99 have it", True),
        (f"# as {QINIU} {S}5.1 and\n# {S}5.99 have it", True),
        (f"# as {QINIU} has it", True),
        (f"# as docs/facts/{'nowhere.md'} {S}1 has it", True),
        (f"# as RFC 8555 {S}99 has it", False),
        (f"# as {S}5.1 has it", True),
        (f'"""As {QINIU} {S}5."""\n# {S}5.1', False),
        (f'"""As {QINIU} {S}5."""\n# {S}5.99', True),
        (f'"""Orders (RFC 8555 {S}7)."""\n# {S}7.4', False),
        (f'"""As {QINIU} {S}5 and RFC 8555 {S}7."""\n# {S}5.1', True),
        (f"# the fact {'sheet'} of Qiniu", True),
        (f"# the production\n# {'sheet'} 1.9", True),
    ],
)
def test_a_citation_leads_to_an_existing_section(source: str, refused: object) -> None:
    """The section belongs to an existing page, or to a standard."""
    assert refused is bool(list(source_rules.citations(ast.parse(source), source)))


def test_a_page_of_facts_cites_itself_and_others(tmp_path: Path) -> None:
    """A page cites itself by a number, and others by a link with a number. In other pages a number
    may belong to a standard.
    """
    facts = tmp_path / "facts"
    facts.mkdir()
    (facts / "b.md").write_text(f"# B\n\n## {S}1 Hosts\n", encoding="utf-8")
    page, other = facts / "a.md", tmp_path / "a.md"
    text = f"# A\n\n### {S}2.1 Lists\n\nSee {S}2.1, {S}2.2, [b](b.md) {S}1 and [b](b.md) {S}2.\n"
    for path in (page, other):
        path.write_text(text, encoding="utf-8")

    breaches_of_page = [(5, "a.md has no section 2.2"), (5, "b.md has no section 2")]
    assert breaches_of_page == list(source_rules.page_citations(page))
    assert [(5, "b.md has no section 1"), breaches_of_page[1]] == list(
        source_rules.page_citations(other)
    )


def test_the_rules_are_checked_in_every_file() -> None:
    """`scripts/check` runs the rules before the tests, and prints each breach."""
    assert "tests.house.source_rules" in (ROOT / "scripts/check").read_text(encoding="utf-8")
    assert "\n./scripts/check\n" in (ROOT / "scripts/test").read_text(encoding="utf-8")


def test_no_name_is_vague() -> None:
    """Modules and folders have precise names."""
    names = {path.stem for path in PACKAGE.rglob("*") if path.suffix in {"", ".py"}}

    assert set() == names & VAGUE


def test_no_file_names_a_machine() -> None:
    """Files have no path of the machine on which they were written."""
    paths_of_machines = [
        f"{relative(path)}: {match[0]}"
        for path in committed_files()
        if (match := MACHINE_PATH.search(path.read_text(encoding="utf-8", errors="replace")))
    ]

    assert [] == paths_of_machines


@pytest.mark.parametrize("path", [ROOT / ".ci/run", *sorted((ROOT / "scripts").iterdir())])
def test_every_script_stops_at_its_first_failure(path: Path) -> None:
    """Scripts are executable bash, fail loudly, and work from any directory."""
    text = path.read_text(encoding="utf-8")

    assert path.stat().st_mode & 0o111
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert "${BASH_SOURCE[0]}" in text


# --- Imports go in a single direction, and their check can fail


LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint_imports(source: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", ROOT / "pyproject.toml"],
        env=os.environ | {"PYTHONPATH": str(source), "NO_COLOR": "1", "COLUMNS": "200"},
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )


STRAY = {
    "core": ("import os", "certferry.core is not allowed to import os"),
    "ports": ("import certferry.wiring", "certferry.ports is not allowed to import"),
    "cli": ("import certferry.adapters.dns", "certferry.cli.stray -> certferry.adapters.dns"),
    "reconcile": (
        "import requests",
        "certferry.reconcile is not allowed to import requests",
    ),
    "adapters/acme": ("import certferry.adapters.qiniu", "adapters.acme is not allowed"),
    "adapters/http": ("import certferry.adapters.dns", "adapters.http is not allowed"),
    "adapters/qiniu": (
        "import certferry.adapters.dnspod",
        "certferry.adapters.qiniu.stray -> certferry.adapters.dnspod",
    ),
    "wiring": ("import certferry_sandbox", "certferry.wiring.stray -> certferry_sandbox"),
    "helpers": ("", "certferry.helpers"),
}


def test_an_import_in_the_wrong_direction_is_reported(tmp_path: Path) -> None:
    """The contracts work: each wrong line in a room is named."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "certferry", ignore=ignored)
    for room, (line, _) in STRAY.items():
        folder = tmp_path / "certferry" / room
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "stray.py").write_text(f'"""A stray module."""\n{line}\n', encoding="utf-8")

    result = lint_imports(tmp_path)

    assert 1 == result.returncode, result.stdout
    for room, (_, complaint) in STRAY.items():
        assert complaint in result.stdout, (room, result.stdout)


# --- Every library is declared, with a reason


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
    """Return the distributions' names, without versions."""
    return {
        re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower() for requirement in requirements
    }


@cache
def imported(package: Path = PACKAGE) -> frozenset[str]:
    """Return the top-level names that a package imports from outside the standard library."""
    top_level: set[str] = set()
    for path in modules(package):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Import):
                top_level |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                top_level.add((node.module or "").partition(".")[0])
    return frozenset(top_level - sys.stdlib_module_names - {package.name})


def test_every_library_at_run_time_has_its_reason() -> None:
    """The first table of the decision record lists exactly the runtime dependencies."""
    section = RECORD.read_text(encoding="utf-8").partition("### At run time")[2]
    table = section.partition("\n### ")[0]

    recorded = set(re.findall(r"^\| `([\w.-]+)` \|", table, re.MULTILINE))

    assert names(project()["dependencies"]) == recorded


def test_every_other_library_is_recorded() -> None:
    """Extras, development tools and the sandbox's libraries are in the decision record."""
    record = RECORD.read_text(encoding="utf-8")
    sandbox = project(SANDBOX_FOLDER)
    extras = project()["optional-dependencies"] | sandbox["optional-dependencies"]
    extras["the sandbox"] = sandbox["dependencies"]

    for extra, requirements in extras.items():
        missing = {name for name in names(requirements) if f"`{name}`" not in record}
        assert set() == missing, f"extra {extra}"


def test_every_imported_library_is_declared() -> None:
    """Distributions never import a library that only another library requires, and certferry
    imports no module of the sandbox.
    """
    ours, sandbox = project(), project(SANDBOX_FOLDER)
    extras = [
        ours["optional-dependencies"][extra]
        for extra in ("apprise", "lexicon", "keyring", "postgresql", "console", "s3")
    ]
    declared = [*ours["dependencies"], *itertools.chain(*extras)]
    practice = [*sandbox["dependencies"], *sandbox["optional-dependencies"]["testing"]]

    assert set() == undeclared(PACKAGE, declared)
    assert set() == undeclared(SANDBOX, [*declared, *practice])


def undeclared(package: Path, requirements: list[str]) -> set[str]:
    """Return the imported modules that belong to none of these distributions."""
    distributions, declared = packages_distributions(), names(requirements)
    return {
        module
        for module in imported(package)
        if not declared & {name.lower() for name in distributions.get(module, [module])}
    }


def test_the_sandbox_requires_the_certferry_of_its_checkout() -> None:
    """A stand-in of another version would be an error without a message."""
    assert f"certferry=={__version__}.*" == project(SANDBOX_FOLDER)["dependencies"][0]


def test_every_declared_library_is_imported() -> None:
    """Unused libraries are not installed."""
    distributions = packages_distributions()
    used = {name.lower() for module in imported() for name in distributions.get(module, [module])}

    assert set() == names(project()["dependencies"]) - used


def test_every_floor_has_its_reason() -> None:
    """The decision record has the lowest version of each library, with the reason."""
    recorded = re.findall(
        r"^\| `([\w.-]+)` \| ([\d.]+) \| \S", FLOORS.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert sorted(project()["dependencies"]) == sorted(f"{name}>={at}" for name, at in recorded)


# --- The coverage gate can fail


def covered(lines: int, branches: int) -> dict[str, Any]:
    """Return the summary of a file with a hundred lines and a hundred branches."""
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
    """Both shares must reach the threshold, and a room without files fails."""
    assert enough is measure("core", files).is_enough


def test_files_of_a_room_add_up() -> None:
    """The share of a room covers all its files together, in sub-folders too."""
    files = {
        "src/certferry/core/planning/plan.py": covered(100, 100),
        "src/certferry/core/rules/due.py": covered(90, 80),
    }

    measured = measure("core", files)

    assert (2, 92.5, 90.0) == (measured.files, measured.overall, measured.branches)
    assert ["core", "BELOW 95 %"] == [
        part for line in as_table([measured]) for part in (line[:4], line[-10:])
    ]


def test_copies_that_tests_ran_elsewhere_are_not_measured(tmp_path: Path) -> None:
    """The sources of such copies are gone after the last test."""
    measured = coverage.Coverage(data_file=str(tmp_path / "data"))
    here, gone = PACKAGE / "text.py", tmp_path / "certferry" / "text.py"
    measured.get_data().add_arcs({str(path): [(-1, 1)] for path in (here, gone)})

    assert [relative(here)] == list(read_report(measured))


def test_every_room_of_the_gate_exists() -> None:
    """A renamed room would otherwise leave the gate."""
    assert [] == [room for room in LEAST if not modules(PACKAGE / room)]
