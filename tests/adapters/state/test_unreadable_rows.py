"""Rows with impossible values, of another program or a failing disk: each counts as absent and is
named, and affects only its own subject.
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
    "found_certificate": ["found_at", "names", "not_after", "not_before"],
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
    "watched_domain": ["again_at", "baseline_at", "looked_at", "problem", "since", "tried_at"],
    "watched_host": [
        *("hint", "looked_at", "message", "not_after", "not_before", "severity", "since"),
    ],
}
"""The columns with moments, names, words and sentences, except columns under a proof."""

WHOLE = {"certferry_migration", "moved", "sealing"}
"""Tables with a single row of the state, or with the description of the tables."""

CHAINED = {"history", "history_head"}
"""Tables that `verify_history` reads, and that are never changed."""

PLACE = ("static", "qiniu", "static.example.com")


@dataclass(frozen=True, slots=True)
class Opened:
    """A state, and `ask`, by which another program runs a query."""

    store: StateStore
    ask: Callable[[str], list[tuple[object, ...]]]


@pytest.fixture
def opened(path: Path, key_file: Path) -> Iterator[Opened]:
    """A state in a file with a row in every table, and rows of another lineage."""
    with (
        closing(connect(path, key_file, host="web-1")) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as raw,
    ):
        fill(store)
        raw.execute("INSERT OR REPLACE INTO pace VALUES ('qiniu', 'calls', '2026-03-01T12:00:00Z')")
        yield Opened(store, lambda query: raw.execute(query).fetchall())


@pytest.fixture
def shared(postgresql: Postgresql) -> Iterator[Opened]:
    """A database with the same content."""
    name = postgresql.new_state()
    without_triggers = "SET session_replication_role = replica; "
    with closing(connect(postgresql.url(name), KEY, host="web-1")) as store:
        fill(store)
        yield Opened(store, lambda query: postgresql.ask(without_triggers + query, name))


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
    """Read the rows of the other lineage."""
    return [
        store.remembered("static"),
        store.bundle("static", 1),
        store.uploads("static", "qiniu"),
        store.versions_in_use()["static"],
        [sighting for sighting in store.sightings() if sighting.lineage == "static"],
        [notice for notice in store.notices() if notice.subject.lineage == "static"],
        [
            sighting.lineage
            for sighting in recorded(store).sightings
            if sighting.lineage == "static"
        ],
    ]


def read_and_write_all(store: StateStore) -> None:
    """Make the calls of every run, and of every command that reads the whole state."""
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
    if table == "issuance":  # SQLite numbers these rows itself, and the column takes numbers alone
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
    """Read everything: the other lineage's rows must be as before."""
    assert around == of_static(opened.store)
    read_and_write_all(opened.store)
    with suppress(StateForeign):
        opened.store.remembered("img")


def messages_about(store: StateStore, table: str) -> list[str]:
    """Return the messages about unreadable rows of a table."""
    return [str(error) for _, error in store.foreign() if f"in the table {table}" in str(error)]


TABLES = [*PARSED, "account_note", "run_report", "version", "version_pem", "withdrawal"]
TABLES += ["acme_account", "acme_order", "console_user_session", "console_user_link", "own_digest"]


@pytest.mark.parametrize("table", TABLES)
def test_value_of_bytes(opened: Opened, table: str) -> None:
    """Bytes and text outside UTF-8: the row is named by its table, key and column, or by its kind,
    and all other rows are read and written as before.
    """
    around = of_static(opened.store)
    for column in damaged(
        opened, table, lambda _: sampled(["CAST(x'ff41' AS TEXT)", "x'00ff'"], 1)
    ):
        foreign = opened.store.foreign()
        assert foreign, column
        assert all(error.hint for _, error in foreign)
        must_be_isolated(opened, table, around)
    assert () == opened.store.foreign()


def test_every_table_is_covered(opened: Opened) -> None:
    """A new table has to be added to the lists above."""
    tables = {name for (name,) in opened.ask("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert {*TABLES, "console_guess"} | WHOLE | CHAINED == tables


@pytest.mark.parametrize("table", PARSED)
def test_value_of_another_kind(opened: Opened, table: str) -> None:
    """Words and numbers replace moments, names, sentences, numbers and flags."""
    around, reported = of_static(opened.store), set()
    kinds = {name: kind for _, name, kind, *_ in opened.ask(f"PRAGMA table_info({table})")}
    values = sampled(["'nonsense'", "'9999-99-99'", "'[1]'", "7.5"], 1)
    for column in damaged(opened, table, lambda _: values):
        for message in messages_about(opened.store, table):
            reported.add(column)
            assert f"certferry did not write: {column} of the row" in message
        must_be_isolated(opened, table, around)
    numbers = {name for name, kind in kinds.items() if kind != "TEXT"}
    numbers -= {"number"} if table == "issuance" else set()
    assert {*PARSED[table], *numbers} == reported


@pytest.mark.parametrize("table", sampled([*PARSED], 6))
def test_value_of_another_kind_in_a_shared_state(shared: Opened, table: str) -> None:
    """PostgreSQL itself refuses bytes, and words in place of numbers; other values are named."""
    around, reported = of_static(shared.store), set()
    values = sampled(["'nonsense'", "'9999-99-99'", "'[1]'"], 1)
    for column in damaged(shared, table, lambda column: values if column in PARSED[table] else []):
        reported |= {column} if messages_about(shared.store, table) else set()
        must_be_isolated(shared, table, around)
    assert {*PARSED[table]} == reported


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_column_of_moments_beyond_the_calendar(shared: Opened, kind: str) -> None:
    """Another program changed the column's type. Python has no such moment, so psycopg cannot read
    the value; certferry names the row.
    """
    shared.ask(f"ALTER TABLE last_run ALTER ended_at TYPE {kind} USING 'infinity'")

    assert ["ended_at" in message for message in messages_about(shared.store, "last_run")] == [True]
    must_be_isolated(shared, "last_run", of_static(shared.store))


def test_lineage_with_unreadable_rows(opened: Opened) -> None:
    """The lineage continues as without the rows, and new rows are read."""
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
    assert ["web-1"] == [host.name for host in store.hosts()]


def test_host_added_to_a_file(opened: Opened, path: Path, key_file: Path) -> None:
    """The file keeps its host; without a readable host, the opening host takes the place."""
    opened.ask("INSERT INTO host (name) VALUES ('a'), (x'00')")
    with closing(connect(path, key_file, host="web-2")) as again:
        assert "web-1" == again.host

    opened.ask("DELETE FROM host WHERE name = 'a'")
    opened.ask("UPDATE host SET name = x'01' WHERE name = 'web-1'")
    with closing(connect(path, key_file, host="web-2")) as again:
        assert "web-2" == again.host


def test_history_with_bytes(opened: Opened) -> None:
    """The entry is a break of its chain, and verification continues to the end."""
    opened.ask("DROP TRIGGER history_is_not_changed")
    opened.ask("UPDATE history SET lineage = x'00ff' WHERE lineage = 'img'")

    assert opened.store.verify_history().breaks


def test_state_with_bytes_is_moved(opened: Opened, path: Path, key_file: Path) -> None:
    """The bytes arrive unchanged."""
    opened.ask("UPDATE sighting SET fingerprint = x'00ff', domain = CAST(x'ff' AS TEXT)")
    opened.ask("DELETE FROM lease")
    opened.store.close()
    destination = path.with_name("there.db")

    with suppress(StateError):
        move(Address(path, key_file), Address(destination, key_file), "web-1", NOW)
    with closing(sqlite3.connect(destination)) as raw:
        assert [(b"\x00\xff",)] == raw.execute(
            "SELECT DISTINCT fingerprint FROM sighting"
        ).fetchall()
