"""Trouble with the state itself: no state can remember that it was told, and it is told all the
same, once a day.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.world import World
from tests.acceptance.full_disk import FullDisk
from tests.acceptance.host import Host, certificate

OK, FAILED = 0, 1
STAMPS = ".certferry-told-*"


@pytest.fixture
def hook() -> Iterator[EventReceiver]:
    """A service that takes messages."""
    with EventReceiver() as service:
        yield service


@pytest.fixture
def told(world: World, tmp_path: Path, name: str, hook: EventReceiver) -> Host:
    """A machine with a state, and a channel."""
    host = Host(world, tmp_path, certificate(name, to=None))
    channel = f'[notify.hook]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"\n'
    host.config.write_text(host.config.read_text() + channel)
    assert OK == host.run("sync").code
    return host


def events(hook: EventReceiver) -> list[tuple[str, str]]:
    """What the service was told."""
    return [(event["event"], event["code"]) for event in hook.events]


def stamps(host: Host) -> list[Path]:
    """The stamps that are there."""
    return [*host.directory.rglob(STAMPS)]


def spoil(host: Host) -> Callable[[], object]:
    """Write something else in the place of the state; give what puts it back."""
    whole = host.state.read_bytes()
    host.state.write_bytes(b"this is a diary, not a database\n" * 999)
    return lambda: host.state.write_bytes(whole)


def hide_key(host: Host) -> Callable[[], object]:
    """Take the key file away; give what puts it back."""
    key = host.key_file.rename(host.directory / "key")
    return lambda: key.rename(host.key_file)


@pytest.mark.parametrize("harm", [spoil, hide_key], ids=["another file", "no key"])
def test_a_state_that_is_of_no_use_is_told_once_and_so_is_its_end(
    told: Host, hook: EventReceiver, harm: Callable[[Host], Callable[[], object]]
) -> None:
    """One message for two runs, and one when the state is back."""
    cure = harm(told)

    assert [FAILED, FAILED] == [told.run("sync").code for _ in range(2)]
    assert [("trouble", "state")] == events(hook)
    cure()
    assert [OK, OK] == [told.run("sync").code for _ in range(2)]

    assert [("trouble", "state"), ("recovered", "state")] == events(hook)
    assert [] == stamps(told)


@pytest.mark.parametrize("is_emptied", [True, False], ids=["emptied", "gone"])
def test_a_state_that_is_lost_is_told_before_all_is_issued_again(
    told: Host, hook: EventReceiver, *, is_emptied: bool
) -> None:
    """The run goes on, as it must at night, and the operator learns why there are orders. The key
    file tells that there was a state, which a first run has not.
    """
    assert [] == events(hook)
    told.state.unlink()
    if is_emptied:
        told.state.touch(0o600)

    assert [OK, OK] == [told.run("-q", "sync").code for _ in range(2)]

    assert [("trouble", "state_missing"), ("recovered", "state_missing")] == events(hook)
    assert "a state was expected" in hook.events[0]["message"]
    assert [] == stamps(told)


def test_trouble_without_a_state_is_told_again_the_next_day(
    told: Host, hook: EventReceiver
) -> None:
    """The stamp beside the state says when it was told last."""
    spoil(told)
    assert FAILED == told.run("sync").code
    (stamp,) = stamps(told)
    assert (told.state.parent, 0o600) == (stamp.parent, stamp.stat().st_mode & 0o777)

    yesterday = stamp.stat().st_mtime - timedelta(days=1).total_seconds()
    os.utime(stamp, (yesterday, yesterday))
    assert FAILED == told.run("sync").code

    assert [("trouble", "state")] * 2 == events(hook)


def test_a_channel_that_took_nothing_is_told_by_the_next_run(
    told: Host, hook: EventReceiver
) -> None:
    """What no service took was not told."""
    spoil(told)
    told.rewrite(SECRET, "another secret")
    assert "notify hook: " in told.run("sync").err
    assert [] == events(hook)
    told.rewrite("another secret", SECRET)

    assert FAILED == told.run("sync").code

    assert [("trouble", "state")] == events(hook)


def test_a_full_disk_reaches_the_channel(told: Host, hook: EventReceiver) -> None:
    """Nothing can be written down, and it is told."""
    disk = FullDisk.of(told)

    run = told.run_apart("-q", "sync", wrapped_in=disk.command)

    assert FAILED == run.code
    assert disk.words in run.complaint.error
    assert [("trouble", "state_unavailable")] == events(hook)


def test_the_hint_of_a_damaged_state_has_the_way_out(told: Host) -> None:
    """Moved away, it is made anew."""
    spoil(told)
    hint = told.run("-q", "sync").complaint.hint
    assert "without a backup, start over: move it away" in hint

    told.state.rename(told.directory / "old.db")

    assert OK == told.run("sync").code


def test_doctor_names_a_damaged_state_once(told: Host) -> None:
    """The finding is about the path, and its words do not begin with it again."""
    spoil(told)

    out = " ".join(told.run("doctor").out.split())

    assert f"error: {told.state}: is not a state of certferry" in out
