"""Directories and files that only their owner can read, from the first moment they exist."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from certferry.file_trust import must_be_trusted
from certferry.whole_file import draft_beside, sync_directory

OWNER_ONLY_DIRECTORY = 0o700
OWNER_ONLY_FILE = 0o600
OPEN_TO_OTHERS = 0o077


def make_directory(path: Path) -> None:
    """Make a directory, and those above it that are missing. Raises `OSError`: `NotTrusted` where
    others could put files there, or another directory in its place.
    """
    if path.exists():
        must_be_trusted(path, makes_files=True)
        return
    make_directory(path.parent)
    path.mkdir(OWNER_ONLY_DIRECTORY, exist_ok=True)


def make_file(path: Path, content: bytes) -> None:
    """Make a file that appears whole, or leave the one that is there. Raises `OSError`.

    It is written under another name and linked: when two make it at the same moment, one of
    them wins, and neither reads a half-written one.
    """
    if path.exists():
        return
    draft = draft_beside(path, content, OWNER_ONLY_FILE)
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    # A key file that is lost takes every sealed key with it.
    sync_directory(path.parent)
