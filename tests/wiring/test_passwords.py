"""Stored passwords, and new links and tokens."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from certferry.core.access import PasswordLink, Role, Token, User, digest_of_secret
from certferry.wiring.passwords import hashed, is_password, make_link, make_token
from certferry_sandbox.testing.memory_state import MemoryState

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
GOOD = "blau-Tisch-neun"
PHC = r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}"


def test_password_is_hashed() -> None:
    """Each hash has a salt of its own, in the form that any program with Argon2id reads."""
    stored = [hashed(GOOD), hashed(GOOD)]

    assert stored[0] != stored[1]
    assert all(re.fullmatch(PHC, stored_hash) for stored_hash in stored)
    assert all(is_password(GOOD, stored_hash) for stored_hash in stored)
    assert not is_password(GOOD.lower(), stored[0])
    assert not is_password("", stored[0])
    assert not is_password(GOOD, "")
    assert not is_password(GOOD, "$argon2id$v=19$m=8,t=1,p=1$AAAA")


def test_password_of_another_keyboard() -> None:
    """A composed and a decomposed letter are equal; invalid text is a wrong password."""
    assert is_password("schöne-Brücke", hashed("scho\u0308ne-Bru\u0308cke"))
    assert not is_password("\ud800" * 12, hashed(GOOD))


def test_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    """The time does not reveal the users. Each check takes less than a tenth of a second."""
    stored = hashed(GOOD)
    is_password("x", None)
    wrong_password = quickest(lambda: is_password("wrong", stored))
    unknown_user = quickest(lambda: is_password("wrong", None))

    assert not is_password("wrong", None)
    assert 0.5 < wrong_password / unknown_user < 2
    assert wrong_password < 0.1


def quickest(work: Callable[[], object]) -> float:
    """Return the least seconds of several tries."""
    taken = []
    for _ in range(8):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def test_secrets_are_not_stored() -> None:
    """The state has only the digests of links and tokens, and the beginning of a token."""
    state = MemoryState()
    state.add_user(User("anna", Role.VIEWER, NOW))
    secret = make_link(state, "anna", NOW)
    token = make_token(state, "ci", Role.OPERATOR, NOW, timedelta(days=1))

    assert token is not None
    assert make_token(state, "CI", Role.VIEWER, NOW, None) is None
    link = PasswordLink(digest_of_secret(secret), "anna", NOW + timedelta(hours=1))
    assert link == state.link(digest_of_secret(secret), NOW)
    assert token.startswith("cf_")
    whole = Token(
        "ci", digest_of_secret(token), token[:8], Role.OPERATOR, NOW, NOW + timedelta(days=1)
    )
    assert (whole,) == state.tokens()
    rows = state.read("SELECT * FROM console_user_link"), state.read("SELECT * FROM console_token")
    stored = str(rows)
    assert secret not in stored
    assert token not in stored
