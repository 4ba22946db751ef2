"""The state with several processes at work on it, and with processes that are killed."""

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
    """Let processes begin at the same moment, and give what each of them says."""
    racers = [start(program) for _ in range(RACERS)]
    assert ["ready"] * RACERS == [racer.hear() for racer in racers]
    for racer in racers:
        racer.go_on()
    return [racer.hear() for racer in racers]


def take(child: Child) -> int:
    """Let it take the lease, and give the token."""
    child.hear()
    child.go_on()
    token = child.hear()
    assert isinstance(token, int)
    return token


def test_processes_that_race_for_a_lease(start: Start, store: StateStore) -> None:
    """Exactly one of them gets it, and has it."""
    said = race(start, "take_lease")

    assert [1] == [token for token in said if token is not None]
    with pytest.raises(LeaseHeld):
        store.acquire("img", NOW)


def test_processes_that_race_on_a_new_state(start: Start, path: Path, key_file: Path) -> None:
    """Database, key file and account are made once: all of them work with the first key."""
    said = race(start, "register")

    with closing(connect(path, key_file)) as store:
        account = store.account(DIRECTORY)
    assert account is not None
    assert {account.key_pem.reveal()} == set(said)
    assert ["secret.key", "state.db"] == sorted(
        file.name for file in path.parent.iterdir() if not file.name.startswith("state.db-")
    )


@pytest.mark.parametrize("buried", [False, True])
def test_killed_holder_is_followed_at_once(start: Start, store: StateStore, buried: object) -> None:
    """A dead process holds nothing, also while it is still a zombie."""
    child = start("take_lease")
    token = take(child)
    with pytest.raises(LeaseHeld, match=f"process {child.pid} on "):
        store.acquire("img", NOW)

    child.kill()
    if buried:
        child.bury()

    assert token + 1 == store.acquire("img", NOW).token


def test_stopped_holder_keeps_its_lease(start: Start, store: StateStore) -> None:
    """Suspended, it may wake up in the middle of its work; a clock that jumps ends nothing."""
    child = start("take_lease")
    take(child)

    with child.stopped(), pytest.raises(LeaseHeld):
        store.acquire("img", NOW + timedelta(days=400))


def test_program_that_outlives_the_holder_that_started_it(start: Start, store: StateStore) -> None:
    """It inherits no lease."""
    child = start("take_lease_and_start_a_program")
    program = child.hear()
    child.kill()
    try:
        os.kill(program, 0)
        assert "img" == store.acquire("img", NOW).lineage
    finally:
        os.kill(program, signal.SIGKILL)


def test_state_that_is_copied_under_a_holder(start: Start, path: Path, tmp_path: Path) -> None:
    """In a backup that is put back, no lease is held, whatever the database says."""
    take(start("take_lease"))
    copied = shutil.copytree(path.parent, tmp_path / "backup")

    with closing(connect(copied / path.name, copied / "secret.key")) as restored:
        assert "img" == restored.acquire("img", NOW).lineage


def test_database_that_is_put_back_under_a_holder(
    start: Start, path: Path, key_file: Path, tmp_path: Path
) -> None:
    """An older one knows nothing of the holder, which keeps its lease all the same."""
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


def test_lock_that_is_removed_under_its_holder(path: Path, store: StateStore) -> None:
    """The next run takes over, and what the first one still writes is refused."""
    lost = store.acquire("img", NOW)
    for lock in path.with_name("state.db-leases").iterdir():
        lock.unlink()

    held = store.acquire("img", NOW)

    with pytest.raises(LeaseLost):
        store.extend(lost)
    store.release(lost)
    store.extend(held)
    with pytest.raises(LeaseHeld):
        store.acquire("img", NOW)


@pytest.mark.parametrize(("hours", "is_over"), [(1, False), (-1, True)])
def test_lease_with_an_end(path: Path, store: StateStore, hours: int, is_over: object) -> None:
    """One that another kind of store has written down ends by the database's clock."""
    lease = store.acquire("img", NOW)
    until = from_moment(datetime.now(UTC) + timedelta(hours=hours))
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE lease SET until = ?", (until,))

    for write in (partial(store.extend, lease), partial(store.drop_order, lease)):
        with pytest.raises(LeaseLost) if is_over else nullcontext():
            write()


def test_two_ways_to_one_state(path: Path, key_file: Path, store: StateStore) -> None:
    """Through a link, its leases are the same."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    store.acquire("img", NOW)

    with closing(connect(link, key_file)) as linked, pytest.raises(LeaseHeld):
        linked.acquire("img", NOW)


@pytest.mark.parametrize("lines", [(1, 2, 3), (4, 7, 12)])
def test_killed_writer_leaves_no_torn_write(
    start: Start, path: Path, key_file: Path, lines: tuple[int, ...]
) -> None:
    """Whenever it is killed: each version whole, with its key, and never beside its own order."""
    for count in lines:
        child = start("write")
        for _ in range(count):
            child.hear()
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


def test_run_that_is_killed(start: Start, store: StateStore) -> None:
    """It is in progress as long as its process lives, stopped or not; then it died, at once, and
    what it reported stays.
    """
    child = start("begin_a_run")
    assert 1 == child.hear()
    with child.stopped():
        assert [RunState.RUNNING] == [run.state for run in store.stored_runs(9)]
    child.kill()

    [run] = store.stored_runs(9)
    assert RunState.DIED == run.state
    assert run.ended_at is None
    assert ["issues"] == [str(event.text) for event in store.run_events(run.id)]
