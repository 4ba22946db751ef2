"""The state with several processes at work on it, and with processes that are killed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.sqlite import connect
from certferry.errors import LeaseHeld
from certferry.ports.state import StateStore
from tests.adapters.state.child import Child
from tests.adapters.state.child_program import DIRECTORY, NOW, TTL

RACERS = 8

Start = Callable[[str], Child]


def race(start: Start, program: str) -> list[object]:
    """Let processes begin at the same moment, and give what each of them says."""
    racers = [start(program) for _ in range(RACERS)]
    assert ["ready"] * RACERS == [racer.hear() for racer in racers]
    for racer in racers:
        racer.go_on()
    return [racer.hear() for racer in racers]


def test_processes_that_race_for_a_lease(start: Start, store: StateStore) -> None:
    """Exactly one of them gets it, and has it."""
    said = race(start, "take_lease")

    assert [1] == [token for token in said if token is not None]
    with pytest.raises(LeaseHeld):
        store.acquire("img", TTL, NOW)


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
    """Nobody waits for the end of a dead process's lease, also while it is still a zombie."""
    child = start("take_lease")
    child.hear()
    child.go_on()
    token = child.hear()
    with pytest.raises(LeaseHeld) as refused:
        store.acquire("img", TTL, NOW)
    assert NOW + TTL == refused.value.retry.after

    child.kill()
    if buried:
        child.bury()

    assert token + 1 == store.acquire("img", TTL, NOW).token


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


def test_living_process_keeps_its_lease_whatever_the_clock_says(
    start: Start, store: StateStore
) -> None:
    """A clock that jumps, or a host that was suspended, hands nobody's work to somebody else."""
    with start("take_lease") as child:
        child.hear()
        child.go_on()
        assert child.hear() is not None

        with pytest.raises(LeaseHeld):
            store.acquire("img", TTL, NOW + 100 * TTL)

        child.kill()

        assert "img" == store.acquire("img", TTL, NOW + 100 * TTL).lineage
