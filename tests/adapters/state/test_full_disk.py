"""A full or read-only disk: each write is complete or absent, and the operator gets an error."""

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


def test_limit_on_the_size_of_a_database(path: Path) -> None:
    """SQLite's "full" becomes an error with the folder's path, and the earlier rows stay."""
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


def test_limit_on_the_size_of_files(start: Callable[[str], Child], tmp_path: Path) -> None:
    """An interrupted write leaves no row; after the limit is lifted, writing succeeds."""
    child = start("run_out_of_allowed_size")
    code, message, hint, again, stored, successful_writes = child.receive()

    assert "state_unavailable" == code
    assert f"{tmp_path / 'state.db'} cannot be read or written" in message
    assert f"free some space at {tmp_path}" in hint
    assert again
    assert successful_writes == stored
    assert successful_writes + 1 == child.receive()


def test_full_disk(tmp_path: Path) -> None:
    """A write on a small file system that another program has filled leaves no row."""
    mount = in_a_namespace_of_its_own(tmp_path)
    with Child("run_out_of_disk", tmp_path, wrapped_in=mount) as child:
        code, message, hint, again, stored, successful_writes = child.receive()
        number = child.receive()
        error_on_opening = child.receive()

    assert "state_unavailable" == code
    assert f"{tmp_path / 'state.db'} cannot be written: the disk is full" == message
    assert f"free some space at {tmp_path}" == hint
    assert again
    assert successful_writes == stored
    assert successful_writes + 1 == number
    assert ["state_unavailable", message, hint] == error_on_opening


@pytest.mark.parametrize("unfinished", ["nothing", "half a restore"])
def test_read_only_disk(tmp_path: Path, unfinished: str) -> None:
    """Reading works, unless the state needs a change first: then the error names the disk."""
    path = tmp_path / "state.db"
    with closing(connect(path, tmp_path / "secret.key")) as store:
        lease = store.acquire("img", NOW)
        store.save_version(lease, make_bundle("img.example.com", not_before=NOW), NOW)
    if unfinished == "half a restore":
        path.with_name("state.db-journal").write_bytes(b"pages as they were")

    name = shlex.quote(str(tmp_path))
    read_only = _mounted(f"mount --bind {name} {name} && mount -o remount,bind,ro {name}")
    with Child("look", tmp_path, wrapped_in=read_only) as child:
        answer = child.receive()

    if unfinished == "nothing":
        assert ["img"] == answer
    else:
        assert ["state_unavailable", f"{path} cannot be opened: the file system is read-only"] == (
            answer[:2]
        )


def in_a_namespace_of_its_own(folder: Path) -> tuple[str, ...]:
    """Return a command that mounts a disk of 1 MiB at a folder, visible to its own program only."""
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
