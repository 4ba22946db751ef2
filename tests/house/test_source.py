"""The rules of `source_rules` can fail; and what else must hold of every file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import source_rules
from tests.house.source_rules import Breach, Rule
from tests.house.tree import PACKAGE, ROOT, committed_files, relative
from tests.support.tiers import thorough

S = "\N{SECTION SIGN}"
QINIU = f"docs/facts/{'qiniu.md'}"
"""A page that is there, written so that this file cites nothing."""

VAGUE = {"base", "common", "helpers", "manager", "misc", "utils"}

# Example paths such as /opt/ssl are fine; so is acme.sh's home, which operators know by that name.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|farm|home/\w|root/(?!\.acme\.sh))[/\w]")


def literal(tree: ast.Module, text: str) -> Iterator[Breach]:
    """The rule of sentences, without exceptions."""
    return source_rules.literal_sentences(tree, text, frozenset())


@pytest.mark.parametrize(
    ("rule", "source", "refused"),
    [
        (source_rules.docstring, "x = 1", True),
        (source_rules.docstring, '"""A."""', True),
        (source_rules.docstring, '"""What each address serves."""', False),
        (source_rules.length, "\n" * 601, True),
        (source_rules.length, "\n" * 600, False),
        (source_rules.late_annotations, "def f(): ...", True),
        (source_rules.late_annotations, "x = 1", False),
        (
            source_rules.late_annotations,
            "from __future__ import annotations\ndef f(): ...",
            False,
        ),
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
        (source_rules.vendors, "x = 'Qiniu refused it'", True),
        (source_rules.vendors, "def ask_dnspod(x): ...", True),
        (source_rules.vendors, "from certferry.adapters import cloudflare", True),
        (source_rules.vendors, '"""About 30 days, as Qiniu has it."""', False),
        (literal, "Text(words)", True),
        (literal, "Text('said', x=words)", False),
    ],
)
def test_a_rule_tells_right_from_wrong(rule: Rule, source: str, refused: object) -> None:
    """Each can fail, and lets pass what keeps it."""
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
def test_a_citation_leads_somewhere(source: str, refused: object) -> None:
    """To a section that a page has, or into a standard."""
    assert refused is bool(list(source_rules.citations(ast.parse(source), source)))


def test_a_page_of_facts_cites_itself_and_others(tmp_path: Path) -> None:
    """By a number alone, and by a link with a number. Elsewhere a number may be a standard's."""
    facts = tmp_path / "facts"
    facts.mkdir()
    (facts / "b.md").write_text(f"# B\n\n## {S}1 Hosts\n", encoding="utf-8")
    page, other = facts / "a.md", tmp_path / "a.md"
    text = f"# A\n\n### {S}2.1 Lists\n\nSee {S}2.1, {S}2.2, [b](b.md) {S}1 and [b](b.md) {S}2.\n"
    for path in (page, other):
        path.write_text(text, encoding="utf-8")

    found = [(5, "a.md has no section 2.2"), (5, "b.md has no section 2")]
    assert found == list(source_rules.page_citations(page))
    assert [(5, "b.md has no section 1"), found[1]] == list(source_rules.page_citations(other))


def test_the_rules_are_asked_of_every_file() -> None:
    """`scripts/check` does, before the tests, and tells of each breach."""
    assert "tests.house.source_rules" in (ROOT / "scripts/check").read_text(encoding="utf-8")
    assert "\n./scripts/check\n" in (ROOT / "scripts/test").read_text(encoding="utf-8")


@thorough
def test_every_file_keeps_the_rules() -> None:
    """Nothing is found: as in `scripts/check`, which the gate runs first."""
    assert [] == list(source_rules.breaches())


def test_no_name_is_vague() -> None:
    """No module or folder is called for everything and nothing."""
    names = {path.stem for path in PACKAGE.rglob("*") if path.suffix in {"", ".py"}}

    assert set() == names & VAGUE


def test_nothing_names_a_machine() -> None:
    """No file holds a path of the machine it was written on."""
    found = [
        f"{relative(path)}: {match[0]}"
        for path in committed_files()
        if (match := MACHINE_PATH.search(path.read_text(encoding="utf-8", errors="replace")))
    ]

    assert [] == found


@pytest.mark.parametrize("path", [ROOT / ".ci/run", *sorted((ROOT / "scripts").iterdir())])
def test_every_script_stops_at_its_first_failure(path: Path) -> None:
    """Scripts are executable bash that fails loudly and does not depend on where it is called."""
    text = path.read_text(encoding="utf-8")

    assert path.stat().st_mode & 0o111
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert "${BASH_SOURCE[0]}" in text
