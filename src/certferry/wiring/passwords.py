"""Make and verify the secrets for the console: passwords, links to choose a password, API tokens.
The history stores who changed users and tokens.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
from datetime import datetime, timedelta
from functools import cache

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from certferry.core import access
from certferry.core.events import Happened
from certferry.core.observed.records import ACCESS
from certferry.ports.access_store import AccessStore
from certferry.ports.state import StateStore
from certferry.reconcile.run import history_keeper

_MEMORY, _PASSES, _LANES = 19 * 1024, 2, 1
"""The parameters of Argon2id: memory in KiB, passes over the memory, and lanes. The numbers are
OWASP's (Password Storage Cheat Sheet, 2026-11-29), measured as 25 ms. RFC 9106's second
recommendation takes 64 MiB, half of the memory of a console, and was measured as 110 ms.
"""
_SALT_BYTES, _HASH_BYTES = 16, 32  # RFC 9106 §4

_SECRET_BYTES = 32
_SHOWN = len(access.TOKEN) + 5
"""Length of the token's beginning that is stored and shown, so operators recognise the token: the
prefix, and 30 of the 256 secret bits.
"""


def hashed(password: str) -> str:
    """Return a password's hash for the state: Argon2id (RFC 9106) as a PHC string. Takes 19 MiB and
    tens of milliseconds.
    """
    salt = os.urandom(_SALT_BYTES)
    kind = Argon2id(
        salt=salt, length=_HASH_BYTES, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY
    )
    return kind.derive_phc_encoded(_bytes(password))


def is_password(password: str, stored: str | None) -> bool:
    """Return whether a password matches the `stored` hash; `False` for an unknown user (`stored` is
    None). Both answers take equally long, so timing does not reveal user names.
    """
    try:
        Argon2id.verify_phc_encoded(_bytes(password), stored or _of_no_user())
    except InvalidKey:
        return False
    return stored is not None


@cache
def _of_no_user() -> str:
    """Return the hash of a random password, used in place of the hash of an unknown user."""
    return hashed(secrets.token_hex())


def _bytes(password: str) -> bytes:
    # Some keyboards send ä as a single character, others as two characters (RFC 8265 §4.2.2).
    return unicodedata.normalize("NFC", password).encode(errors="replace")


def keep_access(state: StateStore, who: str, event: str, **facts: str) -> None:
    """Store in the history a change to users or tokens, and who made the change. If the state
    refuses the entry, log the change.
    """
    history_keeper(state, state.now, who)(Happened(ACCESS, event, facts))


def make_link(store: AccessStore, user: str, now: datetime) -> str:
    """Store a new link for choosing a password, and return the link's secret. An earlier link of
    the user stops working.
    """
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    store.save_link(
        access.PasswordLink(access.digest_of_secret(secret), user, now + access.LINK_IS_GOOD_FOR)
    )
    return secret


def make_token(
    store: AccessStore, name: str, role: access.Role, now: datetime, lasts: timedelta | None
) -> str | None:
    """Store a new token for the API, and return the token's secret; `None` if the name is taken. A
    token without `lasts` does not expire.
    """
    secret = access.TOKEN + secrets.token_urlsafe(_SECRET_BYTES)
    expires_at = None if lasts is None else now + lasts
    token = access.Token(
        name, access.digest_of_secret(secret), secret[:_SHOWN], role, now, expires_at
    )
    return secret if store.add_token(token) else None
