"""Directories and files that only their owner can read, from the first moment they exist."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from certferry.file_trust import must_be_trusted

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
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """Put the new name on the disk too: a key file that is lost takes every sealed key with it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
