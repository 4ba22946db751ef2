"""Put a file in its place whole: a reader sees the old one or the new one, also after a crash."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace_file(
    path: Path, content: bytes, mode: int = 0o600, *, owner: os.stat_result | None = None
) -> None:
    """Put a file in the place of another, whole or not at all; it belongs to the `owner` of these
    facts, else to the caller. Raises `OSError`.

    `sync_directory` afterwards makes it last.
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
    """Write a file beside its place, under a name that cannot be guessed: who can write there could
    otherwise have put a link in its way. Raises `OSError`, and leaves nothing then.
    """
    # mkstemp makes the file 0600; it is opened wider only when it is complete.
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
    """Make new names last: a rename is on disk when its directory is. Raises `OSError`."""
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
