"""A program changes the tables: triggers, rules, columns and indexes made by another program are
named, and no altered write is proven.
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
    believed,
    delivery,
)
from tests.adapters.state.child_program import NOW


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


def test_trigger_that_undoes_a_write(attacked: Attacked) -> None:
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
def test_tables_changed_by_another_program(
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
