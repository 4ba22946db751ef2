"""What opens the console is made and verified here: passwords, links to choose one, API tokens. Who
changed it stands in the history.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
from datetime import datetime, timedelta
from functools import cache

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from certferry.core.access import (
    LINK_IS_GOOD_FOR,
    TOKEN,
    PasswordLink,
    Role,
    Token,
    digest_of_secret,
)
from certferry.core.events import Happened
from certferry.core.observed.records import ACCESS
from certferry.ports.access import AccessStore
from certferry.ports.state import StateStore
from certferry.reconcile.run import history_keeper

_MEMORY, _PASSES, _LANES = 19 * 1024, 2, 1
"""KiB, and how often each is filled: OWASP's (Password Storage Cheat Sheet, 2026-11-29). RFC 9106's
second recommendation, 64 MiB, is half of what a console may take, and takes 110 ms here; this takes
25 ms."""
_SALT_BYTES, _HASH_BYTES = 16, 32  # RFC 9106 §4

_SECRET_BYTES = 32
_SHOWN = len(TOKEN) + 5
"""Characters by which a token is known: 30 bits of its 256."""


def hashed(password: str) -> str:
    """Return what is stored of a password: Argon2id (RFC 9106) as a PHC string. Takes 19 MiB and
    tens of milliseconds.
    """
    salt = os.urandom(_SALT_BYTES)
    kind = Argon2id(
        salt=salt, length=_HASH_BYTES, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY
    )
    return kind.derive_phc_encoded(_bytes(password))


def is_password(password: str, stored: str | None) -> bool:
    """Return whether a password is the one that is stored. Where none is, for an unknown user, that
    takes as long.
    """
    try:
        Argon2id.verify_phc_encoded(_bytes(password), stored or _of_no_user())
    except InvalidKey:
        return False
    return stored is not None


@cache
def _of_no_user() -> str:
    return hashed(secrets.token_hex())


def _bytes(password: str) -> bytes:
    # Keyboards differ in how they compose ä (RFC 8265 §4.2.2).
    return unicodedata.normalize("NFC", password).encode(errors="replace")


def keep_access(state: StateStore, who: str, event: str, **facts: str) -> None:
    """Store in the history what was changed of users or tokens, and by whom; if the state does not
    take it, log that.
    """
    history_keeper(state, state.now, who)(Happened(ACCESS, event, facts))


def make_link(store: AccessStore, user: str, now: datetime) -> str:
    """Return the secret of a new link by which a user chooses a password; an earlier one is good no
    more.
    """
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    store.save_link(PasswordLink(digest_of_secret(secret), user, now + LINK_IS_GOOD_FOR))
    return secret


def make_token(
    store: AccessStore, name: str, role: Role, now: datetime, lasts: timedelta | None
) -> str | None:
    """Return a new token for the API; `None` where the name is taken."""
    secret = TOKEN + secrets.token_urlsafe(_SECRET_BYTES)
    expires_at = None if lasts is None else now + lasts
    token = Token(name, digest_of_secret(secret), secret[:_SHOWN], role, now, expires_at)
    return secret if store.add_token(token) else None
