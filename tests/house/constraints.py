"""The files that pip installs from by hash (`requirements/`): made anew, or compared with
`pyproject.toml`. Use it as `scripts/constraints`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.house.tree import ROOT, relative

FOLDER = ROOT / "requirements"
EXTRAS = ("apprise", "console", "keyring", "lexicon", "postgresql", "s3")

_HEAD = """\
# One version of each library, and the hash of each of its files: what pip installs with
# --require-hashes. Kept by scripts/constraints. Made from:
"""
_SOURCE = "#   "
_PIN = re.compile(r"([\w.-]+==\S+(?: ; .+)?)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of pins: what it is made from, and the file whose pins it leaves out."""

    name: str
    requirements: tuple[str, ...]
    below: Wanted | None = None

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.txt"


def wanted() -> tuple[Wanted, ...]:
    """Return the files that operators install from, those that others stand on first."""
    table, sandbox = (_table(path) for path in (ROOT, ROOT / "sandbox"))
    project = table["project"]
    extras = project["optional-dependencies"]
    certferry = Wanted("certferry", tuple(project["dependencies"]))
    _, *demo = sandbox["project"]["dependencies"]  # the first is certferry itself
    return (
        certferry,
        Wanted("build", tuple(table["build-system"]["requires"])),
        Wanted("release", tuple(extras["release"])),
        *(Wanted(name, tuple(extras[name]), certferry) for name in EXTRAS),
        Wanted("demo", tuple(demo), certferry),
    )


def _table(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def pins(text: str) -> dict[str, str]:
    """Return the pins of a file, each as it is written, by their first line."""
    return {found[1]: found[0] for found in _PIN.finditer(text)}


def breaches() -> Iterator[str]:
    """Return what is not as `pyproject.toml` and pip want it. Asks no registry."""
    files = wanted()
    for path in sorted({*FOLDER.iterdir()} - {one.path for one in files}):
        yield f"{relative(path)}: nothing is installed from it"
    for one in files:
        if not one.path.is_file():
            yield f"{relative(one.path)}: is missing"
            continue
        problem = problem_of(one, one.path.read_text(encoding="utf-8"))
        if problem:
            yield f"{relative(one.path)}: {problem}"


def problem_of(one: Wanted, text: str) -> str:
    """Return what is wrong with a file's text; nothing when it is in order."""
    head = _head(one)
    if not text.startswith(head):
        return "pyproject.toml asks for something else by now"
    rest = _PIN.sub("", text.removeprefix(head))
    return f"no pin with its hashes: {rest.splitlines()[0]}" if rest else ""


def make() -> None:
    """Write every file, with the newest versions that `pyproject.toml` allows."""
    FOLDER.mkdir(exist_ok=True)
    for one in wanted():
        if one.below is None:
            found = pins(_resolved(one.requirements))
        else:
            both = (*one.below.requirements, *one.requirements)
            below = pins(one.below.path.read_text(encoding="utf-8"))
            found = pins(_resolved(both, f"--constraint={one.below.path}"))
            found = {pin: written for pin, written in found.items() if pin not in below}
        one.path.write_text(_head(one) + "".join(found.values()), encoding="utf-8")


def _head(one: Wanted) -> str:
    sources = "".join(f"{_SOURCE}{requirement}\n" for requirement in one.requirements)
    below = "" if one.below is None else f"-r {one.below.path.name}\n"
    return f"{_HEAD}{sources}{below}"


def _resolved(requirements: Sequence[str], *options: str) -> str:
    """Choose versions for every system and every Python that certferry runs on."""
    compiled = ["pip", "compile", "-", "--universal", "--python-version=3.11", "--generate-hashes"]
    plain = ["--no-header", "--no-annotate", "--system-certs", "--quiet"]
    found = subprocess.run(
        [str(Path(sys.executable).with_name("uv")), *compiled, *plain, *options],
        input="\n".join(requirements),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return found.stdout


def main(arguments: Sequence[str]) -> int:
    """Make the files, or with `--check` say what is wrong with those that are there."""
    if list(arguments) not in ([], ["--check"]):
        sys.exit("constraints: there is one option, --check")
    if not arguments:
        make()
    found = list(breaches())
    print("\n".join(found) or "constraints: kept")  # noqa: T201 - a program's output
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
