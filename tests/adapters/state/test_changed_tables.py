"""A program changes the tables: foreign triggers, rules, columns and indexes are named, and no
altered write gets a proof.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from certferry.core.access import Role, Session, User
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import Revocation, RevocationReason
from certferry.errors import StateForeign
from certferry.ports.state import StateStore
from tests.adapters.state.attacked import (
    LATER,
    OWN,
    Attacked,
    accepted_reads,
    delivery,
)
from tests.adapters.state.child_program import NOW


def trigger(attacked: Attacked, table: str, change: str) -> str:
    """Return the statements of a trigger that changes the row of `img` on every write."""
    if attacked.is_shared:
        return (
            "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$BEGIN NEW.{change}; RETURN NEW; END$$;"
            f" CREATE TRIGGER evil BEFORE INSERT OR UPDATE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION evil()"
        )
    return "".join(
        f"CREATE TRIGGER evil_{event} AFTER {event} ON {table}"  # noqa: S608 - a test's own
        f" BEGIN UPDATE {table} SET {change} WHERE rowid = NEW.rowid; END;"
        for event in ("INSERT", "UPDATE")
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
def test_trigger_that_changes_a_write(
    attacked: Attacked, table: str, change: str, write: Callable[..., object]
) -> None:
    """The write is refused and leaves no row: altered values never get a proof."""
    store = attacked.store
    before = [accepted_reads(store, own_table) for own_table in OWN]
    attacked.write(trigger(attacked, table, change))

    with pytest.raises(StateForeign, match="changes certferry's data on writing"):
        write(store, attacked.bundle)

    assert before == [accepted_reads(store, own_table) for own_table in OWN]
    assert () == store.versions("new")
    assert () == store.remembered("new").rollouts
    assert None is store.user("eve")
    assert () == store.foreign()


def test_trigger_that_undoes_a_write(attacked: Attacked) -> None:
    """The lost revocation is an error, because the database returns the earlier row."""
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


@pytest.mark.parametrize(("in_file", "in_server", "message"), ALIEN.values(), ids=ALIEN)
def test_tables_changed_by_another_program(
    attacked: Attacked, in_file: str | None, in_server: str, message: str
) -> None:
    """The change is named, and the hint's statement removes the change."""
    assert () == attacked.store.damage()
    query = in_server if attacked.is_shared else in_file
    if query is None:
        return

    attacked.write(query)

    first, *_ = attacked.store.damage()
    assert isinstance(first, StateForeign)
    assert message in str(first.message)
    statement = str(first.hint).partition("then run: ")[2]
    if statement and "history" not in message.lower():
        attacked.write(statement)
        assert () == attacked.store.damage()


def test_tables_of_the_operator(attacked: Attacked) -> None:
    """Other objects in the database belong to the operator, and are not reported."""
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
