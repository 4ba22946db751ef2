"""Private keys at rest: AES-GCM, each bound to the row it belongs to. Rows without a secret can be
bound in the same way, so that they cannot be made others.

The key lies in its own file, so that the database alone, or a backup of it, gives nothing away.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certferry.adapters.state.database import Connection, Database
from certferry.adapters.state.key_file import make_key, read_key, way_out
from certferry.core.secret import Secret
from certferry.errors import StateError
from certferry.text import Text

_NONCE_BYTES = 12  # NIST SP 800-38D §8.2; a random one for each secret
_CHECK = ("check", "certferry")


class Sealing:
    """Seals and opens secrets with the key of a file.

    What a secret is bound to (its kind, lineage, fingerprint …) has to be said again to open it:
    a sealed text that is moved to another row stays shut there.
    """

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file

    def seal(self, connection: Connection, secret: Secret, *bound_to: str) -> str:
        """Seal a secret inside a write. The first one ever makes the key file.

        Raises `StateError` when the key is not the one that the rest of the database is sealed
        with: two keys in one database would mean that neither file opens all of it.
        """
        return self._encrypt(self._key_in_force(connection), secret.reveal(), bound_to)

    def unseal(self, sealed: str, *bound_to: str) -> Secret:
        """Open a secret. Raises `StateError` when the key file does not fit."""
        return Secret(self._decrypt(read_key(self._key_file), sealed, bound_to))

    def must_open(self, database: Database) -> None:
        """Raise `StateError` when the key file does not open what the database is sealed with."""
        for (check,) in database.rows("SELECT sealed_check FROM sealing"):
            self.unseal(check, *_CHECK)

    def bind(self, connection: Connection, *bound_to: str) -> str:
        """Give the proof that a row was written here, inside a write. Raises as `seal` does."""
        return self._encrypt(self._key_in_force(connection), "", bound_to)

    def is_bound(self, proof: str | None, *bound_to: str) -> bool:
        """Tell whether a row is as it was written. Raises `StateError` where there is no key."""
        return proof is not None and self._opened(read_key(self._key_file), proof, bound_to) == ""

    def proof_of(self, *bound_to: str) -> str | None:
        """Give the proof of a row that was written before there were proofs; `None` without a key,
        which a later run may find.
        """
        try:
            return self._encrypt(read_key(self._key_file), "", bound_to)
        except StateError:
            return None

    def _key_in_force(self, connection: Connection) -> bytes:
        found = connection.execute("SELECT sealed_check FROM sealing").fetchone()
        if found is not None:
            key = read_key(self._key_file)
            self._decrypt(key, found[0], _CHECK)
            return key
        make_key(self._key_file)
        key = read_key(self._key_file)
        check = self._encrypt(key, "", _CHECK)
        connection.execute("INSERT INTO sealing (number, sealed_check) VALUES (1, ?)", (check,))
        return key

    def _encrypt(self, key: bytes, plain: str, bound_to: tuple[str, ...]) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, plain.encode(), _associated(bound_to))
        return base64.b64encode(nonce + sealed).decode("ascii")

    def _decrypt(self, key: bytes, sealed: str, bound_to: tuple[str, ...]) -> str:
        opened = self._opened(key, sealed, bound_to)
        if opened is None:
            raise StateError(
                Text("the key in {path} does not open what the state holds", path=self._key_file),
                hint=way_out(self._key_file),
            )
        return opened

    def _opened(self, key: bytes, sealed: str, bound_to: tuple[str, ...]) -> str | None:
        try:
            raw = base64.b64decode(sealed, validate=True)
            nonce, rest = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return AESGCM(key).decrypt(nonce, rest, _associated(bound_to)).decode()
        except (InvalidTag, ValueError):
            return None


def _associated(bound_to: tuple[str, ...]) -> bytes:
    # JSON, because joined words could be cut elsewhere: ("a", "bc") is not ("ab", "c").
    return json.dumps(bound_to).encode()
