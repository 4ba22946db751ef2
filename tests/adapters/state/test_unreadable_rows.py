"""Rows with values that their columns cannot have, of another program or a failing disk: each
counts as absent, is named, and stops nothing but what it concerns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.adapters.state.move import Address, move
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.sightings import Sighting
from certferry.core.observed.records import RolloutRecord, Upload
from certferry.core.planning.limits import PlannedOrder
from certferry.errors import Problem, StateError, StateForeign
from certferry.ports.state import StateStore
from certferry.reconcile.reads import recorded
from certferry.text import Text
from certferry_sandbox.testing.certificates import make_bundle
from tests.adapters.state.child_program import NOW
from tests.adapters.state.every_row import store_everything
from tests.support.postgresql import KEY, Postgresql
from tests.support.tiers import sampled

PARSED = {
    "begun_run": ["began_at"],
    "challenge_record": ["created_at"],
    "channel": ["again_at", "hint", "problem", "refused_since", "sent"],
    "console_guess": ["minute"],
    "console_token": ["used_at"],
    "console_user": ["seen_at"],
    "declaration": ["first_seen_at"],
    "failed_proof": ["failed_at"],
    "hold": ["names", "told_at", "until"],
    "host": ["seen_at"],
    "host_declaration": ["since"],
    "issuance": ["issued_at", "names", "ordered_at"],
    "issue_try": ["failing_since", "rejected_at", "tried_at"],
    "last_run": ["ended_at", "succeeded_at"],
    "lease": ["since", "until"],
    "notice": ["deadline", "hint", "message", "since", "topic"],
    "pace": ["until"],
    "rollout": [
        *("accepted_at", "failed_at", "refused_since", "repairs", "sent", "settings_before"),
        *("started_at", "verified_at"),
    ],
    "run": ["ended_at", "kind", "names", "source", "started_at", "state"],
    "run_event": ["at", "text"],
    "sighting": ["lagging", "other_until", "since"],
    "told": ["at", "since", "topic"],
    "upload": ["in_use_until", "uploaded_at"],
}
"""The columns that hold moments, names, words and sentences; but for those that proofs are of."""

WHOLE = {"certferry_migration", "moved", "sealing"}
"""Tables of which the state has one row, or which say what the tables are."""

CHAINED = {"history", "history_head"}
"""Tables that `verify_history` follows, and which are never changed."""

PLACE = ("static", "qiniu", "static.example.com")


@dataclass(frozen=True, slots=True)
class Opened:
    """A state, and what another program writes to it with."""

    store: StateStore
    ask: Callable[[str], list[tuple[object, ...]]]


@pytest.fixture
def opened(path: Path, key_file: Path) -> Iterator[Opened]:
    """A state in a file with a row in every table, and another lineage in some."""
    with (
        closing(connect(path, key_file, host="web-1")) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as raw,
    ):
        fill(store)
        raw.execute("INSERT OR REPLACE INTO pace VALUES ('qiniu', 'calls', '2026-03-01T12:00:00Z')")
        yield Opened(store, lambda query: raw.execute(query).fetchall())


@pytest.fixture
def shared(postgresql: Postgresql) -> Iterator[Opened]:
    """A database with the same."""
    name = postgresql.new_state()
    alone = "SET session_replication_role = replica; "
    with closing(connect(postgresql.url(name), KEY, host="web-1")) as store:
        fill(store)
        yield Opened(store, lambda query: postgresql.ask(alone + query, name))


def fill(store: StateStore) -> None:
    store_everything(store)
    lease = store.acquire("static", NOW)
    bundle = make_bundle("static.example.com", not_before=NOW)
    leaf = store.save_version(lease, bundle, NOW).fingerprint
    store.release(lease)
    store.save_rollout(RolloutRecord(*PLACE, leaf, NOW))
    store.save_upload(Upload("static", "qiniu", "2", "label", leaf, NOW))
    store.update_sightings(lambda before: (*before, Sighting(*PLACE, served=True, since=NOW)))
    notice = Notice(Topic.TROUBLE, Subject("static"), NOW, Problem("code", Text("static")))
    store.update_notices(lambda before: (*before, notice))
    store.reserve("qiniu", "calls", timedelta(seconds=1), 1)
    assert () == store.foreign()


def of_static(store: StateStore) -> list[object]:
    """Read what is stored of the other lineage."""
    return [
        store.remembered("static"),
        store.bundle("static", 1),
        store.uploads("static", "qiniu"),
        store.versions_in_use()["static"],
        [one for one in store.sightings() if one.lineage == "static"],
        [one for one in store.notices() if one.subject.lineage == "static"],
        [one.lineage for one in recorded(store).sightings if one.lineage == "static"],
    ]


def read_and_write_all(store: StateStore) -> None:
    """Do the calls of every run, and of every command that reads the whole state."""
    run = store.begin_run(NOW)
    store.declare({"static": "cd" * 32}, "/etc/certferry.toml", lambda _: False)
    store.contested({"static": "ef" * 32, "img": "ef" * 32})
    store.spent("https://ca.test", PlannedOrder(("img.example.com",)))
    store.unended_runs()
    store.hosts()
    store.work_of_hosts()
    store.update_sightings(lambda before: before)
    store.update_notices(lambda before: before)
    store.channel("ops")
    store.stored_runs(9)
    store.run_events("run-1")
    store.latest_run_events("run-1", 9)
    store.history(None, 9)
    store.verify_history()
    store.users()
    store.user("anna")
    store.session("a session", NOW)
    store.tokens()
    store.count_guess("name anna", NOW)
    store.update_account_note("qiniu", "way", lambda before: before)
    store.last_run()
    store.end_run(run)


def damaged(opened: Opened, table: str, values: Callable[[str], Sequence[str]]) -> Iterator[str]:
    """Put values into each column of a table's first row in turn."""
    opened.ask(f"CREATE TABLE kept AS SELECT * FROM {table}")  # noqa: S608 - a test's own
    number = "ctid" if opened.store.is_shared else "rowid"
    database, _ = opened.store.database_and_sealing  # type: ignore[attr-defined]  # as every state in a database
    rows = database.rows(database.dialect.columns)
    names = {row["name"] for row in rows if row["table_name"] == table}
    if table == "issuance":  # whose `number` is the row's own in SQLite, and takes numbers alone
        names -= {"number"}
    of_img = " WHERE lineage = 'img'" if "lineage" in names and table == "rollout" else ""
    for column in sorted(names):
        for value in values(column):
            first = f"{number} = (SELECT MIN({number}) FROM {table}{of_img})"  # noqa: S608 - a test's own
            opened.ask(f"UPDATE {table} SET {column} = {value} WHERE {first}")  # noqa: S608 - a test's own
            yield column
            opened.ask(f"DELETE FROM {table}")  # noqa: S608 - a test's own
            opened.ask(f"INSERT INTO {table} SELECT * FROM kept")  # noqa: S608 - a test's own
    opened.ask("DROP TABLE kept")


def must_be_isolated(opened: Opened, table: str, around: list[object]) -> None:
    """Read all, beside what the row concerns, as it was before."""
    assert around == of_static(opened.store)
    read_and_write_all(opened.store)
    with suppress(StateForeign):
        opened.store.remembered("img")


def named(store: StateStore, table: str) -> list[str]:
    """Return how the unreadable rows of a table are named."""
    return [str(error) for _, error in store.foreign() if f"in the table {table}" in str(error)]


TABLES = [*PARSED, "account_note", "run_report", "version", "version_pem", "withdrawal"]
TABLES += ["acme_account", "acme_order", "console_user_session", "console_user_link"]


@pytest.mark.parametrize("table", TABLES)
def test_value_that_is_no_text(opened: Opened, table: str) -> None:
    """Bytes, text that is not UTF-8: the row is named by its table, its key and the column, or by
    what it is, and everything else is read and written as before.
    """
    around = of_static(opened.store)
    for column in damaged(
        opened, table, lambda _: sampled(["CAST(x'ff41' AS TEXT)", "x'00ff'"], 1)
    ):
        found = opened.store.foreign()
        assert found, column
        assert all(error.hint for _, error in found)
        must_be_isolated(opened, table, around)
    assert () == opened.store.foreign()


def test_every_table_is_tried(opened: Opened) -> None:
    """A table that is added is among them."""
    tables = {name for (name,) in opened.ask("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert {*TABLES, "console_guess"} | WHOLE | CHAINED == tables


@pytest.mark.parametrize("table", PARSED)
def test_value_that_is_of_another_kind(opened: Opened, table: str) -> None:
    """Words and numbers in the place of moments, names, sentences, numbers and flags."""
    around, seen = of_static(opened.store), set()
    kinds = {name: kind for _, name, kind, *_ in opened.ask(f"PRAGMA table_info({table})")}
    values = sampled(["'nonsense'", "'9999-99-99'", "'[1]'", "7.5"], 1)
    for column in damaged(opened, table, lambda _: values):
        for message in named(opened.store, table):
            seen.add(column)
            assert f"certferry did not write: {column} of the row" in message
        must_be_isolated(opened, table, around)
    numbers = {name for name, kind in kinds.items() if kind != "TEXT"}
    numbers -= {"number"} if table == "issuance" else set()
    assert {*PARSED[table], *numbers} == seen


@pytest.mark.parametrize("table", sampled([*PARSED], 6))
def test_value_that_is_of_another_kind_in_a_shared_state(shared: Opened, table: str) -> None:
    """The same in PostgreSQL, which itself refuses bytes and words in the place of numbers."""
    around, seen = of_static(shared.store), set()
    values = sampled(["'nonsense'", "'9999-99-99'", "'[1]'"], 1)
    for column in damaged(shared, table, lambda column: values if column in PARSED[table] else []):
        seen |= {column} if named(shared.store, table) else set()
        must_be_isolated(shared, table, around)
    assert {*PARSED[table]} == seen


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_column_of_moments_beyond_the_calendar(shared: Opened, kind: str) -> None:
    """Another program changed the column's type. Python has no such moment, so psycopg cannot read
    the value; certferry names the row.
    """
    shared.ask(f"ALTER TABLE last_run ALTER ended_at TYPE {kind} USING 'infinity'")

    assert ["ended_at" in message for message in named(shared.store, "last_run")] == [True]
    must_be_isolated(shared, "last_run", of_static(shared.store))


def test_lineage_whose_rows_are_unreadable(opened: Opened) -> None:
    """It goes on as if they were not there, and what is stored of it anew is read."""
    for table in ("rollout", "upload", "sighting", "notice", "issue_try", "last_run", "host"):
        [column, *_] = PARSED[table] if table != "rollout" else ["started_at"]
        opened.ask(f"UPDATE {table} SET {column} = x'00'")  # noqa: S608 - a test's own
    store = opened.store

    remembered = store.remembered("img")
    assert ((), ()) == (remembered.rollouts, remembered.uploads)
    assert () == store.sightings()
    assert None is store.last_run()

    rollout = RolloutRecord("img", "qiniu", "img.example.com", "ab", NOW)
    assert store.replace_rollout(None, rollout)
    sighting = Sighting(*PLACE, served=True, since=NOW)
    store.update_sightings(lambda _: (sighting,))
    store.save_run(NOW, succeeded=True)
    store.end_run(store.begin_run(NOW))

    assert (rollout,) == store.remembered("img").rollouts
    assert (sighting,) == store.sightings()
    assert store.last_run()
    assert ["web-1"] == [one.name for one in store.hosts()]


def test_host_that_another_program_added_to_a_file(
    opened: Opened, path: Path, key_file: Path
) -> None:
    """The file keeps its own; without a readable one, it is the host that opens it."""
    opened.ask("INSERT INTO host (name) VALUES ('a'), (x'00')")
    with closing(connect(path, key_file, host="web-2")) as again:
        assert "web-1" == again.host

    opened.ask("DELETE FROM host WHERE name = 'a'")
    opened.ask("UPDATE host SET name = x'01' WHERE name = 'web-1'")
    with closing(connect(path, key_file, host="web-2")) as again:
        assert "web-2" == again.host


def test_history_with_bytes(opened: Opened) -> None:
    """The entry is a break of its chain, and the chains of others are followed to their end."""
    opened.ask("DROP TRIGGER history_is_not_changed")
    opened.ask("UPDATE history SET lineage = x'00ff' WHERE lineage = 'img'")

    assert opened.store.verify_history().breaks


def test_state_with_bytes_is_moved(opened: Opened, path: Path, key_file: Path) -> None:
    """Its bytes arrive as they were."""
    opened.ask("UPDATE sighting SET fingerprint = x'00ff', domain = CAST(x'ff' AS TEXT)")
    opened.ask("DELETE FROM lease")
    opened.store.close()
    there = path.with_name("there.db")

    with suppress(StateError):
        move(Address(path, key_file), Address(there, key_file), "web-1", NOW)
    with closing(sqlite3.connect(there)) as raw:
        assert [(b"\x00\xff",)] == raw.execute(
            "SELECT DISTINCT fingerprint FROM sighting"
        ).fetchall()
