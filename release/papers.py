"""What accompanies the artefacts of a release: lists of the libraries (SBOM, CycloneDX), of the
wheel's and of those that the packages bring, notes from the CHANGELOG, hashes; and how large an
artefact may be.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from release import Refused, Release, libraries, run_tool

SUMS, NOTES = "SHA256SUMS", "NOTES.md"

_MB = 1_000_000
LARGEST = {
    "certferry-*.whl": 2 * _MB,
    "certferry-*.tar.gz": 2 * _MB,
    "certferry_sandbox-*.whl": _MB,
    "certferry_sandbox-*.tar.gz": _MB,
    "certferry-*-manuals.tar.xz": _MB,
    "certferry_*.deb": 16 * _MB,
    "certferry-*-oci.tar": 55 * _MB,
}
"""How large artefacts may be, by their names. What grows beyond it was packed by mistake, or is a
decision: then the number here changes with it.
"""

LONGEST_NOTES = 125_000
"""How many characters GitHub takes as the text of a release; its answer to more is "body is too
long (maximum is 125000 characters)".
"""

_TO_DO = re.compile(r"\*\*To do\b")
_ITEM = re.compile(r"^- .+$", re.MULTILINE)
_WRAPPED = re.compile(r"\n {2,}(?=[^\s-])")
_PAGE = re.compile(r"\[([^\[\]]+)\]\(docs/(?:how-to|reference)/([a-z-]+)\.md[^)\s]*\)")
_RELATIVE = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https:)[^)\s]*\)")


def make(release: Release) -> tuple[Path, ...]:
    """Write the papers for the artefacts in `dist`. Raises `Refused` where one is too large, or the
    CHANGELOG has nothing of this version, and `CalledProcessError`.
    """
    must_be_small(release.dist.iterdir())
    changes = part_of((release.tree / "CHANGELOG.md").read_text(encoding="utf-8"), release.version)
    tools = environment(release, "release") / "bin"
    wheels = [path for path in release.dist.iterdir() if path.suffix in {".whl", ".gz"}]
    _run(tools / "twine", "--no-color", "check", "--strict", *sorted(wheels))
    parts = [
        parts_list(release, tools, f"certferry-{release.version}"),
        parts_list(release, tools, f"certferry-{release.version}-packages", *libraries.EXTRAS),
    ]
    notes = release.dist / NOTES
    [wheel] = release.dist.glob("certferry-*.whl")
    notes.write_text(notes_of(wheel, changes), encoding="utf-8")
    sums = release.dist / SUMS
    sums.write_text("".join(sums_of(release.dist.iterdir())), encoding="utf-8")
    return (*parts, notes, sums)


def must_be_small(artefacts: Iterable[Path]) -> None:
    """Raise `Refused` for an artefact that is larger than it may be, or has no number here."""
    for path in artefacts:
        largest = [most for name, most in LARGEST.items() if path.match(name)]
        if not largest:
            raise Refused(f"no size is set for {path.name} in release/papers.py")
        size = path.stat().st_size
        if size > largest[0]:
            raise Refused(f"{path.name} has {size:,} bytes, and may have {largest[0]:,}")


def environment(release: Release, *names: str) -> Path:
    """Return the folder of a new environment with what `requirements/NAME.txt` pin."""
    folder = release.work / "-".join(("environment", *names))
    uv = Path(sys.executable).with_name("uv")
    _run(uv, "venv", "--quiet", f"--python={sys.executable}", folder)
    options = ("--quiet", "--system-certs", f"--python={folder}", "--require-hashes")
    pins = [f"--requirement={release.tree / 'requirements' / name}.txt" for name in names]
    _run(uv, "pip", "install", *options, *pins)
    return folder


def parts_list(release: Release, tools: Path, name: str, *extras: str) -> Path:
    """Write an SBOM: certferry with the libraries that it is tested with, and those of extras, for
    this Python.
    """
    installed = environment(release, "certferry", *extras)
    uv = Path(sys.executable).with_name("uv")
    # By its version: of a wheel that is named by its path, the path would be written down.
    of_dist = ("--quiet", "--no-deps", "--no-index", f"--find-links={release.dist}")
    _run(uv, "pip", "install", *of_dist, f"--python={installed}", f"certferry=={release.version}")
    # What a list is about has a version only where pyproject.toml itself says it.
    about = release.work / "pyproject.toml"
    project = (release.tree / "pyproject.toml").read_text(encoding="utf-8")
    said = f'version = "{release.version}"'
    about.write_text(re.sub("^dynamic = .+$", said, project, flags=re.MULTILINE), encoding="utf-8")
    written = release.dist / f"{name}.cdx.json"
    _run(
        *(tools / "cyclonedx-py", "environment", "--spec-version=1.6", "--output-reproducible"),
        *(f"--pyproject={about}", f"--output-file={written}", installed),
    )
    return written


def part_of(changelog: str, version: str) -> str:
    """Return what the CHANGELOG says of a version, or what is unreleased where it does not name the
    version yet: each change in one line, since GitHub shows the line ends of notes, and with words
    in place of links into the repository. Raises `Refused` where there is no change.
    """
    parts = re.split(r"^## \[(.+?)\].*\n", changelog, flags=re.MULTILINE)
    named = dict(zip(parts[1::2], parts[2::2], strict=True))
    said = named.get(version, named.get("Unreleased", "")).strip()
    if not _ITEM.search(said):
        raise Refused(f"CHANGELOG.md has no change for {version}")
    installed = _PAGE.sub(r"\1: `certferry help \2`", _WRAPPED.sub(" ", said))
    return _RELATIVE.sub(r"\1", installed)


def notes_of(wheel: Path, changes: str) -> str:
    """Return the notes of a release: how to install this very wheel, what operators have to do, and
    all changes. Raises `Refused` when they are too long.
    """
    version = wheel.name.split("-")[1]
    known = f"{version} sha256:{_sum_of(wheel)}"
    needed = [item for item in _ITEM.findall(changes) if _TO_DO.search(item)]
    parts = [
        f"`certferry {known}`",
        f'GitHub Actions take it, with the action of any release, by\n\n    version: "{known}"',
        *(["## To do", "\n".join(needed)] if needed else []),
        "## All changes",
        changes,
    ]
    notes = "\n\n".join(parts) + "\n"
    if len(notes) > LONGEST_NOTES:
        raise Refused(f"notes of {len(notes):,} characters are too long for GitHub")
    return notes


def sums_of(artefacts: Iterable[Path]) -> Iterator[str]:
    """Yield the lines that `sha256sum --check` reads."""
    for path in sorted(artefacts):
        yield f"{_sum_of(path)}  {path.name}\n"


def _sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(program: Path, *words: str | Path) -> None:
    # What a tool says is no part of what `scripts/release` prints.
    run_tool([program, *words], stdout=sys.stderr)
