"""Rules of STYLE.md that a program can read."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.house.tree import PACKAGE, ROOT, committed_files, modules, parse, relative

MOST_LINES = 350
VAGUE = {"base", "common", "helpers", "manager", "misc", "utils"}

EXCEPTION = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:\s*no (?:cover|branch))")
EXCEPTION_WITH_REASON = re.compile(
    r"#\s*(noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type: ignore\[[\w, -]+\]|pragma: no (cover|branch))"
    r"\s+[-–—#:]+ *\S+ \S+"
)

# Example paths such as /opt/ssl are fine; so is acme.sh's home, which operators know by that name.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|farm|home/\w|root/(?!\.acme\.sh))[/\w]")


def comments(path: Path) -> list[tuple[int, str]]:
    """Give line and words of every comment."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    """A production module has a docstring, and its first line could stand in a map."""
    docstring = ast.get_docstring(parse(path))

    assert docstring, f"{relative(path)} has no docstring"
    assert len(docstring.splitlines()[0]) > len("A module.")


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_every_module_fits_one_head(path: Path) -> None:
    """No production module is longer than can be read in one sitting."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_every_module_reads_annotations_late(path: Path) -> None:
    """A module with code begins with `from __future__ import annotations`."""
    body = parse(path).body
    has_code = any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body)
    late = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in body)

    assert late or not has_code


def test_no_name_is_vague() -> None:
    """No module or folder is called for everything and nothing."""
    names = {path.stem for path in PACKAGE.rglob("*") if path.suffix in {"", ".py"}}

    assert set() == names & VAGUE


@pytest.mark.parametrize(
    "path", [*modules(), *modules(ROOT / "tests"), *modules(ROOT / "benchmarks")], ids=relative
)
def test_every_exception_to_a_rule_has_its_reason(path: Path) -> None:
    """`noqa`, `type: ignore` and `no cover` name what they allow and say why, on the same line."""
    unexplained = [
        f"{relative(path)}:{line}: {comment}"
        for line, comment in comments(path)
        if EXCEPTION.search(comment) and not EXCEPTION_WITH_REASON.search(comment)
    ]

    assert [] == unexplained


@pytest.mark.parametrize(
    ("comment", "explained"),
    [
        ("# noqa", False),
        ("# noqa: S101", False),
        ("# type: ignore", False),
        ("# type: ignore[attr-defined]", False),
        ("# pragma: no cover", False),
        ("# noqa: S101 - the caller has checked", True),
        ("# noqa: SLF001, S101 - there is no public way", True),
        ("# type: ignore[attr-defined]  # josepy has no types here", True),
        ("# pragma: no cover - only on other systems", True),
    ],
)
def test_a_reason_is_told_from_a_bare_exception(comment: str, explained: object) -> None:
    """The check above can fail, and lets an explained exception pass."""
    assert EXCEPTION.search(comment)
    assert explained is bool(EXCEPTION_WITH_REASON.search(comment))


URGENT = {"warning", "error", "exception", "critical"}


def untold(tree: ast.Module) -> list[str]:
    """Give the calls that log something for people, in words that are not a `Text`."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and "log" in ast.unparse(node.func.value).lower()
        and (node.func.attr in URGENT or node.func.attr == "log")
        and not (node.args and ast.unparse(node.args[0]).startswith("Text("))
    ]


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_a_warning_is_a_sentence(path: Path) -> None:
    """Warnings and errors are shown to people, in their language; only what `-v` shows is ours."""
    assert [] == untold(parse(path))


@pytest.mark.parametrize(
    ("call", "refused"),
    [
        ("_log.warning('%s: gone', name)", True),
        ("logging.getLogger(__name__).error(f'{name}: gone')", True),
        ("log.log(logging.WARNING, 'gone')", True),
        ("log.exception(words)", True),
        ("log.warning(Text('{name}: gone', name=name))", False),
        ("log.info('%s: gone', name)", False),
        ("self.desk.error('gone')", False),
    ],
)
def test_a_sentence_is_told_from_other_words(call: str, refused: object) -> None:
    """The check above can fail, and lets a sentence pass."""
    assert refused is bool(untold(ast.parse(call)))


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
