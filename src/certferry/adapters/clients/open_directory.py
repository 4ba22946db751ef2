"""A directory by its handle: files are named within it, so that what its path leads to by now, or a
link in a file's place, makes nothing else be read or replaced.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from certferry.adapters.clients.pem_directory import Access, FoundFile, digest
from certferry.errors import TargetRejected
from certferry.file_trust import open_directory, spot
from certferry.system_words import system_words
from certferry.text import Text

LARGEST = 1 << 20
"""Bytes of a file that is looked at: these have a few thousand, and anything may lie there."""

_DRAFT = ".certferry-draft-"
_PRIVATE = 0o600
_PRIVATE_DIRECTORY = 0o700
_DIRECTORY = 0o755


@dataclass(frozen=True, slots=True)
class OpenDirectory:
    """An open directory; `path` is what it is called in messages. Every method raises `OSError`."""

    handle: int
    path: Path

    def look_at(self, name: str) -> FoundFile | None:
        """Look at a file; what is no regular file, or too large, counts as none."""
        opened = self._read(name)
        if opened is None:
            return None
        data, facts = opened
        access = Access(stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid)
        return FoundFile(digest(data), access)

    def read(self, name: str) -> bytes | None:
        """Read a file, as `look_at` does."""
        opened = self._read(name)
        return None if opened is None else opened[0]

    def draft(self, name: str, content: bytes, access: Access) -> str:
        """Write a file under another name than its own, and on to the disk; give that name.

        It is its owner's before there is anything in it. Raises `TargetRejected` where it may not
        be given to its owner or group; whatever is raised, nothing is left.
        """
        drafted = f"{_DRAFT}{name}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(drafted, flags, _PRIVATE, dir_fd=self.handle)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _give_away(descriptor, self.path / name, access)
                os.fchmod(descriptor, access.mode)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            self.remove(drafted)
            raise
        return drafted

    def put(self, drafted: str, name: str) -> None:
        """Give a draft its name; what was called so, be it a link, is gone."""
        os.replace(drafted, name, src_dir_fd=self.handle, dst_dir_fd=self.handle)

    def replace(self, name: str, content: bytes, access: Access) -> None:
        """Put a file in its place, whole or not at all, as `draft` and `put` do."""
        drafted = self.draft(name, content, access)
        try:
            self.put(drafted, name)
        except BaseException:
            self.remove(drafted)
            raise

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.handle)

    def sweep(self) -> None:
        """Remove drafts that a run which was killed has left."""
        for name in os.listdir(self.handle):  # noqa: PTH208 - pathlib knows no handles
            if name.startswith(_DRAFT):
                self.remove(name)

    def sync(self) -> None:
        """Make new names last: a rename is on the disk when its directory is."""
        os.fsync(self.handle)

    def sync_parent(self) -> None:
        """Make the directory itself last, when it is new."""
        above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.handle)
        try:
            os.fsync(above)
        finally:
            os.close(above)

    def _read(self, name: str) -> tuple[bytes, os.stat_result] | None:
        # Neither through a link, which would be replaced and not followed, nor waiting for a FIFO.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=self.handle)
        except FileNotFoundError:
            return None
        except OSError as exc:
            if exc.errno in {errno.ELOOP, errno.ENXIO}:
                return None
            raise
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST:
                return None
            return file.read(LARGEST), facts


@contextmanager
def opened(path: Path, owners: Collection[int]) -> Iterator[OpenDirectory]:
    """Open a directory for a `with` block. Raises `OSError` as `file_trust.open_directory` does."""
    handle = open_directory(path, owners)
    try:
        yield OpenDirectory(handle, path)
    finally:
        os.close(handle)


@contextmanager
def opened_where_it_is(path: Path) -> Iterator[OpenDirectory]:
    """Open a directory for a `with` block that may be another user's; no link is followed that
    others could lead elsewhere. Raises `OSError`.
    """
    with spot(path, exposed=True) as found:
        handle = found.open(os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield OpenDirectory(handle, path)
    finally:
        os.close(handle)


@contextmanager
def made(path: Path, owners: Collection[int]) -> Iterator[OpenDirectory]:
    """Open a directory as `opened` does; make a missing one, which every user may read."""
    with spot(path, owners) as found:
        try:
            os.mkdir(found.name, _PRIVATE_DIRECTORY, dir_fd=found.directory)
            is_new = True
        except FileExistsError:
            is_new = False
    with opened(path, owners) as place:
        if is_new:
            os.fchmod(place.handle, _DIRECTORY)  # whatever the umask is
            place.sync_parent()
        yield place


def _give_away(descriptor: int, path: Path, access: Access) -> None:
    if access.uid is None and access.gid is None:
        return
    try:
        # -1 leaves it as it is
        os.fchown(
            descriptor,
            -1 if access.uid is None else access.uid,
            -1 if access.gid is None else access.gid,
        )
    except OSError as exc:
        if exc.errno != errno.EPERM:
            raise
        raise TargetRejected(
            Text("{path} cannot be given away: {problem}", path=path, problem=system_words(exc)),
            hint=Text(
                "only root may give a file to another user, or to a group without being in it:"
                " run certferry as root, or leave out `owner` and `group`;"
                " the files that were there before are as they were"
            ),
        ) from exc
