"""How a receiver takes a certificate: as files in a directory, or by a program that is run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

MODE, KEY_MODE = 0o644, 0o600


@dataclass(frozen=True, slots=True)
class Program:
    """What is run, without a shell: its arguments, the program first, and the directory it runs
    in. One that takes longer than `timeout` is ended.
    """

    arguments: tuple[str, ...]
    directory: str
    timeout: timedelta

    @property
    def digest(self) -> str:
        """SHA-256 over its arguments, which may hold a secret."""
        return hashlib.sha256("\0".join(self.arguments).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FileDelivery:
    """Four PEM files in a directory, and what is run when they have changed.

    `owner` and `group` are names or numbers; `None` is the user that runs certferry. `mode` is
    that of everything but the key.
    """

    directory: str
    owner: str | None = None
    group: str | None = None
    mode: int = MODE
    key_mode: int = KEY_MODE
    reload: Program | None = None


@dataclass(frozen=True, slots=True)
class CommandDelivery:
    """A program that does something with the certificate; the label is its name in reports."""

    label: str
    program: Program


Delivery = FileDelivery | CommandDelivery
