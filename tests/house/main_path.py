"""The modules of the main job, from the command to a verified edge.

They are found by running the job: the real engine issues, deploys and verifies a certificate with
in-memory fakes, and each module of the engine's rooms counts if a function of the module ran.
Modules for rare wishes (receivers, `all-unused`, imported files, later retirements) and listeners
of events do not run, and can be read later. Printed by `python -m tests.house.main_path`.
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
"""The modules from the command to the engine: part of the job, but not run here with fakes."""

ENGINE = ("core", "reconcile")
OUTSIDE = (PACKAGE / "adapters", SANDBOX)
"""Modules behind a port belong to the outside, with all modules that they call."""

MOST_FILES, MOST_LINES = 20, 6750
"""A newcomer should never have to read more."""


@dataclass(frozen=True)
class MainPath:
    """The modules of the main job, as paths in the package."""

    modules: frozenset[str]

    @property
    def lines(self) -> int:
        texts = ((PACKAGE / name).read_text(encoding="utf-8") for name in self.modules)
        return sum(len(text.splitlines()) for text in texts)


def walked() -> MainPath:
    modules_seen: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        module = _module(frame)
        if event != "call" or module is None or module.parts[0] not in ENGINE:
            return
        if frame.f_code.co_name != "<module>" and not _is_behind_a_port(frame):
            modules_seen.add(module.as_posix())

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        _run_the_main_job()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return MainPath(frozenset({*JOINTS, *modules_seen}))


def _run_the_main_job() -> None:
    many = ManyCertificates(1)
    engine: Reconciler = many.reconciler()
    for _ in range(2):  # the second pass has no work
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
