"""A program that can write to the database and has no key: no column that it changes alters what is
delivered or judged, or who is let in; what it wrote is named, and stops nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.adapters.state.binding import BINDINGS, Binding
from certferry.adapters.state.connect import connect
from certferry.core.access import PasswordLink, Role, Session, Token, User
from certferry.core.certificates.certificate import CertificateBundle, RenewalWindow
from certferry.core.certificates.lineage import Revocation, RevocationReason, Withdrawal
from certferry.core.observed.records import Upload
from certferry.errors import StateError, StateForeign
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord, StateStore
from certferry_sandbox.testing.certificates import make_bundle, make_key
from tests.adapters.state.child_program import DIRECTORY, NOW
from tests.adapters.state.schemas import make_one_of_schema
from tests.support.postgresql import KEY, Postgresql

LATER = NOW + timedelta(days=30)
FAR = "2299-01-01T00:00:00.000000Z"


@dataclass(frozen=True, slots=True)
class Attacked:
    """A state, what it was filled with, and what another program writes to its rows with."""

    store: StateStore
    write: Callable[[str], object]
    bundle: CertificateBundle


@pytest.fixture(params=["sqlite", "postgresql"])
def attacked(request: pytest.FixtureRequest, path: Path, key_file: Path) -> Iterator[Attacked]:
    """A state with two lineages, a user who is logged in, and a token."""
    if request.param == "sqlite":
        with (
            closing(connect(path, key_file)) as store,
            closing(sqlite3.connect(path, isolation_level=None)) as raw,
        ):
            yield Attacked(store, raw.executescript, filled(store))
        return
    server: Postgresql = request.getfixturevalue("postgresql")
    name = server.new_state()
    with closing(connect(server.url(name), KEY, host="web-1")) as store:
        # Its owner may leave out what keys demand of one another.
        alone = "SET session_replication_role = replica; "
        yield Attacked(store, lambda query: server.ask(alone + query, name), filled(store))


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


def named(binding: Binding) -> str:
    return binding.table


@pytest.mark.parametrize("binding", BINDINGS, ids=named)
def test_row_of_which_a_column_was_changed(attacked: Attacked, binding: Binding) -> None:
    """Whichever column it is, the row counts for nothing, and is named; what lies beside it is read
    as before. Put back as it was, it counts again.
    """
    store, table, changes = attacked.store, binding.table, CHANGES[binding.table]
    assert {*binding.columns} == {*changes}
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


@pytest.mark.parametrize("binding", BINDINGS, ids=named)
@pytest.mark.parametrize(
    "proof", ["NULL", "''", "'not base64'", "(SELECT sealed_check FROM sealing)"]
)
def test_row_that_another_program_wrote(attacked: Attacked, binding: Binding, proof: str) -> None:
    """Nothing that it finds in the database proves it."""
    table = binding.table
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

    with pytest.raises(StateError, match="a chain stands in another's place"):
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

    with pytest.raises(StateError, match="does not open what the state holds"):
        attacked.store.remembered("img")
    with pytest.raises(StateError, match="does not open what the state holds"):
        attacked.store.must_unseal()


def test_schema_that_was_taken_back(path: Path, key_file: Path) -> None:
    """A migration binds what there is once; another program cannot have its rows bound by it."""
    with closing(connect(path, key_file)) as store:
        filled(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DELETE FROM certferry_migration WHERE number >= 21")
        for binding in BINDINGS:
            if binding.table not in {"upload", "challenge_record"}:
                raw.execute(f"ALTER TABLE {binding.table} DROP COLUMN proof")
        raw.execute("UPDATE console_user SET role = 'operator'")

    with pytest.raises(StateForeign, match="taken the schema of the state back"):
        connect(path, key_file)


def test_rows_of_before_are_bound_by_the_migration(path: Path, key_file: Path) -> None:
    """They are believed once, by the key, and from then on they are bound."""
    with closing(connect(path, key_file)) as store:
        filled(store)
    make_one_of_schema(20, path)

    with closing(connect(path, key_file)) as store:
        assert () == store.foreign()
        assert all(believed(store, table) for table in OWN)


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
