"""The files from which pip installs by hash (`requirements/`): written anew, or compared with
`pyproject.toml`.

Use the module as `scripts/constraints`.
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
    """A file of pins: its requirements, and the file whose pins are left out."""

    name: str
    requirements: tuple[str, ...]
    below: Wanted | None = None

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.txt"


def wanted() -> tuple[Wanted, ...]:
    """Return the files that operators install from; files that others extend come first."""
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
    """Return the pins of a file by their first line, each with its whole text."""
    return {pin[1]: pin[0] for pin in _PIN.finditer(text)}


def breaches() -> Iterator[str]:
    """Yield each difference from `pyproject.toml` and from pip's rules. Asks no registry."""
    files = wanted()
    for path in sorted({*FOLDER.iterdir()} - {file.path for file in files}):
        yield f"{relative(path)}: nothing is installed from it"
    for file in files:
        if not file.path.is_file():
            yield f"{relative(file.path)}: is missing"
            continue
        problem = problem_of(file, file.path.read_text(encoding="utf-8"))
        if problem:
            yield f"{relative(file.path)}: {problem}"


def problem_of(file: Wanted, text: str) -> str:
    """Return the problem of a file's text, or the empty text."""
    head = _head(file)
    if not text.startswith(head):
        return "pyproject.toml asks for something else by now"
    unmatched = _PIN.sub("", text.removeprefix(head))
    return f"no pin with its hashes: {unmatched.splitlines()[0]}" if unmatched else ""


def make() -> None:
    """Write every file, with the newest versions that `pyproject.toml` allows."""
    FOLDER.mkdir(exist_ok=True)
    for file in wanted():
        if file.below is None:
            new_pins = pins(_resolved(file.requirements))
        else:
            all_requirements = (*file.below.requirements, *file.requirements)
            below = pins(file.below.path.read_text(encoding="utf-8"))
            new_pins = pins(_resolved(all_requirements, f"--constraint={file.below.path}"))
            new_pins = {pin: lines for pin, lines in new_pins.items() if pin not in below}
        file.path.write_text(_head(file) + "".join(new_pins.values()), encoding="utf-8")


def _head(file: Wanted) -> str:
    sources = "".join(f"{_SOURCE}{requirement}\n" for requirement in file.requirements)
    below = "" if file.below is None else f"-r {file.below.path.name}\n"
    return f"{_HEAD}{sources}{below}"


def _resolved(requirements: Sequence[str], *options: str) -> str:
    """Choose versions for every system and every Python that certferry supports."""
    compiled = ["pip", "compile", "-", "--universal", "--python-version=3.11", "--generate-hashes"]
    plain = ["--no-header", "--no-annotate", "--system-certs", "--quiet"]
    compiled_pins = subprocess.run(
        [str(Path(sys.executable).with_name("uv")), *compiled, *plain, *options],
        input="\n".join(requirements),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return compiled_pins.stdout


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with `--check` print the problems of the existing files."""
    if list(arguments) not in ([], ["--check"]):
        sys.exit("constraints: there is one option, --check")
    if not arguments:
        make()
    problems = list(breaches())
    print("\n".join(problems) or "constraints: kept")  # noqa: T201 - a program's output
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
