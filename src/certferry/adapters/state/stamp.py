"""A moment that is kept without a state: what was told last, where no state can remember it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from certferry.adapters.state.sealing import OWNER_ONLY_FILE
from certferry.file_trust import open_directory

_LONGEST = 100
"""Bytes of a code that are read."""

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Stamped:
    """What was told, and when. The code is empty where the disk had no room for it."""

    code: str
    at: datetime


class Stamp:
    """An empty file, or nearly so, in the first of some directories that takes it. One in which
    other users can make files is passed over: they could keep trouble from being told.

    `about` is what the stamp is of: another one has another file.
    """

    def __init__(self, directories: Iterable[Path], about: str) -> None:
        self._directories = tuple(dict.fromkeys(directories))
        self._name = f".certferry-told-{hashlib.sha256(about.encode()).hexdigest()[:12]}"

    def last(self) -> Stamped | None:
        """Return the newest stamp."""
        found = [stamped for place in self._directories if (stamped := self._read(place))]
        return max(found, key=lambda one: one.at, default=None)

    def put(self, code: str, now: datetime) -> None:
        """Keep that something was told; where no directory takes that, nothing is kept."""
        for place in self._directories:
            with suppress(OSError):
                self._write(place, code, now)
                return

    def remove(self) -> None:
        """Forget what was told."""
        for place in self._directories:
            with suppress(OSError):
                directory = open_directory(place)
                try:
                    os.unlink(self._name, dir_fd=directory)
                finally:
                    os.close(directory)

    def _write(self, place: Path, code: str, now: datetime) -> None:
        directory = open_directory(place)
        try:
            file = os.open(self._name, _WRITE, OWNER_ONLY_FILE, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            with suppress(OSError):  # on a full disk there is room for a name, and none for words
                os.write(file, code.encode())
            moment = now.timestamp()
            os.utime(file, (moment, moment))
        finally:
            os.close(file)

    def _read(self, place: Path) -> Stamped | None:
        try:
            directory = open_directory(place)
            try:
                file = os.open(self._name, _READ, dir_fd=directory)
            finally:
                os.close(directory)
            try:
                code = os.read(file, _LONGEST).decode(errors="replace")
                return Stamped(code, datetime.fromtimestamp(os.fstat(file).st_mtime, UTC))
            finally:
                os.close(file)
        except OSError:
            return None
