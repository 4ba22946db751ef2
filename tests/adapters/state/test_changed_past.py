"""A program without the key undoes revocations and withdrawals, or invents history and a move: the
proven history decides.
"""

from __future__ import annotations

import pytest

from certferry.core.certificates.lineage import Revocation, RevocationReason, Withdrawal
from certferry.core.observed.records import HistoryEntry
from certferry.errors import StateForeign, StateMoved
from certferry_sandbox.testing.certificates import make_bundle
from tests.adapters.state.attacked import (
    FAR,
    LATER,
    Attacked,
)
from tests.adapters.state.child_program import NOW


def test_undone_revocation(attacked: Attacked) -> None:
    """The history has the revocation, so the version counts as revoked. The restored row is named
    until a newer certificate exists.
    """
    store = attacked.store
    fingerprint = attacked.bundle.certificate.fingerprint
    lease = store.acquire("img", NOW)
    store.save_revocation(lease, 1, None)
    attacked.write("CREATE TABLE kept AS SELECT * FROM version")
    revocation = Revocation(NOW, RevocationReason.KEY_COMPROMISE)
    store.save_revocation(lease, 1, revocation)
    facts = {"fingerprint": fingerprint, "serial": "1", "reason": "keyCompromise"}
    store.append_history(HistoryEntry(NOW, "img", "revoked", "anna", facts))
    assert () == store.foreign()

    attacked.write(
        "DELETE FROM version WHERE lineage = 'img';"
        " INSERT INTO version SELECT * FROM kept WHERE lineage = 'img'"
    )

    for versions in (
        store.remembered("img").versions,
        store.versions("img"),
        store.versions_in_use()["img"],
    ):
        assert [revocation] == [version.revocation for version in versions]
    [(subject, error)] = store.foreign()
    assert "img" == subject
    assert "the revocation of img" in str(error.message)
    assert "certferry sync --renew img" in str(error.hint)
    assert [None] == [version.revocation for version in store.versions("static")]

    newer = make_bundle("img.example.com", not_before=LATER)
    store.save_version(lease, newer, LATER)
    assert () == store.foreign()


def test_deleted_withdrawal(attacked: Attacked) -> None:
    """The history has the withdrawal, so the withdrawal counts; a withdrawal that its target
    refused does not return.
    """
    store = attacked.store
    leaf = attacked.bundle.certificate.fingerprint
    for domain in ("a.example.com", "b.example.com"):
        store.save_withdrawal(Withdrawal("img", "qiniu", domain, leaf, NOW))
        facts = {"target": "qiniu", "domain": domain, "fingerprint": leaf}
        store.append_history(HistoryEntry(NOW, "img", "rolled back", "anna", facts))
    refused = {"target": "qiniu", "domain": "b.example.com"}
    store.append_history(HistoryEntry(NOW, "img", "rollback refused", "anna", refused))
    assert () == store.foreign()

    attacked.write(f"DELETE FROM withdrawal WHERE fingerprint = '{leaf}'")  # noqa: S608 - a test's own

    withdrawn = [
        (withdrawal.domain, withdrawal.fingerprint)
        for withdrawal in store.remembered("img").withdrawals
    ]
    assert [("img.example.com", "ab"), ("a.example.com", leaf)] == withdrawn
    [(subject, error)] = store.foreign()
    assert "img" == subject
    assert "a.example.com" in str(error.message)


def test_history_entry_written_by_another_program(attacked: Attacked) -> None:
    """The forged entry revokes no certificate."""
    leaf = attacked.bundle.certificate.fingerprint
    attacked.write(
        "INSERT INTO history (number, at, lineage, event, who, facts, host, link) VALUES (99,"  # noqa: S608 - a test's own
        f" '{FAR}', 'static', 'revoked', 'eve',"
        f""" '{{"fingerprint": "{leaf}", "reason": "keyCompromise"}}', 'web-1', '1..ab')"""
    )

    assert [None] == [version.revocation for version in attacked.store.versions("static")]


def test_mark_of_a_move_written_by_another_program(attacked: Attacked) -> None:
    """A state that may have moved is refused, and the forged URL stays hidden."""
    attacked.write(
        "INSERT INTO moved (destination, at, proof)"  # noqa: S608 - a test's own
        f" SELECT 'https://evil.test/', '{FAR}', proof FROM version"
    )

    with pytest.raises(StateForeign, match="does not prove the mark") as error:
        attacked.store.must_unseal()

    assert "evil" not in f"{error.value.message} {error.value.hint}"
    assert "DELETE FROM moved;" in str(error.value.hint)
    attacked.write("DELETE FROM moved")
    attacked.store.must_unseal()


def test_trigger_that_claims_a_move(attacked: Attacked) -> None:
    """The error hides the trigger's text, so no operator follows its URL."""
    message = "the state was moved to https://evil.test/"
    attacked.write(
        "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN RAISE EXCEPTION '{message}'; END$$; CREATE TRIGGER evil BEFORE INSERT ON history"
        " FOR EACH ROW EXECUTE FUNCTION evil()"
        if attacked.is_shared
        else "CREATE TRIGGER evil BEFORE INSERT ON history"
        f" BEGIN SELECT RAISE(ABORT, '{message}'); END"
    )

    with pytest.raises(StateMoved) as error:
        attacked.store.append_history(HistoryEntry(NOW, "img", "issued", "root"))

    assert "evil" not in f"{error.value.message} {error.value.hint}"
