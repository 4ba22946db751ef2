"""The state with several processes at work, and with killed processes."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from certferry.adapters.state.columns import from_moment
from certferry.adapters.state.connect import connect
from certferry.core.observed.stored_runs import RunState
from certferry.errors import LeaseHeld, LeaseLost
from certferry.ports.state import StateStore
from tests.adapters.state.child import Child
from tests.adapters.state.child_program import DIRECTORY, NOW
from tests.support.tiers import THOROUGH

RACERS = 8 if THOROUGH else 4

Start = Callable[[str], Child]


def race(start: Start, program: str) -> list[object]:
    """Start processes at the same moment, and return the answer of each."""
    racers = [start(program) for _ in range(RACERS)]
    assert ["ready"] * RACERS == [racer.receive() for racer in racers]
    for racer in racers:
        racer.go_on()
    return [racer.receive() for racer in racers]


def take(child: Child) -> int:
    """Let the child take the lease, and return the token."""
    child.receive()
    child.go_on()
    token = child.receive()
    assert isinstance(token, int)
    return token


def test_race_for_a_lease(start: Start, store: StateStore) -> None:
    """Exactly one process gets the lease and keeps it."""
    answers = race(start, "take_lease")

    assert [1] == [token for token in answers if token is not None]
    with pytest.raises(LeaseHeld):
        store.acquire("img", NOW)


def test_race_on_a_new_state(start: Start, path: Path, key_file: Path) -> None:
    """Database, key file and account are made once: all processes work with the first key."""
    answers = race(start, "register")

    with closing(connect(path, key_file)) as store:
        account = store.account(DIRECTORY)
    assert account is not None
    assert {account.key_pem.reveal()} == set(answers)
    assert ["secret.key", "state.db"] == sorted(
        file.name for file in path.parent.iterdir() if not file.name.startswith("state.db-")
    )


@pytest.mark.parametrize("is_reaped", [False, True])
def test_lease_of_a_killed_holder(start: Start, store: StateStore, is_reaped: object) -> None:
    """A dead process holds no lease, even as a zombie."""
    child = start("take_lease")
    token = take(child)
    with pytest.raises(LeaseHeld, match=f"process {child.pid} on "):
        store.acquire("img", NOW)

    child.kill()
    if is_reaped:
        child.reap()

    assert token + 1 == store.acquire("img", NOW).token


def test_stopped_holder_keeps_its_lease(start: Start, store: StateStore) -> None:
    """A suspended holder may continue in the middle of its work; a jump of the clock ends no
    lease.
    """
    child = start("take_lease")
    take(child)

    with child.stopped(), pytest.raises(LeaseHeld):
        store.acquire("img", NOW + timedelta(days=400))


def test_program_that_outlives_its_holder(start: Start, store: StateStore) -> None:
    """The program does not inherit the lease."""
    child = start("take_lease_and_start_a_program")
    program = child.receive()
    child.kill()
    try:
        os.kill(program, 0)
        assert "img" == store.acquire("img", NOW).lineage
    finally:
        os.kill(program, signal.SIGKILL)


def test_copy_of_a_state_with_a_holder(start: Start, path: Path, tmp_path: Path) -> None:
    """In a copy, no lease is held, whatever the database contains."""
    take(start("take_lease"))
    copied = shutil.copytree(path.parent, tmp_path / "backup")

    with closing(connect(copied / path.name, copied / "secret.key")) as restored:
        assert "img" == restored.acquire("img", NOW).lineage


def test_older_database_under_a_holder(
    start: Start, path: Path, key_file: Path, tmp_path: Path
) -> None:
    """The older database has no record of the holder, but the holder keeps its lease."""
    earlier = tmp_path / "earlier.db"
    connect(earlier, key_file).close()
    with start("take_lease") as child:
        take(child)
        for file in path.parent.glob("state.db-[ws]*"):
            file.unlink()
        earlier.replace(path)

        with closing(connect(path, key_file)) as store:
            with pytest.raises(
                LeaseHeld, match=r"^img: another run is working on the certificate$"
            ):
                store.acquire("img", NOW)
            child.kill()
            assert "img" == store.acquire("img", NOW).lineage


def test_lock_removed_under_its_holder(path: Path, store: StateStore) -> None:
    """The next run takes over, and later writes of the first run are refused."""
    lost = store.acquire("img", NOW)
    for lock in path.with_name("state.db-leases").iterdir():
        lock.unlink()

    current = store.acquire("img", NOW)

    with pytest.raises(LeaseLost):
        store.extend(lost)
    store.release(lost)
    store.extend(current)
    with pytest.raises(LeaseHeld):
        store.acquire("img", NOW)


@pytest.mark.parametrize(("hours", "is_over"), [(1, False), (-1, True)])
def test_lease_with_an_end_in_the_database(
    path: Path, store: StateStore, hours: int, is_over: object
) -> None:
    """A lease of another kind of store ends by the database's clock."""
    lease = store.acquire("img", NOW)
    until = from_moment(datetime.now(UTC) + timedelta(hours=hours))
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE lease SET until = ?", (until,))

    for write in (partial(store.extend, lease), partial(store.drop_order, lease)):
        with pytest.raises(LeaseLost) if is_over else nullcontext():
            write()


def test_state_behind_a_link(path: Path, key_file: Path, store: StateStore) -> None:
    """A state has the same leases through a link."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    store.acquire("img", NOW)

    with closing(connect(link, key_file)) as linked, pytest.raises(LeaseHeld):
        linked.acquire("img", NOW)


@pytest.mark.parametrize("lines", [(1, 2, 3), (4, 7, 12)])
def test_killed_writer(start: Start, path: Path, key_file: Path, lines: tuple[int, ...]) -> None:
    """Killed at any moment: each version is complete with its key, and its order is gone."""
    for count in lines:
        child = start("write")
        for _ in range(count):
            child.receive()
        child.kill()

        with closing(sqlite3.connect(path)) as raw:
            assert [("ok",)] == raw.execute("PRAGMA integrity_check").fetchall()
        with closing(connect(path, key_file)) as store:
            versions = store.versions("img")
            order = store.order("img")
            bundles = [store.bundle("img", version.number) for version in versions]
        assert list(range(len(versions), 0, -1)) == [version.number for version in versions]
        assert [version.certificate for version in versions] == [b.certificate for b in bundles]
        assert all(bundle.key_matches for bundle in bundles)
        assert order is None or f"order/{len(versions) + 1}" == order.url


def test_killed_run(start: Start, store: StateStore) -> None:
    """A run is in progress while its process lives, even suspended. After a kill the run has died,
    and its events stay.
    """
    child = start("begin_a_run")
    assert 1 == child.receive()
    with child.stopped():
        assert [RunState.RUNNING] == [run.state for run in store.stored_runs(9)]
    child.kill()

    [run] = store.stored_runs(9)
    assert RunState.DIED == run.state
    assert run.ended_at is None
    assert ["issues"] == [str(event.text) for event in store.run_events(run.id)]
