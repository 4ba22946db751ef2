"""Private keys at rest: AES-GCM, each bound to the row it belongs to. Rows without a secret can be
bound in the same way, so that they cannot be made others.

The key lies in its own file, or is given by the configuration, so that the database alone, or a
backup of it, gives nothing away.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from certferry.adapters.state.database import Database, Reader, Transaction
from certferry.adapters.state.failures import translating_errors
from certferry.core.secret import Secret
from certferry.errors import ConfigError, StateError
from certferry.file_trust import checked_path, group_that_reads, must_be_trusted
from certferry.text import Text
from certferry.whole_file import draft_beside, sync_directory

_NONCE_BYTES = 12  # NIST SP 800-38D §8.2; a random one for each secret
_CHECK = ("check", "certferry")
_HISTORY = ("history", "certferry")


class Sealing:
    """Seals and opens secrets with the key of a file, or with one that is given.

    What a secret is bound to (its kind, lineage, fingerprint …) has to be said again to open it:
    a sealed text that is moved to another row stays shut there.
    """

    def __init__(self, key: Path | Secret) -> None:
        self._source = key
        self._history_key: bytes | None = None

    def seal(self, transaction: Transaction, secret: Secret, *bound_to: str) -> str:
        """Seal a secret inside a write. The first one ever makes the key file.

        Raises `StateError` when the key is not the one that the rest of the database is sealed
        with: two keys in one database would mean that neither file opens all of it.
        """
        return self._encrypt(self._key_in_force(transaction), secret.reveal(), bound_to)

    def unseal(self, sealed: str, *bound_to: str) -> Secret:
        """Open a secret. Raises `StateError` when the key file does not fit."""
        return Secret(self._decrypt(self._key(), sealed, bound_to))

    def must_open(self, database: Database) -> None:
        """Raise `StateError` when the key does not open what the database is sealed with."""
        for row in database.rows("SELECT sealed_check FROM sealing"):
            self.unseal(row["sealed_check"], *_CHECK)

    def begin(self, transaction: Transaction) -> None:
        """Store what only the key in force opens, unless it is there. Raises as `seal` does."""
        self._key_in_force(transaction)

    def bind(self, transaction: Transaction, *bound_to: str) -> str:
        """Return the proof that a row was written here, inside a write. Raises as `seal` does."""
        return self._encrypt(self._key_in_force(transaction), "", bound_to)

    def is_bound(self, proof: str | None, *bound_to: str) -> bool:
        """Return whether a row is as it was written. Raises `StateError` where there is no key."""
        return proof is not None and self._opened(self._key(), proof, bound_to) == ""

    def proof_of(self, *bound_to: str) -> str | None:
        """Return the proof of a row that was written before there were proofs; `None` without a
        key, which a later run may find.
        """
        try:
            return self._encrypt(self._key(), "", bound_to)
        except StateError:
            return None

    def history_key(self, reader: Reader) -> bytes:
        """Return the key of the history's chain: derived from the state's (RFC 5869), or that of
        the key before, where the state's was replaced: entries are never sealed anew. Raises
        `StateError` where there is no key, or another.
        """
        key = self._key()
        for row in reader.rows("SELECT sealed_check, history_key FROM sealing"):
            self._decrypt(key, row["sealed_check"], _CHECK)
            if row["history_key"] is not None:
                return base64.b64decode(self._decrypt(key, row["history_key"], _HISTORY))
        derivation = HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=b"certferry history")
        return derivation.derive(key)

    def history_key_in_force(self, transaction: Transaction) -> bytes:
        """Return the same inside a write; read once, since it is one for ever. Raises as `seal`."""
        if self._history_key is None:
            self.begin(transaction)
            self._history_key = self.history_key(transaction)
        return self._history_key

    def keep_history_key(self, transaction: Transaction, kept: bytes) -> None:
        """Store the key of the history's chain where this key takes another's place."""
        sealed = self._encrypt(self._key(), encoded(kept).decode().strip(), _HISTORY)
        transaction.execute("UPDATE sealing SET history_key = ?", sealed)

    def _key_in_force(self, transaction: Transaction) -> bytes:
        for row in transaction.rows("SELECT sealed_check FROM sealing"):
            key = self._key()
            self._decrypt(key, row["sealed_check"], _CHECK)
            return key
        self._make_key()
        key = self._key()
        check = self._encrypt(key, "", _CHECK)
        transaction.add("sealing", number=1, sealed_check=check)
        return key

    def _key(self) -> bytes:
        return key_of(self._source)

    def _make_key(self) -> None:
        if isinstance(self._source, Path):
            make_key(self._source)

    def _encrypt(self, key: bytes, plain: str, bound_to: tuple[str, ...]) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, plain.encode(), _associated(bound_to))
        return base64.b64encode(nonce + sealed).decode("ascii")

    def _decrypt(self, key: bytes, sealed: str, bound_to: tuple[str, ...]) -> str:
        opened = self._opened(key, sealed, bound_to)
        if opened is None:
            raise _other_key(self._source)
        return opened

    def _opened(self, key: bytes, sealed: str, bound_to: tuple[str, ...]) -> str | None:
        try:
            raw = base64.b64decode(sealed, validate=True)
            nonce, rest = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return AESGCM(key).decrypt(nonce, rest, _associated(bound_to)).decode()
        except (InvalidTag, ValueError):
            return None


def _other_key(source: Path | Secret) -> StateError:
    if isinstance(source, Path):
        return StateError(
            Text("the key in {path} does not open what the state holds", path=source),
            hint=way_out(source),
        )
    return StateError(
        Text("`key` of [state] does not open what the state holds"),
        hint=Text("give it the value that it has on the other hosts; nothing was changed"),
    )


def _associated(bound_to: tuple[str, ...]) -> bytes:
    # JSON, because joined words could be cut elsewhere: ("a", "bc") is not ("ab", "c").
    return json.dumps(bound_to).encode()


KEY_BYTES = 32  # AES-256

_LONGEST = 1024
"""Bytes that are read: anything may lie there, and a key has 45."""


def make_key(path: Path) -> None:
    """Make the file with a new key, unless there is one; only its owner can ever read it."""
    with translating_errors(path):
        make_directory(path.parent)
        make_file(path, encoded(secrets.token_bytes(KEY_BYTES)))


def new_key() -> str:
    """Return a new key as `key` of [state] has it."""
    return encoded(secrets.token_bytes(KEY_BYTES)).decode().strip()


def key_of(source: Path | Secret) -> bytes:
    """Return the key of a file, or the one that is given. Raises as `read_key`, and `ConfigError`
    for one that is given and is no key.
    """
    if isinstance(source, Path):
        return read_key(source)
    found = _decoded(source.reveal().encode())
    if found is None:
        raise ConfigError(
            Text("`key` of [state] is not a key: {count} bytes in base64", count=KEY_BYTES),
            hint=Text("`certferry state key` prints a new one, for a new state"),
        )
    return found


def encoded(key: bytes) -> bytes:
    """Write a key as its file has it."""
    return base64.b64encode(key) + b"\n"


def read_key(path: Path) -> bytes:
    """Return the key. Raises `StateError` when it is not there, not a key, or open to others."""
    with translating_errors(path):
        try:
            content = _read(path)
        except FileNotFoundError:
            raise _missing(path) from None
    return _decode(content, path)


def way_out(path: Path) -> Text:
    """Return how to go on where the key file is not the one that the state is sealed with."""
    return Text(
        "put {path} back from the backup that belongs to this state; without a backup, start over:"
        " move the state and the key file away, and the next `certferry sync` makes both anew and"
        " issues every certificate again",
        path=path,
    )


def _read(path: Path) -> bytes:
    with checked_path(path) as found, os.fdopen(found.open(), "rb", buffering=0) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):  # opening a FIFO would wait for a writer
            raise _no_key(path)
        if stat.S_IMODE(facts.st_mode) & (OPEN_TO_OTHERS & ~group_that_reads(facts)):
            raise _open_to_others(path)
        found.judge(facts)
        return file.read(_LONGEST)


def _decode(content: bytes, path: Path) -> bytes:
    key = _decoded(content)
    if key is None:
        raise _no_key(path)
    return key


def _decoded(content: bytes) -> bytes | None:
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except binascii.Error:
        return None
    return key if len(key) == KEY_BYTES else None


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


OWNER_ONLY_DIRECTORY = 0o700
OWNER_ONLY_FILE = 0o600
OPEN_TO_OTHERS = 0o077


def make_directory(path: Path) -> None:
    """Make a directory, and those above it that are missing. Raises `OSError`: `NotTrusted` where
    others could put files there, or another directory in its place.
    """
    if path.exists():
        must_be_trusted(path, makes_files=True)
        return
    make_directory(path.parent)
    path.mkdir(OWNER_ONLY_DIRECTORY, exist_ok=True)


def make_file(path: Path, content: bytes) -> None:
    """Make a file that appears whole, or leave the one that is there. Raises `OSError`.

    It is written under another name and linked: when two make it at the same moment, one of
    them wins, and neither reads a half-written one.
    """
    if path.exists():
        return
    draft = draft_beside(path, content, OWNER_ONLY_FILE)
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    # A key file that is lost takes every sealed key with it.
    sync_directory(path.parent)
