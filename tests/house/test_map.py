"""The drawings in the documents equal what they draw."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from certferry import errors
from tests.house.tree import PACKAGE, ROOT, SANDBOX, relative

LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
BRANCH = re.compile(r"^(?P<stem>(?:│   |    )*)[├└]── (?P<name>[\w./]+)")


def drawn(drawing: str) -> list[tuple[int, str]]:
    """Give depth and name of each branch of a tree drawn with `├──` and `└──`."""
    return [
        (len(match["stem"]) // 4, match["name"])
        for match in map(BRANCH.match, drawing.splitlines())
        if match
    ]


@pytest.mark.parametrize(
    ("section", "package", "opened"),
    [("The rooms", PACKAGE, ("adapters", "core")), ("The sandbox", SANDBOX, ())],
)
def test_architecture_draws_the_rooms_that_exist(
    section: str, package: Path, opened: tuple[str, ...]
) -> None:
    """Its tree names every room and every module beside the rooms, and no other."""
    actual = {
        f"{path.relative_to(package).as_posix()}/"
        for folder in (package, *(package / room for room in opened))
        for path in folder.iterdir()
        if (path / "__init__.py").exists()
    } | {path.name for path in package.glob("*.py") if not path.name.startswith("__")}

    parent = ""
    named = set()
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for depth, name in drawn(text.partition(f"## {section}\n")[2].partition("\n## ")[0]):
        if depth == 0:
            parent = name
        named.add(name if depth == 0 else parent + name)

    assert named == actual


def test_errors_draws_the_classes_that_exist() -> None:
    """The tree in the docstring of `certferry.errors` is the tree of its classes."""
    actual = {
        (cls.__bases__[0].__name__, name)
        for name, cls in vars(errors).items()
        if inspect.isclass(cls) and issubclass(cls, errors.Reported)
    }

    named = {("Exception", "Reported")}
    for root in re.split(r"\n\n(?=\w+ {2,})", inspect.getdoc(errors) or "")[1:]:
        line = [root.partition(" ")[0]]
        named.add(("Reported", line[0]))
        for depth, name in drawn(root):
            line[depth + 1 :] = [name]
            named.add((line[depth], name))

    assert named == actual


def test_documents_link_only_to_files_that_exist() -> None:
    """Every relative link of a document leads somewhere."""
    missing = [
        f"{relative(document)}: {link}"
        for document in [
            *ROOT.glob("*.md"),
            *ROOT.glob("docs/**/*.md"),
            *PACKAGE.rglob("README.md"),
            *(ROOT / "sandbox").rglob("README.md"),
        ]
        for link in LINK.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / link).exists()
    ]

    assert [] == missing
