"""Functions that replace a file as a whole: a reader sees the old or the new content, also after a
crash.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace_file(
    path: Path, content: bytes, mode: int = 0o600, *, owner: os.stat_result | None = None
) -> None:
    """Replace a file's content, or leave the old file unchanged and raise `OSError`.

    The new file has the user and the group of `owner`, by default the caller's. Call
    `sync_directory` afterwards, so that the change survives a crash.
    """
    draft = draft_beside(path, content, mode, owner)
    try:
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def draft_beside(
    path: Path, content: bytes, mode: int, owner: os.stat_result | None = None
) -> Path:
    """Write a draft of the file beside `path`, and return the draft's path. Raise `OSError`, after
    removing the draft.

    The draft's name is random: if the name were known, another user with access to the directory
    could put a link there first.
    """
    # mkstemp makes the file with 0600; a wider mode is set only when the file is complete.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            facts = os.fstat(file.fileno())
            if owner and (owner.st_uid, owner.st_gid) != (facts.st_uid, facts.st_gid):
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft


def sync_directory(directory: Path) -> None:
    """Write a directory to disk, so earlier renames in the directory survive a crash. Raise
    `OSError`.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_copy(path: Path) -> Path:
    """Return the first free name of `FILE.bak`, `FILE.bak.2` and so on."""
    number, copy = 1, path.with_name(f"{path.name}.bak")
    while os.path.lexists(copy):
        number += 1
        copy = path.with_name(f"{path.name}.bak.{number}")
    return copy
