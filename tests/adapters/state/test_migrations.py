"""Migrations: every one once, all or nothing, and never backwards."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.adapters.state.columns import from_moment
from certferry.adapters.state.connect import connect, prepare
from certferry.adapters.state.database import Migration, Upgrade, migrate, read_migrations
from certferry.adapters.state.sqlite import SqliteDatabase
from certferry.core.access import PasswordLink, Role, Session, Token, User
from certferry.core.assessment.notices import ChannelState, Delivery, Notice, Subject, Topic
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.lineage import Revocation, RevocationReason, Withdrawal
from certferry.core.observed.records import HistoryEntry, RolloutRecord, Upload
from certferry.core.observed.runs import (
    RunEvent,
    RunKind,
    RunReport,
    RunSource,
    RunState,
    StoredRun,
)
from certferry.core.planning.limits import Allowance, Hold, Limits, PlannedOrder
from certferry.errors import ConfigError, Problem, StateError, StateTooNew
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord, StateStore
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle, make_key, with_issuer_until
from tests.adapters.state.child_program import NOW
from tests.adapters.state.schemas import MIGRATIONS, make_one_of_schema, rows_kept

LIMITS = Limits(*[Allowance(1, timedelta(days=1))] * 4)
SHIPS = Migration(1, "0001_ships", "CREATE TABLE ship (name TEXT);")
PORTS = Migration(
    2,
    "0002_ports",
    """
    CREATE TABLE port (name TEXT); -- more than one; and a comment
    CREATE TRIGGER no_port_is_lost BEFORE DELETE ON port
    BEGIN
        SELECT RAISE(ABORT, 'ports; stay');
    END;
    INSERT INTO port VALUES ('a;b')
    """,
)
BROKEN = Migration(3, "0003_broken", "CREATE TABLE quay (name TEXT); CREATE NONSENSE;")


@pytest.fixture
def database(path: Path) -> Iterator[SqliteDatabase]:
    path.touch()
    with closing(SqliteDatabase(path)) as opened:
        yield opened


def apply(database: SqliteDatabase, migrations: Sequence[Migration]) -> None:
    migrate(database, Upgrade("localhost", {}), migrations)


def tables(database: SqliteDatabase) -> set[str]:
    rows = database.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
    return {row["name"] for row in rows}


def test_migrations_are_numbered_without_a_gap() -> None:
    """The files of the schema count from one, and each holds more than its name."""
    migrations = read_migrations("sqlite")

    assert list(range(1, len(migrations) + 1)) == [m.number for m in migrations]
    assert all(m.name.startswith(f"{m.number:04}_") and m.script for m in migrations)


def test_empty_file_is_migrated(path: Path, key_file: Path) -> None:
    """An empty file becomes a state."""
    path.touch()

    with closing(connect(path, key_file)) as store:
        store.append_history(HistoryEntry(NOW, "img", "issued", "root"))
        assert 1 == len(store.history("img", 10))


def test_only_what_is_missing_is_applied(database: SqliteDatabase) -> None:
    """Each migration runs once, whatever stands in it between semicolons."""
    apply(database, [SHIPS])
    apply(database, [SHIPS, PORTS])
    apply(database, [SHIPS, PORTS])

    assert {"certferry_migration", "ship", "port"} == tables(database)
    assert ["a;b"] == [row["name"] for row in database.rows("SELECT name FROM port")]
    applied = database.rows("SELECT number, name FROM certferry_migration ORDER BY number")
    assert [(1, "0001_ships"), (2, "0002_ports")] == list(map(tuple, applied))
    with pytest.raises(StateError, match="ports; stay"):
        database.rows("DELETE FROM port")


def test_migrations_that_fail_leave_nothing(database: SqliteDatabase) -> None:
    """One that is broken takes back those before it, and the database is as it was."""
    with pytest.raises(StateError, match="NONSENSE"):
        apply(database, [SHIPS, PORTS, BROKEN])
    assert set() == tables(database)

    apply(database, [SHIPS])
    with pytest.raises(StateError, match="NONSENSE"):
        apply(database, [SHIPS, PORTS, BROKEN])
    assert {"certferry_migration", "ship"} == tables(database)


def test_database_of_a_newer_version(path: Path, key_file: Path) -> None:
    """It is refused with both numbers and what to do, and not a byte of it changes."""
    connect(path, key_file).close()
    newest = read_migrations("sqlite")[-1].number
    with closing(sqlite3.connect(path)) as newer, newer:
        newer.execute("INSERT INTO certferry_migration VALUES (9001, '9001_new')")
    before = path.read_bytes()

    with pytest.raises(StateTooNew, match=f"schema 9001, known here: {newest}") as refused:
        connect(path, key_file)

    assert "install the newest certferry" in str(refused.value.hint)
    assert not refused.value.retry.allowed
    assert before == path.read_bytes()
    assert [path] == list(path.parent.iterdir())


def test_lease_that_a_run_of_an_earlier_version_left(path: Path, key_file: Path) -> None:
    """The process and the end in its row delay no run, and the next token is greater."""
    connect(path, key_file).close()
    holder = "host/0000-boot/pid:[1]/4711/815/0123456789abcdef"
    row = ("img", 7, holder, from_moment(NOW), from_moment(NOW + timedelta(days=1)))
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("INSERT INTO lease VALUES (?, ?, ?, ?, ?)", row)

    with closing(connect(path, key_file)) as store:
        assert 8 == store.acquire("img", NOW).token


def test_second_process_finds_the_work_done(database: SqliteDatabase, path: Path) -> None:
    """Who waited for another's migration applies nothing again."""
    with closing(SqliteDatabase(path)) as first:
        apply(first, [SHIPS])
    apply(database, [SHIPS])

    assert 1 == len(database.rows("SELECT * FROM certferry_migration"))


def test_state_of_the_first_schema(path: Path, key_file: Path) -> None:
    """What it holds is kept, and its digests are those of what was kept: of a version, and of what
    a command was given. What a domain was sent, and which program ran, is not known.
    """
    bundle = make_bundle("img.example.com", not_before=NOW)
    leaf = bundle.certificate.fingerprint
    domain = RolloutRecord("img", "qiniu", "img.example.com", leaf, NOW, verified_at=NOW)
    command = RolloutRecord("img", "command", "push", leaf, NOW, verified_at=NOW)
    earlier = replace(command, domain="reload", fingerprint="ab" * 32)
    with closing(connect(path, key_file)) as store:
        lease = store.acquire("img", NOW)
        version = store.save_version(lease, bundle, NOW)
        for record in (domain, command, earlier):
            store.save_rollout(record)
    make_one_of_schema(1, path)

    with closing(connect(path, key_file)) as store:
        assert bundle.fullchain_digest == version.fullchain_digest
        assert (version,) == store.versions("img")
        known = replace(command, fullchain_digest=bundle.fullchain_digest)
        assert (known, earlier, domain) == store.remembered("img").rollouts


def test_revocation_that_an_earlier_version_wrote_down(path: Path, key_file: Path) -> None:
    """That version wrote it down when the CA had answered."""
    revocation = Revocation(NOW, RevocationReason.SUPERSEDED)
    with closing(connect(path, key_file)) as store:
        lease = store.acquire("img", NOW)
        store.save_version(lease, make_bundle("img.example.com", not_before=NOW), NOW)
        store.save_revocation(lease, 1, revocation)
    make_one_of_schema(14, path)

    with closing(connect(path, key_file)) as store:
        assert [revocation] == [version.revocation for version in store.versions("img")]


def test_chain_that_an_earlier_version_kept(path: Path, key_file: Path) -> None:
    """Until when its issuer is valid is read from it; one that cannot be read tells nothing, and
    the state opens all the same.
    """
    end = NOW + timedelta(days=9)
    whole = make_bundle("img.example.com", not_before=NOW)
    for bundle, text, expected in (
        (with_issuer_until(whole, end), None, end.replace(microsecond=0)),
        (whole, whole.cert_pem, None),
        (whole, "no PEM", None),
    ):
        path.unlink(missing_ok=True)
        with closing(connect(path, key_file)) as store:
            lease = store.acquire("img", NOW)
            store.save_version(lease, bundle, NOW)
        if text is not None:
            with closing(sqlite3.connect(path)) as old, old:
                old.execute("UPDATE version_pem SET fullchain_pem = ?", (text,))
        make_one_of_schema(14, path)

        with closing(connect(path, key_file)) as store:
            assert [expected] == [version.issuer_not_after for version in store.versions("img")]


@pytest.mark.parametrize("has_key", [True, False])
def test_challenge_record_of_the_first_schema(path: Path, key_file: Path, *, has_key: bool) -> None:
    """It is believed once, so that what a killed run left goes with the next version too; without
    the key nothing can be proven: the state is opened when the key is back.
    """
    record = ChallengeRecord("img", "_acme-challenge.img", "value", NOW, "1|2")
    with closing(connect(path, key_file)) as store:
        store.save_challenge_record(record)
    make_one_of_schema(1, path)
    kept = key_file.read_bytes()
    if not has_key:
        key_file.unlink()
        with pytest.raises(StateError, match="is missing"):
            connect(path, key_file)
        key_file.write_bytes(kept)
        key_file.chmod(0o600)

    with closing(connect(path, key_file)) as store:
        assert (record,) == store.challenge_records("img")


@pytest.mark.parametrize("number", range(1, len(MIGRATIONS)))
def test_state_of_every_released_schema(path: Path, key_file: Path, number: int) -> None:
    """All that it holds is kept, in every table; what belongs to a host is this host's."""
    with closing(connect(path, key_file, host="web-1")) as store:
        store_everything(store)
        make_one_of_schema(number, path)
    old = path.with_name("old.db")
    shutil.copy(path, old)

    with closing(connect(path, key_file, host="web-1")) as store:
        places = {one.target for one in store.remembered("img").rollouts}
        has_run = store.last_run() is not None
    with closing(connect(path, key_file, host="web-2")) as renamed:
        assert "web-1" == renamed.host

    before, after = rows_kept(old, path)
    assert before == after
    assert {"moved", "pace"} >= {table for table, rows in before.items() if not rows}
    assert {"qiniu", "files", "command"} == places
    assert has_run == (number >= 13)
    with closing(sqlite3.connect(path)) as raw:
        hosts = dict(raw.execute("SELECT target, host FROM rollout"))
    assert {"qiniu": "", "files": "web-1", "command": "web-1"} == hosts


def store_everything(store: StateStore) -> None:
    store.begin_run(NOW)
    lease = store.acquire("img", NOW)
    bundle = make_bundle("img.example.com", not_before=NOW)
    store.save_version(lease, bundle, NOW)
    store.save_revocation(lease, 1, Revocation(NOW, RevocationReason.SUPERSEDED))
    store.save_account(AcmeAccount("https://ca.test", make_key()))
    store.claim_order(lease, "https://ca.test", PlannedOrder(("img.example.com",)), LIMITS, NOW)
    order = AcmeOrder("img", "https://ca.test", "order/1", ("img",), make_key(), NOW)
    store.save_order(lease, order)
    store.save_issue_try("img", NOW, failed=True)
    store.save_failed_proofs("https://ca.test", ("img.example.com",), NOW)
    store.save_hold("https://ca.test", Hold(("img.example.com",), NOW, NOW, for_all=True))
    store.save_challenge_record(ChallengeRecord("img", "_acme-challenge.img", "value", NOW))
    store.save_upload(Upload("img", "qiniu", "1", "label", bundle.certificate.fingerprint, NOW))
    sightings = []
    for target in ("qiniu", "files", "command"):
        place = ("img", target, "img.example.com")
        leaf = bundle.certificate.fingerprint
        rollout = RolloutRecord(*place, leaf, NOW, worked_before=True, repairs=(NOW,))
        store.save_rollout(replace(rollout, fullchain_digest=bundle.fullchain_digest))
        sightings.append(Sighting(*place, served=True, since=NOW, fingerprint=leaf))
        store.save_withdrawal(Withdrawal(*place, leaf, NOW, by_hand=True))
    store.update_sightings(lambda _: tuple(sightings))
    notice = Notice(Topic.TROUBLE, Subject("img"), NOW, Problem("code", Text("{one}", one="一")))
    store.update_notices(lambda _: (notice,))
    told = ChannelState((Delivery(*notice.key, NOW, NOW),), (NOW,))
    store.update_channel("ops", lambda *_: (told, None))
    store.update_account_note("qiniu", "way", lambda _: "https")
    store.save_run(NOW, succeeded=True)
    store.append_history(HistoryEntry(NOW, "img", "issued", "root", {"fingerprint": "ab"}))
    store.declare({"img": "ab" * 32}, "/etc/certferry.toml", lambda _: False)
    run = StoredRun("run-1", RunKind.SYNC, RunSource.CONSOLE, "anna", store.host, NOW, ("img",))
    store.save_run_begin(run, "form 1")
    store.append_run_events("run-1", [RunEvent(1, NOW, "img", "step", Text("{one}", one="一"))])
    store.save_run_end("run-1", RunState.DONE, NOW, RunReport({"ok": True}))
    store.add_user(User("Anna", Role.OPERATOR, NOW, "hash", NOW, "zh"))
    store.save_session(Session("a session", "anna", NOW, NOW, "192.0.2.7", "Firefox"))
    store.save_link(PasswordLink("a link", "anna", NOW))
    store.add_token(Token("ci", "a token", "cf_abcde", Role.VIEWER, NOW, NOW))
    store.count_guess("name anna", NOW)


def test_state_that_is_prepared(path: Path, key_file: Path) -> None:
    """It is made by `init` alone, and brought up to date once."""
    with pytest.raises(ConfigError, match="there is no state at"):
        prepare(path, key_file, init=False)
    assert not path.exists()

    assert prepare(path, key_file, init=True)
    assert not prepare(path, key_file, init=True)
    assert not prepare(path, key_file, init=False)
