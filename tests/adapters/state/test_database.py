"""The state in SQLite: opened, connected, and shared by processes."""

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
    """A path in the configuration and a URL lead to the same database."""
    with closing(connect(path, key_file)) as store:
        store.append_history(ENTRY)

    with closing(connect(url(path), key_file)) as store:
        assert (ENTRY,) == store.history("img", 1)


def test_path_of_a_url_may_be_relative(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path behind three slashes is relative to the working directory."""
    monkeypatch.chdir(tmp_path)

    connect("sqlite:///below/state.db", key_file).close()

    assert (tmp_path / "below" / "state.db").is_file()


@pytest.mark.parametrize("beginning", ["oracle://", "sqlite://", "SQLite:///"])
def test_invalid_url_of_a_state(tmp_path: Path, key_file: Path, beginning: str) -> None:
    """The error shows the URL's beginning, without a possible password, and no file is created."""
    with pytest.raises(ConfigError, match=f"^there is no state at {beginning}$") as refused:
        connect(f"{beginning}certferry:secret@host/state", key_file)

    assert "sqlite:////var/lib/certferry/state.db" in str(refused.value.hint)
    assert [] == list(tmp_path.iterdir())


def refused(path: Path) -> tuple[str, str]:
    """Return the message and the hint of a refused opening."""
    with pytest.raises(StateError) as caught:
        connect(path, path.with_name("secret.key"))
    return str(caught.value.message), str(caught.value.hint)


def test_state_writable_by_other_users(tmp_path: Path) -> None:
    """The state decides uploads, deployments and removals, so an unsafe file is refused."""
    path = tmp_path / "state.db"
    connect(path, tmp_path / "secret.key").close()
    path.chmod(0o666)

    assert (
        f"{path} can be changed by every user (mode 0666)",
        f"run: chmod go-w {path}",
    ) == refused(path)


@pytest.mark.parametrize("mode", [0o777, 0o1777])
@pytest.mark.parametrize("made", [True, False])
def test_state_in_a_directory_writable_by_other_users(
    tmp_path: Path, mode: int, *, made: bool
) -> None:
    """Other users could add SQLite's own files, which SQLite would read."""
    path = tmp_path / "open" / "state.db"
    path.parent.mkdir()
    if made:
        connect(path, tmp_path / "secret.key").close()
    before = sorted(path.parent.iterdir())
    path.parent.chmod(mode)

    message, _ = refused(path)

    assert f"{path.parent} can be changed by every user (mode {mode:04o})" == message
    assert before == sorted(path.parent.iterdir())


def test_state_behind_a_link_to_an_unsafe_directory(tmp_path: Path) -> None:
    """The target of the link decides."""
    (tmp_path / "open").mkdir()
    connect(tmp_path / "open" / "state.db", tmp_path / "secret.key").close()
    (tmp_path / "state.db").symlink_to("open/state.db")
    (tmp_path / "open").chmod(0o777)

    message, _ = refused(tmp_path / "state.db")

    assert "where every user can replace it" in message


@as_root
def test_state_of_another_user(tmp_path: Path) -> None:
    """Root refuses another user's state, and creates no file that would lock the user out."""
    path = tmp_path / "state.db"
    connect(path, tmp_path / "secret.key").close()
    given_away(path)
    before = sorted(tmp_path.iterdir())

    message, hint = refused(path)

    assert f"{path} belongs to nobody, who can change it" == message
    advice = f"run certferry as the owner: sudo -u nobody certferry …; or run: chown -h root {path}"
    assert advice == hint
    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("lineage", ["../../out", "/out", ".."])
def test_lineage_with_the_name_of_a_path(tmp_path: Path, lineage: str) -> None:
    """The lock stays in the state's folder: states of earlier versions may hold such a name."""
    folder = tmp_path / "a" / "b"
    with closing(connect(folder / "state.db", folder / "secret.key")) as store:
        store.release(store.acquire(lineage, NOW))

    assert 1 == len(list((folder / "state.db-leases").iterdir()))
    assert [tmp_path / "a"] == list(tmp_path.iterdir())
    assert [folder] == list((tmp_path / "a").iterdir())


# --- The database file: its readers, its open connections, and the errors of an unusable file


THREADS = 20


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Set the umask to 0, so that files show the modes of their creation."""
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
def test_files_of_a_state_are_private(tmp_path: Path) -> None:
    """Folders have 0700 and files 0600, including the log beside the database and the locks of
    leases.
    """
    folder = tmp_path / "new" / "certferry"
    with closing(connect(folder / "state.db", folder / "keys" / "secret.key")) as store:
        store.acquire("img", NOW)
        assert not (folder / "keys").exists()
        modes = {file.name: mode(file) for file in folder.iterdir() if file.is_file()}
        (locks,) = (entry for entry in folder.iterdir() if entry.is_dir())

    assert {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600} == modes
    assert [0o600] == [mode(file) for file in locks.iterdir()]
    assert [0o700] * 3 == [mode(folder), mode(folder.parent), mode(locks)]


def test_reading_creates_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every thread reads an empty state if the file is missing, even on a disk without write
    permission.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    path = tmp_path / "state" / "state.db"
    with closing(connect(path, tmp_path / "key", reads_only=True)) as store:
        assert () == store.lineages()
        with ThreadPoolExecutor(1) as pool:
            assert () == pool.submit(store.versions, "img").result()

    assert [] == list(tmp_path.iterdir())


def test_reading_an_existing_state(path: Path, key_file: Path, store: StateStore) -> None:
    """Reading shows the entries of the existing file."""
    store.append_history(ENTRY)

    with closing(connect(path, key_file, reads_only=True)) as reader:
        assert (ENTRY,) == reader.history("img", 1)


def test_inaccessible_state_is_an_error(tmp_path: Path) -> None:
    """A state in an inaccessible folder or on an unmounted disk is an error; a missing state would
    read as empty.
    """
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("unmounted")
    (tmp_path / "state.db").symlink_to(tmp_path / "unmounted" / "state.db")
    (tmp_path / "loop").symlink_to("loop")
    closed = ("x" * 300, "file", "link", "loop")
    for path in (*(tmp_path / name / "state.db" for name in closed), tmp_path / "state.db"):
        with pytest.raises(StateUnavailable):
            connect(path, tmp_path / "secret.key", reads_only=True)


def test_link_to_a_future_state(tmp_path: Path) -> None:
    """The first sync creates the target, so the state reads as empty before."""
    (tmp_path / "state.db").symlink_to(tmp_path / "made.db")

    with closing(connect(tmp_path / "state.db", tmp_path / "secret.key", reads_only=True)) as store:
        assert () == store.lineages()

    assert not (tmp_path / "made.db").exists()


def test_writes_are_durable(path: Path, store: StateStore) -> None:
    """Every thread's connection has a write-ahead log, full synchronisation and foreign keys."""
    with closing(SqliteDatabase(path)) as database, ThreadPoolExecutor(1) as pool:
        for ask in (database.rows, lambda query: pool.submit(database.rows, query).result()):
            for pragma, expected in (
                ("journal_mode", "wal"),
                ("synchronous", 2),
                ("foreign_keys", 1),
                ("busy_timeout", 10_000),
            ):
                assert [(expected,)] == list(map(tuple, ask(f"PRAGMA {pragma}")))


def test_reading_beside_a_writer(path: Path, key_file: Path, store: StateStore) -> None:
    """All reads, including the opening of the state, work while another process writes."""
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


def test_locked_database(path: Path, store: StateStore) -> None:
    """A writer gives up after its patience with an error, and may try again."""
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


def test_locked_new_database(path: Path) -> None:
    """The switch to the write-ahead log waits only for the writer's patience."""
    with (
        closing(SqliteDatabase(path, patience=timedelta(milliseconds=20))) as late,
        closing(sqlite3.connect(path, isolation_level=None)) as writer,
    ):
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable, match="locked by another process"):
            late.use_write_ahead_log()


def test_file_system_that_cannot_share_a_database() -> None:
    """A file system without support for the write-ahead log, as on some networks, is refused."""
    with (
        closing(SqliteDatabase(Path(":memory:"))) as lonely,
        pytest.raises(StateUnavailable, match="cannot share a database") as refused,
    ):
        lonely.use_write_ahead_log()

    assert "put the state on a local disk" == str(refused.value.hint)


def test_function_that_raises_is_rolled_back(path: Path, store: StateStore) -> None:
    """An interrupted transaction leaves no row, and the connection stays usable."""
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


def test_function_runs_again_after_a_lock(path: Path, store: StateStore) -> None:
    """The writes of earlier tries are rolled back."""
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
    """A function has to use its transaction: the database would read outside of the transaction."""
    with closing(SqliteDatabase(path)) as database:
        uses: dict[str, Callable[[object], object]] = {
            "rows": lambda _: database.rows("SELECT 1"),
            "read": lambda _: database.read(lambda _: None),
            "run": lambda _: database.run(lambda _: None),
        }
        with pytest.raises(RuntimeError):
            database.run(uses[use])
        assert [] == database.rows("SELECT * FROM lease")


def test_closing_under_reading_threads(path: Path, key_file: Path) -> None:
    """A second Ctrl-C closes the state at once: reading threads get an error, without a crash."""
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
    """Connections of ended and of living threads are closed."""
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


def test_ended_threads_leave_no_connections(path: Path, store: StateStore) -> None:
    """A permanent process with ever new threads keeps a constant number of open files."""

    def visit() -> None:
        visitor = threading.Thread(target=store.lineages)
        visitor.start()
        visitor.join()

    visit()
    before = len(open_files(path.parent))
    for _ in range(THREADS):
        visit()

    assert before == len(open_files(path.parent))


def test_file_moved_away_and_back(path: Path, store: StateStore) -> None:
    """Every thread reports the missing file, without creating another; later every thread goes
    on.
    """
    store.append_history(ENTRY)
    entries, away = partial(store.history, "img", 9), path.with_name("away")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(entries).result()
        path.rename(away)
        late = threading.Thread(target=lambda: messages.append(message_of(entries)))
        messages = [message_of(entries), pool.submit(message_of, entries).result()]
        late.start()
        late.join()

        assert 3 * [f"{path} is gone"] == messages
        assert not path.exists()
        away.rename(path)
        assert 2 * [1] == [len(entries()), len(pool.submit(entries).result())]


def test_replaced_file(path: Path, key_file: Path, store: StateStore) -> None:
    """The new file is read and written."""
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


def message_of(ask: Callable[[], object]) -> str:
    """Return the message of a refused call to the state."""
    with pytest.raises(StateUnavailable) as problem:
        ask()
    return str(problem.value)


@pytest.mark.parametrize("content", [b"not a database at all\n" * 100, b"SQLite format 3\0" * 99])
def test_file_of_another_format(path: Path, key_file: Path, content: bytes) -> None:
    """The error names the file, and the file stays unchanged."""
    path.write_bytes(content)

    with pytest.raises(StateError, match="is not a state of certferry") as refused:
        connect(path, key_file)

    assert not refused.value.retry.allowed
    assert str(path) in str(refused.value.hint)
    assert content == path.read_bytes()


def test_database_of_another_program(path: Path, key_file: Path) -> None:
    """The database of another program stays unchanged."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmark (url TEXT)")
    before = path.read_bytes()

    with pytest.raises(StateError, match="the tables of another program"):
        connect(path, key_file)

    assert before == path.read_bytes()


def test_damaged_database(path: Path, key_file: Path) -> None:
    """An overwritten page is an error of the state, instead of SQLite's own error."""
    with closing(connect(path, key_file)) as store:
        store.append_history(ENTRY)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))

    with pytest.raises(StateError, match="is not a state of certferry"):
        connect(path, key_file)


def test_folder_in_place_of_the_file(tmp_path: Path, key_file: Path) -> None:
    """A folder cannot be opened as a database."""
    with pytest.raises(StateUnavailable, match="cannot be opened"):
        connect(tmp_path, key_file)


def test_file_in_place_of_the_folder(path: Path, key_file: Path) -> None:
    """A file cannot contain a folder."""
    path.touch()

    with pytest.raises(StateUnavailable, match="cannot be opened: Not a directory"):
        connect(path / "state.db", key_file)


@pytest.mark.parametrize("folder_mode", [0o000, 0o555])
def test_state_file_of_another_user(folder_mode: int) -> None:
    """A user without read or write permission learns the owner's part in the hint."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        connect(folder / "state.db", folder / "secret.key").close()
        (folder / "state.db").chmod(0o444)
        folder.chmod(folder_mode)
        with Child("open_as_somebody_else", folder) as child:
            code, message, hint = child.receive()
        folder.chmod(0o700)

    assert "state_unavailable" == code
    assert f"{folder / 'state.db'} cannot be opened: " in message
    assert f"{folder / 'state.db'} must belong to certferry's user" == hint


def test_unforeseen_error(path: Path) -> None:
    """An unexpected error of SQLite becomes an error of the state."""
    with (
        closing(SqliteDatabase(path)) as database,
        pytest.raises(StateError, match=r"state\.db: no such table: nowhere"),
    ):
        database.rows("SELECT * FROM nowhere")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_file_system_without_room(path: Path, code: int) -> None:
    """A key file without space has the same error as a database without space."""
    with pytest.raises(StateUnavailable, match="the disk is full"), translating_errors(path):
        raise OSError(code, os.strerror(code))


# --- Rows of other programs


@pytest.mark.parametrize(
    ("columns", "message"),
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
def test_rows_of_another_program(path: Path, store: StateStore, columns: str, message: str) -> None:
    """The error names the table, and reading stops at a limit."""
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
            lambda: database.run(lambda transaction: transaction.rows("SELECT * FROM lease")),
        ]
        for read in reads:
            with pytest.raises(StateError, match=message) as error:
                read()
            assert str(path) in str(error.value)
        assert 1 == len(database.rows("SELECT 1"))
