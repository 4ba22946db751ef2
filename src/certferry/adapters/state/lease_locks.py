"""The system's locks behind the leases: one file for each lineage, in a private directory."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import ExitStack
from pathlib import Path

from certferry.adapters.state.failures import in_our_words
from certferry.adapters.state.private_files import OWNER_ONLY_FILE, make_directory


class LeaseLocks:
    """Locks that end with the process that holds them, however it ends (flock(2)).

    Each belongs to one opening of its file, so threads of one process exclude each other as well,
    and a program that the holder started keeps nothing: the descriptor is not inherited. The files
    are empty and stay: removing one would let two runs lock two files of one name. On a network's
    file system they hold as far as its locks do, like those of the database itself; one without
    locks is an error.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, lineage: str) -> ExitStack | None:
        """Lock a lineage, until what is returned is closed; `None` while it is locked already.
        Raises `StateUnavailable`.
        """
        # A lineage may have any characters, and more of them than a file's name.
        path = self._directory / hashlib.sha256(lineage.encode()).hexdigest()
        with in_our_words(path), ExitStack() as opened:
            make_directory(self._directory)
            # Writable: NFS locks exclusively through nothing less (flock(2)).
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY_FILE)
            opened.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            return opened.pop_all()
