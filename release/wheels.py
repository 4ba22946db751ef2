"""The wheels and the source archives of certferry and of certferry-sandbox, by uv and hatchling."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from release import Release, run_tool

PROJECTS = (".", "sandbox")


def make(release: Release) -> tuple[Path, ...]:
    """Make the source archive of each project, and its wheel from that archive, by the versions of
    the build tools in `requirements/build.txt`. Raises `CalledProcessError`.
    """
    before = set(release.dist.iterdir())
    pins = release.tree / "requirements" / "build.txt"
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(release.epoch)}
    for project in PROJECTS:
        run_tool(
            [
                *(
                    Path(sys.executable).with_name("uv"),
                    "build",
                    "--quiet",
                    "--no-create-gitignore",
                ),
                *(f"--build-constraints={pins}", "--require-hashes", "--system-certs"),
                *(f"--python={sys.executable}", f"--out-dir={release.dist}"),
                release.tree / project,
            ],
            environ=environ,
        )
    return tuple(sorted(set(release.dist.iterdir()) - before))
