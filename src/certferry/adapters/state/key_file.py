"""The file with the key that seals secrets at rest."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import shlex
import stat
from pathlib import Path

from certferry.adapters.state.failures import in_our_words
from certferry.adapters.state.private_files import OPEN_TO_OTHERS, make_directory, make_file
from certferry.errors import StateError
from certferry.file_trust import group_that_reads, spot
from certferry.text import Text

KEY_BYTES = 32  # AES-256

_LONGEST = 1024
"""Bytes that are read: anything may lie there, and a key has 45."""


def make_key(path: Path) -> None:
    """Make the file with a new key, unless there is one; only its owner can ever read it."""
    with in_our_words(path):
        make_directory(path.parent)
        make_file(path, encoded(secrets.token_bytes(KEY_BYTES)))


def encoded(key: bytes) -> bytes:
    """Write a key as its file has it."""
    return base64.b64encode(key) + b"\n"


def read_key(path: Path) -> bytes:
    """Give the key. Raises `StateError` when it is not there, not a key, or open to others."""
    with in_our_words(path):
        try:
            content = _read(path)
        except FileNotFoundError:
            raise _missing(path) from None
    return _decode(content, path)


def way_out(path: Path) -> Text:
    """Say how to go on where the key file is not the one that the state is sealed with."""
    return Text(
        "put {path} back from the backup that belongs to this state; without a backup, start over:"
        " move the state and the key file away, and the next `certferry sync` makes both anew and"
        " issues every certificate again",
        path=path,
    )


def _read(path: Path) -> bytes:
    with spot(path) as found, os.fdopen(found.open(), "rb", buffering=0) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):  # opening a FIFO would wait for a writer
            raise _no_key(path)
        if stat.S_IMODE(facts.st_mode) & (OPEN_TO_OTHERS & ~group_that_reads(facts)):
            raise _open_to_others(path)
        found.judge(facts)
        return file.read(_LONGEST)


def _decode(content: bytes, path: Path) -> bytes:
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise _no_key(path)
    return key


def _no_key(path: Path) -> StateError:
    return StateError(
        Text("{path} does not hold a key", path=path),
        hint=Text(
            "it is one line: {count} bytes in base64; {otherwise}",
            count=KEY_BYTES,
            otherwise=way_out(path),
        ),
    )


def _missing(path: Path) -> StateError:
    return StateError(
        Text("the key file {path} is missing, and the state is sealed with it", path=path),
        hint=Text("set `key_file` of [state] to where it is; {otherwise}", otherwise=way_out(path)),
    )


def _open_to_others(path: Path) -> StateError:
    return StateError(
        Text("the key file {path} can be read by others", path=path),
        hint=Text(
            "run: chmod 600 {path}\n"
            "Where Kubernetes mounts it, set defaultMode: 0400 in place of that",
            path=shlex.quote(str(path)),
        ),
    )
