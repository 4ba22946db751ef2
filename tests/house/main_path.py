"""The way of the main job: which modules a run goes through, from the command to an edge verified.

Found by running it: one certificate is issued, deployed and verified by the real engine over
in-memory fakes, and each module of the engine's rooms counts in which a function ran. What only a
less common wish needs (receivers, `all-unused`, ferried files, what is retired later) does not run,
and need not be read first; nor do the listeners of what happens. Printed by
`python -m tests.house.main_path`.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import WaitLimit
from tests.house.tree import PACKAGE, SANDBOX
from tests.reconcile.many_certificates import ManyCertificates

JOINTS = ("cli/sync.py", "wiring/runner.py", "wiring/workspace.py")
"""How the command comes to the engine: read, but not run here, where fakes stand for the world."""

ENGINE = ("core", "reconcile")
OUTSIDE = (PACKAGE / "adapters", SANDBOX)
"""What lies behind a port belongs to the outside, whatever it calls."""

MOST_FILES, MOST_LINES = 20, 6700
"""More than a newcomer should have to read."""


@dataclass(frozen=True)
class MainPath:
    """The modules on the way, below the package."""

    modules: frozenset[str]

    @property
    def lines(self) -> int:
        texts = ((PACKAGE / name).read_text(encoding="utf-8") for name in self.modules)
        return sum(len(text.splitlines()) for text in texts)


def walked() -> MainPath:
    seen: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        module = _module(frame)
        if event != "call" or module is None or module.parts[0] not in ENGINE:
            return
        if frame.f_code.co_name != "<module>" and not _is_behind_a_port(frame):
            seen.add(module.as_posix())

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        _run_the_main_job()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return MainPath(frozenset({*JOINTS, *seen}))


def _run_the_main_job() -> None:
    many = ManyCertificates(1)
    engine: Reconciler = many.reconciler()
    for _ in range(2):  # the second finds nothing to do
        report = engine.sync(many.certificates, WaitLimit())
        if not report.ok:
            raise AssertionError(report)


def _module(frame: FrameType) -> Path | None:
    path = Path(frame.f_code.co_filename)
    return path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else None


def _is_behind_a_port(frame: FrameType) -> bool:
    outer = frame.f_back
    while outer is not None:
        path = Path(outer.f_code.co_filename)
        if any(path.is_relative_to(folder) for folder in OUTSIDE):
            return True
        outer = outer.f_back
    return False


def main() -> None:
    """Print each module with its length, and the sums."""
    path = walked()
    rows = [(MainPath(frozenset({name})).lines, name) for name in sorted(path.modules)]
    rows.append((path.lines, f"lines in {len(path.modules)} files"))
    sys.stdout.writelines(f"{length:5}  {name}\n" for length, name in rows)


if __name__ == "__main__":
    main()
