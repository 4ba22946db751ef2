"""A search for rows that certferry cannot read, because another program wrote the rows. Everywhere
else such a row counts as absent (`database.Table`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from certferry.adapters.state.columns import MOMENT, NUMBER, PLAIN, Column
from certferry.adapters.state.database import Dialect, Reader, Row, Table
from certferry.adapters.state.row_proofs import PROOF_RULES
from certferry.errors import StateForeign
from certferry.text import Text

_PAGE = 500
"""How many rows one query reads."""

_READ_OTHERWISE = frozenset(
    {*("certferry_migration", "certferry_schema", "moved", "sealing"), *("history", "history_head")}
)
"""Tables read whole whenever a state is opened, and the tables checked by `history_chain`."""

_BESIDE: Mapping[tuple[str, str], Column] = {
    ("lease", "token"): NUMBER,
    ("lease", "since"): MOMENT,
    ("lease", "until"): MOMENT,
    ("pace", "until"): MOMENT,
    ("declaration", "first_seen_at"): MOMENT,
    ("console_guess", "minute"): MOMENT,
    ("console_guess", "guesses"): NUMBER,
}
"""How to read the columns that belong to no field of a `Table`."""

_PROOF_RULES = {rule.table: rule for rule in PROOF_RULES}
"""The rules by table. The columns covered by a proof are skipped here, because
`row_proofs.foreign_rows` reports changes in them."""


def unreadable_rows(reader: Reader, dialect: Dialect) -> Iterator[tuple[str, StateForeign]]:
    """Yield the subject and the error of each row with unreadable columns. The error names the
    table, the key and the columns.
    """
    columns: dict[str, list[Row]] = {}
    ours = {row["name"] for row in reader.rows(dialect.tables)} - _READ_OTHERWISE
    for column in reader.rows(dialect.columns):
        if column["table_name"] in ours:
            columns.setdefault(column["table_name"], []).append(column)
    for table, of_table in columns.items():
        names = sorted(column["name"] for column in of_table)
        key = [column["name"] for column in of_table if column["place"]] or names
        rule = _PROOF_RULES.get(table)
        for row in _rows(reader, table, key):
            proven = {*rule.columns, "proof"} if rule and rule.covers(row) else set()
            judged = (name for name in names if name not in proven)
            if wrong := [name for name in judged if _is_unreadable(table, name, row)]:
                yield _whose(table, names, row), _foreign(table, key, wrong, row)


def _rows(reader: Reader, table: str, key: Sequence[str]) -> Iterator[Row]:
    """Return the rows of a table, page by page. Pages are found by OFFSET instead of by the last
    key, because another program may have stored bytes as a key.
    """
    order = ", ".join(key)
    query = f"SELECT * FROM {table} ORDER BY {order} LIMIT {_PAGE} OFFSET ?"  # noqa: S608 - names of the schema
    start = 0
    while page := reader.rows(query, start):
        yield from page
        start += len(page)


def _is_unreadable(table: str, name: str, row: Row) -> bool:
    columns = [
        _BESIDE.get((table, name)),
        *(record.by_name.get(name) for record in Table.of.get(table, ())),
    ]
    return not all((column or PLAIN).can_read(row[name]) for column in columns)


def _whose(table: str, names: Sequence[str], row: Row) -> str:
    whose = next((row[name] for name in ("lineage", "host") if name in names and row[name]), table)
    return str(whose)


def _foreign(table: str, key: Sequence[str], wrong: Sequence[str], row: Row) -> StateForeign:
    message = Text(
        "the state contains data that certferry did not write: {columns} of the row {key} in the"
        " table {table}"
    )
    return StateForeign(
        message.filled(columns=list(wrong), key=[str(row[name]) for name in key], table=table),
        hint=Text(
            "check who else can write to the database; put the state back from a backup, or"
            " delete the row"
        ),
    )
