"""A complete state: moved to another database and back, and sealed with a new key."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.backup import back_up, restore
from certferry.adapters.state.connect import connect, open_whole
from certferry.adapters.state.move import SEALED, Address, move, rotate
from certferry.adapters.state.sealing import make_file, new_key
from certferry.core.observed.records import HistoryEntry, VerifiedHistory
from certferry.core.redaction import Secret
from certferry.errors import CertferryError, ConfigError, LeaseHeld, StateError, StateMoved
from certferry.ports.state import AcmeAccount
from certferry_sandbox.testing.certificates import make_key
from tests.adapters.state.child_program import NOW
from tests.adapters.state.every_row import store_everything
from tests.adapters.state.killed import is_killed_at
from tests.support.postgresql import KEY, Postgresql
from tests.support.tiers import long, spread, thorough

NOT_COPIED = {"certferry_migration", "certferry_schema", "moved", "sealing"}
"""Tables that a move does not copy."""

Content = tuple[dict[str, list[dict[str, object]]], list[object]]


@pytest.fixture
def origin(path: Path, key_file: Path) -> Address:
    """A state in a file with a row in every table."""
    with closing(connect(path, key_file, host="web-1")) as store:
        store_everything(store)
    with closing(sqlite3.connect(path)) as raw, raw:
        fill(raw)
    return Address(path, key_file)


@pytest.fixture
def shared(origin: Address, postgresql: Postgresql) -> str:
    """The name of a database with the same content."""
    name = postgresql.new_database()
    copy = next(copies(origin))
    move(copy, Address(postgresql.url(name), KEY), "web-1", NOW)
    return name


def fill(raw: sqlite3.Connection) -> None:
    """Insert a row into each empty table."""
    tables = raw.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    for table in {name for (name,) in tables} - NOT_COPIED:
        if not raw.execute(f"SELECT 1 FROM {table}").fetchall():  # noqa: S608 - a test's own
            kinds = [row[2] for row in raw.execute(f"PRAGMA table_info({table})")]
            row = [1 if kind == "INTEGER" else "2026-03-01T12:00:00Z" for kind in kinds]
            raw.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608 - a test's own


def copies(origin: Address) -> Iterator[Address]:
    """Yield copies of a state in a file, each in a folder of its own."""
    path = Path(str(origin.url))
    while True:
        folder = Path(tempfile.mkdtemp(dir=path.parent))
        for file in (path, path.with_name("secret.key")):
            shutil.copy(file, folder)
        yield Address(folder / "state.db", folder / "secret.key")


def content_of(address: Address) -> Content:
    """Return the content of a state: the rows of every table, without sealed columns and holders of
    leases; and the opened secrets.
    """
    shut = {(sealed.table, sealed.column) for sealed in SEALED}
    shut |= {("lease", column) for column in ("holder", "since", "until")}
    contents: dict[str, list[dict[str, object]]] = {}
    with closing(open_whole(address.url, address.key, host="web-1")) as store:
        database, _ = store.database_and_sealing
        for column in database.rows(database.dialect.columns):
            if column["table_name"] not in NOT_COPIED:
                contents.setdefault(column["table_name"], [])
        for table, rows in contents.items():
            names = [
                column["name"]
                for column in database.rows(database.dialect.columns)
                if column["table_name"] == table and (table, column["name"]) not in shut
            ]
            for row in database.rows(f"SELECT * FROM {table}"):  # noqa: S608 - a test's own
                rows.append({name: _same(row[name]) for name in sorted(names)})
            rows.sort(key=repr)
        secrets = [
            store.bundle("img", 1),
            store.accounts(),
            store.order("img"),
            store.challenge_records("img"),
            store.uploads("img", "qiniu"),
            store.verify_history(),
        ]
    return contents, secrets


def _same(value: object) -> object:
    return int(value) if isinstance(value, bool) else value


def refused(address: Address) -> CertferryError | None:
    """Return the error of opening a state, or `None` for a usable state."""
    try:
        connect(address.url, address.key, host="web-1", reads_only=True).close()
    except CertferryError as error:
        return error
    return None


def test_move_to_a_server_and_back(origin: Address, postgresql: Postgresql, tmp_path: Path) -> None:
    """The destination has every row of every table, the new key opens the secrets, and a file keeps
    its host.
    """
    before = content_of(origin)
    shared = Address(postgresql.url(postgresql.new_database()), KEY)
    back = Address(tmp_path / "back" / "state.db", tmp_path / "back" / "secret.key")

    moved = move(origin, shared, "renamed", NOW)
    assert before == content_of(shared)
    returned = move(shared, back, "elsewhere", NOW)
    assert before == content_of(back)

    assert all(before[0].values())
    assert moved.rows == returned.rows == {table: len(rows) for table, rows in before[0].items()}
    assert ("web-1",) == moved.hosts == returned.hosts
    with closing(connect(back.url, back.key, host="elsewhere")) as store:
        assert "web-1" == store.host


def test_history_continues_after_a_move(origin: Address, postgresql: Postgresql) -> None:
    """New rows get higher numbers than the moved rows, and a lineage's next token is higher than
    its last.
    """
    shared = Address(postgresql.url(postgresql.new_database()), KEY)
    move(origin, shared, "web-1", NOW)

    with closing(connect(shared.url, shared.key, host="web-1")) as store:
        store.append_history(HistoryEntry(NOW, "img", "deployed", "root"))
        assert VerifiedHistory(2, 1) == store.verify_history()
        assert ["deployed", "issued"] == [entry.event for entry in store.history("img", 10)]
        assert 2 == store.acquire("img", NOW).token


def test_moved_state(origin: Address, postgresql: Postgresql, tmp_path: Path) -> None:
    """A command that opens the state names the new place, without a password. A process with the
    state open cannot write, and names a command that shows the place. A second move is refused.
    """
    name = postgresql.new_database()
    late = connect(origin.url, origin.key, host="web-1")

    move(origin, Address(postgresql.url(name), KEY), "web-1", NOW)

    for open_it in (
        lambda: connect(origin.url, origin.key, host="web-1"),
        lambda: connect(origin.url, origin.key, reads_only=True),
        lambda: move(origin, Address(tmp_path / "other.db", KEY), "web-1", NOW),
    ):
        with pytest.raises(ConfigError, match=f"was moved to postgresql:///{name}") as error:
            open_it()
        assert "`url` of [state]" in str(error.value.hint)
    assert not (tmp_path / "other.db").exists()
    for write in (
        lambda: late.acquire("img", NOW),
        lambda: late.save_run(NOW, succeeded=True),
        lambda: late.update_account_note("qiniu", "way", lambda _: None),
    ):
        with pytest.raises(StateMoved, match="was moved") as late_error:
            write()
        assert "certferry state check" in str(late_error.value.hint)
    with pytest.raises(StateMoved, match=f"was moved to postgresql:///{name}") as late_error:
        late.must_unseal()
    assert "`url` of [state]" in str(late_error.value.hint)
    late.close()


def test_moved_shared_state(shared: str, postgresql: Postgresql, tmp_path: Path) -> None:
    """Another host with the state open can neither write nor take a lease; opening and creating the
    state name the new place.
    """
    here = Address(postgresql.url(shared), KEY)
    late = connect(here.url, KEY, host="web-1")
    destination = Address(tmp_path / "new" / "state.db", KEY)

    move(here, destination, "web-1", NOW)

    error = refused(here)
    assert isinstance(error, ConfigError)
    assert f"was moved to {destination.url}" in str(error)
    for write in (
        lambda: late.acquire("img", NOW),
        lambda: late.save_run(NOW, succeeded=True),
        lambda: connect(here.url, KEY, host="web-9"),
    ):
        with pytest.raises(CertferryError, match="was moved"):
            write()
    late.close()


@pytest.mark.parametrize("work", ["a lease", "a run"])
@pytest.mark.parametrize("is_shared", [False, True])
def test_move_during_a_run(
    origin: Address,
    shared: str,
    postgresql: Postgresql,
    tmp_path: Path,
    work: str,
    *,
    is_shared: bool,
) -> None:
    """The error names the working host, and both states stay unchanged."""
    here = Address(postgresql.url(shared), KEY) if is_shared else origin
    destination = Address(tmp_path / "new" / "state.db", KEY)
    with closing(connect(here.url, here.key, host="web-1")) as store:
        if work == "a run":
            store.begin_run(NOW)
        else:
            store.acquire("static", NOW)

        with pytest.raises(LeaseHeld, match="has been working since 2026-03-01"):
            move(here, destination, "web-1", NOW)

        assert refused(here) is None
    assert not Path(str(destination.url)).exists()
    move(here, destination, "web-1", NOW)


def test_occupied_destination(origin: Address, shared: str, postgresql: Postgresql) -> None:
    """A destination with a state is refused, even a copy; so is a move of a file onto itself."""
    occupied = Address(postgresql.url(shared), KEY)
    before = content_of(occupied)
    for destination, message in (
        (occupied, "already holds a state"),
        (origin, "the state is already in"),
    ):
        with pytest.raises(ConfigError, match=message):
            move(origin, destination, "web-1", NOW)

    assert refused(origin) is None
    assert before == content_of(occupied)


def test_move_of_several_hosts_to_a_file(
    shared: str, postgresql: Postgresql, tmp_path: Path
) -> None:
    """A file has a single host, so the move would lose the others."""
    here = Address(postgresql.url(shared), KEY)
    with closing(connect(here.url, KEY, host="web-2")) as store:
        store.end_run(store.begin_run(NOW))

    with pytest.raises(ConfigError, match="has 2 hosts") as error:
        move(here, Address(tmp_path / "new" / "state.db", KEY), "web-1", NOW)

    assert "certferry hosts" in str(error.value.hint)
    assert refused(here) is None


def test_rows_changed_by_the_destination(origin: Address, postgresql: Postgresql) -> None:
    """The destination's rows are read back: a database that changes rows is an error, and the
    origin stays in use.
    """
    name = postgresql.new_state()
    postgresql.ask(
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN NEW.text = lower(NEW.text) || '!'; RETURN NEW; END$$",
        name,
    )
    postgresql.ask(
        "CREATE TRIGGER lose BEFORE INSERT ON account_note FOR EACH ROW EXECUTE FUNCTION lose()",
        name,
    )

    with pytest.raises(StateError, match=r"the table account_note in .* differs from the original"):
        move(origin, Address(postgresql.url(name), KEY), "web-1", NOW)

    assert refused(origin) is None


def test_move_of_a_row_with_a_bad_proof(origin: Address, tmp_path: Path) -> None:
    """A secret that the key cannot open stops the move; a row with a forged proof stays rejected
    after the move.
    """
    with closing(sqlite3.connect(str(origin.url))) as raw, raw:
        raw.execute("UPDATE upload SET proof = 'forged'")
    forged, destination = next(copies(origin)), Address(tmp_path / "new" / "state.db", KEY)
    move(forged, destination, "web-1", NOW)
    with closing(connect(destination.url, KEY)) as store:
        assert () == store.uploads("img", "qiniu")

    with closing(sqlite3.connect(str(origin.url))) as raw, raw:
        raw.execute("UPDATE acme_account SET directory = 'https://other.test'")
    with pytest.raises(StateError, match=r"acme_account\.sealed_key_pem of https://other\.test"):
        move(origin, Address(tmp_path / "other" / "state.db", KEY), "web-1", NOW)
    assert refused(origin) is None


def test_unfinished_move_of_another_state(origin: Address, tmp_path: Path) -> None:
    """The unfinished destination is refused with the name of its origin. A move of another state
    does not replace the destination; a move of the same state does.
    """
    key, destination = tmp_path / "shared.key", Address(tmp_path / "new" / "state.db", KEY)
    make_file(key, KEY.reveal().encode())
    by_file = Address(destination.url, key)
    number = 250
    while not (
        Path(str(destination.url)).exists() and "was interrupted" in str(refused(destination))
    ):
        number += 1
        here = next(copies(origin))
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        assert is_killed_at(number, move, here, by_file, "web-1", NOW)
    assert f"from {here.url} to {destination.url} was interrupted" in str(refused(destination))

    with pytest.raises(ConfigError, match=r"from .* was interrupted"):
        move(origin, destination, "web-1", NOW)

    assert refused(origin) is None
    move(here, destination, "web-1", NOW)
    assert refused(destination) is None


def test_backup_of_a_moved_state(origin: Address, tmp_path: Path) -> None:
    """A backup is refused, because the moved state changes elsewhere. A backup from before the move
    can be restored.
    """
    path, key = Path(str(origin.url)), Path(str(origin.url)).with_name("secret.key")
    archive, _ = back_up(path, key, NOW)
    move(origin, Address(tmp_path / "new" / "state.db", KEY), "web-1", NOW)

    with pytest.raises(ConfigError, match="was moved to"):
        back_up(path, key, NOW)
    restore(archive, tmp_path / "b.tar", path, key)

    assert refused(origin) is None


def test_every_sealed_column_is_moved(path: Path, key_file: Path) -> None:
    """A move opens and seals every sealed column of the schema."""
    connect(path, key_file).close()
    with closing(sqlite3.connect(path)) as raw:
        columns = raw.execute(
            "SELECT one.name, own.name FROM sqlite_schema AS one"
            " JOIN pragma_table_info(one.name) AS own WHERE one.type = 'table'"
            " AND (own.name LIKE 'sealed%' OR own.name = 'proof') AND one.name <> 'sealing'"
        ).fetchall()
    # A moved state is never moved again.
    assert {*columns} - {("moved", "proof")} == {(sealed.table, sealed.column) for sealed in SEALED}


@long
@pytest.mark.timeout(2400)  # the thorough tier kills at some hundred statements
@pytest.mark.parametrize(
    "way",
    [
        "file to file",
        *(pytest.param(way, marks=thorough) for way in ("file to server", "server to file")),
    ],
)
def test_move_killed_before_any_statement(
    origin: Address, shared: str, postgresql: Postgresql, tmp_path: Path, way: str
) -> None:
    """The origin is unchanged, or marked with a complete destination. The next move finishes the
    work, and the two states are never in use together.
    """
    before, files, key = content_of(origin), copies(origin), tmp_path / "shared.key"
    make_file(key, KEY.reveal().encode())
    for number in spread(range(1, 2000), 101):
        here, destination = next(files), Address(tmp_path / f"new-{number}" / "state.db", key)
        if way == "server to file":
            here = Address(postgresql.url(postgresql.new_database(shared)), key)
        if way == "file to server":
            destination = Address(postgresql.url(postgresql.new_database()), key)

        is_killed = is_killed_at(number, move, here, destination, "web-1", NOW)

        if refused(here) is None:
            assert is_killed
            assert before == content_of(here)
        else:
            assert before == content_of(destination)
        if (is_killed and refused(destination) is not None) or refused(here) is None:
            move(here, destination, "web-1", NOW)
        assert before == content_of(destination)
        assert refused(destination) is None
        assert refused(here) is not None
        if not is_killed:
            return
    pytest.fail("it has no end")


# --- Sealed with a new key


def test_rotation_of_a_key_file(origin: Address) -> None:
    """The file holds the new key, without files beside it; the old key is refused with the moment
    and host of the change.
    """
    path, before = Path(str(origin.url)), content_of(origin)
    key_file, old = path.with_name("secret.key"), path.with_name("secret.key").read_bytes()
    new = new_key()

    assert 19 == rotate(origin, Secret(new), "web-1", NOW).count

    assert f"{new}\n" == key_file.read_text()
    assert 0o600 == stat.S_IMODE(key_file.stat().st_mode)
    assert [] == list(path.parent.glob("secret.key?*"))
    assert before == content_of(origin)
    key_file.write_bytes(old)
    with closing(connect(path, key_file)) as store, pytest.raises(StateError) as error:
        store.must_unseal()
    assert "the key of the state was changed at 2026-03-01" in str(error.value)
    assert "on host web-1" in str(error.value)


def test_rotation_of_a_shared_key(shared: str, postgresql: Postgresql) -> None:
    """A host with the old key cannot open the state; a host with the state open can neither read
    newly sealed secrets nor seal others.
    """
    url, new = postgresql.url(shared), Secret(new_key())
    before = content_of(Address(url, KEY))
    late = connect(url, KEY, host="web-1")

    rotate(Address(url, KEY), new, "web-2", NOW)

    assert before == content_of(Address(url, new))
    error = refused(Address(url, KEY))
    assert "the key of the state was changed" in str(error)
    assert "on host web-2" in str(error)
    for use in (
        lambda: late.bundle("img", 1),
        lambda: late.save_account(AcmeAccount("https://third.test", make_key())),
    ):
        with pytest.raises(StateError, match="key"):
            use()
    late.close()
    rotate(Address(url, new), KEY, "web-1", NOW)
    assert before == content_of(Address(url, KEY))


@pytest.mark.parametrize("is_shared", [False, True])
def test_rotation_during_a_run(
    origin: Address, shared: str, postgresql: Postgresql, *, is_shared: bool
) -> None:
    """No secret is sealed anew, and no file is left."""
    here = Address(postgresql.url(shared), KEY) if is_shared else origin
    with closing(connect(here.url, here.key, host="web-1")) as store:
        store.begin_run(NOW)
        with pytest.raises(LeaseHeld):
            rotate(here, Secret(new_key()), "web-1", NOW)

    assert refused(here) is None
    assert [] == list(Path(str(origin.url)).parent.glob("secret.key?*"))


def test_rotation_keeps_the_mode_of_the_key_file(origin: Address) -> None:
    """The new key has the same readers."""
    key_file = Path(str(origin.url)).with_name("secret.key")
    key_file.chmod(0o400)

    rotate(origin, Secret(new_key()), "web-1", NOW)

    assert 0o400 == stat.S_IMODE(key_file.stat().st_mode)


def test_interrupted_replacement_of_the_key_file(origin: Address) -> None:
    """The new key, still under its temporary name, opens the state and stays until the next
    rotation has succeeded.
    """
    path, key_file = Path(str(origin.url)), Path(str(origin.url)).with_name("secret.key")
    before, old = content_of(origin), key_file.read_text()
    rotate(origin, Secret(new_key()), "web-1", NOW)
    key_file.rename(key_file.with_name("secret.key.new-12345678"))
    make_file(key_file, old.encode())

    assert before == content_of(origin)
    assert [key_file] == list(path.parent.glob("secret.key*"))
    rotate(origin, Secret(new_key()), "web-1", NOW)
    assert before == content_of(origin)


def test_rotation_to_an_invalid_key(origin: Address) -> None:
    """The error leaves the value out."""
    with pytest.raises(ConfigError, match="is not a key: 32 bytes in base64"):
        rotate(origin, Secret("short"), "web-1", NOW)


@pytest.mark.parametrize("is_shared", [False, True])
def test_rotation_killed_before_any_change(
    origin: Address, shared: str, postgresql: Postgresql, tmp_path: Path, *, is_shared: bool
) -> None:
    """Before any statement and any change of a file: the key in the file opens everything, and the
    next rotation leaves no other file.
    """
    before, files, new = content_of(origin), copies(origin), tmp_path / "next.key"
    make_file(new, new_key().encode())
    for number in spread(range(1, 200), 13):
        here = next(files)
        key_file = Path(str(here.url)).with_name("secret.key")
        if is_shared:
            key_file.write_text(KEY.reveal())
            here = Address(postgresql.url(postgresql.new_database(shared)), key_file)

        is_killed = is_killed_at(number, change_key_of, here, new)

        assert before == content_of(here)
        with closing(connect(here.url, key_file)) as store:
            store.must_unseal()
            store.save_account(AcmeAccount("https://third.test", make_key()))
            assert 2 == len(store.accounts())
        rotate(here, Secret(new_key()), "web-1", NOW)
        assert {key_file} == set(key_file.parent.glob("secret.key*"))
        if not is_killed:
            return
    pytest.fail("it has no end")


def change_key_of(address: Address, new: Path) -> None:
    rotate(address, Secret(new.read_text()), "web-1", NOW)
