"""Reading files that other programs write: only regular ones, and never waiting."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from certferry.errors import CertificateError
from certferry.system_words import system_words
from certferry.text import Text

LARGEST = 1 << 20
"""Bytes: a chain has a few thousand, and a wrong path may lead to anything."""


def contents_of(path: Path, *, hint: Text | None = None) -> bytes:
    """Read a file whole. Raises `CertificateError` when that cannot be, or it is too large."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = _read(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        problem = Text("{path}: {problem}", path=path, problem=system_words(error))
        raise CertificateError(problem, hint=hint) from error
    if data is None:
        raise CertificateError(Text("{path}: is not a regular file", path=path), hint=hint)
    if len(data) > LARGEST:
        raise CertificateError(
            Text("{path}: too large for a certificate, a key or notes about them", path=path)
        )
    return data


def _read(descriptor: int) -> bytes | None:
    """Read at most a byte more than may be there; `None` for a FIFO, a socket or a device."""
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # what is wrong with the latter, open says
        return None
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(LARGEST + 1)
