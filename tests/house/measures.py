"""The house in numbers: lines of each room and provider, and the measures of the whole in
ARCHITECTURE.md.

Printed by `python -m tests.house.measures`. `tests.house.main_path` finds the length of the main
job by running it; the gate prints its own time.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.house.main_path import walked
from tests.house.tree import PACKAGE, ROOT, SANDBOX, modules, parse, room_of

MOST_ON_THE_MAIN_PATH = 20


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def rooms() -> Counter[str]:
    """Return the number of lines of each room; modules beside the rooms count as `.`."""
    lines_of_rooms: Counter[str] = Counter()
    for path in modules():
        lines_of_rooms[room_of(path)] += length(path)
    return lines_of_rooms


def providers() -> Iterator[tuple[str, str]]:
    """Yield each entry point of an adapter, and its main module."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for family, adapters in project["entry-points"].items():
        for name, module in adapters.items():
            yield f"{family}: {name}", module


def imports() -> int:
    return sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in modules()
        for node in parse(path).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    )


def shared_names() -> dict[str, list[str]]:
    """Return the names that several public classes of the product share, with their modules.

    The `Settings` of adapters are left out, since entry points require the name.
    """
    places_of_names: defaultdict[str, list[str]] = defaultdict(list)
    adapters = {
        f"{module.removeprefix('certferry.').replace('.', '/')}.py" for _, module in providers()
    }
    for path in modules():
        for node in parse(path).body:
            place = path.relative_to(PACKAGE).as_posix()
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            if node.name != "Settings" or place not in adapters:
                places_of_names[node.name].append(place)
    return {name: places for name, places in sorted(places_of_names.items()) if len(places) > 1}


def lines_of(folder: Path) -> int:
    return sum(map(length, modules(folder)))


def whole() -> Iterator[str]:
    """Yield the measures of the whole, a line each."""
    total, files, tests = rooms().total(), len(modules()), ROOT / "tests"
    steps, shared = len(walked().modules), shared_names()
    yield f"{total:6}  lines of the product"
    yield f"{files:6}  files of the product"
    yield f"{imports() / total:6.1%}  of its lines are imports"
    yield f"{steps:6}  files on the main job's way (at most {MOST_ON_THE_MAIN_PATH})"
    yield f"{len(shared):6}  names of public classes that several have (none)"
    yield from (f"        {name}: {', '.join(places)}" for name, places in shared.items())
    yield f"{lines_of(SANDBOX):6}  lines of the sandbox, in {len(modules(SANDBOX))} files"
    yield f"{lines_of(tests):6}  lines of tests"


def main() -> None:
    for room, lines in sorted(rooms().items()):
        sys.stdout.write(f"{lines:6}  {room}\n")
    for name, module in providers():
        path = PACKAGE.parent / f"{module.replace('.', '/')}.py"
        beside = [length(module_beside) for module_beside in path.parent.glob("*.py")]
        sys.stdout.write(f"{sum(beside):6}  {name} ({len(beside)} files beside {module})\n")
    sys.stdout.writelines(f"{line}\n" for line in whole())


if __name__ == "__main__":
    main()
