"""The house in numbers: lines of each room, and of each provider, in the one file that describes it
and beside it in `adapters/clients`.

Printed by `python -m tests.house.measures`. How long the main job's way is, is printed by
`python -m tests.house.main_path`; how long the gate takes, by its last line.
"""

from __future__ import annotations

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
        room = "/".join(parts[:2]) if parts[0] == "adapters" and len(parts) > 2 else parts[0]
        found[room if len(parts) > 1 else "."] += length(path)
    return found


def providers() -> Iterator[tuple[str, str]]:
    """Give each entry point of an adapter, and the one module that describes it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for family, adapters in project["entry-points"].items():
        for name, module in adapters.items():
            yield f"{family}: {name}", module


def main() -> None:
    """Print the measures."""
    for room, lines in sorted(rooms().items()):
        sys.stdout.write(f"{lines:6}  {room}\n")
    sys.stdout.write(f"{rooms().total():6}  lines in all\n")
    for name, module in providers():
        path = PACKAGE.parent / f"{module.replace('.', '/')}.py"
        beside = [length(one) for one in (PACKAGE / "adapters/clients").glob(f"{path.stem}*.py")]
        more = f", and {sum(beside)} in {len(beside)} files of adapters/clients" if beside else ""
        sys.stdout.write(f"{length(path):6}  {name} ({module}{more})\n")


if __name__ == "__main__":
    main()
