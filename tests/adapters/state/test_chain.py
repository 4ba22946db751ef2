"""The history as a chain: any change by another program is found, and the first changed
entry named.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from certferry.adapters.state.columns import Value
from certferry.adapters.state.connect import connect
from certferry.adapters.state.database import Reader, Row, Transaction
from certferry.adapters.state.history_chain import append, verified
from certferry.adapters.state.move import Address, rotate
from certferry.adapters.state.sealing import Sealing, new_key
from certferry.adapters.state.sqlite import SqliteDatabase
from certferry.core.observed.records import (
    Damage,
    HistoryEntry,
    VerifiedHistory,
)
from certferry.core.redaction import Secret
from certferry.errors import StateError
from certferry.ports.state import StateStore
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.memory_state import MemoryState
from tests.support.hosts import at_once
from tests.support.postgresql import KEY, Postgresql
from tests.support.tiers import THOROUGH

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LINEAGES = ("img", "img2", "static")
COLUMNS = ("number", "at", "lineage", "event", "who", "facts", "host", "link")

Rows = list[dict[str, Any]]
Draw = Any
"""Hypothesis's `draw`, for any kind of value."""


def entry(lineage: str, number: int) -> HistoryEntry:
    """Make an entry with a distinct moment."""
    at = NOW + number * timedelta(minutes=1)
    return HistoryEntry(at, lineage, "issued", "root@web", {"fingerprint": f"{number:x}"})


class World(Protocol):
    """A state with two hosts, and the database's rows as another program sees them."""

    stores: Sequence[StateStore]

    def read(self, query: str) -> Rows: ...

    def write(self, query: str, *values: Value) -> None: ...


class InMemory:
    """SQLite with two hosts."""

    def __init__(self) -> None:
        memory = MemoryState()
        self.stores: Sequence[StateStore] = (memory, memory.seen_by("elsewhere", host="web-2"))
        self.read, self.write = memory.read, memory.write
        self.write("DROP TRIGGER history_is_not_changed")
        self.write("DROP TRIGGER history_is_not_removed")


class OnServer:
    """PostgreSQL with two hosts."""

    def __init__(self, url: str) -> None:
        self.stores: Sequence[StateStore] = [
            connect(url, KEY, host=name) for name in ("web-1", "web-2")
        ]
        self._attacker = psycopg.connect(url, row_factory=dict_row, autocommit=True)
        self.write("ALTER TABLE history DISABLE TRIGGER ALL")

    def read(self, query: str) -> Rows:
        return self._attacker.execute(query.encode()).fetchall()

    def write(self, query: str, *values: Value) -> None:
        self._attacker.execute(query.replace("?", "%s").encode(), values or None)

    def close(self) -> None:
        self._attacker.close()
        for store in self.stores:
            store.close()


def fill(world: World, entries: Sequence[tuple[int, int]]) -> None:
    """Store entries, each for a lineage and by a host."""
    for at, (lineage, host) in enumerate(entries):
        world.stores[host].append_history(entry(LINEAGES[lineage], at))


def tables_of(world: World) -> dict[str, Rows]:
    """Return the tables as an attacker could copy them."""
    return {
        "history": world.read("SELECT * FROM history ORDER BY number"),
        "history_head": world.read("SELECT * FROM history_head"),
    }


def put_back(world: World, tables: dict[str, Rows]) -> None:
    """Restore earlier tables."""
    for table, rows in tables.items():
        world.write(f"DELETE FROM {table}")  # noqa: S608 - constants of this module
        for row in rows:
            put(world, table, row)


def put(world: World, table: str, row: dict[str, Any]) -> None:
    """Insert a row."""
    places = ", ".join("?" * len(row))
    world.write(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values())  # noqa: S608 - constants of this module


# --- Attacks of another program, once or several times


def edit(world: World, draw: Draw, rows: Rows) -> None:
    """Set a column of an entry to another entry's value or to an arbitrary value."""
    row, column = draw(st.sampled_from(rows)), draw(st.sampled_from(COLUMNS))
    values = [entry_row[column] for entry_row in rows]
    if column == "number":
        values = [number for number in range(-9, len(rows) + 9) if number not in values]
    elif column in {"host", "link"}:
        values += [None, "x", "1..x", *(str(entry_row["link"])[:-1] for entry_row in rows)]
    value = draw(st.sampled_from(values))
    world.write(f"UPDATE history SET {column} = ? WHERE number = ?", value, row["number"])  # noqa: S608 - constants of this module


def remove(world: World, draw: Draw, rows: Rows) -> None:
    """Remove an entry."""
    world.write("DELETE FROM history WHERE number = ?", draw(st.sampled_from(rows))["number"])


def cut(world: World, draw: Draw, rows: Rows) -> None:
    """Remove the end of a lineage or all of the lineage, and perhaps adapt the head."""
    row = draw(st.sampled_from(rows))
    lineage, number = row["lineage"], row["number"]
    world.write("DELETE FROM history WHERE lineage = ? AND number >= ?", lineage, number)
    if draw(st.booleans()):
        world.write("DELETE FROM history_head WHERE lineage = ?", lineage)
    elif draw(st.booleans()):
        link = f"{str(row['link']).split('.')[1:2]}.{draw(st.sampled_from(rows))['link']}"
        change = "UPDATE history_head SET entries = entries - 1, link = ? WHERE lineage = ?"
        world.write(change, link, lineage)


def swap(world: World, draw: Draw, rows: Rows) -> None:
    """Exchange two entries."""
    first, second = (draw(st.sampled_from(rows))["number"] for _ in range(2))
    for before, after in ((first, -1000), (second, first), (-1000, second)):
        world.write("UPDATE history SET number = ? WHERE number = ?", after, before)


def insert(world: World, draw: Draw, rows: Rows) -> None:
    """Insert a copy, or an entry with an arbitrary seal, anywhere in any lineage."""
    numbers = [entry_row["number"] for entry_row in rows]
    places = [number for number in range(-9, len(rows) + 9) if number not in numbers]
    row = draw(st.sampled_from(rows)) | {"number": draw(st.sampled_from(places))}
    row["lineage"] = draw(st.sampled_from(LINEAGES))
    row["link"] = draw(st.sampled_from([row["link"], None, "1..0", "9.a.b"]))
    put(world, "history", row)


def change_head(world: World, draw: Draw, _: Rows) -> None:
    """Change or remove the head of a lineage, or the count of all lineages."""
    change = draw(
        st.sampled_from(["entries = entries - 1", "entries = entries + 1", "link = 'x.y'", ""])
    )
    query = f"UPDATE history_head SET {change}" if change else "DELETE FROM history_head"  # noqa: S608 - constants of this module
    lineage = draw(st.sampled_from(["", *LINEAGES]))
    world.write(f"{query} WHERE lineage = ?", lineage)


ATTACKS = [edit, remove, cut, swap, insert, change_head]


def numbers_to_name(before: Rows, after: Rows) -> set[int | None]:
    """Return the numbers that may be named as the first change: the first different entry, or its
    predecessor if an entry is missing.
    """
    same = sum(1 for _ in itertools.takewhile(lambda two: two[0] == two[1], zip(before, after)))  # noqa: B905 - the shorter sequence counts
    allowed = {after[same - 1]["number"] if same else None}
    allowed |= {after[same]["number"]} if same < len(after) else set()
    return allowed


def must_find(world: World, draw: Draw) -> None:
    """Attack, and compare the reported breaks with the real changes."""
    before = tables_of(world)
    for _ in range(draw(st.integers(1, 2))):
        if rows := world.read("SELECT * FROM history ORDER BY number"):
            draw(st.sampled_from(ATTACKS))(world, draw, rows)
    after = tables_of(world)
    result = world.stores[0].verify_history()
    assert result == world.stores[1].verify_history()
    reported = {chain.lineage: chain for chain in result.breaks}

    heads = [{row["lineage"]: row for row in tables["history_head"]} for tables in (before, after)]
    for lineage in LINEAGES:
        original, rows = (
            [row for row in tables["history"] if row["lineage"] == lineage]
            for tables in (before, after)
        )
        head, head_now = (head_of.get(lineage) for head_of in heads)
        is_there = head_now is not None or bool(rows)
        if (original == rows and head == head_now) or not is_there:
            assert lineage not in reported
        else:
            assert reported[lineage].number in numbers_to_name(original, rows)
    is_counted = len(heads[0]) == len(heads[1]) and heads[0].get("") == heads[1].get("")
    # Without any head the chain has not begun, as before the first entry.
    assert (is_counted or not heads[1]) == ("" not in reported)


ENTRIES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=12)


@settings(max_examples=1500 if THOROUGH else 200, deadline=None)
@given(entries=ENTRIES, data=st.data())
def test_any_change_in_sqlite_is_named(entries: list[tuple[int, int]], data: st.DataObject) -> None:
    """Every change of entries, of the end or of the head is named; entries that two hosts write in
    any order are intact.
    """
    world = InMemory()
    fill(world, entries)
    result = world.stores[0].verify_history()
    assert (len(entries), ()) == (result.entries, result.breaks)

    must_find(world, data.draw)


@pytest.fixture
def on_server(postgresql: Postgresql) -> Iterator[OnServer]:
    with closing(OnServer(postgresql.url(postgresql.new_state()))) as world:
        yield world


def test_any_change_in_postgresql_is_named(on_server: OnServer) -> None:
    """The administrator of the server disables the trigger first."""
    fill(on_server, [(number % 3, number % 2) for number in range(10)])
    whole = tables_of(on_server)

    @settings(max_examples=200 if THOROUGH else 15, deadline=None)
    @given(data=st.data())
    def attack(data: st.DataObject) -> None:
        put_back(on_server, whole)
        assert () == on_server.stores[0].verify_history().breaks
        must_find(on_server, data.draw)

    attack()


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> World:
    """A state of either kind."""
    if request.param == "sqlite":
        return InMemory()
    server: World = request.getfixturevalue("on_server")
    return server


def test_restored_older_history(world: World) -> None:
    """A complete older history passes, and its length shows the loss. Entries alone, or heads
    alone, fail.
    """
    fill(world, [(0, 0), (1, 0)])
    older = tables_of(world)
    fill(world, [(0, 1), (1, 0)])
    newer = tables_of(world)
    numbers = [row["number"] for row in newer["history"]]

    put_back(world, {**newer, "history_head": older["history_head"]})
    assert named_as(Damage.REMOVED, numbers[2:]) == breaks(world)
    put_back(world, {**newer, "history": older["history"]})
    assert named_as(Damage.REMOVED, numbers[:2]) == breaks(world)
    put_back(world, older)
    assert VerifiedHistory(2, 2) == world.stores[0].verify_history()


def test_emptied_history_with_a_count_of_zero(world: World) -> None:
    """All entries and heads are removed, and the count of lineages is set to zero."""
    fill(world, [(0, 0), (0, 1)])
    world.write("DELETE FROM history")
    world.write("DELETE FROM history_head WHERE lineage <> ''")
    world.write("UPDATE history_head SET entries = 0")

    assert {"": (Damage.GONE, None)} == breaks(world)


def named_as(damage: Damage, numbers: Sequence[int]) -> dict[str, tuple[Damage, int | None]]:
    return {lineage: (damage, number) for lineage, number in zip(LINEAGES, numbers, strict=False)}


def breaks(world: World) -> dict[str, tuple[Damage, int | None]]:
    """Return the first break of each history."""
    broken_chains = world.stores[0].verify_history().breaks
    return {chain.lineage: (chain.damage, chain.number) for chain in broken_chains}


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM history_head",
        "UPDATE history_head SET link = 'x.y'",
        "UPDATE history_head SET entries = 0, link = ''",
        "UPDATE history_head SET entries = entries - 1",
    ],
)
def test_later_entries_hide_no_break(world: World, change: str) -> None:
    """An attacker removes the end and changes the head: the next entry is stored, and the break
    stays.
    """
    fill(world, [(1, 0), (1, 1), (1, 0)])
    world.write("DELETE FROM history WHERE number = 3")
    world.write(change)
    fill(world, [(1, 0), (1, 1)])

    result = world.stores[0].verify_history()
    assert 4 == result.entries
    assert "img2" in [chain.lineage for chain in result.breaks]
    assert 4 == len(world.stores[0].history("img2", 10))


def test_entry_without_the_key(store: StateStore, key_file: Path) -> None:
    """Without the key, storing an entry is an error, because an unsealed entry would look like
    another program's. With the key restored, the next entry is stored.
    """
    store.append_history(entry("img", 1))
    moved_key = key_file.rename(key_file.with_name("kept"))
    with closing(connect(key_file.with_name("state.db"), key_file)) as other:
        for refused in (
            lambda: other.append_history(entry("img", 2)),
            other.verify_history,
        ):
            with pytest.raises(StateError, match="key file"):
                refused()
        assert 1 == len(other.history(None, 10))
        moved_key.rename(key_file)
        other.append_history(entry("img", 3))
        assert VerifiedHistory(2, 1) == other.verify_history()


def test_rotation_keeps_the_chain(store: StateStore, path: Path, key_file: Path) -> None:
    """The new key seals the key of the chain, and the entries stay unchanged."""
    store.append_history(entry("img", 1))
    rotate(Address(path, key_file), Secret(new_key()), "web-1", NOW)

    assert VerifiedHistory(1, 1) == store.verify_history()
    with closing(connect(path, key_file)) as other:
        other.append_history(entry("img", 2))
    assert VerifiedHistory(2, 1) == store.verify_history()


class Counted(Reader):
    """A reader that counts its queries."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.most = self.count = 0

    def rows(self, query: str, *values: Value) -> Sequence[Row]:
        rows = self._reader.rows(query, *values)
        self.count += 1
        self.most = max(self.most, len(rows))
        return rows


def test_long_history_is_read_in_pages(store: StateStore, path: Path, key_file: Path) -> None:
    """Verifying takes a query for each thousand entries and a few more, for any number of
    lineages.
    """
    for number in range(3):
        store.append_history(entry("img", number))
    with closing(SqliteDatabase(path)) as database:
        key = Sealing(key_file).history_key(database)
        row: dict[str, Value] = dict.fromkeys(("event", "who", "host", "facts"), "{}")
        row["at"] = "2026-01-01T00:00:00.000000Z"

        def add_entries(transaction: Transaction) -> None:
            for number in range(4200):
                values = {**row, "lineage": f"img-{number % 700}"}
                append(transaction, database.dialect.head, key, values)

        database.run(add_entries)
        counted = Counted(database)
        result = verified(counted, Sealing(key_file).history_key)

    assert VerifiedHistory(4203, 701) == result
    assert counted.most <= 1000
    assert counted.count <= 4203 / 1000 + 7


# --- Several processes at once

WRITERS, EACH = (8, 20) if THOROUGH else (4, 6)
WRITE = """
import sys
from certferry.adapters.state.connect import connect
from certferry.core.redaction import Secret
from datetime import UTC, datetime
from certferry.core.observed.records import HistoryEntry
from pathlib import Path

url, key, host, count, lineage = sys.argv[1:]
state = connect(url, Path(key) if url.startswith("/") else Secret(key), host=host)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(count)):
    at = datetime(2026, 3, 1, tzinfo=UTC)
    event = HistoryEntry(at, lineage or host, "issued", host, {"number": str(number)})
    state.append_history(event)
state.close()
"""


@pytest.mark.parametrize("is_shared", [False, True], ids=["one lineage each", "one for all"])
def test_processes_that_append_at_once(
    path: Path, key_file: Path, postgresql: Postgresql, *, is_shared: bool
) -> None:
    """Every entry is stored in both databases, and each lineage has a single chain."""
    url, words = postgresql.url(postgresql.new_state()), (str(EACH), "shared" if is_shared else "")
    at_once(WRITE, str(path), *words, key=str(key_file), hosts=WRITERS)
    at_once(WRITE, url, *words, hosts=WRITERS)

    expected = VerifiedHistory(WRITERS * EACH, 1 if is_shared else WRITERS)
    with closing(connect(path, key_file)) as store, closing(connect(url, KEY)) as shared:
        assert expected == store.verify_history() == shared.verify_history()
        entries = {(record.who, record.facts["number"]) for record in shared.history(None, 1000)}
        assert WRITERS * EACH == len(entries)


def test_lineages_append_independently(postgresql: Postgresql) -> None:
    """While another host locks a history, entries of other lineages are stored."""
    url = postgresql.url(postgresql.new_state())
    with closing(connect(url, KEY, host="web-1")) as store:
        for lineage in ("img", "static"):
            store.append_history(entry(lineage, 0))
        with psycopg.connect(url) as other:
            other.execute("UPDATE history_head SET entries = entries WHERE lineage = 'img'")
            for number in range(20):
                store.append_history(entry("static", number))
        assert VerifiedHistory(22, 2) == store.verify_history()


def test_history_removed_beside_a_version(store: StateStore, path: Path) -> None:
    """The count of lineages was deleted as well: the version proves that a history existed."""
    assert () == store.verify_history().breaks
    store.save_version(
        store.acquire("img", NOW), make_bundle("img.example.com", not_before=NOW), NOW
    )
    store.append_history(HistoryEntry(NOW, "img", "issued", "", {}))
    assert () == store.verify_history().breaks
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.executescript(
            "DROP TRIGGER history_is_not_removed; DELETE FROM history; DELETE FROM history_head"
        )

    assert [("", Damage.GONE)] == [
        (chain.lineage, chain.damage) for chain in store.verify_history().breaks
    ]


def test_facts_of_another_type(on_server: OnServer) -> None:
    """Another program changed the column's type: the entries count as changed."""
    fill(on_server, [(0, 0)])
    on_server.write("ALTER TABLE history ALTER facts TYPE bytea USING facts::bytea")

    assert [Damage.CHANGED] == [damage for damage, _ in breaks(on_server).values()]
