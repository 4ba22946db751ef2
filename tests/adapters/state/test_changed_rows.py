"""A program without the key changes rows: each changed row is named and has no effect, and all
other rows count as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import pytest

from certferry.adapters.state.row_proofs import PROOF_RULES, ProofRule
from certferry.errors import StateForeign
from certferry_sandbox.testing.certificates import make_bundle
from tests.adapters.state.attacked import (
    FAR,
    LATER,
    OWN,
    Attacked,
    accepted_reads,
    delivery,
    other_rows,
)
from tests.adapters.state.child_program import NOW
from tests.support.tiers import sampled

CHANGES: dict[str, dict[str, str]] = {
    "version": {
        "lineage": "'gone'",
        "number": "number + 7",
        "fingerprint": f"'{'cd' * 32}'",
        "names": """'["evil.example.com"]'""",
        "common_name": "'evil.example.com'",
        "serial": "'1'",
        "issuer": "'Evil'",
        "not_before": "'2020-01-01T00:00:00.000000Z'",
        "not_after": "'8990-01-01T00:00:00.000000Z'",
        "key_type": "'rsa2048'",
        "saved_at": f"'{FAR}'",
        "key_matches": "NOT key_matches",
        "chain_complete": "NOT chain_complete",
        "window_start": f"'{FAR}'",
        "window_end": f"'{FAR}'",
        "window_page": "'https://evil.example.com'",
        "fullchain_digest": "'ab'",
        "ask_after": f"'{FAR}'",
        "directory": "'https://evil.example.com'",
        "revoked_at": "NULL",
        "revocation_reason": "'keyCompromise'",
        "revocation_answered": "NOT revocation_answered",
        "issuer_not_after": f"'{FAR}'",
    },
    "withdrawal": {
        "lineage": "'gone'",
        "target": "'another'",
        "domain": "'another.example.com'",
        "fingerprint": "'cd'",
        "withdrawn_at": f"'{FAR}'",
        "by_hand": "NOT by_hand",
    },
    "acme_account": {"directory": "'https://evil.test'", "url": "'https://evil.test/account'"},
    "acme_order": {
        "lineage": "'gone'",
        "directory": "'https://evil.test'",
        "url": "'https://evil.test/order'",
        "names": """'["evil.example.com"]'""",
        "created_at": f"'{FAR}'",
        "key_type": "'rsa2048'",
    },
    "console_user": {
        "id": "'eve'",
        "name": "'Eve'",
        "role": "'operator'",
        "made_at": f"'{FAR}'",
        "password": "'hash of another'",
        "password_at": f"'{FAR}'",
    },
    "console_user_link": {
        "user_id": "'eve'",
        "digest": "'link of another'",
        "expires_at": f"'{FAR}'",
    },
    "console_user_session": {
        "digest": "'session of another'",
        "user_id": "'bert'",
        "began_at": f"'{FAR}'",
        "seen_at": f"'{FAR}'",
        "address": "'192.0.2.8'",
        "browser": "'another'",
    },
    "console_token": {
        "id": "'eve'",
        "name": "'eve'",
        "digest": "'token of another'",
        "begins": "'cf_other'",
        "role": "'operator'",
        "made_at": f"'{FAR}'",
        "expires_at": "NULL",
    },
    "upload": {
        "target": "'another'",
        "remote_id": "'theirs'",
        "lineage": "'gone'",
        "fingerprint": "'cd'",
    },
    "challenge_record": {
        "lineage": "'gone'",
        "name": "'_acme.another'",
        "value": "'another'",
    },
    "rollout": {
        "lineage": "'gone'",
        "domain": "'another'",
        "host": "''",
        "fingerprint": "'cd'",
        "started_at": f"'{FAR}'",
        "accepted_at": f"'{FAR}'",
        "problem_before": "'another'",
        "failed_at": f"'{FAR}'",
        "verified_at": f"'{FAR}'",
        "sent": "'{}'",
        "program_digest": "'cd'",
        "fullchain_digest": "'cd'",
        "settings_before": "'{}'",
        "request_id": "'another'",
        "worked_before": "NOT worked_before",
        "refused_since": f"'{FAR}'",
        "drift": "'another'",
        "repairs": f"""'["{FAR}"]'""",
        "attempts": "attempts + 1",
    },
    "own_digest": {"digest": f"'{'cd' * 32}'"},
}
"""A value of another program for each proven column."""


def named(rule: ProofRule) -> str:
    return rule.table


@pytest.mark.parametrize("rule", PROOF_RULES, ids=named)
def test_row_with_a_changed_column(attacked: Attacked, rule: ProofRule) -> None:
    """With any column changed, the row is named and has no effect, and the other rows are read as
    before. The restored row counts again.
    """
    store, table, changes = attacked.store, rule.table, CHANGES[rule.table]
    unproven = {"target"} if table == "rollout" else set()  # the rows of other targets are observed
    assert {*rule.columns} - unproven == {*changes}
    before, around = accepted_reads(store, table), other_rows(store)
    assert before
    attacked.write(f"CREATE TABLE kept AS SELECT * FROM {table}")  # noqa: S608 - a test's own

    for column, value in changes.items():
        attacked.write(f"UPDATE {table} SET {column} = {value} WHERE {OWN[table]}")  # noqa: S608 - a test's own

        assert [] == accepted_reads(store, table), column
        [(subject, error)] = store.foreign()
        assert isinstance(error, StateForeign)
        assert subject
        assert "contains data that certferry did not write" in str(error)
        assert error.hint
        assert around == other_rows(store)

        attacked.write(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept")  # noqa: S608 - a test's own
        assert before == accepted_reads(store, table), column


PROOFS = ["NULL", "''", "'not base64'", "(SELECT sealed_check FROM sealing)"]


@pytest.mark.parametrize(("rule", "proof"), sampled([*product(PROOF_RULES, PROOFS)], 15))
def test_row_with_a_forged_proof(attacked: Attacked, rule: ProofRule, proof: str) -> None:
    """Any proof that the program finds in the database is refused."""
    table = rule.table
    attacked.write(f"UPDATE {table} SET proof = {proof} WHERE {OWN[table]}")  # noqa: S608 - a test's own

    assert [] == accepted_reads(attacked.store, table)
    assert 1 == len(attacked.store.foreign())


def test_row_with_another_rows_proof(attacked: Attacked) -> None:
    """A proof is valid for its own row alone, so a viewer cannot become an operator."""
    for table in ("console_user", "console_token"):
        attacked.write(
            f"UPDATE {table} SET role = 'operator', proof = (SELECT proof FROM {table} AS other"  # noqa: S608 - a test's own
            " WHERE other.id = 'bert') WHERE id = 'anna'"
        )

        assert [] == accepted_reads(attacked.store, table)


def test_versions_with_exchanged_numbers(attacked: Attacked) -> None:
    """The proof includes the number, which decides which version is newer."""
    store = attacked.store
    newer = make_bundle("img.example.com", not_before=LATER)
    lease = store.acquire("img", NOW)
    store.save_version(lease, newer, LATER)
    assert [2, 1] == [version.number for version in store.versions("img")]

    for table in ("version", "version_pem"):
        attacked.write(
            f"UPDATE {table} SET number = number + 10 WHERE lineage = 'img';"  # noqa: S608 - a test's own
            f" UPDATE {table} SET number = 13 - number WHERE lineage = 'img'"
        )

    with pytest.raises(StateForeign, match="version 2 of img"):
        store.remembered("img")
    assert 2 == len(store.foreign())


@pytest.mark.parametrize(
    "write",
    [
        lambda store, lease, bundle: store.save_version(lease, bundle, LATER),
        lambda store, lease, _: store.save_revocation(lease, 1, None),
        lambda store, _, bundle: store.save_renewal_info(
            "img", bundle.certificate.fingerprint, None, LATER
        ),
    ],
    ids=["version", "revocation", "renewal"],
)
def test_writing_to_a_changed_row(attacked: Attacked, write: Callable[..., object]) -> None:
    """Writing to the row is refused, because a new proof would cover the change."""
    attacked.write(f"UPDATE version SET not_after = '{FAR}' WHERE lineage = 'img'")  # noqa: S608 - a test's own
    lease = attacked.store.acquire("img", NOW)

    with pytest.raises(StateForeign):
        write(attacked.store, lease, attacked.bundle)

    assert 1 == len(attacked.store.foreign())


def test_delivery_written_by_another_program(attacked: Attacked) -> None:
    """The delivery counts as due: the row is named, and the next delivery replaces the row."""
    store = attacked.store
    attacked.write("UPDATE rollout SET fingerprint = 'cd', proof = NULL WHERE lineage = 'img'")

    assert () == store.remembered("img").rollouts
    [(subject, error)] = store.foreign()
    assert "img" == subject
    assert "the delivery of img to push" in str(error.message)
    assert "delivers again" in str(error.hint)

    assert store.replace_rollout(None, delivery("img"))
    assert (delivery("img"),) == store.remembered("img").rollouts
    assert () == store.foreign()


LEASES: Mapping[str, str] = {
    "nonsense": "holder = 'nobody', since = 'soon', until = 'never'",
    "given back": "holder = NULL, since = NULL, until = NULL",
    "another": "holder = 'web-9/1/ab', token = token + 1",
}


@pytest.mark.parametrize("change", LEASES.values(), ids=LEASES)
def test_changed_lease(attacked: Attacked, change: str) -> None:
    """The holder of a changed lease can write nothing, and no other run can write beside the
    holder.
    """
    store = attacked.store
    lease = store.acquire("img", NOW)
    attacked.write(f"UPDATE lease SET {change} WHERE lineage = 'img'")  # noqa: S608 - a test's own
    before = store.versions("img")
    with pytest.raises(Exception, match=r"img|did not write"):
        store.save_revocation(lease, 1, None)

    assert before == store.versions("img")


def test_statements_that_delete_a_row(attacked: Attacked) -> None:
    """The statements are complete, in the order that the tables require, and quote the other
    program's text.
    """
    store, evil = attacked.store, "x'' OR ''1''=''1"
    for table in ("version", "version_pem"):
        attacked.write(f"UPDATE {table} SET lineage = '{evil}' WHERE lineage = 'img'")  # noqa: S608 - a test's own
    [(_, error)] = store.foreign()
    statements = str(error.hint).partition("delete the row: ")[2]

    assert (
        f"DELETE FROM version_pem WHERE lineage = '{evil}' AND number = 1;"  # noqa: S608 - not run
        f" DELETE FROM version WHERE lineage = '{evil}' AND number = 1;"
    ) == statements
    attacked.write(statements)
    assert () == store.foreign()
    assert ("static",) == store.lineages()
