"""The tests that a document names in the form `tests/FILE.py::NAME`."""

from __future__ import annotations

import ast
import re

from tests.house.tree import ROOT, parse

_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def named_tests(text: str) -> list[tuple[str, str]]:
    return _TEST.findall(text)


def missing_tests(text: str) -> list[str]:
    """Return the named tests of a text that do not exist."""
    return [f"{file}::{name}" for file, name in named_tests(text) if name not in _functions(file)]


def _functions(file: str) -> set[str]:
    path = ROOT / file
    if not path.is_file():
        return set()
    return {node.name for node in parse(path).body if isinstance(node, ast.FunctionDef)}
