"""certferry and its libraries in one folder, for one Python: what a package and an image hold."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from release import Release, run_tool

EXTRAS = ("console", "postgresql", "s3")
"""What every operator of an installed certferry has, without asking."""
PLATFORM = "x86_64-manylinux_2_28"
"""What every release since Debian 10 runs (PEP 600)."""

_OF_THE_MACHINE = ("REQUESTED", "direct_url.json", "uv_cache.json")
"""What uv writes into a distribution's folder of how it was installed, and where from."""


def install(release: Release, to: Path, python: str) -> None:
    """Install the wheel in `dist`, and its libraries by the hashes in `requirements/`, into the new
    folder `to`, for `python` ("3.13"): the same bytes wherever it lies, without scripts and without
    bytecode. Raises `CalledProcessError`.
    """
    pins = [release.tree / "requirements" / f"{name}.txt" for name in ("certferry", *EXTRAS)]
    requirements = [f"--requirement={one}" for one in pins]
    _uv(to, python, ["--require-hashes", "--no-deps", *requirements])
    wheel = release.dist / f"certferry-{release.version}-py3-none-any.whl"
    _uv(to, python, ["--no-deps", "--no-index", str(wheel)])
    (to / ".lock").unlink(missing_ok=True)
    for script in (to / "bin").iterdir():  # each begins with the path of this machine's Python
        script.unlink()
    (to / "bin").rmdir()
    for record in to.glob("*.dist-info/RECORD"):
        _forget_the_machine(record)


def _uv(to: Path, python: str, what: Sequence[str]) -> None:
    command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet"]
    command += ["--system-certs", "--only-binary=:all:", "--link-mode=copy"]
    command += [f"--python-version={python}", f"--python-platform={PLATFORM}", f"--target={to}"]
    run_tool([*command, *what])


def _forget_the_machine(record: Path) -> None:
    """Remove what differs from machine to machine, and its lines from the list of files."""
    folder = record.parent
    for name in _OF_THE_MACHINE:
        (folder / name).unlink(missing_ok=True)
    gone = ("bin/", *(f"{folder.name}/{name}," for name in _OF_THE_MACHINE))
    lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
    record.write_text("".join(line for line in lines if not line.startswith(gone)))
