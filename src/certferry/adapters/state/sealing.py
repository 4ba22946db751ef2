"""Encrypts ("seals") the private keys in a state with AES-GCM, each bound to the key's row. Proofs
that certferry wrote a row are sealed in the same way (`row_proofs`).

The state's key lies in a file, or comes from the configuration. The database alone, or a backup of
the database alone, reveals no secret.
"""

from __future__ import annotations

import base64
import binascii
import glob
import hashlib
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

from certferry.adapters.state.columns import Value, to_moment
from certferry.adapters.state.database import Reader, Transaction
from certferry.adapters.state.failures import translating_errors
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, StateError
from certferry.file_trust import checked_path, group_that_reads, must_be_trusted
from certferry.text import Text
from certferry.whole_file import draft_beside, replace_file, sync_directory

_NONCE_BYTES = 12  # NIST SP 800-38D §8.2; each secret has a random nonce
_CHECK = ("check", "certferry")
"""The words bound to a state's check: an empty text that only the state's key opens."""
_HISTORY = ("history", "certferry")


class Key:
    """A key: seals text bound to words, and opens the sealed text with the same words."""

    def __init__(self, key: bytes) -> None:
        self.raw = key
        self._cipher = AESGCM(key)

    def seal(self, plain: str, *bound_to: Value) -> str:
        """Return the text, sealed and in Base64."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, plain.encode(), _associated(bound_to))
        return base64.b64encode(nonce + sealed).decode("ascii")

    def open(self, sealed: str, *bound_to: Value) -> str | None:
        """Return the text, or `None` if another key sealed the text or the words differ."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            nonce, rest = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, rest, _associated(bound_to)).decode()
        except (InvalidTag, ValueError):
            return None


class Sealing:
    """Seals and opens secrets with the key in a file, or with a given key.

    A secret is bound to words (a kind, a lineage, a fingerprint …). Opening requires the same
    words, so a sealed text copied to another row does not open there::

        sealed = sealing.seal(transaction, secret, "order", lineage, url)
        sealing.unseal(sealed, "order", lineage, url)  # the secret
    """

    def __init__(self, key: Path | Secret) -> None:
        self._source = key
        # The key that opened the last check or proof. A run reads hundreds of rows with proofs, and
        # should read the key file only once.
        self._in_force: Key | None = None

    def seal(self, transaction: Transaction, secret: Secret, *bound_to: str) -> str:
        """Return a secret, sealed. For the first secret of a state, make the key file if absent.

        Raises `StateError` if the database was sealed with another key: with two keys in a
        database, neither key would open everything.
        """
        return self.begin(transaction).seal(secret.reveal(), *bound_to)

    def unseal(self, sealed: str, *bound_to: str) -> Secret | None:
        """Open a sealed secret, and return the secret, or `None` if another key sealed the secret
        or the words differ. Raises `StateError` without a key.
        """
        _, plain = self._opened(sealed, bound_to)
        return None if plain is None else Secret(plain)

    def must_open(self, reader: Reader) -> Key | None:
        """Return the state's key, or `None` before the first secret. Raises `StateError` if the
        given key does not open the state's check.
        """
        for row in reader.rows("SELECT sealed_check FROM sealing"):
            key, plain = self._opened(row["sealed_check"], _CHECK)
            if plain is None:
                raise _changed(reader, self._source) or _other_key(self._source)
            self._in_force = key
            return key
        return None

    def begin(self, transaction: Transaction) -> Key:
        """Return the key in force; before the first secret, store the check that only this key
        opens. Raises as `seal` does.
        """
        key = self.must_open(transaction)
        if key is None:
            self._make_key()
            key = Key(self._key())
            transaction.add("sealing", number=1, sealed_check=key.seal("", *_CHECK))
        return key

    def prove(self, transaction: Transaction, *bound_to: Value) -> str:
        """Return a proof for a row to be written. Raises as `seal` does."""
        return self.begin(transaction).seal("", *bound_to)

    def proves(self, proof: object, *bound_to: Value) -> bool:
        """Return whether a proof fits the values of a row. Raises `StateError` if the key cannot be
        read and has opened nothing yet.
        """
        if not isinstance(proof, str):
            return False
        if self.is_proven(proof, *bound_to):
            return True
        try:
            key, plain = self._opened(proof, bound_to)  # perhaps the key was changed since
        except StateError:
            if self.is_in_force:
                return False
            raise
        if plain == "":
            self._in_force = key
        return plain == ""

    def is_proven(self, proof: str | None, *bound_to: Value) -> bool:
        """Return whether a proof made with the key in force fits the values. Unlike `proves`, never
        read the key file.
        """
        key = self._in_force
        return key is not None and proof is not None and key.open(proof, *bound_to) == ""

    @property
    def is_in_force(self) -> bool:
        """Whether the key has opened any check or proof. Until then, a proof that does not open may
        be due to a wrong key.
        """
        return self._in_force is not None

    def history_key(self, reader: Reader) -> bytes:
        """Return the key of the history's chain. Raises `StateError` without the state's key.

        The chain's key is derived from the state's first key (RFC 5869). If the state's key is
        changed, the chain's key stays, because the entries are not sealed anew.
        """
        key = self.must_open(reader)
        for row in reader.rows("SELECT history_key FROM sealing WHERE history_key IS NOT NULL"):
            plain = None if key is None else key.open(row["history_key"], *_HISTORY)
            if plain is None:
                raise _other_key(self._source)
            return base64.b64decode(plain)
        derivation = HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=b"certferry history")
        return derivation.derive(self._key())

    def keep_history_key(self, transaction: Transaction, kept: bytes) -> None:
        """Store the key of the history's chain, sealed with this object's key. The chain's key
        cannot be derived from a changed key of the state.
        """
        sealed = Key(self._key()).seal(encoded(kept).decode().strip(), *_HISTORY)
        transaction.execute("UPDATE sealing SET history_key = ?", sealed)

    def _opened(self, sealed: str, bound_to: tuple[Value, ...]) -> tuple[Key, str | None]:
        key = Key(self._key())
        plain = key.open(sealed, *bound_to)
        if plain is None and isinstance(self._source, Path):
            return _opened_by_new(self._source, sealed, bound_to) or (key, None)
        return key, plain

    def _key(self) -> bytes:
        return key_of(self._source)

    def _make_key(self) -> None:
        if isinstance(self._source, Path):
            make_key(self._source)


def change_key(transaction: Transaction, key: Key, at: str, host: str) -> None:
    """Store that `key` seals a state from now on, and the time and host of the change."""
    check = key.seal("", *_CHECK)
    transaction.update("sealing", {"number": 1}, sealed_check=check, changed_at=at, changed_on=host)


def _opened_by_new(path: Path, sealed: str, bound_to: tuple[Value, ...]) -> tuple[Key, str] | None:
    """Open a text with a new key file that an interrupted change of the key left beside the old key
    file: the state was sealed anew already. Return the new key and the text, and put the new file
    in place if possible. Return `None` if no new key opens the text.
    """
    for new in new_key_files(path):
        with suppress(StateError):
            key = Key(read_key(new))
            plain = key.open(sealed, *bound_to)
            if plain is not None:
                with suppress(StateError):
                    put_key(new, path)
                return key, plain
    return None


def _changed(reader: Reader, source: Path | Secret) -> StateError | None:
    """Return the error for a key that was in force before the last change of the key, or `None` if
    the key was never changed.
    """
    query = "SELECT changed_at, changed_on FROM sealing WHERE changed_at IS NOT NULL"
    with suppress(StateError):  # another program may have changed the moment
        for row in reader.rows(query):
            hint = Text("set `key` of [state] to the new key; nothing was changed")
            if isinstance(source, Path):
                hint = Text("put the new key into {path}; nothing was changed", path=source)
            message = Text("the key of the state was changed at {moment} on host {host}")
            at = to_moment(row["changed_at"])
            return StateError(message.filled(moment=at, host=row["changed_on"]), hint=hint)
    return None


def _other_key(source: Path | Secret) -> StateError:
    if isinstance(source, Path):
        return StateError(
            Text("the key in {path} does not open the state", path=source),
            hint=way_out(source),
        )
    return StateError(
        Text("`key` of [state] does not open the state"),
        hint=Text(
            "set `key` of [state] to the same value as on the other hosts; nothing was changed"
        ),
    )


# The encoder is made once, because a run reads hundreds of rows with proofs. `repr` is for bytes,
# which another program may have stored in SQLite.
_AS_JSON = json.JSONEncoder(default=repr).encode


def _associated(bound_to: tuple[Value, ...]) -> bytes:
    # JSON keeps the words apart: ("a", "bc") is not ("ab", "c"). A flag becomes a number, because
    # SQLite stores flags as numbers.
    if bool in map(type, bound_to):
        bound_to = tuple(int(word) if isinstance(word, bool) else word for word in bound_to)
    return _AS_JSON(bound_to).encode()


KEY_BYTES = 32  # AES-256

_LONGEST = 1024
"""The most bytes to read from a key file. A key has 45 bytes, but any file may lie there."""


def make_key(path: Path) -> None:
    """Make the file with a new key, readable only by the owner, or keep the existing file."""
    with translating_errors(path):
        make_directory(path.parent)
        make_file(path, encoded(secrets.token_bytes(KEY_BYTES)))


def new_key() -> str:
    """Return a new key, in the form of `key` of [state]."""
    return encoded(secrets.token_bytes(KEY_BYTES)).decode().strip()


def key_of(source: Path | Secret) -> bytes:
    """Return the given key, or the key in a file. Raises as `read_key`, and `ConfigError` if the
    given text is not a key, or is easy to guess.
    """
    if isinstance(source, Path):
        return read_key(source)
    key = _decoded(source.reveal().encode())
    if key is None:
        raise ConfigError(
            Text("`key` of [state] is not a key: {count} bytes in base64", count=KEY_BYTES),
            hint=_A_NEW_ONE,
        )
    if _is_guessed(key):
        raise ConfigError(Text("`key` of [state] is easy to guess"), hint=_A_NEW_ONE)
    return key


_A_NEW_ONE = Text("`certferry state key` prints a key for a new state")

_LEAST_DIFFERENT = 16
"""The fewest different bytes in a key. Only one random key in 10**16 has fewer; zeros, or a
repeated word, can be guessed."""


def _is_guessed(key: bytes) -> bool:
    return len(set(key)) < _LEAST_DIFFERENT


def encoded(key: bytes) -> bytes:
    """Return a key in the form of the key file."""
    return base64.b64encode(key) + b"\n"


def read_key(path: Path) -> bytes:
    """Return the key in a file. Raises `StateError` if the file is absent, open to others, or holds
    anything else.
    """
    with translating_errors(path):
        try:
            content = _read(path)
        except FileNotFoundError:
            raise _missing(path) from None
    return _decode(content, path)


_NEW = ".new-"
"""The middle of the name of a new key file: `<key file>.new-<number of the new key>`."""


def add_new_key(path: Path, key: bytes, in_force: Key | None) -> Path:
    """Write a new key to a file beside the old key file, with the same owner and mode, and return
    the new path.

    Remove the new files of earlier, interrupted changes, unless such a file holds the key in force.
    The new file's name contains a digest of the key, so two changes write two files. If nothing is
    sealed yet, `in_force` is `None`, and there is no old file. Raises `StateError`.
    """
    file = path.resolve()
    new = file.with_name(file.name + _NEW + hashlib.sha256(key).hexdigest()[:8])
    with translating_errors(path):
        if in_force is None:
            make_directory(file.parent)
            make_file(new, encoded(key))
            return new
        if read_key(path) == in_force.raw:
            for left in new_key_files(path):
                left.unlink()
        facts = file.stat()
        replace_file(new, encoded(key), stat.S_IMODE(facts.st_mode), owner=facts)
        sync_directory(file.parent)
    return new


def new_key_files(path: Path) -> tuple[Path, ...]:
    """Return the new key files beside a key file. Each is left by a change of the key that was
    interrupted before the new file replaced the old file.
    """
    file = path.resolve()
    return tuple(sorted(file.parent.glob(f"{glob.escape(file.name + _NEW)}*")))


def put_key(new: Path, path: Path) -> None:
    """Replace the old key file by a new key file, unless another process already has. Raises
    `StateError`.
    """
    with translating_errors(path), suppress(FileNotFoundError):
        new.replace(path.resolve())
        sync_directory(path.resolve().parent)


def way_out(path: Path) -> Text:
    """Return the hint for a state that the key in the key file does not open."""
    return Text(
        "put {path} back from the backup of the same state (`certferry restore FILE`). Without a"
        " backup, start over: move the state and the key file away; the next `certferry sync`"
        " creates both anew and issues every certificate again",
        path=path,
    )


def _read(path: Path) -> bytes:
    with checked_path(path) as checked, os.fdopen(checked.open(), "rb", buffering=0) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):  # opening a FIFO would wait for a writer
            raise _no_key(path)
        if stat.S_IMODE(facts.st_mode) & (OPEN_TO_OTHERS & ~group_that_reads(facts)):
            raise _open_to_others(path)
        checked.judge(facts)
        return file.read(_LONGEST)


def _decode(content: bytes, path: Path) -> bytes:
    key = _decoded(content)
    if key is None:
        raise _no_key(path)
    if _is_guessed(key):
        raise StateError(Text("the key in {path} is easy to guess", path=path), hint=_A_NEW_ONE)
    return key


def _decoded(content: bytes) -> bytes | None:
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except binascii.Error:
        return None
    return key if len(key) == KEY_BYTES else None


def _no_key(path: Path) -> StateError:
    return StateError(
        Text("{path} does not contain a key", path=path),
        hint=Text(
            "the file must be one line, {count} bytes in base64; {otherwise}",
            count=KEY_BYTES,
            otherwise=way_out(path),
        ),
    )


def _missing(path: Path) -> StateError:
    return StateError(
        Text("the key file {path} is missing, and the state is sealed with the key", path=path),
        hint=Text(
            "set `key_file` of [state] to the file's place; {otherwise}", otherwise=way_out(path)
        ),
    )


def _open_to_others(path: Path) -> StateError:
    return StateError(
        Text("other users can read the key file {path}", path=path),
        hint=Text(
            "run: chmod 600 {path}\nIf Kubernetes mounts the file, set defaultMode: 0400 instead",
            path=shlex.quote(str(path)),
        ),
    )


OWNER_ONLY_DIRECTORY = 0o700
OWNER_ONLY_FILE = 0o600
OPEN_TO_OTHERS = 0o077


def make_directory(path: Path) -> None:
    """Make a directory and the missing directories above. Raises `OSError`: `NotTrusted` if other
    users could put files there, or replace the directory.
    """
    if path.exists():
        must_be_trusted(path, makes_files=True)
        return
    make_directory(path.parent)
    path.mkdir(OWNER_ONLY_DIRECTORY, exist_ok=True)


def make_file(path: Path, content: bytes) -> None:
    """Make a file with all its content at once, or keep the existing file. Raises `OSError`.

    The content is written under another name, then linked. If two processes make the file at the
    same moment, the file of the first process remains, and both processes read a complete file.
    """
    if path.exists():
        return
    draft = draft_beside(path, content, OWNER_ONLY_FILE)
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    # If the key file is lost, every sealed key is lost as well.
    sync_directory(path.parent)
