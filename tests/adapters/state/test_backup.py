"""A backup: made while runs write, whole and opened by its key or refused, and put back in one."""

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
from certferry.core.observed.runs import RunEvent, RunKind, RunSource, RunState, StoredRun
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
    """Make a state with an account, and an order and a version of each lineage; give where it and
    its key are.
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


def known_in(folder: Path) -> tuple[str, ...]:
    """Open a state, the key of each of its certificates included, and give the lineages."""
    with closing(connect(folder / "state.db", folder / "secret.key")) as store:
        must_open(store)
        return store.lineages()


def must_open(store: StateStore) -> None:
    assert store.account(DIRECTORY)
    for lineage in store.lineages():
        assert store.bundle(lineage, 1).privkey_pem
        assert store.order(lineage)


def test_state_in_which_nothing_is_sealed_yet(tmp_path: Path) -> None:
    """Its key is made for the backup, and what is sealed later is opened by the same."""
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    with closing(connect(tmp_path / "old/state.db", tmp_path / "old/secret.key")) as store:
        store.save_run(NOW, succeeded=True)
    assert not (tmp_path / "old/secret.key").exists()

    archive = archive_of(tmp_path / "old")
    put_back(archive, tmp_path / "new")
    filled(tmp_path / "new", "img")
    filled(tmp_path / "old", "www")

    assert ("img",) == known_in(tmp_path / "new")
    assert ("www",) == known_in(tmp_path / "old")
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
    """Where nothing is yet."""
    return tmp_path / "new" / "lib"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("state")
    filled(folder, "img")
    return archive_of(folder)


def test_on_a_new_machine(old: Path, new: Path) -> None:
    """State and key are made where they are to be, for their owner alone, and everything opens."""
    archive = archive_of(old)

    done = put_back(archive, new)

    assert Restored(("img", "www"), NOW, ()) == done
    assert [0o700, 0o600, 0o600] == [
        path.stat().st_mode & 0o777 for path in (new, new / "state.db", new / "secret.key")
    ]
    assert ["secret.key", "state.db"] == sorted(path.name for path in new.iterdir())
    assert ("img", "www") == known_in(new)


def test_what_was_there_is_kept(old: Path, tmp_path: Path) -> None:
    """With its own key, under names that are told; a second restore keeps that as well."""
    there = tmp_path / "there"
    there.mkdir()
    filled(there, "other")
    archive = archive_of(old)

    done = put_back(archive, there)

    assert (there / "state.db.bak", there / "secret.key.bak") == done.kept
    assert ("img", "www") == known_in(there)
    kept = tmp_path / "kept"
    kept.mkdir()
    shutil.copy(there / "state.db.bak", kept / "state.db")
    shutil.copy(there / "secret.key.bak", kept / "secret.key")
    assert ("other",) == known_in(kept)
    assert 0o600 == (there / "state.db.bak").stat().st_mode & 0o777

    assert (there / "state.db.bak.2",) == put_back(archive, there).kept  # the key is the same


def test_while_runs_write(start: Callable[[str], Child], tmp_path: Path, new: Path) -> None:
    """Each backup is whole, whatever moment it is made at."""
    child = start("write")
    for _ in range(5):
        while "version" != child.hear():
            pass
        done = put_back(archive_of(tmp_path), new)
        assert {"img"} >= set(done.lineages)
        with closing(connect(new / "state.db", new / "secret.key")) as store:
            versions = store.versions("img")
            assert all(store.bundle("img", version.number) for version in versions)
        shutil.rmtree(new)
    child.kill()


def test_while_another_process_has_the_state_open(old: Path) -> None:
    """A run between two writes has it too. Nothing is changed then, and nothing is left."""
    archive = archive_of(old)
    with closing(connect(old / "state.db", old / "secret.key")) as store:
        store.lineages()
        before = sorted(path.name for path in old.iterdir())

        with pytest.raises(LeaseHeld, match="another process has") as refused:
            put_back(archive, old)

        assert refused.value.retry.allowed
        assert before == sorted(path.name for path in old.iterdir())
    put_back(archive, old)


def test_while_a_run_holds_a_lease(
    start: Callable[[str], Child], tmp_path: Path, archive: bytes
) -> None:
    """In a process of its own, between two writes."""
    run = start("take_lease")
    run.hear()
    run.go_on()
    assert 1 == run.hear()

    with pytest.raises(LeaseHeld):
        put_back(archive, tmp_path)

    run.kill()
    run.bury()
    assert ("img",) == put_back(archive, tmp_path).lineages


def test_a_run_that_waits_for_the_restore_sees_what_it_put_there(old: Path, tmp_path: Path) -> None:
    """The file stays the same one, so that none works with what was moved away."""
    there = tmp_path / "there"
    there.mkdir()
    path, _ = filled(there, "other")
    before = path.stat().st_ino

    put_back(archive_of(old), there)

    assert before == path.stat().st_ino


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"x" * 5000])
def test_in_place_of_a_broken_state(old: Path, tmp_path: Path, content: bytes) -> None:
    """What cannot be read is moved away as it is; this is when a backup is needed."""
    there = tmp_path / "there"
    there.mkdir()
    (there / "state.db").write_bytes(content)
    (there / "state.db-wal").write_bytes(b"of that")

    done = put_back(archive_of(old), there)

    assert (there / "state.db.bak",) == done.kept
    assert content == (there / "state.db.bak").read_bytes()
    assert not (there / "state.db-wal").exists()  # it would be taken for the new one's
    assert ("img", "www") == known_in(there)


def test_without_the_key(old: Path) -> None:
    """A state without its key, or with another, is no backup, and this is the moment to say so."""
    (old / "secret.key").rename(old / "gone")
    with pytest.raises(StateError, match=r"secret\.key is missing"):
        archive_of(old)

    other = old.parent / "other"
    other.mkdir()
    _, key_file = filled(other, "x")
    shutil.copy(key_file, old / "secret.key")
    with pytest.raises(StateError, match="does not open the state"):
        archive_of(old)


def test_a_private_key_that_does_not_open(old: Path) -> None:
    """Each is opened, not only the seal of the whole."""
    with closing(sqlite3.connect(old / "state.db")) as raw, raw:
        raw.execute(
            "UPDATE version_pem SET sealed_privkey_pem = (SELECT sealed_privkey_pem FROM"
            " version_pem WHERE lineage = 'img') WHERE lineage = 'www'"
        )

    with pytest.raises(StateError, match="version 1 of www: the private key in it"):
        archive_of(old)


def packed(**files: bytes) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def parts(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = {one.name.replace(".", "_"): opened.extractfile(one) for one in opened}
        return {name: file.read() for name, file in found.items() if file}


def raw_archive(folder: Path) -> bytes:
    with closing(sqlite3.connect(folder / "state.db")) as state:
        state.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return packed(
        state_db=(folder / "state.db").read_bytes(), secret_key=(folder / "secret.key").read_bytes()
    )


def must_refuse(archive: bytes, folder: Path, said: str) -> None:
    """Restore what cannot be restored: it is refused, and nothing has changed."""
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    with pytest.raises(StateError, match=said):
        put_back(archive, folder)

    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_what_is_no_backup(old: Path) -> None:
    """Other archives, half of one, none at all."""
    archive = archive_of(old)
    there = parts(archive)

    no_backup = "backup.tar is not a backup of certferry"
    for other in (b"", b"text", packed(), packed(state_db=b""), archive[: len(archive) // 2]):
        must_refuse(other, old, no_backup)
    not_whole = "backup.tar does not contain a complete state that its key opens"
    must_refuse(packed(state_db=b"", secret_key=there["secret_key"]), old, not_whole)
    must_refuse(packed(state_db=b"x" * 100, secret_key=there["secret_key"]), old, not_whole)
    must_refuse(packed(state_db=there["state_db"], secret_key=b"short"), old, not_whole)
    half = there["state_db"][: len(there["state_db"]) // 2]
    must_refuse(packed(state_db=half, secret_key=there["secret_key"]), old, not_whole)


def test_state_and_key_of_two_machines(old: Path, tmp_path: Path) -> None:
    """They do not belong together."""
    other = tmp_path / "other"
    other.mkdir()
    filled(other, "x")
    mixed = {**parts(archive_of(old)), "secret_key": parts(archive_of(other))["secret_key"]}

    must_refuse(packed(**mixed), old, "does not contain a complete state that its key opens")


def test_a_backup_of_a_newer_version(old: Path) -> None:
    """It is told as that."""
    with closing(sqlite3.connect(old / "state.db")) as newer, newer:
        newer.execute("INSERT INTO certferry_migration VALUES (9001, '9001_new')")

    with pytest.raises(StateTooNew, match=r"backup\.tar was written by a newer certferry"):
        put_back(raw_archive(old), old)


def test_backup_from_before_the_first_release(old: Path, new: Path) -> None:
    """A restore refuses the backup, names the backup's file, and puts nothing in place."""
    with closing(sqlite3.connect(old / "state.db")) as older, older:
        older.execute("UPDATE certferry_migration SET number = 22")

    with pytest.raises(StateTooOld, match=r"backup\.tar was written by a certferry from before"):
        put_back(raw_archive(old), new)

    assert [] == list(new.iterdir())


def test_a_restore_that_was_killed_between_key_and_state(old: Path, tmp_path: Path) -> None:
    """No run goes on with the two that do not fit; the same restore does."""
    there = tmp_path / "there"
    there.mkdir()
    filled(there, "other")
    archive = archive_of(old)
    shutil.copy(old / "secret.key", there / "secret.key")

    with (
        closing(connect(there / "state.db", there / "secret.key")) as store,
        pytest.raises(StateError, match="does not open"),
    ):
        store.must_unseal()
    put_back(archive, there)

    assert ("img", "www") == known_in(there)


def test_a_key_that_cannot_be_written_and_need_not_be(old: Path) -> None:
    """Kubernetes mounts it read-only; a link to it stays one."""
    archive = archive_of(old)
    real = (old / "secret.key").rename(old.parent / "mounted")
    (old / "secret.key").symlink_to(real)

    put_back(archive, old)

    assert real == (old / "secret.key").resolve()
    assert (old / "secret.key").is_symlink()


@given(st.data())
def test_bent_archives(
    archive: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever bytes are others: it is refused in our words, or everything in it opens."""
    bent = bytearray(archive)
    for _ in range(data.draw(st.integers(1, 4))):
        bent[data.draw(st.integers(0, len(bent) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.none(), st.integers(0, len(bent))))
    folder = tmp_path_factory.mktemp("new")

    try:
        put_back(bytes(bent[:end]), folder)
    except StateError:
        assert [] == list(folder.iterdir())
    else:
        assert ("img",) == known_in(folder)


def test_while_a_run_is_under_way(old: Path, new: Path) -> None:
    """Where it is put back, nothing is said of a run that did not end: how it ended is unknown.
    Those that had ended are there, and the one that was killed.
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


def test_while_a_browser_is_logged_in(old: Path, new: Path) -> None:
    """Where it is put back, users and tokens are as they were, and users log in again."""
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


def test_a_key_that_is_given(tmp_path: Path, new: Path) -> None:
    """It is in the archive, as one in a file is; put back, it must be the same one."""
    key = Secret(new_key())
    with closing(connect(tmp_path / "state.db", key)) as store:
        store.save_account(AcmeAccount(DIRECTORY, make_key()))
    archive, _ = back_up(tmp_path / "state.db", key, NOW)
    there = new / "state.db"

    with pytest.raises(ConfigError, match="was sealed with a key other than `key` of"):
        restore(archive, SOURCE, there, Secret(new_key()))
    assert not there.exists()
    restore(archive, SOURCE, there, key)
    with closing(connect(there, key)) as store:
        assert store.account(DIRECTORY)
