"""The house in numbers: lines and files of each room, of each provider in its folder, and the share
of imports.

Printed by `python -m tests.house.measures`. How long the main job's way is, is printed by
`python -m tests.house.main_path`; how long the gate takes, by its last line.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.house.tree import PACKAGE, ROOT, modules


def length(path: Path) -> int:
    """Count a file's lines."""
    return len(path.read_text(encoding="utf-8").splitlines())


def rooms() -> Counter[str]:
    """Return how many lines each room has; modules beside the rooms count as `.`."""
    found: Counter[str] = Counter()
    for path in modules():
        parts = path.relative_to(PACKAGE).parts
        room = (
            "/".join(parts[:2]) if parts[0] in {"adapters", "core"} and len(parts) > 2 else parts[0]
        )
        found[room if len(parts) > 1 else "."] += length(path)
    return found


def providers() -> Iterator[tuple[str, str]]:
    """Give each entry point of an adapter, and the one module that describes it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for family, adapters in project["entry-points"].items():
        for name, module in adapters.items():
            yield f"{family}: {name}", module


def imports() -> int:
    """Count the lines of imports at the top of the modules."""
    found = 0
    for path in modules():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                found += (node.end_lineno or node.lineno) - node.lineno + 1
    return found


def main() -> None:
    """Print the measures."""
    for room, lines in sorted(rooms().items()):
        sys.stdout.write(f"{lines:6}  {room}\n")
    total, files = rooms().total(), sum(1 for _ in modules())
    sys.stdout.write(f"{total:6}  lines in {files} files, {imports() / total:.1%} imports\n")
    for name, module in providers():
        path = PACKAGE.parent / f"{module.replace('.', '/')}.py"
        beside = [length(one) for one in path.parent.glob("*.py")]
        sys.stdout.write(f"{sum(beside):6}  {name} ({len(beside)} files beside {module})\n")


if __name__ == "__main__":
    main()
