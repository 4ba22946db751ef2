"""The whole of a state: carried to another database and back, and sealed anew with another key."""

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

OWN = {"certferry_migration", "certferry_schema", "moved", "sealing"}
"""Tables that are not carried."""

Held = tuple[dict[str, list[dict[str, object]]], list[object]]


@pytest.fixture
def origin(path: Path, key_file: Path) -> Address:
    """A state in a file that has a row in every table."""
    with closing(connect(path, key_file, host="web-1")) as store:
        store_everything(store)
    with closing(sqlite3.connect(path)) as raw, raw:
        fill(raw)
    return Address(path, key_file)


@pytest.fixture
def shared(origin: Address, postgresql: Postgresql) -> str:
    """A database with the same."""
    name = postgresql.new_database()
    copy = next(copies(origin))
    move(copy, Address(postgresql.url(name), KEY), "web-1", NOW)
    return name


def fill(raw: sqlite3.Connection) -> None:
    """Put a row into each table that has none."""
    named = raw.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    for table in {name for (name,) in named} - OWN:
        if not raw.execute(f"SELECT 1 FROM {table}").fetchall():  # noqa: S608 - a test's own
            kinds = [row[2] for row in raw.execute(f"PRAGMA table_info({table})")]
            row = [1 if kind == "INTEGER" else "2026-03-01T12:00:00Z" for kind in kinds]
            raw.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608 - a test's own


def copies(origin: Address) -> Iterator[Address]:
    """Return a state in a file again and again, each in a folder of its own."""
    path = Path(str(origin.url))
    while True:
        folder = Path(tempfile.mkdtemp(dir=path.parent))
        for file in (path, path.with_name("secret.key")):
            shutil.copy(file, folder)
        yield Address(folder / "state.db", folder / "secret.key")


def held(address: Address) -> Held:
    """Return what a state holds: the rows of every table, but for what is sealed in them and who
    has held a lease; and what is sealed, opened.
    """
    shut = {(one.table, one.column) for one in SEALED}
    shut |= {("lease", column) for column in ("holder", "since", "until")}
    found: dict[str, list[dict[str, object]]] = {}
    with closing(open_whole(address.url, address.key, host="web-1")) as store:
        database, _ = store.database_and_sealing
        for column in database.rows(database.dialect.columns):
            if column["table_name"] not in OWN:
                found.setdefault(column["table_name"], [])
        for table, rows in found.items():
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
    return found, secrets


def _same(value: object) -> object:
    return int(value) if isinstance(value, bool) else value


def refused(address: Address) -> CertferryError | None:
    """Return the error of opening a state, `None` where it is in use."""
    try:
        connect(address.url, address.key, host="web-1", reads_only=True).close()
    except CertferryError as error:
        return error
    return None


def test_move_to_a_server_and_back(origin: Address, postgresql: Postgresql, tmp_path: Path) -> None:
    """Every row of every table is there again, what is sealed opens with the new key, and a file
    has the host that it had.
    """
    before = held(origin)
    shared = Address(postgresql.url(postgresql.new_database()), KEY)
    back = Address(tmp_path / "back" / "state.db", tmp_path / "back" / "secret.key")

    there = move(origin, shared, "renamed", NOW)
    assert before == held(shared)
    home = move(shared, back, "elsewhere", NOW)
    assert before == held(back)

    assert all(before[0].values())
    assert there.rows == home.rows == {table: len(rows) for table, rows in before[0].items()}
    assert ("web-1",) == there.hosts == home.hosts
    with closing(connect(back.url, back.key, host="elsewhere")) as store:
        assert "web-1" == store.host


def test_history_goes_on_after_a_move(origin: Address, postgresql: Postgresql) -> None:
    """The database numbers after the rows that have arrived, and a lineage's next token is
    greater than the last one.
    """
    shared = Address(postgresql.url(postgresql.new_database()), KEY)
    move(origin, shared, "web-1", NOW)

    with closing(connect(shared.url, shared.key, host="web-1")) as store:
        store.append_history(HistoryEntry(NOW, "img", "deployed", "root"))
        assert VerifiedHistory(2, 1) == store.verify_history()
        assert ["deployed", "issued"] == [entry.event for entry in store.history("img", 10)]
        assert 2 == store.acquire("img", NOW).token


def test_state_that_was_moved(origin: Address, postgresql: Postgresql, tmp_path: Path) -> None:
    """A command that opens it says where it went, without a password; a process that has it open
    already can write nothing, and says which command knows where; it is moved no second time.
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


def test_shared_state_that_was_moved(shared: str, postgresql: Postgresql, tmp_path: Path) -> None:
    """Another host that has it open can neither write nor take a lease; opening or
    making it is an error that says where it went.
    """
    here = Address(postgresql.url(shared), KEY)
    late = connect(here.url, KEY, host="web-1")
    there = Address(tmp_path / "new" / "state.db", KEY)

    move(here, there, "web-1", NOW)

    error = refused(here)
    assert isinstance(error, ConfigError)
    assert f"was moved to {there.url}" in str(error)
    for write in (
        lambda: late.acquire("img", NOW),
        lambda: late.save_run(NOW, succeeded=True),
        lambda: connect(here.url, KEY, host="web-9"),
    ):
        with pytest.raises(CertferryError, match="was moved"):
            write()
    late.close()


@pytest.mark.parametrize("what", ["a lease", "a run"])
@pytest.mark.parametrize("is_shared", [False, True])
def test_move_while_a_run_is_at_work(
    origin: Address,
    shared: str,
    postgresql: Postgresql,
    tmp_path: Path,
    what: str,
    *,
    is_shared: bool,
) -> None:
    """It is refused with who is at work, and both states are as before."""
    here = Address(postgresql.url(shared), KEY) if is_shared else origin
    there = Address(tmp_path / "new" / "state.db", KEY)
    with closing(connect(here.url, here.key, host="web-1")) as store:
        if what == "a run":
            store.begin_run(NOW)
        else:
            store.acquire("static", NOW)

        with pytest.raises(LeaseHeld, match="has been working since 2026-03-01"):
            move(here, there, "web-1", NOW)

        assert refused(here) is None
    assert not Path(str(there.url)).exists()
    move(here, there, "web-1", NOW)


def test_destination_that_is_not_empty(
    origin: Address, shared: str, postgresql: Postgresql
) -> None:
    """Nothing is added to another state, be it the same one; a file is not moved onto itself."""
    there = Address(postgresql.url(shared), KEY)
    before = held(there)
    for destination, said in (
        (there, "already holds a state"),
        (origin, "the state is already in"),
    ):
        with pytest.raises(ConfigError, match=said):
            move(origin, destination, "web-1", NOW)

    assert refused(origin) is None
    assert before == held(there)


def test_several_hosts_are_not_one(shared: str, postgresql: Postgresql, tmp_path: Path) -> None:
    """A file has one host: while there are others, theirs would be lost."""
    here = Address(postgresql.url(shared), KEY)
    with closing(connect(here.url, KEY, host="web-2")) as store:
        store.end_run(store.begin_run(NOW))

    with pytest.raises(ConfigError, match="has 2 hosts") as error:
        move(here, Address(tmp_path / "new" / "state.db", KEY), "web-1", NOW)

    assert "certferry hosts" in str(error.value.hint)
    assert refused(here) is None


def test_rows_that_do_not_arrive_as_they_were_sent(origin: Address, postgresql: Postgresql) -> None:
    """What the destination holds is read back: a database that changes it is found out, and the
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


def test_key_that_does_not_open(origin: Address, tmp_path: Path) -> None:
    """Nothing is moved that could not be opened there; a row with another program's proof is no
    more ours afterwards than before.
    """
    with closing(sqlite3.connect(str(origin.url))) as raw, raw:
        raw.execute("UPDATE upload SET proof = 'forged'")
    forged, there = next(copies(origin)), Address(tmp_path / "new" / "state.db", KEY)
    move(forged, there, "web-1", NOW)
    with closing(connect(there.url, KEY)) as store:
        assert () == store.uploads("img", "qiniu")

    with closing(sqlite3.connect(str(origin.url))) as raw, raw:
        raw.execute("UPDATE acme_account SET directory = 'https://other.test'")
    with pytest.raises(StateError, match=r"acme_account\.sealed_key_pem of https://other\.test"):
        move(origin, Address(tmp_path / "other" / "state.db", KEY), "web-1", NOW)
    assert refused(origin) is None


def test_move_that_did_not_end_of_another_state(origin: Address, tmp_path: Path) -> None:
    """What it has left is refused, and names where it came from; a move of another state does not
    replace it, and that of the same one does.
    """
    key, there = tmp_path / "shared.key", Address(tmp_path / "new" / "state.db", KEY)
    make_file(key, KEY.reveal().encode())
    by_file = Address(there.url, key)
    number = 250
    while not (Path(str(there.url)).exists() and "was interrupted" in str(refused(there))):
        number += 1
        here = next(copies(origin))
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        assert is_killed_at(number, move, here, by_file, "web-1", NOW)
    assert f"from {here.url} to {there.url} was interrupted" in str(refused(there))

    with pytest.raises(ConfigError, match=r"from .* was interrupted"):
        move(origin, there, "web-1", NOW)

    assert refused(origin) is None
    move(here, there, "web-1", NOW)
    assert refused(there) is None


def test_backup_of_a_state_that_was_moved(origin: Address, tmp_path: Path) -> None:
    """None is taken, and none is put back: what happens since is not in it. One from before is."""
    path, key = Path(str(origin.url)), Path(str(origin.url)).with_name("secret.key")
    archive, _ = back_up(path, key, NOW)
    move(origin, Address(tmp_path / "new" / "state.db", KEY), "web-1", NOW)

    with pytest.raises(ConfigError, match="was moved to"):
        back_up(path, key, NOW)
    restore(archive, tmp_path / "b.tar", path, key)

    assert refused(origin) is None


def test_every_sealed_column_is_known(path: Path, key_file: Path) -> None:
    """What is sealed in a table is opened and sealed by a move: none is forgotten."""
    connect(path, key_file).close()
    with closing(sqlite3.connect(path)) as raw:
        named = raw.execute(
            "SELECT one.name, own.name FROM sqlite_schema AS one"
            " JOIN pragma_table_info(one.name) AS own WHERE one.type = 'table'"
            " AND (own.name LIKE 'sealed%' OR own.name = 'proof') AND one.name <> 'sealing'"
        ).fetchall()
    # A state that was moved is carried nowhere.
    assert {*named} - {("moved", "proof")} == {(one.table, one.column) for one in SEALED}


@long
@pytest.mark.timeout(900)  # the thorough tier kills at each of some hundred statements
@pytest.mark.parametrize(
    "way",
    [
        "file to file",
        *(pytest.param(way, marks=thorough) for way in ("file to server", "server to file")),
    ],
)
def test_move_that_is_killed_anywhere(
    origin: Address, shared: str, postgresql: Postgresql, tmp_path: Path, way: str
) -> None:
    """Before any statement: the origin is as it was, or marked and the destination complete. The
    next move ends it, and the two are never in use beside each other.
    """
    before, files, key = held(origin), copies(origin), tmp_path / "shared.key"
    make_file(key, KEY.reveal().encode())
    for number in spread(range(1, 2000), 101):
        here, there = next(files), Address(tmp_path / f"new-{number}" / "state.db", key)
        if way == "server to file":
            here = Address(postgresql.url(postgresql.new_database(shared)), key)
        if way == "file to server":
            there = Address(postgresql.url(postgresql.new_database()), key)

        is_killed = is_killed_at(number, move, here, there, "web-1", NOW)

        if refused(here) is None:
            assert is_killed
            assert before == held(here)
        else:
            assert before == held(there)
        if (is_killed and refused(there) is not None) or refused(here) is None:
            move(here, there, "web-1", NOW)
        assert before == held(there)
        assert refused(there) is None
        assert refused(here) is not None
        if not is_killed:
            return
    pytest.fail("it has no end")


# --- Sealed anew with another key


def test_key_file_that_is_changed(origin: Address) -> None:
    """Its place has the new key, and nothing is left beside it; the old one is refused with when
    and where it was changed.
    """
    path, before = Path(str(origin.url)), held(origin)
    key_file, old = path.with_name("secret.key"), path.with_name("secret.key").read_bytes()
    new = new_key()

    assert 16 == rotate(origin, Secret(new), "web-1", NOW).count

    assert f"{new}\n" == key_file.read_text()
    assert 0o600 == stat.S_IMODE(key_file.stat().st_mode)
    assert [] == list(path.parent.glob("secret.key?*"))
    assert before == held(origin)
    key_file.write_bytes(old)
    with closing(connect(path, key_file)) as store, pytest.raises(StateError) as error:
        store.must_unseal()
    assert "the key of the state was changed at 2026-03-01" in str(error.value)
    assert "on host web-1" in str(error.value)


def test_key_of_several_hosts_that_is_changed(shared: str, postgresql: Postgresql) -> None:
    """A host with the old one is refused when it opens the state; one that has it open reads
    nothing that was sealed anew, and seals nothing with the old key.
    """
    url, new = postgresql.url(shared), Secret(new_key())
    before = held(Address(url, KEY))
    late = connect(url, KEY, host="web-1")

    rotate(Address(url, KEY), new, "web-2", NOW)

    assert before == held(Address(url, new))
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
    assert before == held(Address(url, KEY))


@pytest.mark.parametrize("is_shared", [False, True])
def test_key_is_not_changed_during_a_run(
    origin: Address, shared: str, postgresql: Postgresql, *, is_shared: bool
) -> None:
    """Nothing is sealed anew, and no file is left."""
    here = Address(postgresql.url(shared), KEY) if is_shared else origin
    with closing(connect(here.url, here.key, host="web-1")) as store:
        store.begin_run(NOW)
        with pytest.raises(LeaseHeld):
            rotate(here, Secret(new_key()), "web-1", NOW)

    assert refused(here) is None
    assert [] == list(Path(str(origin.url)).parent.glob("secret.key?*"))


def test_mode_of_a_key_file_that_is_changed(origin: Address) -> None:
    """The new one is for the same readers."""
    key_file = Path(str(origin.url)).with_name("secret.key")
    key_file.chmod(0o400)

    rotate(origin, Secret(new_key()), "web-1", NOW)

    assert 0o400 == stat.S_IMODE(key_file.stat().st_mode)


def test_key_file_that_could_not_be_put_in_its_place(origin: Address) -> None:
    """Where a change was stopped and the old file is still there, what opens the state is not
    removed before the next change has taken its place.
    """
    path, key_file = Path(str(origin.url)), Path(str(origin.url)).with_name("secret.key")
    before, old = held(origin), key_file.read_text()
    rotate(origin, Secret(new_key()), "web-1", NOW)
    key_file.rename(key_file.with_name("secret.key.new-12345678"))
    make_file(key_file, old.encode())

    assert before == held(origin)
    assert [key_file] == list(path.parent.glob("secret.key*"))
    rotate(origin, Secret(new_key()), "web-1", NOW)
    assert before == held(origin)


def test_value_that_is_no_key(origin: Address) -> None:
    """It is refused, and not shown."""
    with pytest.raises(ConfigError, match="is not a key: 32 bytes in base64"):
        rotate(origin, Secret("short"), "web-1", NOW)


@pytest.mark.parametrize("is_shared", [False, True])
def test_change_of_a_key_that_is_killed_anywhere(
    origin: Address, shared: str, postgresql: Postgresql, tmp_path: Path, *, is_shared: bool
) -> None:
    """Before any statement, and any change of a file: one key opens everything, and it is the one
    in the file; the next change leaves nothing beside it.
    """
    before, files, new = held(origin), copies(origin), tmp_path / "next.key"
    make_file(new, new_key().encode())
    for number in spread(range(1, 200), 13):
        here = next(files)
        key_file = Path(str(here.url)).with_name("secret.key")
        if is_shared:
            key_file.write_text(KEY.reveal())
            here = Address(postgresql.url(postgresql.new_database(shared)), key_file)

        is_killed = is_killed_at(number, change_key_of, here, new)

        assert before == held(here)
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
