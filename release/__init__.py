"""What `scripts/release` makes of a commit: the artefacts that operators install, and what
accompanies them. Not shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class Refused(Exception):
    """What keeps the release from being made, as one sentence."""


@dataclass(frozen=True)
class Release:
    """One release while it is made. A maker reads `tree` and `dist`, and writes into `dist`."""

    version: str
    """As `src/certferry/__init__.py` has it."""
    epoch: int
    """The commit's date in seconds since 1970: `SOURCE_DATE_EPOCH` for every tool."""
    tree: Path
    """The files of the commit, exported: artefacts are made from these alone."""
    dist: Path
    """Where artefacts go, and where those that were made earlier lie."""
    work: Path
    """A scratch folder, removed at the end. Its path differs each time: no artefact may have it."""
