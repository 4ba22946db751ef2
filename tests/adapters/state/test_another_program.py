"""A program that can write to the database and has no key: no column that it changes alters what is
delivered or judged, or who is let in; what it wrote is named, and stops nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.adapters.state.move import Address, rotate
from certferry.adapters.state.row_proofs import PROOF_RULES, ProofRule
from certferry.adapters.state.sealing import new_key
from certferry.core.access import PasswordLink, Role, Session, Token, User
from certferry.core.certificates.certificate import CertificateBundle, RenewalWindow
from certferry.core.certificates.lineage import Revocation, RevocationReason, Withdrawal
from certferry.core.observed.records import HistoryEntry, RolloutRecord, Upload
from certferry.core.redaction import Secret
from certferry.errors import StateError, StateForeign, StateMoved
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord, StateStore
from certferry_sandbox.testing.certificates import make_bundle, make_key
from tests.adapters.state.child_program import DIRECTORY, NOW
from tests.support.postgresql import KEY, Postgresql
from tests.support.tiers import sampled

LATER = NOW + timedelta(days=30)
FAR = "2299-01-01T00:00:00.000000Z"


@dataclass(frozen=True, slots=True)
class Attacked:
    """A state, what it was filled with, and what another program writes to its rows with."""

    store: StateStore
    write: Callable[[str], object]
    bundle: CertificateBundle
    is_shared: bool


@pytest.fixture(params=["sqlite", "postgresql"])
def attacked(request: pytest.FixtureRequest, path: Path, key_file: Path) -> Iterator[Attacked]:
    """A state with two lineages, a user who is logged in, and a token."""
    if request.param == "sqlite":
        with (
            closing(connect(path, key_file)) as store,
            closing(sqlite3.connect(path, isolation_level=None)) as raw,
        ):
            yield Attacked(store, raw.executescript, filled(store), is_shared=False)
        return
    server: Postgresql = request.getfixturevalue("postgresql")
    name = server.new_state()
    with closing(connect(server.url(name), KEY, host="web-1")) as store:
        # Its owner may leave out what keys demand of one another.
        alone = "SET session_replication_role = replica; "
        bundle = filled(store)
        yield Attacked(store, lambda one: server.ask(alone + one, name), bundle, is_shared=True)


def delivery(lineage: str) -> RolloutRecord:
    """Return that a command has taken a certificate."""
    return RolloutRecord(lineage, "command", "push", "ab", NOW, verified_at=NOW)


def filled(store: StateStore) -> CertificateBundle:
    """Store a row of everything that is bound; of a version, two."""
    bundle = make_bundle("img.example.com", not_before=NOW)
    for lineage in ("img", "static"):
        lease = store.acquire(lineage, NOW)
        known = bundle if lineage == "img" else make_bundle("static.example.com", not_before=NOW)
        store.save_version(lease, known, NOW)
        window = RenewalWindow(NOW, LATER, "https://ca.test/why")
        store.save_renewal_info(lineage, known.certificate.fingerprint, window, LATER)
        order = AcmeOrder(lineage, DIRECTORY, f"order/{lineage}", (lineage,), make_key(), NOW)
        store.save_order(lease, order)
        store.save_upload(Upload(lineage, "qiniu", lineage, "label", "ab", NOW))
        store.save_challenge_record(ChallengeRecord(lineage, f"_acme.{lineage}", "value", NOW))
        store.save_withdrawal(Withdrawal(lineage, "qiniu", "img.example.com", "ab", NOW))
        store.save_rollout(delivery(lineage))
        if lineage == "img":
            store.save_revocation(lease, 1, Revocation(NOW, RevocationReason.SUPERSEDED))
        store.release(lease)
    store.save_account(AcmeAccount(DIRECTORY, make_key(), "https://ca.test/account/1"))
    for name, role in (("anna", Role.VIEWER), ("bert", Role.OPERATOR)):
        store.add_user(User(name, role, NOW, "hash", NOW))
        store.save_session(Session(f"session of {name}", name, NOW, NOW, "192.0.2.7", "Firefox"))
        store.save_link(PasswordLink(f"link of {name}", name, LATER))
        store.add_token(Token(name, f"token of {name}", "cf_abcde", role, NOW, LATER))
    assert () == store.foreign()
    return bundle


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
}
"""What another program writes into each column that is bound."""

OWN = {
    "version": "lineage = 'img'",
    "withdrawal": "lineage = 'img'",
    "acme_account": "url IS NOT NULL",
    "acme_order": "lineage = 'img'",
    "console_user": "id = 'anna'",
    "console_user_link": "user_id = 'anna'",
    "console_user_session": "user_id = 'anna'",
    "console_token": "id = 'anna'",
    "upload": "lineage = 'img'",
    "challenge_record": "lineage = 'img'",
    "rollout": "lineage = 'img'",
}
"""The row of each table that is changed."""

Reads = Callable[[StateStore], object]

READS: dict[str, list[Reads]] = {
    "version": [
        lambda store: store.remembered("img").versions,
        lambda store: store.remembered("gone").versions,
        lambda store: store.versions("img"),
        lambda store: store.versions_of(["img"])["img"],
        lambda store: store.versions_in_use().get("img"),
        lambda store: store.bundle("img", 1),
        lambda store: store.bundle("img", 8),
        lambda store: store.bundle("gone", 1),
    ],
    "withdrawal": [
        lambda store: store.remembered("img").withdrawals,
        lambda store: store.remembered("gone").withdrawals,
    ],
    "acme_account": [
        lambda store: store.account(DIRECTORY),
        lambda store: store.account("https://evil.test"),
        lambda store: store.accounts(),
    ],
    "acme_order": [lambda store: store.order("img"), lambda store: store.order("gone")],
    "console_user": [
        lambda store: store.user("anna"),
        lambda store: store.user("eve"),
        lambda store: [one for one in store.users() if one.name != "bert"],
        lambda store: store.link("link of anna", NOW),
        lambda store: store.session("session of anna", NOW),
    ],
    "console_user_link": [
        lambda store: store.link("link of anna", NOW),
        lambda store: store.link("link of another", NOW),
    ],
    "console_user_session": [
        lambda store: store.session("session of anna", NOW),
        lambda store: store.session("session of another", NOW),
    ],
    "console_token": [
        lambda store: store.token("token of anna", NOW),
        lambda store: store.token("token of another", NOW),
        lambda store: [one for one in store.tokens() if one.name != "bert"],
    ],
    "upload": [
        lambda store: store.uploads("img", "qiniu"),
        lambda store: store.uploads("img", "another"),
        lambda store: store.uploads("gone", "qiniu"),
    ],
    "challenge_record": [
        lambda store: [one for one in store.challenge_records("img") if one.is_ours],
        lambda store: [one for one in store.challenge_records("gone") if one.is_ours],
    ],
    "rollout": [
        lambda store: store.remembered("img").rollouts,
        lambda store: store.remembered("gone").rollouts,
        lambda store: store.open_rollouts("command"),
    ],
}
"""What is read of that row, as it was or as it is changed."""


def believed(store: StateStore, table: str) -> list[object]:
    """Return what is read of a row and counts for something."""
    found: list[object] = []
    for read in READS[table]:
        with suppress(StateError):
            found += filter(None, [read(store)])
    return found


def others(store: StateStore) -> list[object]:
    """Read what lies beside the row that is changed."""
    return [
        store.remembered("static"),
        store.bundle("static", 1),
        store.order("static"),
        store.uploads("static", "qiniu"),
        store.user("bert"),
        store.session("session of bert", NOW),
        store.link("link of bert", NOW),
        store.token("token of bert", NOW),
    ]


def named(rule: ProofRule) -> str:
    return rule.table


PROOFS = ["NULL", "''", "'not base64'", "(SELECT sealed_check FROM sealing)"]


@pytest.mark.parametrize("rule", PROOF_RULES, ids=named)
def test_row_of_which_a_column_was_changed(attacked: Attacked, rule: ProofRule) -> None:
    """Whichever column it is, the row counts for nothing, and is named; what lies beside it is read
    as before. Put back as it was, it counts again.
    """
    store, table, changes = attacked.store, rule.table, CHANGES[rule.table]
    others_rows = {"target"} if table == "rollout" else set()  # another target's row is observed
    assert {*rule.columns} - others_rows == {*changes}
    before, around = believed(store, table), others(store)
    assert before
    attacked.write(f"CREATE TABLE kept AS SELECT * FROM {table}")  # noqa: S608 - a test's own

    for column, value in changes.items():
        attacked.write(f"UPDATE {table} SET {column} = {value} WHERE {OWN[table]}")  # noqa: S608 - a test's own

        assert [] == believed(store, table), column
        [(subject, error)] = store.foreign()
        assert isinstance(error, StateForeign)
        assert subject
        assert "contains data that certferry did not write" in str(error)
        assert error.hint
        assert around == others(store)

        attacked.write(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept")  # noqa: S608 - a test's own
        assert before == believed(store, table), column


@pytest.mark.parametrize(("rule", "proof"), sampled([*product(PROOF_RULES, PROOFS)], 15))
def test_row_that_another_program_wrote(attacked: Attacked, rule: ProofRule, proof: str) -> None:
    """Nothing that it finds in the database proves it."""
    table = rule.table
    attacked.write(f"UPDATE {table} SET proof = {proof} WHERE {OWN[table]}")  # noqa: S608 - a test's own

    assert [] == believed(attacked.store, table)
    assert 1 == len(attacked.store.foreign())


def test_proof_of_another_row(attacked: Attacked) -> None:
    """A row that certferry wrote lends its proof to none: no viewer becomes an operator."""
    for table in ("console_user", "console_token"):
        attacked.write(
            f"UPDATE {table} SET role = 'operator', proof = (SELECT proof FROM {table} AS other"  # noqa: S608 - a test's own
            " WHERE other.id = 'bert') WHERE id = 'anna'"
        )

        assert [] == believed(attacked.store, table)


def test_versions_that_change_places(attacked: Attacked) -> None:
    """Which of two is newer is bound as well."""
    store = attacked.store
    newer = make_bundle("img.example.com", not_before=LATER)
    lease = store.acquire("img", NOW)
    store.save_version(lease, newer, LATER)
    assert [2, 1] == [one.number for one in store.versions("img")]

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
def test_row_that_was_changed_is_never_proven(
    attacked: Attacked, write: Callable[..., object]
) -> None:
    """What is written to it would make it certferry's own."""
    attacked.write(f"UPDATE version SET not_after = '{FAR}' WHERE lineage = 'img'")  # noqa: S608 - a test's own
    lease = attacked.store.acquire("img", NOW)

    with pytest.raises(StateForeign):
        write(attacked.store, lease, attacked.bundle)

    assert 1 == len(attacked.store.foreign())


def test_chain_that_was_exchanged(attacked: Attacked) -> None:
    """The leaf and its key are as they were, and nothing is delivered."""
    other = make_bundle("other.example.com", not_before=NOW)
    fullchain = attacked.bundle.fullchain_pem + other.cert_pem
    attacked.write(f"UPDATE version_pem SET fullchain_pem = '{fullchain}' WHERE lineage = 'img'")  # noqa: S608 - a test's own

    with pytest.raises(StateError, match="the chain in the row is not the chain"):
        attacked.store.bundle("img", 1)

    assert ["img"] == [subject for subject, _ in attacked.store.unopened()]


def test_user_and_token_that_another_program_added(attacked: Attacked) -> None:
    """Neither is let in; an operator removes them, or gives their names to others."""
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


def test_user_that_was_changed_is_removed(attacked: Attacked) -> None:
    """The command that the hint names does that."""
    attacked.write("UPDATE console_user SET role = 'operator' WHERE id = 'anna'")
    [(_, error)] = attacked.store.foreign()
    assert "certferry console user remove anna" in str(error.hint)

    with pytest.raises(StateForeign):
        attacked.store.change_role("anna", Role.VIEWER)

    assert attacked.store.remove_user("anna")
    assert () == attacked.store.foreign()


def test_check_of_the_key_that_was_changed(attacked: Attacked) -> None:
    """A run that has opened the state believes no row that it cannot prove, whatever the check of
    the key says by then.
    """
    attacked.store.must_unseal()
    attacked.write(
        f"UPDATE sealing SET sealed_check = 'none'; UPDATE version SET not_after = '{FAR}'"  # noqa: S608 - a test's own
    )

    with pytest.raises(StateError, match="does not open the state"):
        attacked.store.remembered("img")
    with pytest.raises(StateError, match="does not open the state"):
        attacked.store.must_unseal()


LEASES: Mapping[str, str] = {
    "nonsense": "holder = 'nobody', since = 'soon', until = 'never'",
    "given back": "holder = NULL, since = NULL, until = NULL",
    "another": "holder = 'web-9/1/ab', token = token + 1",
}


@pytest.mark.parametrize("change", LEASES.values(), ids=LEASES)
def test_lease_that_was_changed(attacked: Attacked, change: str) -> None:
    """Its holder writes nothing under it any more, whatever another program makes of it; no other
    run is let write beside it.
    """
    store = attacked.store
    lease = store.acquire("img", NOW)
    attacked.write(f"UPDATE lease SET {change} WHERE lineage = 'img'")  # noqa: S608 - a test's own
    before = store.versions("img")
    with pytest.raises(Exception, match=r"img|did not write"):
        store.save_revocation(lease, 1, None)

    assert before == store.versions("img")


def trigger(attacked: Attacked, table: str, change: str) -> str:
    """Return the statements for a trigger that changes the row of `img` whenever it is written."""
    if attacked.is_shared:
        return (
            "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$BEGIN NEW.{change}; RETURN NEW; END$$;"
            f" CREATE TRIGGER evil BEFORE INSERT OR UPDATE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION evil()"
        )
    return "".join(
        f"CREATE TRIGGER evil_{one} AFTER {one} ON {table}"  # noqa: S608 - a test's own
        f" BEGIN UPDATE {table} SET {change} WHERE rowid = NEW.rowid; END;"
        for one in ("INSERT", "UPDATE")
    )


WRITES: dict[str, tuple[str, str, Callable[[StateStore, CertificateBundle], object]]] = {
    "new version": (
        "version",
        "not_after = '8990-01-01T00:00:00.000000Z'",
        lambda store, bundle: store.save_version(store.acquire("new", NOW), bundle, NOW),
    ),
    "chain": (
        "version",
        "fullchain_digest = NULL",
        lambda store, bundle: store.save_version(store.acquire("new", NOW), bundle, NOW),
    ),
    "renewal": (
        "version",
        "not_after = '8990-01-01T00:00:00.000000Z'",
        lambda store, bundle: store.save_renewal_info(
            "img", bundle.certificate.fingerprint, None, LATER
        ),
    ),
    "role": (
        "console_user",
        "role = 'operator'",
        lambda store, _: store.add_user(User("eve", Role.VIEWER, NOW)),
    ),
    "session": (
        "console_user_session",
        "user_id = 'bert'",
        lambda store, _: store.save_session(Session("s", "anna", NOW, NOW, "", "")),
    ),
    "delivery": (
        "rollout",
        "fingerprint = 'cd'",
        lambda store, _: store.save_rollout(delivery("new")),
    ),
}


@pytest.mark.parametrize(("table", "change", "write"), WRITES.values(), ids=WRITES)
def test_trigger_that_changes_what_is_written(
    attacked: Attacked, table: str, change: str, write: Callable[..., object]
) -> None:
    """What certferry did not mean is never proven: the write is refused, and leaves nothing."""
    store = attacked.store
    before = [believed(store, one) for one in OWN]
    attacked.write(trigger(attacked, table, change))

    with pytest.raises(StateForeign, match="changes certferry's data on writing"):
        write(store, attacked.bundle)

    assert before == [believed(store, one) for one in OWN]
    assert () == store.versions("new")
    assert () == store.remembered("new").rollouts
    assert None is store.user("eve")
    assert () == store.foreign()


def test_trigger_that_takes_a_change_back(attacked: Attacked) -> None:
    """A revocation that the database does not keep is no revocation that was stored."""
    keeps = "fingerprint = OLD.fingerprint, revoked_at = OLD.revoked_at, proof = OLD.proof"
    attacked.write(
        "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN OLD; END$$;"
        " CREATE TRIGGER evil BEFORE UPDATE ON version FOR EACH ROW EXECUTE FUNCTION evil()"
        if attacked.is_shared
        else "CREATE TRIGGER evil AFTER UPDATE ON version"  # noqa: S608 - a test's own
        f" BEGIN UPDATE version SET {keeps} WHERE rowid = NEW.rowid; END"
    )
    lease = attacked.store.acquire("static", NOW)

    with pytest.raises(StateForeign, match="changes certferry's data on writing"):
        attacked.store.save_revocation(lease, 1, Revocation(NOW, RevocationReason.SUPERSEDED))


ALIEN = {
    "trigger": (
        "CREATE TRIGGER evil AFTER UPDATE ON version BEGIN DELETE FROM hold; END",
        (
            "CREATE TRIGGER evil BEFORE UPDATE ON version FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        ),
        "TRIGGER evil on version",
    ),
    "rule": (
        None,
        "CREATE RULE evil AS ON DELETE TO withdrawal DO ALSO NOTHING",
        "RULE evil on withdrawal",
    ),
    "policy": (None, "CREATE POLICY evil ON console_user USING (true)", "POLICY evil on console"),
    "row security": (
        None,
        "ALTER TABLE withdrawal ENABLE ROW LEVEL SECURITY",
        "ROW LEVEL SECURITY withdrawal on withdrawal",
    ),
    "forced row security": (
        None,
        "ALTER TABLE withdrawal FORCE ROW LEVEL SECURITY",
        "ROW LEVEL SECURITY withdrawal on withdrawal",
    ),
    "constraint": (
        None,
        "ALTER TABLE version ADD CONSTRAINT evil CHECK (number < 3)",
        "CONSTRAINT evil on version",
    ),
    "unique index": (
        "CREATE UNIQUE INDEX evil ON version (lineage)",
        "CREATE UNIQUE INDEX evil ON version (lineage)",
        "UNIQUE INDEX evil on version",
    ),
    "view": (
        "ALTER TABLE pace RENAME TO kept; CREATE VIEW pace AS SELECT * FROM kept",
        "ALTER TABLE pace RENAME TO kept; CREATE VIEW pace AS SELECT * FROM kept",
        "pace is not a table",
    ),
    "column": (
        "ALTER TABLE hold ADD COLUMN evil TEXT",
        "ALTER TABLE hold ADD COLUMN evil TEXT",
        "the column evil of hold",
    ),
    "history": (
        "DROP TRIGGER history_is_not_removed",
        "DROP TRIGGER history_stays ON history",
        "is gone",
    ),
    "history not in force": (
        (
            "DROP TRIGGER history_is_not_removed; CREATE TRIGGER history_is_not_removed"
            " BEFORE DELETE ON history BEGIN SELECT 1; END"
        ),
        (
            "CREATE OR REPLACE FUNCTION history_stays() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RETURN NULL; END$$"
        ),
        "TRIGGER history_",
    ),
}


@pytest.mark.parametrize(("in_file", "in_server", "said"), ALIEN.values(), ids=ALIEN)
def test_table_that_certferry_did_not_make_like_that(
    attacked: Attacked, in_file: str | None, in_server: str, said: str
) -> None:
    """It is named; a statement that is given removes it."""
    assert () == attacked.store.damage()
    query = in_server if attacked.is_shared else in_file
    if query is None:
        return

    attacked.write(query)

    first, *_ = attacked.store.damage()
    assert isinstance(first, StateForeign)
    assert said in str(first.message)
    statement = str(first.hint).partition("then run: ")[2]
    if statement and "history" not in said.lower():
        attacked.write(statement)
        assert () == attacked.store.damage()


def test_tables_of_the_operator(attacked: Attacked) -> None:
    """What else is in the database is its owner's."""
    attacked.write(
        "CREATE TABLE report (at TEXT); CREATE VIEW ends AS SELECT lineage, not_after FROM version;"
        " CREATE INDEX mine ON run (who)"
    )
    attacked.write(
        "CREATE SCHEMA grafana; CREATE TABLE grafana.version (at TEXT);"
        " CREATE RULE mine AS ON DELETE TO report DO ALSO NOTHING"
        if attacked.is_shared
        else "CREATE TRIGGER mine AFTER INSERT ON report BEGIN DELETE FROM report; END"
    )

    assert () == attacked.store.damage()


def test_revocation_that_was_put_back(attacked: Attacked) -> None:
    """The history says that the certificate was revoked: the row of before undoes nothing, and is
    named until there is a newer certificate.
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


def test_withdrawal_that_was_deleted(attacked: Attacked) -> None:
    """The history has it; one that its target refused stays away."""
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

    withdrawn = [(one.domain, one.fingerprint) for one in store.remembered("img").withdrawals]
    assert [("img.example.com", "ab"), ("a.example.com", leaf)] == withdrawn
    [(subject, error)] = store.foreign()
    assert "img" == subject
    assert "a.example.com" in str(error.message)


def test_entry_of_the_history_that_another_program_wrote(attacked: Attacked) -> None:
    """It revokes nothing."""
    leaf = attacked.bundle.certificate.fingerprint
    attacked.write(
        "INSERT INTO history (number, at, lineage, event, who, facts, host, link) VALUES (99,"  # noqa: S608 - a test's own
        f" '{FAR}', 'static', 'revoked', 'eve',"
        f""" '{{"fingerprint": "{leaf}", "reason": "keyCompromise"}}', 'web-1', '1..ab')"""
    )

    assert [None] == [version.revocation for version in attacked.store.versions("static")]


def test_delivery_that_another_program_wrote(attacked: Attacked) -> None:
    """The command has not run: its row is named, and the next delivery takes its place."""
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


def test_mark_of_a_move_that_another_program_wrote(attacked: Attacked) -> None:
    """Nothing is done in a state that may have moved, and no URL of the mark is shown."""
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


def test_trigger_that_says_where_a_state_was_moved(attacked: Attacked) -> None:
    """The words of a trigger lead an operator to no other place."""
    said = "the state was moved to https://evil.test/"
    attacked.write(
        "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN RAISE EXCEPTION '{said}'; END$$; CREATE TRIGGER evil BEFORE INSERT ON history"
        " FOR EACH ROW EXECUTE FUNCTION evil()"
        if attacked.is_shared
        else "CREATE TRIGGER evil BEFORE INSERT ON history"
        f" BEGIN SELECT RAISE(ABORT, '{said}'); END"
    )

    with pytest.raises(StateMoved) as error:
        attacked.store.append_history(HistoryEntry(NOW, "img", "issued", "root"))

    assert "evil" not in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize("guesses", [-(10**12), 10**12, 2**63 - 1])
def test_counts_of_failed_logins_that_were_forged(attacked: Attacked, guesses: int) -> None:
    """They neither lock out nor let guess: what is counted is what was counted here."""
    store = attacked.store
    store.count_guess("anna", NOW)
    attacked.write(f"UPDATE console_guess SET guesses = {guesses}")  # noqa: S608 - a test's own
    assert 1 == store.count_guess("anna", NOW)

    attacked.write(
        f"INSERT INTO console_guess (whose, minute, guesses) VALUES ('anna', '{FAR}', 50)"  # noqa: S608 - a test's own
    )
    assert 2 == store.count_guess("anna", NOW)


def test_keys_that_changed_places(attacked: Attacked) -> None:
    """The version is named, and not the key of the state, which opens everything else."""
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


def test_statements_that_delete_a_row(attacked: Attacked) -> None:
    """They are whole, in the order that the tables ask for, and quote what a program wrote."""
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


def test_key_that_is_changed_over_a_changed_version(path: Path, key_file: Path) -> None:
    """Everything else is sealed with the new key, and what the old one does not open is named."""
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
