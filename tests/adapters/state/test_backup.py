"""Backups: taken while runs write, complete or refused, and restored."""

from __future__ import annotations

import io
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.state.backup import Restored, back_up, restore
from certferry.adapters.state.connect import connect
from certferry.adapters.state.sealing import new_key
from certferry.core.access import PasswordLink, Role, Session, Token, User
from certferry.core.observed.records import LastRun
from certferry.core.observed.stored_runs import RunEvent, RunKind, RunSource, RunState, StoredRun
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, LeaseHeld, StateError, StateTooNew, StateTooOld
from certferry.ports.state import AcmeAccount, AcmeOrder, StateStore
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle, make_key
from tests.adapters.state.child import Child
from tests.adapters.state.child_program import DIRECTORY, NOW

SOURCE = Path("backup.tar")


def filled(folder: Path, *lineages: str) -> tuple[Path, Path]:
    """Make a state with an account, and with an order and a version of each lineage; return the
    paths of database and key.
    """
    path, key_file = folder / "state.db", folder / "secret.key"
    with closing(connect(path, key_file)) as store:
        store.save_account(AcmeAccount(DIRECTORY, make_key()))
        for lineage in lineages:
            lease = store.acquire(lineage, NOW)
            store.save_version(lease, make_bundle(f"{lineage}.test", not_before=NOW), NOW)
            names = (lineage,)
            store.save_order(
                lease, AcmeOrder(lineage, DIRECTORY, f"order/{lineage}", names, make_key(), NOW)
            )
            store.release(lease)
    return path, key_file


def archive_of(folder: Path) -> bytes:
    return back_up(folder / "state.db", folder / "secret.key", NOW)[0]


def put_back(archive: bytes, folder: Path) -> Restored:
    return restore(archive, SOURCE, folder / "state.db", folder / "secret.key")


def lineages_in(folder: Path) -> tuple[str, ...]:
    """Return the lineages of a state, after opening every private key."""
    with closing(connect(folder / "state.db", folder / "secret.key")) as store:
        must_open(store)
        return store.lineages()


def must_open(store: StateStore) -> None:
    assert store.account(DIRECTORY)
    for lineage in store.lineages():
        assert store.bundle(lineage, 1).privkey_pem
        assert store.order(lineage)


def test_backup_of_a_state_without_secrets(tmp_path: Path) -> None:
    """The backup creates the key, and the same key opens secrets that are stored later."""
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    with closing(connect(tmp_path / "old/state.db", tmp_path / "old/secret.key")) as store:
        store.save_run(NOW, succeeded=True)
    assert not (tmp_path / "old/secret.key").exists()

    archive = archive_of(tmp_path / "old")
    put_back(archive, tmp_path / "new")
    filled(tmp_path / "new", "img")
    filled(tmp_path / "old", "www")

    assert ("img",) == lineages_in(tmp_path / "new")
    assert ("www",) == lineages_in(tmp_path / "old")
    with closing(connect(tmp_path / "new/state.db", tmp_path / "old/secret.key")) as store:
        must_open(store)
        assert LastRun(NOW, NOW) == store.last_run()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    folder.mkdir()
    filled(folder, "img", "www")
    return folder


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A directory that does not exist yet."""
    return tmp_path / "new" / "lib"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("state")
    filled(folder, "img")
    return archive_of(folder)


def test_restore_on_a_new_machine(old: Path, new: Path) -> None:
    """Restoring creates state and key for their owner alone, and every key opens."""
    archive = archive_of(old)

    done = put_back(archive, new)

    assert Restored(("img", "www"), NOW, ()) == done
    assert [0o700, 0o600, 0o600] == [
        path.stat().st_mode & 0o777 for path in (new, new / "state.db", new / "secret.key")
    ]
    assert ["secret.key", "state.db"] == sorted(path.name for path in new.iterdir())
    assert ("img", "www") == lineages_in(new)


def test_restore_keeps_the_earlier_state(old: Path, tmp_path: Path) -> None:
    """The earlier state and key get new names, which the result gives; a second restore keeps
    both.
    """
    existing = tmp_path / "there"
    existing.mkdir()
    filled(existing, "other")
    archive = archive_of(old)

    done = put_back(archive, existing)

    assert (existing / "state.db.bak", existing / "secret.key.bak") == done.kept
    assert ("img", "www") == lineages_in(existing)
    copy = tmp_path / "kept"
    copy.mkdir()
    shutil.copy(existing / "state.db.bak", copy / "state.db")
    shutil.copy(existing / "secret.key.bak", copy / "secret.key")
    assert ("other",) == lineages_in(copy)
    assert 0o600 == (existing / "state.db.bak").stat().st_mode & 0o777

    assert (existing / "state.db.bak.2",) == put_back(archive, existing).kept  # the key is the same


def test_backups_while_runs_write(start: Callable[[str], Child], tmp_path: Path, new: Path) -> None:
    """Each backup is complete at any moment."""
    child = start("write")
    for _ in range(5):
        while "version" != child.receive():
            pass
        done = put_back(archive_of(tmp_path), new)
        assert {"img"} >= set(done.lineages)
        with closing(connect(new / "state.db", new / "secret.key")) as store:
            versions = store.versions("img")
            assert all(store.bundle("img", version.number) for version in versions)
        shutil.rmtree(new)
    child.kill()


def test_restore_over_an_open_state(old: Path) -> None:
    """The restore is refused and changes nothing; an idle run counts as well."""
    archive = archive_of(old)
    with closing(connect(old / "state.db", old / "secret.key")) as store:
        store.lineages()
        before = sorted(path.name for path in old.iterdir())

        with pytest.raises(LeaseHeld, match="another process has") as refused:
            put_back(archive, old)

        assert refused.value.retry.allowed
        assert before == sorted(path.name for path in old.iterdir())
    put_back(archive, old)


def test_restore_during_a_run(
    start: Callable[[str], Child], tmp_path: Path, archive: bytes
) -> None:
    """The run is another process between two writes."""
    run = start("take_lease")
    run.receive()
    run.go_on()
    assert 1 == run.receive()

    with pytest.raises(LeaseHeld):
        put_back(archive, tmp_path)

    run.kill()
    run.reap()
    assert ("img",) == put_back(archive, tmp_path).lineages


def test_restore_keeps_the_file_of_the_database(old: Path, tmp_path: Path) -> None:
    """The file keeps its inode, so that a waiting run opens the restored state."""
    existing = tmp_path / "there"
    existing.mkdir()
    path, _ = filled(existing, "other")
    before = path.stat().st_ino

    put_back(archive_of(old), existing)

    assert before == path.stat().st_ino


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"x" * 5000])
def test_restore_over_a_broken_state(old: Path, tmp_path: Path, content: bytes) -> None:
    """An unreadable state is moved away unchanged; a backup is needed most in this case."""
    existing = tmp_path / "there"
    existing.mkdir()
    (existing / "state.db").write_bytes(content)
    (existing / "state.db-wal").write_bytes(b"of that")

    done = put_back(archive_of(old), existing)

    assert (existing / "state.db.bak",) == done.kept
    assert content == (existing / "state.db.bak").read_bytes()
    # SQLite would apply the old log to the new database.
    assert not (existing / "state.db-wal").exists()
    assert ("img", "www") == lineages_in(existing)


def test_backup_without_the_key(old: Path) -> None:
    """A backup is refused if the key is missing or belongs to another state."""
    (old / "secret.key").rename(old / "gone")
    with pytest.raises(StateError, match=r"secret\.key is missing"):
        archive_of(old)

    other = old.parent / "other"
    other.mkdir()
    _, key_file = filled(other, "x")
    shutil.copy(key_file, old / "secret.key")
    with pytest.raises(StateError, match="does not open the state"):
        archive_of(old)


def test_backup_with_an_unreadable_private_key(old: Path) -> None:
    """A backup opens each private key, beside the check of the state's key."""
    with closing(sqlite3.connect(old / "state.db")) as raw, raw:
        raw.execute(
            "UPDATE version_pem SET sealed_privkey_pem = (SELECT sealed_privkey_pem FROM"
            " version_pem WHERE lineage = 'img') WHERE lineage = 'www'"
        )

    with pytest.raises(StateError, match="version 1 of www: the private key cannot be decrypted"):
        archive_of(old)


def packed(**files: bytes) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return output.getvalue()


def parts(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        members = {member.name.replace(".", "_"): opened.extractfile(member) for member in opened}
        return {name: file.read() for name, file in members.items() if file}


def raw_archive(folder: Path) -> bytes:
    with closing(sqlite3.connect(folder / "state.db")) as state:
        state.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return packed(
        state_db=(folder / "state.db").read_bytes(), secret_key=(folder / "secret.key").read_bytes()
    )


def must_refuse(archive: bytes, folder: Path, message: str) -> None:
    """Restore an invalid archive: the error has the message, and no file changes."""
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    with pytest.raises(StateError, match=message):
        put_back(archive, folder)

    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_invalid_backups(old: Path) -> None:
    """Other archives, incomplete archives and other files are refused."""
    archive = archive_of(old)
    members = parts(archive)

    no_backup = "backup.tar is not a backup of certferry"
    for other in (b"", b"text", packed(), packed(state_db=b""), archive[: len(archive) // 2]):
        must_refuse(other, old, no_backup)
    not_whole = "backup.tar does not contain a complete state that its key opens"
    must_refuse(packed(state_db=b"", secret_key=members["secret_key"]), old, not_whole)
    must_refuse(packed(state_db=b"x" * 100, secret_key=members["secret_key"]), old, not_whole)
    must_refuse(packed(state_db=members["state_db"], secret_key=b"short"), old, not_whole)
    half = members["state_db"][: len(members["state_db"]) // 2]
    must_refuse(packed(state_db=half, secret_key=members["secret_key"]), old, not_whole)


def test_state_and_key_of_two_machines(old: Path, tmp_path: Path) -> None:
    """The key does not open the state of another machine."""
    other = tmp_path / "other"
    other.mkdir()
    filled(other, "x")
    mixed = {**parts(archive_of(old)), "secret_key": parts(archive_of(other))["secret_key"]}

    must_refuse(packed(**mixed), old, "does not contain a complete state that its key opens")


def test_backup_of_a_newer_version(old: Path) -> None:
    """The error names the newer version."""
    with closing(sqlite3.connect(old / "state.db")) as newer, newer:
        newer.execute("INSERT INTO certferry_migration VALUES (9001, '9001_new')")

    with pytest.raises(StateTooNew, match=r"backup\.tar was written by a newer certferry"):
        put_back(raw_archive(old), old)


def test_backup_from_before_the_first_release(old: Path, new: Path) -> None:
    """A restore refuses the backup, names the backup's file, and creates no file."""
    with closing(sqlite3.connect(old / "state.db")) as older, older:
        older.execute("UPDATE certferry_migration SET number = 22")

    with pytest.raises(StateTooOld, match=r"backup\.tar was written by a certferry from before"):
        put_back(raw_archive(old), new)

    assert [] == list(new.iterdir())


def test_restore_killed_between_key_and_state(old: Path, tmp_path: Path) -> None:
    """A run refuses the mismatched pair; repeating the restore repairs the pair."""
    existing = tmp_path / "there"
    existing.mkdir()
    filled(existing, "other")
    archive = archive_of(old)
    shutil.copy(old / "secret.key", existing / "secret.key")

    with (
        closing(connect(existing / "state.db", existing / "secret.key")) as store,
        pytest.raises(StateError, match="does not open"),
    ):
        store.must_unseal()
    put_back(archive, existing)

    assert ("img", "www") == lineages_in(existing)


def test_restore_with_a_mounted_key(old: Path) -> None:
    """Kubernetes mounts the key read-only; a link to the same key stays a link."""
    archive = archive_of(old)
    real = (old / "secret.key").rename(old.parent / "mounted")
    (old / "secret.key").symlink_to(real)

    put_back(archive, old)

    assert real == (old / "secret.key").resolve()
    assert (old / "secret.key").is_symlink()


@given(st.data())
def test_altered_archives(
    archive: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Restoring altered bytes raises an error of the state, or everything in the archive opens."""
    altered = bytearray(archive)
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.none(), st.integers(0, len(altered))))
    folder = tmp_path_factory.mktemp("new")

    try:
        put_back(bytes(altered[:end]), folder)
    except StateError:
        assert [] == list(folder.iterdir())
    else:
        assert ("img",) == lineages_in(folder)


def test_backup_during_a_run(old: Path, new: Path) -> None:
    """The restored state lists ended and killed runs. The run in progress during the backup is left
    out, because its end is unknown.
    """
    begun = StoredRun("killed", RunKind.SYNC, RunSource.COMMAND, "root", "here", NOW)
    event = RunEvent(1, NOW, "img", "step", Text("issues"))
    with closing(connect(old / "state.db", old / "secret.key")) as store:
        number = store.begin_run(NOW).number
        for run in (begun, replace(begun, id="ended"), replace(begun, id="on", number=number)):
            store.save_run_begin(run)
            store.append_run_events(run.id, [event])
        store.save_run_end("ended", RunState.DONE, NOW, None)
        put_back(archive_of(old), new)

    with closing(connect(new / "state.db", new / "secret.key")) as store:
        assert () == store.unended_runs()
        assert ["killed", "ended"] == [run.id for run in store.stored_runs(9)]
        assert [(event,), (event,), ()] == [*map(store.run_events, ("killed", "ended", "on"))]


def test_backup_during_a_session(old: Path, new: Path) -> None:
    """Users and tokens are restored, and users have to log in again."""
    token = Token("ci", "a token", "cf_abcde", Role.VIEWER, NOW)
    with closing(connect(old / "state.db", old / "secret.key")) as store:
        store.add_user(anna := User("anna", Role.OPERATOR, NOW, "hash", NOW))
        store.save_session(Session("a session", "anna", NOW, NOW, "192.0.2.7"))
        store.save_link(PasswordLink("a link", "anna", NOW + timedelta(hours=1)))
        store.add_token(token)
        put_back(archive_of(old), new)

    with closing(connect(new / "state.db", new / "secret.key")) as store:
        assert [(replace(anna, seen_at=NOW),), (token,)] == [store.users(), store.tokens()]
        assert store.session("a session", NOW) is None
        assert store.link("a link", NOW) is None


def test_backup_with_a_given_key(tmp_path: Path, new: Path) -> None:
    """The archive holds a given key as well, and the restore requires the same key."""
    key = Secret(new_key())
    with closing(connect(tmp_path / "state.db", key)) as store:
        store.save_account(AcmeAccount(DIRECTORY, make_key()))
    archive, _ = back_up(tmp_path / "state.db", key, NOW)
    restored_path = new / "state.db"

    with pytest.raises(ConfigError, match="was sealed with a key other than `key` of"):
        restore(archive, SOURCE, restored_path, Secret(new_key()))
    assert not restored_path.exists()
    restore(archive, SOURCE, restored_path, key)
    with closing(connect(restored_path, key)) as store:
        assert store.account(DIRECTORY)
