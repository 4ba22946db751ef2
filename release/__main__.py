"""The command line of `scripts/release`: `python -m release VERSION [--only NAME…]`."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from release import Refused, Release, debian, image, manuals, papers, wheels

ROOT = Path(__file__).parents[1]
FAILED, USAGE = 1, 2
_SCRATCH = "release-"
_VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Maker:
    """What makes one kind of artefact, and the kinds that it is made from."""

    make: Callable[[Release], tuple[Path, ...]]
    needs: tuple[str, ...] = ()


MAKERS = {
    "wheels": Maker(wheels.make),
    "manuals": Maker(manuals.make, needs=("wheels",)),
    "debian": Maker(debian.make, needs=("wheels",)),
    "image": Maker(image.make, needs=("wheels",)),
}
"""By the names that `--only` takes, in the order in which they are made. Each needs the wheels; the
papers come after all.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a release, and print what was made. Return the exit code: 2 where the commit or the
    arguments do not fit, 1 where a tool failed.
    """
    asked = _parser().parse_args(arguments)
    os.umask(0o022)  # what is made is for every user, also where root's own umask says otherwise
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, _stopped)
    try:
        made = release(asked.version, asked.only or tuple(MAKERS))
    except Refused as refused:
        return _failed(str(refused), USAGE)
    except subprocess.CalledProcessError as failure:
        command = failure.cmd if isinstance(failure.cmd, str) else " ".join(map(str, failure.cmd))
        return _failed(f"exit code {failure.returncode} of: {command}", FAILED)
    for line in table(made):
        print(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/release", description="Make dist/ of HEAD.")
    parser.add_argument("version", metavar="VERSION", help="the version that the source has")
    names = ", ".join(MAKERS)
    parser.add_argument(
        "--only",
        action="extend",
        nargs="+",
        choices=MAKERS,
        metavar="NAME",
        help=f"make these alone, and what they are made from: {names}",
    )
    return parser


def _stopped(number: int, _frame: FrameType | None) -> NoReturn:
    """End as an error does: what was made so far goes, and the tool that runs is ended."""
    sys.exit(128 + number)


def _failed(sentence: str, code: int) -> int:
    print(f"release: {sentence}", file=sys.stderr)
    return code


def release(version: str, names: Collection[str], root: Path = ROOT) -> list[Path]:
    """Make the artefacts of these names in `dist/`, which is replaced when all are there. Raises
    `Refused` and `CalledProcessError`; `dist/` is as it was then.
    """
    must_fit(version, root)
    epoch = int(_git(root, "show", "--no-patch", "--format=%ct", "HEAD"))
    with scratch(root / "build") as aside:
        tree, work, dist = (aside / name for name in ("tree", "work", "dist"))
        for folder in (tree, work, dist):
            folder.mkdir()
        export(root, tree)
        one = Release(version, epoch, tree, dist, work)
        for name in wanted(names):
            print(f"== {name}", file=sys.stderr)
            MAKERS[name].make(one)
        print("== papers", file=sys.stderr)
        papers.make(one)
        if (root / "dist").exists():
            (root / "dist").rename(aside / "before")
        return sorted(dist.rename(root / "dist").iterdir())


@contextmanager
def scratch(build: Path) -> Iterator[Path]:
    """Yield a new folder below `build`, and remove it afterwards: with those of releases that were
    killed at once. That of one that is at work is locked.
    """
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=build) as name, _locked(Path(name)):
        for other in build.glob(f"{_SCRATCH}*"):
            with suppress(BlockingIOError), _locked(other):
                shutil.rmtree(other)
        yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(number)


def must_fit(version: str, root: Path) -> None:
    """Raise `Refused` unless the working tree is that of the commit, and its version this one."""
    changed = _git(root, "status", "--porcelain").splitlines()
    if changed:
        raise Refused(f"{changed[0][3:]} is not committed, and a release is made of a commit")
    text = (root / "src" / "certferry" / "__init__.py").read_text(encoding="utf-8")
    found = _VERSION.search(text)
    if found is None or found[1] != version:
        has = found[1] if found else "none"
        raise Refused(f"the version in src/certferry/__init__.py is {has}, not {version}")


def export(root: Path, tree: Path) -> None:
    """Write the files of the commit, each with the commit's date."""
    command = ["git", "-C", str(root), "archive", "--format=tar", "HEAD"]
    files = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # none in Python 3.11.2
        archive.extractall(tree)  # noqa: S202 - made by this project


def wanted(names: Collection[str]) -> list[str]:
    """Return these names, and those that they need, in order."""
    found = set(names)
    for name in reversed(MAKERS):
        if name in found:
            found.update(MAKERS[name].needs)
    return [name for name in MAKERS if name in found]


def table(made: Sequence[Path]) -> Iterator[str]:
    """Yield a line for each file: its hash, its size in bytes, its name."""
    for path in made:
        content = path.read_bytes()
        yield f"{hashlib.sha256(content).hexdigest()}  {len(content):>11,}  {path.name}"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.rstrip()


if __name__ == "__main__":
    sys.exit(main())
