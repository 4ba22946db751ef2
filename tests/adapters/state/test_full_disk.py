"""A disk that is full or only read: nothing is half written, and the operator is told."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.adapters.state.database import migrate
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.sqlite import SqliteDatabase
from certferry.adapters.state.store import SqlState
from certferry.core.observed.records import HistoryEntry
from certferry.errors import StateUnavailable
from certferry_sandbox.testing.certificates import make_bundle
from tests.adapters.state.child import Child
from tests.adapters.state.child_program import NOW


def test_database_that_may_not_grow(path: Path) -> None:
    """SQLite's own "full" is told with the folder to free space in; what was there is there."""
    path.touch()
    with closing(SqliteDatabase(path)) as database:
        sealing = Sealing(path.with_name("secret.key"))
        store = SqlState(database, sealing, "localhost")
        migrate(database, "localhost")
        store.append_history(HistoryEntry(NOW, "img", "issued", "root"))
        [row] = database.rows("PRAGMA page_count")
        database.rows(f"PRAGMA max_page_count = {row['page_count']}")

        with pytest.raises(StateUnavailable, match="the disk is full") as refused:
            store.append_history(HistoryEntry(NOW, "img", "x" * 100_000, "root"))

        assert f"free some space at {path.parent}" == str(refused.value.hint)
        assert refused.value.retry.allowed
        assert ["issued"] == [entry.event for entry in store.history(None, 10)]
        database.rows("PRAGMA max_page_count = 1000000")
        store.append_history(HistoryEntry(NOW, "img", "x" * 100_000, "root"))


def test_file_that_may_not_grow(start: Callable[[str], Child], tmp_path: Path) -> None:
    """A write that the system refuses half-way is not there; after the limit it succeeds."""
    child = start("run_out_of_allowed_size")
    code, message, hint, again, kept, written = child.hear()

    assert "state_unavailable" == code
    assert f"{tmp_path / 'state.db'} cannot be read or written" in message
    assert f"free some space at {tmp_path}" in hint
    assert again
    assert written == kept
    assert written + 1 == child.hear()


def test_disk_that_is_full(tmp_path: Path) -> None:
    """The same on a real, tiny file system that another program has filled."""
    mount = in_a_namespace_of_its_own(tmp_path)
    with Child("run_out_of_disk", tmp_path, wrapped_in=mount) as child:
        code, message, hint, again, kept, written = child.hear()
        number = child.hear()
        said_when_opened = child.hear()

    assert "state_unavailable" == code
    assert f"{tmp_path / 'state.db'} cannot be written: the disk is full" == message
    assert f"free some space at {tmp_path}" == hint
    assert again
    assert written == kept
    assert written + 1 == number
    assert ["state_unavailable", message, hint] == said_when_opened


@pytest.mark.parametrize("left", ["nothing", "half a restore"])
def test_disk_that_is_only_read(tmp_path: Path, left: str) -> None:
    """What was kept can be looked at, unless it has to be changed before: then that is told of the
    disk, and not of the state.
    """
    path = tmp_path / "state.db"
    with closing(connect(path, tmp_path / "secret.key")) as store:
        lease = store.acquire("img", NOW)
        store.save_version(lease, make_bundle("img.example.com", not_before=NOW), NOW)
    if left == "half a restore":
        path.with_name("state.db-journal").write_bytes(b"pages as they were")

    name = shlex.quote(str(tmp_path))
    read_only = _mounted(f"mount --bind {name} {name} && mount -o remount,bind,ro {name}")
    with Child("look", tmp_path, wrapped_in=read_only) as child:
        found = child.hear()

    if left == "nothing":
        assert ["img"] == found
    else:
        assert ["state_unavailable", f"{path} cannot be opened: the file system is read-only"] == (
            found[:2]
        )


def in_a_namespace_of_its_own(folder: Path) -> tuple[str, ...]:
    """Give the command that mounts a disk of 1 MiB at a folder, for the program behind it only."""
    return _mounted(f"mount -t tmpfs -o size=1m,mode=0700 tmpfs {shlex.quote(str(folder))}")


def _mounted(mount: str) -> tuple[str, ...]:
    unshare = ["unshare", "--mount"]
    if os.geteuid() != 0:
        unshare += ["--map-root-user"]
    mount += ' && exec "$@"'
    command = (*unshare, "sh", "-c", mount, "sh")
    allowed = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"this system lets no process mount a disk here: {allowed.stderr.strip()}")
    return command
