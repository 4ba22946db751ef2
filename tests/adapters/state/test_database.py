"""The state in SQLite: opened, connected, shared by processes."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.adapters.state.database import Transaction
from certferry.adapters.state.failures import translating_errors
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.sqlite import SqliteDatabase
from certferry.adapters.state.store import SqlState
from certferry.core.observed.records import HistoryEntry
from certferry.errors import ConfigError, StateError, StateUnavailable
from certferry.ports.state import StateStore
from tests.adapters.state.child import Child
from tests.adapters.state.child_program import NOW
from tests.another_user import as_root, given_away
from tests.support.tiers import examples, thorough

# --- Opening a state by its URL


ENTRY = HistoryEntry(NOW, "img", "issued", "root")


@pytest.mark.parametrize(
    "url", [lambda path: path, str, "sqlite:///{}".format], ids=["path", "text", "URL"]
)
def test_ways_to_name_a_state(
    path: Path, key_file: Path, url: Callable[[Path], str | Path]
) -> None:
    """A path, as the configuration gives it, and a URL lead to the same database."""
    with closing(connect(path, key_file)) as store:
        store.append_history(ENTRY)

    with closing(connect(url(path), key_file)) as store:
        assert (ENTRY,) == store.history("img", 1)


def test_path_of_a_url_may_be_relative(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind three slashes it begins where the process stands."""
    monkeypatch.chdir(tmp_path)

    connect("sqlite:///below/state.db", key_file).close()

    assert (tmp_path / "below" / "state.db").is_file()


@pytest.mark.parametrize("beginning", ["oracle://", "sqlite://", "SQLite:///"])
def test_url_that_leads_to_no_state(tmp_path: Path, key_file: Path, beginning: str) -> None:
    """Its beginning is named, without what may be a password, and nothing is made."""
    with pytest.raises(ConfigError, match=f"^there is no state at {beginning}$") as refused:
        connect(f"{beginning}certferry:secret@host/state", key_file)

    assert "sqlite:////var/lib/certferry/state.db" in str(refused.value.hint)
    assert [] == list(tmp_path.iterdir())


def refused(path: Path) -> tuple[str, str]:
    """Give why a state is not opened, and the advice."""
    with pytest.raises(StateError) as caught:
        connect(path, path.with_name("secret.key"))
    return str(caught.value.message), str(caught.value.hint)


def test_state_that_others_can_write(tmp_path: Path) -> None:
    """What it holds is uploaded, deployed and removed by: it is not opened."""
    path = tmp_path / "state.db"
    connect(path, tmp_path / "secret.key").close()
    path.chmod(0o666)

    assert (
        f"{path} can be changed by every user (mode 0666)",
        f"run: chmod go-w {path}",
    ) == refused(path)


@pytest.mark.parametrize("mode", [0o777, 0o1777])
@pytest.mark.parametrize("made", [True, False])
def test_state_in_a_directory_that_others_can_write(
    tmp_path: Path, mode: int, *, made: bool
) -> None:
    """Others could put SQLite's files beside it, which it would believe."""
    path = tmp_path / "open" / "state.db"
    path.parent.mkdir()
    if made:
        connect(path, tmp_path / "secret.key").close()
    there = sorted(path.parent.iterdir())
    path.parent.chmod(mode)

    said, _ = refused(path)

    assert f"{path.parent} can be changed by every user (mode {mode:04o})" == said
    assert there == sorted(path.parent.iterdir())


def test_state_behind_a_link_to_where_others_can_write(tmp_path: Path) -> None:
    """Where it leads to counts."""
    (tmp_path / "open").mkdir()
    connect(tmp_path / "open" / "state.db", tmp_path / "secret.key").close()
    (tmp_path / "state.db").symlink_to("open/state.db")
    (tmp_path / "open").chmod(0o777)

    said, _ = refused(tmp_path / "state.db")

    assert "where every user can replace it" in said


@as_root
def test_state_of_another_user(tmp_path: Path) -> None:
    """Root goes by none but its own, and makes nothing there that would lock its user out."""
    path = tmp_path / "state.db"
    connect(path, tmp_path / "secret.key").close()
    given_away(path)
    there = sorted(tmp_path.iterdir())

    said, hint = refused(path)

    assert f"{path} belongs to nobody, who can change it" == said
    advice = f"run certferry as the owner: sudo -u nobody certferry …; or run: chown -h root {path}"
    assert advice == hint
    assert there == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("lineage", ["../../out", "/out", ".."])
def test_lineage_that_is_called_like_a_path(tmp_path: Path, lineage: str) -> None:
    """Its lock lies beside the state, whatever an earlier version let it be called."""
    folder = tmp_path / "a" / "b"
    with closing(connect(folder / "state.db", folder / "secret.key")) as store:
        store.release(store.acquire(lineage, NOW))

    assert 1 == len(list((folder / "state.db-leases").iterdir()))
    assert [tmp_path / "a"] == list(tmp_path.iterdir())
    assert [folder] == list((tmp_path / "a").iterdir())


# --- The database file: who can read it, who has it open, and what is said when it cannot be
# used


THREADS = 20


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Forbid nothing, so that what is made has only the modes it was made with."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_files(folder: Path) -> list[str]:
    targets = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since by another thread
            targets.append(link.readlink())
    return [str(target) for target in targets if folder in target.parents]


@pytest.mark.usefixtures("no_umask")
def test_what_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    """Folders 0700, files 0600, also the log beside the database and the locks of leases."""
    folder = tmp_path / "new" / "certferry"
    with closing(connect(folder / "state.db", folder / "keys" / "secret.key")) as store:
        store.acquire("img", NOW)
        assert not (folder / "keys").exists()
        modes = {file.name: mode(file) for file in folder.iterdir() if file.is_file()}
        (locks,) = (entry for entry in folder.iterdir() if entry.is_dir())

    assert {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600} == modes
    assert [0o600] == [mode(file) for file in locks.iterdir()]
    assert [0o700] * 3 == [mode(folder), mode(folder.parent), mode(locks)]


def test_a_look_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no state, an empty one is read, by every thread, also where nothing at all
    can be written.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    path = tmp_path / "state" / "state.db"
    with closing(connect(path, tmp_path / "key", reads_only=True)) as store:
        assert () == store.lineages()
        with ThreadPoolExecutor(1) as pool:
            assert () == pool.submit(store.versions, "img").result()

    assert [] == list(tmp_path.iterdir())


def test_a_look_sees_what_is_there(path: Path, key_file: Path, store: StateStore) -> None:
    """A state that exists is the one that is read."""
    store.append_history(ENTRY)

    with closing(connect(path, key_file, reads_only=True)) as seen:
        assert (ENTRY,) == seen.history("img", 1)


def test_state_that_cannot_be_looked_for_is_not_taken_for_none(tmp_path: Path) -> None:
    """Behind a closed port, or on a disk that is not there just now, it may be there: that is an
    error, not an empty state.
    """
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("unmounted")
    (tmp_path / "state.db").symlink_to(tmp_path / "unmounted" / "state.db")
    (tmp_path / "loop").symlink_to("loop")
    closed = ("x" * 300, "file", "link", "loop")
    for path in (*(tmp_path / name / "state.db" for name in closed), tmp_path / "state.db"):
        with pytest.raises(StateUnavailable):
            connect(path, tmp_path / "secret.key", reads_only=True)


def test_link_to_where_the_state_will_be_made_leads_to_none_yet(tmp_path: Path) -> None:
    """What the first sync makes is not missing before."""
    (tmp_path / "state.db").symlink_to(tmp_path / "made.db")

    with closing(connect(tmp_path / "state.db", tmp_path / "secret.key", reads_only=True)) as store:
        assert () == store.lineages()

    assert not (tmp_path / "made.db").exists()


def test_writes_are_on_the_disk_when_they_return(path: Path, store: StateStore) -> None:
    """Write-ahead log, synchronous in full, foreign keys: on every thread's connection."""
    with closing(SqliteDatabase(path)) as database, ThreadPoolExecutor(1) as pool:
        for ask in (database.rows, lambda query: pool.submit(database.rows, query).result()):
            for pragma, expected in (
                ("journal_mode", "wal"),
                ("synchronous", 2),
                ("foreign_keys", 1),
                ("busy_timeout", 10_000),
            ):
                assert [(expected,)] == list(map(tuple, ask(f"PRAGMA {pragma}")))


def test_reading_neither_waits_for_a_writer_nor_writes(
    path: Path, key_file: Path, store: StateStore
) -> None:
    """Everything that reads works while another process is writing, opening the state included."""
    store.append_history(ENTRY)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with closing(connect(path, key_file)) as reader:
            assert (ENTRY,) == reader.history(None, 10)
            assert () == reader.lineages()
            assert () == reader.versions("img")
            assert None is reader.account("https://ca.test")
            assert None is reader.order("img")
            assert () == reader.challenge_records("img")
            assert () == reader.uploads("img", "qiniu")
            assert () == reader.remembered("img").rollouts


def test_database_that_stays_locked(path: Path, store: StateStore) -> None:
    """A writer gives up after its patience, says so, and may come again."""
    with (
        closing(SqliteDatabase(path, patience=timedelta(milliseconds=20))) as impatient,
        closing(sqlite3.connect(path, isolation_level=None)) as writer,
    ):
        late = SqlState(impatient, Sealing(path.with_name("secret.key")), "localhost")
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable, match="locked by another process") as refused:
            late.append_history(ENTRY)
        writer.execute("ROLLBACK")
        late.append_history(ENTRY)

    assert refused.value.retry.allowed
    assert str(path) in str(refused.value.hint)
    assert (ENTRY,) == store.history(None, 10)


def test_new_database_that_stays_locked(path: Path) -> None:
    """Also the switch to the write-ahead log waits no longer than patience lasts."""
    with (
        closing(SqliteDatabase(path, patience=timedelta(milliseconds=20))) as late,
        closing(sqlite3.connect(path, isolation_level=None)) as writer,
    ):
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable, match="locked by another process"):
            late.use_write_ahead_log()


def test_file_system_that_cannot_share_a_database() -> None:
    """A database that cannot have a write-ahead log, as on some networks, is refused."""
    with (
        closing(SqliteDatabase(Path(":memory:"))) as lonely,
        pytest.raises(StateUnavailable, match="cannot share a database") as refused,
    ):
        lonely.use_write_ahead_log()

    assert "put the state on a local disk" == str(refused.value.hint)


def test_function_that_raises_leaves_nothing(path: Path, store: StateStore) -> None:
    """A transaction that is interrupted has not happened, and the connection can go on."""
    with closing(SqliteDatabase(path)) as database:

        def write(transaction: Transaction) -> None:
            transaction.execute("INSERT INTO lease (lineage, token) VALUES ('img', 1)")

        def interrupted(transaction: Transaction) -> None:
            write(transaction)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            database.run(interrupted)
        assert [] == database.rows("SELECT * FROM lease")
        database.run(write)
        assert 1 == len(database.rows("SELECT * FROM lease"))


def test_function_that_meets_a_lock_runs_again(path: Path, store: StateStore) -> None:
    """What its earlier tries wrote has not happened."""
    tries: list[int] = []
    with (
        closing(SqliteDatabase(path)) as database,
        closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as locked_out,
    ):

        def write(transaction: Transaction) -> int:
            transaction.execute("INSERT INTO lease (lineage, token) VALUES ('img', 1)")
            tries.append(len(tries))
            if len(tries) < 3:
                locked_out.execute("BEGIN IMMEDIATE")
            return len(transaction.rows("SELECT * FROM lease"))

        assert 1 == database.run(write)
    assert [0, 1, 2] == tries


@pytest.mark.parametrize("use", ["rows", "read", "run"])
def test_function_that_uses_the_database_itself(path: Path, store: StateStore, use: str) -> None:
    """It has to use its transaction: another database would not read in that."""
    with closing(SqliteDatabase(path)) as database:
        uses: dict[str, Callable[[object], object]] = {
            "rows": lambda _: database.rows("SELECT 1"),
            "read": lambda _: database.read(lambda _: None),
            "run": lambda _: database.run(lambda _: None),
        }
        with pytest.raises(RuntimeError):
            database.run(uses[use])
        assert [] == database.rows("SELECT * FROM lease")


def test_state_can_be_closed_under_threads_that_read_it(path: Path, key_file: Path) -> None:
    """A second Ctrl-C waits for no thread: those that are at work are told, and nothing crashes."""
    at_work = threading.Barrier(5, timeout=20)

    def read(store: StateStore) -> None:
        store.challenge_records("img")
        at_work.wait()
        while True:
            store.challenge_records("img")

    with ThreadPoolExecutor(4) as pool:
        for _ in range(examples(100)):
            store = connect(path, key_file)
            readers = [pool.submit(read, store) for _ in range(4)]
            at_work.wait()
            store.close()
            for reader in readers:
                assert isinstance(reader.exception(20), StateError)


def test_closing_closes_the_connections_of_every_thread(path: Path, key_file: Path) -> None:
    """Nothing stays open, of threads that have ended or of those that have not."""
    store = connect(path, key_file)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(store.lineages).result()
        ended = threading.Thread(target=store.lineages)
        ended.start()
        ended.join()
        assert open_files(path.parent)

        store.close()
        assert [] == open_files(path.parent)
        store.close()
        for ask in (store.lineages, lambda: pool.submit(store.lineages).result()):
            with pytest.raises(StateError, match="has been closed"):
                ask()


def test_threads_that_come_and_go_leave_no_connections_behind(
    path: Path, store: StateStore
) -> None:
    """A process that runs for ever with ever new threads does not run out of files."""

    def visit() -> None:
        visitor = threading.Thread(target=store.lineages)
        visitor.start()
        visitor.join()

    visit()
    before = len(open_files(path.parent))
    for _ in range(THREADS):
        visit()

    assert before == len(open_files(path.parent))


def test_file_that_is_moved_away_and_back(path: Path, store: StateStore) -> None:
    """Meanwhile every thread says that it is gone, and none makes another; then each goes on."""
    store.append_history(ENTRY)
    entries, away = partial(store.history, "img", 9), path.with_name("away")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(entries).result()
        path.rename(away)
        late = threading.Thread(target=lambda: missed.append(missed_by(entries)))
        missed = [missed_by(entries), pool.submit(missed_by, entries).result()]
        late.start()
        late.join()

        assert 3 * [f"{path} is gone"] == missed
        assert not path.exists()
        away.rename(path)
        assert 2 * [1] == [len(entries()), len(pool.submit(entries).result())]


def test_file_that_is_replaced(path: Path, key_file: Path, store: StateStore) -> None:
    """What is there now is read and written, and not the file that was."""
    store.append_history(ENTRY)
    with closing(connect(path.with_name("other.db"), key_file)) as other:
        assert not other.history(None, 9)
    path.with_name("other.db").rename(path)
    for beside in ("-wal", "-shm"):
        path.with_name(f"{path.name}{beside}").unlink()

    assert not store.history(None, 9)
    store.append_history(ENTRY)
    with closing(connect(path, key_file)) as again:
        assert 1 == len(again.history(None, 9))


def missed_by(ask: Callable[[], object]) -> str:
    """Return with which words a question to the state is refused."""
    with pytest.raises(StateUnavailable) as problem:
        ask()
    return str(problem.value)


@pytest.mark.parametrize("content", [b"not a database at all\n" * 100, b"SQLite format 3\0" * 99])
def test_file_that_is_no_database(path: Path, key_file: Path, content: bytes) -> None:
    """It is named, and left as it is."""
    path.write_bytes(content)

    with pytest.raises(StateError, match="is not a state of certferry") as refused:
        connect(path, key_file)

    assert not refused.value.retry.allowed
    assert str(path) in str(refused.value.hint)
    assert content == path.read_bytes()


def test_database_of_another_program(path: Path, key_file: Path) -> None:
    """Nothing is added to it."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmark (url TEXT)")
    before = path.read_bytes()

    with pytest.raises(StateError, match="the tables of another program"):
        connect(path, key_file)

    assert before == path.read_bytes()


def test_database_that_is_damaged(path: Path, key_file: Path) -> None:
    """A page that was overwritten is an error of ours, not of SQLite's."""
    with closing(connect(path, key_file)) as store:
        store.append_history(ENTRY)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))

    with pytest.raises(StateError, match="is not a state of certferry"):
        connect(path, key_file)


def test_folder_in_place_of_the_file(tmp_path: Path, key_file: Path) -> None:
    """A folder cannot be opened."""
    with pytest.raises(StateUnavailable, match="cannot be opened"):
        connect(tmp_path, key_file)


def test_file_in_place_of_the_folder(path: Path, key_file: Path) -> None:
    """No folder can be made below a file."""
    path.touch()

    with pytest.raises(StateUnavailable, match="cannot be opened: Not a directory"):
        connect(path / "state.db", key_file)


@pytest.mark.parametrize("folder_mode", [0o000, 0o555])
def test_state_file_of_another_user(folder_mode: int) -> None:
    """Who may not read it, or may only read it, is told whose place it is to run certferry."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        connect(folder / "state.db", folder / "secret.key").close()
        (folder / "state.db").chmod(0o444)
        folder.chmod(folder_mode)
        with Child("open_as_somebody_else", folder) as child:
            code, message, hint = child.hear()
        folder.chmod(0o700)

    assert "state_unavailable" == code
    assert f"{folder / 'state.db'} cannot be opened: " in message
    assert f"{folder / 'state.db'} must belong to certferry's user" == hint


def test_unforeseen_error(path: Path) -> None:
    """What SQLite says otherwise is passed on as an error of the state."""
    with (
        closing(SqliteDatabase(path)) as database,
        pytest.raises(StateError, match=r"state\.db: no such table: nowhere"),
    ):
        database.rows("SELECT * FROM nowhere")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_file_system_without_room(path: Path, code: int) -> None:
    """A key file that finds no room is told like a database that finds none."""
    with pytest.raises(StateUnavailable, match="the disk is full"), translating_errors(path):
        raise OSError(code, os.strerror(code))


# --- Rows that certferry did not write


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("'a', 1, printf('%.*c', 68000000, 'x')", "the table lease returns more than 64 MiB"),
        (
            "number, 1, printf('%.*c', 23000000, 'x') FROM numbers LIMIT 3",
            "the table lease returns more than 64 MiB",
        ),
        pytest.param(
            "number, 1, NULL FROM numbers",
            "the table lease returns more than 64 MiB",
            marks=thorough,
        ),
    ],
    ids=["a long one", "long ones", "many"],
)
def test_rows_of_another_program(path: Path, store: StateStore, columns: str, said: str) -> None:
    """They are an error of the state that names the table, and no more of them is read."""
    numbers = (
        "WITH RECURSIVE numbers(number) AS"
        " (SELECT 1 UNION ALL SELECT number + 1 FROM numbers LIMIT 700000)"
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"{numbers} INSERT INTO lease (lineage, token, holder) SELECT {columns}")
    del store
    with closing(SqliteDatabase(path)) as database:
        reads: list[Callable[[], object]] = [
            lambda: database.rows("SELECT * FROM lease"),
            lambda: database.read(lambda reader: reader.rows("SELECT * FROM lease")),
            lambda: database.run(lambda one: one.rows("SELECT * FROM lease")),
        ]
        for read in reads:
            with pytest.raises(StateError, match=said) as error:
                read()
            assert str(path) in str(error.value)
        assert 1 == len(database.rows("SELECT 1"))
