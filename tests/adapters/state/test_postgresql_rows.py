"""Rows in PostgreSQL of other programs: too many, too long, unreadable, or removed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from certferry.adapters.state.connect import connect
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.errors import StateError
from tests.support.postgresql import (
    KEY,
    Postgresql,
)
from tests.support.tiers import thorough

READS: list[Callable[[PostgresqlDatabase], object]] = [
    lambda database: database.rows("SELECT * FROM lease"),
    lambda database: database.each(("SELECT 1 AS one", ()), ("SELECT holder FROM lease", ())),
    lambda database: database.read(lambda reader: reader.rows("SELECT * FROM lease")),
    lambda database: database.run(
        lambda transaction: transaction.rows("SELECT * FROM lease FOR SHARE")
    ),
]


def test_table_removed_by_another_program(postgresql: Postgresql, name: str) -> None:
    """The error names the missing table."""
    with closing(connect(postgresql.url(name), KEY)) as store:
        postgresql.ask("DROP TABLE upload", name)
        with pytest.raises(StateError, match=r'is not a state of certferry: .*"upload"') as error:
            store.uploads("img", "qiniu")

    assert "backup" in str(error.value.hint)


@pytest.mark.parametrize(
    ("holder", "count"),
    [
        pytest.param("repeat('x', 23000000)", 3, id="long"),
        pytest.param("NULL", 700_000, id="many", marks=thorough),
    ],
)
def test_too_many_rows(
    postgresql: Postgresql, name: str, database: PostgresqlDatabase, holder: str, count: int
) -> None:
    """The server sends none of the rows, and the error names the table; a query for fewer rows
    succeeds.
    """
    rows = f"INSERT INTO lease (lineage, token, holder) SELECT 'n' || n, 1, {holder}"
    postgresql.ask(f"{rows} FROM generate_series(1, {count}) AS n", name)
    for read in READS:
        with pytest.raises(StateError, match="the table lease returns more than 64 MiB") as error:
            read(database)
        assert str(database.place) in str(error.value)
    assert 1 == len(database.rows("SELECT * FROM lease WHERE lineage = 'n1'"))


def test_text_that_is_not_utf8(postgresql: Postgresql) -> None:
    """A database without an encoding holds any bytes: the error names the table."""
    name = postgresql.new_database("template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    postgresql.ask("CREATE TABLE lease (holder TEXT)", name)
    postgresql.ask("INSERT INTO lease VALUES (convert_from('\\xff'::bytea, 'SQL_ASCII'))", name)
    with closing(PostgresqlDatabase(postgresql.url(name))) as database:
        for read in READS:
            with pytest.raises(StateError, match="the table lease contains text that is not UTF-8"):
                read(database)
        assert 1 == len(database.rows("SELECT 1 AS one"))
