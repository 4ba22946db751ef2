"""A second user of this machine, for tests under root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NOBODY = 65534
"""The number of a user with the fewest rights: `nobody` on most systems."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to another user")


def given_away(path: Path) -> Path:
    """Make the other user the owner of a file, a directory or a symbolic link, and return
    the path.
    """
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return path
