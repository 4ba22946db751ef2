"""A program without the key changes chains, private keys, or the check of the state's key."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.adapters.state.move import Address, rotate
from certferry.adapters.state.sealing import new_key
from certferry.core.redaction import Secret
from certferry.errors import StateError
from certferry_sandbox.testing.certificates import make_bundle
from tests.adapters.state.attacked import (
    FAR,
    LATER,
    Attacked,
    filled,
)
from tests.adapters.state.child_program import NOW


def test_exchanged_chain(attacked: Attacked) -> None:
    """The error names the chain, although leaf and private key match."""
    other = make_bundle("other.example.com", not_before=NOW)
    fullchain = attacked.bundle.fullchain_pem + other.cert_pem
    attacked.write(f"UPDATE version_pem SET fullchain_pem = '{fullchain}' WHERE lineage = 'img'")  # noqa: S608 - a test's own

    with pytest.raises(StateError, match="the chain in the row is not the chain"):
        attacked.store.bundle("img", 1)

    assert ["img"] == [subject for subject, _ in attacked.store.unopened()]


def test_exchanged_private_keys(attacked: Attacked) -> None:
    """The error names the version; the key of the state opens everything else."""
    store = attacked.store
    store.save_version(
        store.acquire("img", NOW), make_bundle("img.example.com", not_before=LATER), LATER
    )
    attacked.write(
        "UPDATE version_pem SET number = number + 10 WHERE lineage = 'img';"
        " UPDATE version_pem SET number = 13 - number WHERE lineage = 'img'"
    )

    with pytest.raises(StateError, match="version 2 of img: the private key cannot be decrypted"):
        store.bundle("img", 2)
    assert ["img", "img"] == [subject for subject, _ in store.unopened()]


def test_changed_check_of_the_key(attacked: Attacked) -> None:
    """An open state trusts only proven rows, even if the check of the key changes later."""
    attacked.store.must_unseal()
    attacked.write(
        f"UPDATE sealing SET sealed_check = 'none'; UPDATE version SET not_after = '{FAR}'"  # noqa: S608 - a test's own
    )

    with pytest.raises(StateError, match="does not open the state"):
        attacked.store.remembered("img")
    with pytest.raises(StateError, match="does not open the state"):
        attacked.store.must_unseal()


def test_new_key_for_a_state_with_a_changed_version(path: Path, key_file: Path) -> None:
    """Everything else is sealed with the new key; the result names the secrets that the old key
    does not open.
    """
    with closing(connect(path, key_file)) as store:
        filled(store)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE version SET fingerprint = 'ab' WHERE lineage = 'img'")

    rotated = rotate(Address(path, key_file), Secret(new_key()), "web-1", NOW)

    assert ["version.proof of img, 1", "version_pem.sealed_privkey_pem of img, 1"] == sorted(
        str(text) for text in rotated.left
    )
    with closing(connect(path, key_file)) as store:
        [(subject, error)] = store.foreign()
        assert "img" == subject
        assert "DELETE FROM version_pem WHERE" in str(error.hint)
        assert () == store.unopened()
        assert "static.example.com" in store.bundle("static", 1).certificate.names
