"""The history as a chain: what another program does to it is found, and the first of it named."""

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
"""Hypothesis's, of any kind of value."""


def entry(lineage: str, number: int) -> HistoryEntry:
    """Make an entry of its own moment."""
    at = NOW + number * timedelta(minutes=1)
    return HistoryEntry(at, lineage, "issued", "root@web", {"fingerprint": f"{number:x}"})


class World(Protocol):
    """A state, and the rows of its database as another program has them."""

    stores: Sequence[StateStore]

    def read(self, query: str) -> Rows: ...

    def write(self, query: str, *values: Value) -> None: ...


class InMemory:
    """SQLite, seen by two hosts."""

    def __init__(self) -> None:
        memory = MemoryState()
        self.stores: Sequence[StateStore] = (memory, memory.seen_by("elsewhere", host="web-2"))
        self.read, self.write = memory.read, memory.write
        self.write("DROP TRIGGER history_is_not_changed")
        self.write("DROP TRIGGER history_is_not_removed")


class OnServer:
    """PostgreSQL, seen by two hosts."""

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


def fill(world: World, written: Sequence[tuple[int, int]]) -> None:
    """Store entries of lineages, each by a host."""
    for at, (which, host) in enumerate(written):
        world.stores[host].append_history(entry(LINEAGES[which], at))


def tables_of(world: World) -> dict[str, Rows]:
    """Return what a thief of the database has."""
    return {
        "history": world.read("SELECT * FROM history ORDER BY number"),
        "history_head": world.read("SELECT * FROM history_head"),
    }


def put_back(world: World, tables: dict[str, Rows]) -> None:
    """Make the tables what they were."""
    for table, rows in tables.items():
        world.write(f"DELETE FROM {table}")  # noqa: S608 - constants of this module
        for row in rows:
            put(world, table, row)


def put(world: World, table: str, row: dict[str, Any]) -> None:
    """Insert a row."""
    places = ", ".join("?" * len(row))
    world.write(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values())  # noqa: S608 - constants of this module


# --- What another program may do, once or several times


def edit(world: World, draw: Draw, rows: Rows) -> None:
    """Change any column of any entry to that of another, or to anything."""
    row, column = draw(st.sampled_from(rows)), draw(st.sampled_from(COLUMNS))
    values = [one[column] for one in rows]
    if column == "number":
        values = [number for number in range(-9, len(rows) + 9) if number not in values]
    elif column in {"host", "link"}:
        values += [None, "x", "1..x", *(str(one["link"])[:-1] for one in rows)]
    value = draw(st.sampled_from(values))
    world.write(f"UPDATE history SET {column} = ? WHERE number = ?", value, row["number"])  # noqa: S608 - constants of this module


def remove(world: World, draw: Draw, rows: Rows) -> None:
    """Remove an entry."""
    world.write("DELETE FROM history WHERE number = ?", draw(st.sampled_from(rows))["number"])


def cut(world: World, draw: Draw, rows: Rows) -> None:
    """Remove the end of a lineage, or all of it, and perhaps correct the head."""
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
    one, other = (draw(st.sampled_from(rows))["number"] for _ in range(2))
    for before, after in ((one, -1000), (other, one), (-1000, other)):
        world.write("UPDATE history SET number = ? WHERE number = ?", after, before)


def insert(world: World, draw: Draw, rows: Rows) -> None:
    """Put an entry in, a copy or with anything for a seal: of this lineage or another, anywhere."""
    numbers = [one["number"] for one in rows]
    places = [number for number in range(-9, len(rows) + 9) if number not in numbers]
    row = draw(st.sampled_from(rows)) | {"number": draw(st.sampled_from(places))}
    row["lineage"] = draw(st.sampled_from(LINEAGES))
    row["link"] = draw(st.sampled_from([row["link"], None, "1..0", "9.a.b"]))
    put(world, "history", row)


def change_head(world: World, draw: Draw, _: Rows) -> None:
    """Change or remove the head of a lineage, or the count of all."""
    change = draw(
        st.sampled_from(["entries = entries - 1", "entries = entries + 1", "link = 'x.y'", ""])
    )
    query = f"UPDATE history_head SET {change}" if change else "DELETE FROM history_head"  # noqa: S608 - constants of this module
    lineage = draw(st.sampled_from(["", *LINEAGES]))
    world.write(f"{query} WHERE lineage = ?", lineage)


ATTACKS = [edit, remove, cut, swap, insert, change_head]


def named(was: Rows, rows: Rows) -> set[int | None]:
    """Return which entries may be named as the first that is not as it was: the first that differs,
    or the one before it, where one is missing.
    """
    same = sum(1 for _ in itertools.takewhile(lambda two: two[0] == two[1], zip(was, rows)))  # noqa: B905 - the shorter counts
    allowed = {rows[same - 1]["number"] if same else None}
    allowed |= {rows[same]["number"]} if same < len(rows) else set()
    return allowed


def must_find(world: World, draw: Draw) -> None:
    """Attack, and hold what is found against what is there and was."""
    before = tables_of(world)
    for _ in range(draw(st.integers(1, 2))):
        if rows := world.read("SELECT * FROM history ORDER BY number"):
            draw(st.sampled_from(ATTACKS))(world, draw, rows)
    after = tables_of(world)
    result = world.stores[0].verify_history()
    assert result == world.stores[1].verify_history()
    found = {one.lineage: one for one in result.breaks}

    heads = [{row["lineage"]: row for row in tables["history_head"]} for tables in (before, after)]
    for lineage in LINEAGES:
        was, rows = (
            [row for row in tables["history"] if row["lineage"] == lineage]
            for tables in (before, after)
        )
        head, head_now = (one.get(lineage) for one in heads)
        is_there = head_now is not None or bool(rows)
        if (was == rows and head == head_now) or not is_there:
            assert lineage not in found
        else:
            assert found[lineage].number in named(was, rows)
    is_counted = len(heads[0]) == len(heads[1]) and heads[0].get("") == heads[1].get("")
    # Without any head the chain has not begun, as before the first entry.
    assert (is_counted or not heads[1]) == ("" not in found)


WRITTEN = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=12)


@settings(max_examples=1500 if THOROUGH else 200, deadline=None)
@given(written=WRITTEN, data=st.data())
def test_any_change_is_found_and_named(written: list[tuple[int, int]], data: st.DataObject) -> None:
    """Whatever another program does to entries, to the end, or to the head of a history; and what
    two hosts wrote in whatever order is found as they wrote it.
    """
    world = InMemory()
    fill(world, written)
    result = world.stores[0].verify_history()
    assert (len(written), ()) == (result.entries, result.breaks)

    must_find(world, data.draw)


@pytest.fixture
def on_server(postgresql: Postgresql) -> Iterator[OnServer]:
    with closing(OnServer(postgresql.url(postgresql.new_state()))) as world:
        yield world


def test_any_change_on_a_server_is_found_and_named(on_server: OnServer) -> None:
    """The same in PostgreSQL, whose administrator takes the trigger away."""
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
    found: World = request.getfixturevalue("on_server")
    return found


def test_a_whole_older_history_passes(world: World) -> None:
    """What a chain cannot find: all that was there once, put back. Its length says so. The entries
    alone, or the head alone, do not pass.
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


def test_emptied_history_that_counts_none_is_found(world: World) -> None:
    """All entries and heads are gone, and only the count of lineages stays, as nought."""
    fill(world, [(0, 0), (0, 1)])
    world.write("DELETE FROM history")
    world.write("DELETE FROM history_head WHERE lineage <> ''")
    world.write("UPDATE history_head SET entries = 0")

    assert {"": (Damage.GONE, None)} == breaks(world)


def named_as(damage: Damage, numbers: Sequence[int]) -> dict[str, tuple[Damage, int | None]]:
    return {lineage: (damage, number) for lineage, number in zip(LINEAGES, numbers, strict=False)}


def breaks(world: World) -> dict[str, tuple[Damage, int | None]]:
    """Return where each history is damaged first."""
    found = world.stores[0].verify_history().breaks
    return {one.lineage: (one.damage, one.number) for one in found}


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM history_head",
        "UPDATE history_head SET link = 'x.y'",
        "UPDATE history_head SET entries = 0, link = ''",
        "UPDATE history_head SET entries = entries - 1",
    ],
)
def test_what_happens_afterwards_hides_nothing(world: World, change: str) -> None:
    """Who cuts the end off and takes the head away finds that the next entry does not take its
    place: it is stored, and the break stays.
    """
    fill(world, [(1, 0), (1, 1), (1, 0)])
    world.write("DELETE FROM history WHERE number = 3")
    world.write(change)
    fill(world, [(1, 0), (1, 1)])

    found = world.stores[0].verify_history()
    assert 4 == found.entries
    assert "img2" in [one.lineage for one in found.breaks]
    assert 4 == len(world.stores[0].history("img2", 10))


def test_an_entry_is_not_stored_without_the_key(store: StateStore, key_file: Path) -> None:
    """One without a seal would be another program's. Who stores it gets an error, as the keeper of
    a run does, which warns; with the key in its place, the next one is stored.
    """
    store.append_history(entry("img", 1))
    kept = key_file.rename(key_file.with_name("kept"))
    with closing(connect(key_file.with_name("state.db"), key_file)) as other:
        for refused in (
            lambda: other.append_history(entry("img", 2)),
            other.verify_history,
        ):
            with pytest.raises(StateError, match="key file"):
                refused()
        assert 1 == len(other.history(None, 10))
        kept.rename(key_file)
        other.append_history(entry("img", 3))
        assert VerifiedHistory(2, 1) == other.verify_history()


def test_another_key_keeps_the_chain(store: StateStore, path: Path, key_file: Path) -> None:
    """Where the key of a state is replaced, the key of its chain is kept, sealed with the new one:
    nothing of the history is written anew.
    """
    store.append_history(entry("img", 1))
    rotate(Address(path, key_file), Secret(new_key()), "web-1", NOW)

    assert VerifiedHistory(1, 1) == store.verify_history()
    with closing(connect(path, key_file)) as other:
        other.append_history(entry("img", 2))
    assert VerifiedHistory(2, 1) == store.verify_history()


class Counted(Reader):
    """A reader whose questions are counted."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.most = self.count = 0

    def rows(self, query: str, *values: Value) -> Sequence[Row]:
        found = self._reader.rows(query, *values)
        self.count += 1
        self.most = max(self.most, len(found))
        return found


def test_a_long_history_is_read_in_pages(store: StateStore, path: Path, key_file: Path) -> None:
    """A question for each thousand entries and a few more, however many lineages there are."""
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
        found = verified(counted, Sealing(key_file).history_key)

    assert VerifiedHistory(4203, 701) == found
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
    """No entry is lost, on either database, and each lineage has one chain."""
    url, words = postgresql.url(postgresql.new_state()), (str(EACH), "shared" if is_shared else "")
    at_once(WRITE, str(path), *words, key=str(key_file), hosts=WRITERS)
    at_once(WRITE, url, *words, hosts=WRITERS)

    expected = VerifiedHistory(WRITERS * EACH, 1 if is_shared else WRITERS)
    with closing(connect(path, key_file)) as store, closing(connect(url, KEY)) as shared:
        assert expected == store.verify_history() == shared.verify_history()
        written = {(one.who, one.facts["number"]) for one in shared.history(None, 1000)}
        assert WRITERS * EACH == len(written)


def test_a_lineage_waits_for_no_other(postgresql: Postgresql) -> None:
    """While another host has a history in its hands, those of others go on."""
    url = postgresql.url(postgresql.new_state())
    with closing(connect(url, KEY, host="web-1")) as store:
        for lineage in ("img", "static"):
            store.append_history(entry(lineage, 0))
        with psycopg.connect(url) as other:
            other.execute("UPDATE history_head SET entries = entries WHERE lineage = 'img'")
            for number in range(20):
                store.append_history(entry("static", number))
        assert VerifiedHistory(22, 2) == store.verify_history()


def test_history_removed_beside_a_version_is_found(store: StateStore, path: Path) -> None:
    """The count of lineages was deleted as well: the version shows that there was a history."""
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


def test_facts_of_another_type_are_a_change(on_server: OnServer) -> None:
    """Another program changed the column's type: the entries count as changed."""
    fill(on_server, [(0, 0)])
    on_server.write("ALTER TABLE history ALTER facts TYPE bytea USING facts::bytea")

    assert [Damage.CHANGED] == [damage for damage, _ in breaks(on_server).values()]
