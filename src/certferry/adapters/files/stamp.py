"""A moment that is stored without a state: what was sent last, where no state can be written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from certferry.file_trust import open_directory

_LONGEST = 100
"""Bytes of a code that are read."""

_OWNER_ONLY = 0o600
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Stamped:
    """What was sent, and when. The code is empty where the disk had no room for it."""

    code: str
    at: datetime


class Stamp:
    """An empty file, or nearly so, in the first of some directories that takes it. One in which
    other users can make files is passed over: they could keep trouble from being reported.

    `about` is what the stamp is of: another one has another file.
    """

    def __init__(self, directories: Iterable[Path], about: str) -> None:
        self._directories = tuple(dict.fromkeys(directories))
        self._name = f".certferry-told-{hashlib.sha256(about.encode()).hexdigest()[:12]}"

    def last(self) -> Stamped | None:
        """Return the newest stamp."""
        found = []
        for place in self._directories:
            with suppress(OSError), _in(place) as directory:
                found.append(self._read(directory))
        return max(found, key=lambda one: one.at, default=None)

    def put(self, code: str, now: datetime) -> None:
        """Store that something was sent; where no directory takes that, nothing is stored."""
        for place in self._directories:
            with suppress(OSError), _in(place) as directory:
                self._write(directory, code, now)
                return

    def remove(self) -> None:
        """Delete what is stored."""
        for place in self._directories:
            with suppress(OSError), _in(place) as directory:
                os.unlink(self._name, dir_fd=directory)

    def _write(self, directory: int, code: str, now: datetime) -> None:
        file = os.open(self._name, _WRITE, _OWNER_ONLY, dir_fd=directory)
        with os.fdopen(file, "wb", buffering=0) as opened:
            with suppress(OSError):  # on a full disk there is room for a name, and none for words
                opened.write(code.encode())
            moment = now.timestamp()
            os.utime(file, (moment, moment))

    def _read(self, directory: int) -> Stamped:
        file = os.open(self._name, _READ, dir_fd=directory)
        with os.fdopen(file, "rb", buffering=0) as opened:
            code = opened.read(_LONGEST).decode(errors="replace")
            return Stamped(code, datetime.fromtimestamp(os.fstat(file).st_mtime, UTC))


@contextmanager
def _in(place: Path) -> Iterator[int]:
    directory = open_directory(place)
    try:
        yield directory
    finally:
        os.close(directory)
