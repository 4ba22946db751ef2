"""The places of the checkout's files, for tests about the code itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "certferry"
"""The distribution for operators."""
SANDBOX = ROOT / "sandbox" / "src" / "certferry_sandbox"
"""The other distribution: a world for practice, and tools for authors of adapters."""

FOLDERS = (
    ".ci",
    ".github",
    "benchmarks",
    "deploy",
    "docs",
    "release",
    "requirements",
    "sandbox",
    "scripts",
    "src",
    "tests",
)


def modules(folder: Path = PACKAGE) -> list[Path]:
    """Return every Python file in a folder, in order."""
    return sorted(folder.rglob("*.py"))


def room_of(module: Path) -> str:
    """Return the room of a module of the product: `adapters` and `core` have rooms of their own,
    and modules beside the rooms count as `.`.
    """
    *folders, _ = module.relative_to(PACKAGE).parts
    depth = 2 if folders[:1] in (["adapters"], ["core"]) else 1
    return "/".join(folders[:depth]) or "."


def committed_files() -> Iterator[Path]:
    """Yield every text file of the checkout, without generated files."""
    yield from (path for path in ROOT.iterdir() if path.suffix in {".md", ".toml"})
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), relative(path))
