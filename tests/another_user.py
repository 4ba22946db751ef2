"""Another user of this machine, for tests that run as root: what belongs to them, what they do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NOBODY = 65534
"""Has no rights anywhere; `nobody` on most systems."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to another user")


def given_away(path: Path) -> Path:
    """Give a file, a directory or a link itself to the other user; give its path."""
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return path
