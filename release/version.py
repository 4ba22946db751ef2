"""The version of what is built from this tree: that of `src/certferry/__init__.py` where it is
released; between releases, the commits since then and the commit as well, by git. hatchling asks
for it, and what is built keeps it in `certferry.__version__`: nothing asks git where it runs.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parents[1]
SOURCE = Path("src", "certferry", "__init__.py")
_ASSIGNED = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)


def current(root: Path = ROOT) -> str:
    """Return the version of a tree. One without git's folder, such as a source archive or the tree
    that a release is made from, has the version that its source has.
    """
    version: str
    [version] = _ASSIGNED.findall((root / SOURCE).read_text(encoding="utf-8"))
    if not (root / ".git").exists():
        return version
    try:
        commit = _git(root, "rev-parse", "--short=7", "HEAD")
        tag, _, count = _since_the_last_release(root).rpartition("-")
    except (OSError, subprocess.CalledProcessError):  # no git here, or no commit yet
        return version
    if tag == f"v{version}":
        return version if count == "0" else f"{version}.post{count}+g{commit}"
    return f"{version}.dev{count}+g{commit}"


def _since_the_last_release(root: Path) -> str:
    """Return the tag of the last release and the number of commits since then."""
    if not _git(root, "tag", "--list", "v[0-9]*", "--merged"):
        return "-" + _git(root, "rev-list", "--count", "HEAD")
    described = _git(root, "describe", "--tags", "--long", "--match", "v[0-9]*")
    return described.rpartition("-")[0]


def _git(root: Path, *arguments: str) -> str:
    # Root installs from a checkout that another user owns, which git asks about (git-config(1),
    # safe.directory).
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Recorded(BuildHookInterface[Any]):
    """Puts the version into the source that goes into an archive or a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Have the file with the version replaced, but where a checkout is used as it lies."""
        if version == "editable":
            return
        text = Path(self.root, SOURCE).read_text(encoding="utf-8")
        self._folder = tempfile.TemporaryDirectory(prefix="certferry-version-")
        path = Path(self._folder.name, SOURCE.name)
        path.write_text(_ASSIGNED.sub(f'__version__ = "{self.metadata.version}"', text), "utf-8")
        place = SOURCE if self.target_name == "sdist" else SOURCE.relative_to("src")
        build_data["force_include"][str(path)] = str(place)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was written for it."""
        del build_data, artifact_path
        if version != "editable":
            self._folder.cleanup()
