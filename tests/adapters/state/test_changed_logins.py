"""A program without the key changes users, tokens and counted logins: only real users get in."""

from __future__ import annotations

import pytest

from certferry.core.access import Role, Token, User
from certferry.errors import StateForeign
from tests.adapters.state.attacked import (
    FAR,
    Attacked,
)
from tests.adapters.state.child_program import NOW


def test_user_and_token_added_by_another_program(attacked: Attacked) -> None:
    """Both are refused, and an operator can remove them or reuse their names."""
    store = attacked.store
    attacked.write(
        "INSERT INTO console_user (id, name, role, made_at, password, password_at)"  # noqa: S608 - a test's own
        f" VALUES ('eve', 'eve', 'operator', '{FAR}', 'hash', '{FAR}');"
        " INSERT INTO console_user_session (digest, user_id, began_at, seen_at, address, browser)"
        f" VALUES ('evil', 'eve', '{FAR}', '{FAR}', '', ''),"
        f" ('evil too', 'bert', '{FAR}', '{FAR}', '', '');"
        " INSERT INTO console_user_link (user_id, digest, expires_at)"
        f" VALUES ('eve', 'evil', '{FAR}');"
        " INSERT INTO console_token (id, name, digest, begins, role, made_at)"
        f" VALUES ('eve', 'eve', 'evil', 'cf_', 'operator', '{FAR}')"
    )

    assert None is store.user("eve")
    assert None is store.session("evil", NOW)
    assert None is store.session("evil too", NOW)
    assert None is store.link("evil", NOW)
    assert None is store.choose_password("evil", "hash", NOW)
    assert None is store.token("evil", NOW)
    assert {"eve", "evil", "evil too"} == {subject for subject, _ in store.foreign()}

    assert store.add_user(User("eve", Role.VIEWER, NOW))
    assert store.add_token(Token("eve", "hers", "cf_hers", Role.VIEWER, NOW))
    assert [Role.VIEWER] * 2 == [store.user("eve").role, store.token("hers", NOW).role]  # type: ignore[union-attr]  # neither is `None`
    assert None is store.session("evil", NOW)
    assert store.remove_user("eve")
    assert store.remove_token("eve")


def test_removing_a_changed_user(attacked: Attacked) -> None:
    """The command in the hint removes the user."""
    attacked.write("UPDATE console_user SET role = 'operator' WHERE id = 'anna'")
    [(_, error)] = attacked.store.foreign()
    assert "certferry console user remove anna" in str(error.hint)

    with pytest.raises(StateForeign):
        attacked.store.change_role("anna", Role.VIEWER)

    assert attacked.store.remove_user("anna")
    assert () == attacked.store.foreign()


@pytest.mark.parametrize("guesses", [-(10**12), 10**12, 2**63 - 1])
def test_forged_counts_of_failed_logins(attacked: Attacked, guesses: int) -> None:
    """Forged counts neither lock a user out nor allow more guesses: the real count goes on."""
    store = attacked.store
    store.count_guess("anna", NOW)
    attacked.write(f"UPDATE console_guess SET guesses = {guesses}")  # noqa: S608 - a test's own
    assert 1 == store.count_guess("anna", NOW)

    attacked.write(
        f"INSERT INTO console_guess (whose, minute, guesses) VALUES ('anna', '{FAR}', 50)"  # noqa: S608 - a test's own
    )
    assert 2 == store.count_guess("anna", NOW)
