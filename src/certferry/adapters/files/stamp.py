"""A file with the last message sent to operators, for use while the state cannot be written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from certferry.adapters.files.directory import opened

_LONGEST = 100
"""Maximum number of bytes of a stored code."""

_OWNER_ONLY = 0o600
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Stamped(Struct, frozen=True):
    """The last message sent."""

    #: The message's code; empty if the disk was full.
    code: str
    #: When the message was sent.
    at: datetime


class Stamp:
    """A small file with the code of the last message, written to the first of the `directories`
    that can be written.

    A directory that other users can write is left out, because another user could suppress messages
    there. Each subject (`about`) has a separate file.
    """

    def __init__(self, directories: Iterable[Path], about: str) -> None:
        self._directories = tuple(dict.fromkeys(directories))
        self._name = f".certferry-told-{hashlib.sha256(about.encode()).hexdigest()[:12]}"

    def last(self) -> Stamped | None:
        """Return the newest stamp in all directories; `None` if no stamp can be read."""
        stamps = []
        for place in self._directories:
            with suppress(OSError), opened(place) as directory:
                stamps.append(self._read(directory.handle))
        return max(stamps, key=lambda stamp: stamp.at, default=None)

    def put(self, code: str, now: datetime) -> None:
        """Store that a message was sent. If no directory is writable, store nothing."""
        for place in self._directories:
            with suppress(OSError), opened(place) as directory:
                self._write(directory.handle, code, now)
                return

    def remove(self) -> None:
        """Delete the stamps in all directories."""
        for place in self._directories:
            with suppress(OSError), opened(place) as directory:
                os.unlink(self._name, dir_fd=directory.handle)

    def _write(self, directory: int, code: str, now: datetime) -> None:
        file = os.open(self._name, _WRITE, _OWNER_ONLY, dir_fd=directory)
        with os.fdopen(file, "wb", buffering=0) as stamp:
            with suppress(OSError):  # a full disk takes a name, but no content
                stamp.write(code.encode())
            moment = now.timestamp()
            os.utime(file, (moment, moment))

    def _read(self, directory: int) -> Stamped:
        file = os.open(self._name, _READ, dir_fd=directory)
        with os.fdopen(file, "rb", buffering=0) as stamp:
            code = stamp.read(_LONGEST).decode(errors="replace")
            return Stamped(code, datetime.fromtimestamp(os.fstat(file).st_mtime, UTC))
