"""An unusable state: damaged, lost, or on a disk that takes no writes."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.world import World
from tests.acceptance.full_disk import FullDisk, read_only
from tests.acceptance.host import Host, certificate
from tests.acceptance.requests_made import NO_REQUESTS, assert_nothing_written
from tests.support.permissions import bound_by_permissions
from tests.support.tiers import thorough

# --- An unusable state is named and left alone, and works again after its restoration


FAILED = 1


@pytest.fixture
def synced(host: Host) -> Host:
    assert 0 == host.run("sync").code
    return host


def test_state_of_a_newer_version(synced: Host, name: str) -> None:
    """The message names the newer schema, and the file stays unchanged."""
    with closing(sqlite3.connect(synced.state)) as database, database:
        database.execute("INSERT INTO certferry_migration VALUES (999, '0999_to_come')")
    before = synced.state.read_bytes()

    for command in (["sync", "--renew", "--all"], ["plan"], ["status"], ["history"]):
        run = synced.run("-q", *command)

        assert FAILED == run.code
        assert f"{synced.state} was written by a newer certferry" in run.complaint.error
        assert "schema 999" in run.complaint.error
        assert "install the newest certferry" in run.complaint.hint
        assert NO_REQUESTS == run.left
    assert before == synced.state.read_bytes()


def test_history_that_another_program_changed(synced: Host, name: str) -> None:
    """The text, the document and the exit code report the first changed entry; an unknown name is
    refused.
    """
    run = synced.run("history", "--verify")
    assert 0 == run.code
    assert " entries of 1 certificate, unbroken\n" in run.out
    assert json.loads(synced.run("history", "--verify", name, "--json").out)["unbroken"]
    assert 2 == synced.run("history", "--verify", "unknown").code

    with closing(sqlite3.connect(synced.state)) as database, database:
        database.execute("DROP TRIGGER history_is_not_changed")
        [(at,)] = database.execute("UPDATE history SET who = 'x' WHERE number = 2 RETURNING at")
    run = synced.run("history", "--verify", name)
    assert FAILED == run.code
    assert f"{name}: entry 2 of {at[:10]} {at[11:16]} UTC was changed or inserted\n" == run.out
    [broken] = json.loads(synced.run("history", "--verify", "--json").out)["breaks"]
    assert (name, "changed", 2) == (broken["name"], broken["damage"], broken["number"])
    assert 2 == json.loads(synced.run("history", "--json").out)["entries"][-2]["number"]


ROWS = {
    "sighting": "since = x'00ff'",
    "notice": "message = CAST(x'ff' AS TEXT)",
    "last_run": "ended_at = '2026-02-31T00:00:00Z'",
    "host": "clock_ahead = 'much'",
    "rollout": "repairs = '[1]'",
    "issue_try": "tries = 'three'",
    "console_user": "role = x'00'",
    "console_token": "used_at = 7",
}
"""A foreign value for each table."""


def test_rows_that_cannot_be_read(synced: Host, name: str) -> None:
    """Every command works without the rows, and `state check` names each row with table, key and
    column. A run replaces the rows that every run stores; an operator must delete the others.
    """
    for role in ("viewer", "operator"):
        assert 0 == synced.run("console", "user", "add", role, "--role", role).code
    assert 0 == synced.run("console", "token", "add", "ci", "--role", "viewer").code
    with closing(sqlite3.connect(synced.state)) as database, database:
        notice = ("run", *[""] * 7, "2026-01-01T00:00:00Z", "code", "", None, None)
        marks = ", ".join("?" * len(notice))
        database.execute(f"INSERT INTO notice VALUES ({marks})", notice)  # noqa: S608 - the same
        for table, change in ROWS.items():
            database.execute(f"UPDATE {table} SET {change} WHERE rowid = 1")  # noqa: S608 - a test's own

    checked = findings(synced)
    reads = {words: synced.run(*words.split()) for words in ("check", "status", "plan", "hosts")}
    again = synced.run("sync")

    assert 0 == again.code
    assert {"check": 1, "status": 0, "plan": 0, "hosts": 0} == {
        words: run.code for words, run in reads.items()
    }
    assert "no run of `certferry sync` is recorded" in reads["check"].out
    assert "since of the row" in checked["sighting"]
    assert {*ROWS} == {*checked}
    assert {*ROWS} - {"sighting", "last_run", "host"} == {*findings(synced)}
    assert 0 == synced.run("check").code


def findings(host: Host) -> dict[str, str]:
    """Return the messages of `state check` about rows, by table."""
    messages = {}
    for finding in host.run("state", "check", "--json").document["findings"]:
        assert "state_foreign" == finding["code"]
        table = finding["message"].partition("in the table ")[2]
        messages[table or "console_user"] = finding["message"]
    return messages


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"this is a diary, not a database\n" * 999,
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:4096] + b"\xff" * 12288 + whole[16384:],
    ],
    ids=["another file", "half of it", "pages overwritten"],
)
def test_state_that_is_damaged(synced: Host, name: str, spoil: Callable[[bytes], bytes]) -> None:
    """The message names the damaged file, which stays unchanged."""
    whole = synced.state.read_bytes()
    damaged = spoil(whole)
    synced.state.write_bytes(damaged)

    run = synced.run("-q", "sync", "--renew", "--all")

    assert FAILED == run.code
    assert f"{synced.state} is not a state of certferry" in run.complaint.error
    restored = f"put {synced.state} back: `certferry restore FILE`"
    assert restored in run.complaint.hint
    assert NO_REQUESTS == run.left
    assert damaged == synced.state.read_bytes()

    synced.state.write_bytes(whole)
    assert 0 == synced.run("-q", "sync").code


def test_state_that_cannot_be_opened(synced: Host) -> None:
    """The message names the file and the user who must own the file."""
    synced.state.chmod(0o000)

    run = synced.run_apart("-q", "sync", "--renew", "--all", wrapped_in=bound_by_permissions())

    assert FAILED == run.code
    assert f"{synced.state} cannot be opened" in run.complaint.error
    assert "must belong to certferry's user" in run.complaint.hint
    assert NO_REQUESTS == run.left


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a file system of its own to try")
@pytest.mark.parametrize("command", ["sync", pytest.param("plan", marks=thorough)])
def test_state_on_a_disk_that_takes_no_writes(synced: Host, command: str) -> None:
    """The message names the disk's error rather than a wrong owner."""
    run = synced.run_apart("-q", command, wrapped_in=read_only(synced.state.parent))

    assert FAILED == run.code
    assert f"{synced.state} cannot be opened: the file system is read-only" == run.complaint.error
    assert "writable again" in run.complaint.hint
    assert NO_REQUESTS == run.left


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a file system of its own to try")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["status"], FAILED),
        (["check"], 2),
        pytest.param(["history"], 0, marks=thorough),
        pytest.param(["doctor"], FAILED, marks=thorough),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
@pytest.mark.parametrize("disk", ["read-only", "full"])
def test_reading_command_on_a_disk_that_takes_no_writes(
    synced: Host, name: str, disk: str, words: list[str], code: int
) -> None:
    """The command shows the stored standing, and says why no run can write."""
    full = FullDisk.of(synced) if disk == "full" else None
    wrapped = read_only(synced.state.parent) if full is None else full.command

    run = synced.run_apart(*words, wrapped_in=wrapped)

    shown = " ".join((run.out + run.err).split())
    assert code == run.code, run
    assert name in shown
    if words != ["history"]:
        reason = "the file system is read-only" if full is None else full.words
        assert f"{synced.state} {reason}" in shown or reason in shown
        assert "change the owner" not in shown


@thorough
@pytest.mark.parametrize(
    ("spoil", "error", "hint"),
    [
        (lambda key: key.chmod(0o640), "other users can read", "chmod 600 "),
        (lambda key: key.chmod(0o000), "cannot be opened: Permission denied", "must belong to"),
        (lambda key: key.write_bytes(b"a diary\n"), "does not contain a key", "creates both anew"),
        (
            lambda key: key.write_bytes(base64.b64encode(secrets.token_bytes(32))),
            "does not open the state",
            "from the backup of the same state",
        ),
        (lambda key: key.unlink(), "is missing", "set `key_file` of [state]"),
    ],
    ids=["open to others", "unreadable", "no key", "another key", "missing"],
)
def test_key_file_that_is_of_no_use(
    synced: Host, name: str, spoil: Callable[[Path], object], error: str, hint: str
) -> None:
    """Nothing is ordered or exported without the right key, and certferry makes no other key."""
    whole = synced.key_file.read_bytes()
    versions = synced.fingerprints(name)
    spoil(synced.key_file)
    exported = synced.directory / "exported"

    run = synced.run_apart("-q", "sync", "--renew", "--all", wrapped_in=bound_by_permissions())
    export = synced.run_apart(
        "-q", "export", name, "--dir", str(exported), wrapped_in=bound_by_permissions()
    )

    for complaint in (run.complaint, export.complaint):
        assert str(synced.key_file) in complaint.error
        assert error in complaint.error
        assert hint in complaint.hint
    assert (FAILED, FAILED) == (run.code, export.code)
    assert_nothing_written(run.left)
    assert 0 == run.left.orders
    assert NO_REQUESTS == export.left
    assert not exported.exists()
    assert versions == synced.fingerprints(name)

    synced.key_file.unlink(missing_ok=True)
    synced.key_file.write_bytes(whole)
    synced.key_file.chmod(0o600)
    renewed = synced.run("-q", "sync", "--renew", "--all")
    assert (0, "") == (renewed.code, renewed.err)


def test_lost_key_is_reported_though_nothing_is_due(synced: Host) -> None:
    """Every run tries the seal, so a lost key is noticed before the next renewal."""
    synced.key_file.write_bytes(base64.b64encode(secrets.token_bytes(32)))

    for command in ("plan", "sync"):
        run = synced.run("-q", command)

        assert FAILED == run.code
        assert "does not open the state" in run.complaint.error
        assert "from the backup of the same state" in run.complaint.hint
        assert_nothing_written(run.left)


def test_starting_over_without_the_key(synced: Host, name: str) -> None:
    """The hint leads to a new start: state and key are moved away, and the next run makes both
    anew.
    """
    synced.key_file.unlink()
    assert "move the state and the key file away" in synced.run("-q", "sync").complaint.hint
    old = synced.fingerprints(name)
    synced.state.parent.rename(synced.directory / "old")

    run = synced.run("sync")

    assert 0 == run.code, run
    assert 1 == run.left.certificates
    assert old != synced.fingerprints(name)
    assert synced.key_file.exists()


def test_lost_state_is_reported(synced: Host) -> None:
    """The remaining key file proves that a state existed: the loss is reported before certificates
    are issued again, and `status` and `check` fail.
    """
    synced.state.unlink()
    words = "the key file"
    codes = {"plan": {0}, "status": {FAILED}, "check": {2}, "doctor": {0, FAILED}, "sync": {0}}

    for command, ends in codes.items():
        synced.state.unlink(missing_ok=True)
        run = synced.run(command)

        assert words in " ".join((run.err + run.out).split()), command
        assert "restore FILE" in " ".join((run.err + run.out).split()), command
        assert run.code in ends, command
        if command == "doctor":
            findings = synced.run("doctor", "--json").document["findings"]
            assert "state_missing" in {finding["code"] for finding in findings}

    assert words not in synced.run("plan").err


def test_new_machine_has_no_missing_state(host: Host) -> None:
    """A new machine has no key file, so no command reports a lost state."""
    for command in ("plan", "status", "doctor"):
        run = host.run(command)
        assert "the key file" not in run.err + run.out


@thorough
def test_full_disk(synced: Host, name: str) -> None:
    """On a full disk a run changes nothing; with room the run succeeds."""
    versions = synced.fingerprints(name)
    disk = FullDisk.of(synced)

    run = synced.run_apart("-q", "sync", "--renew", "--all", wrapped_in=disk.command)

    assert FAILED == run.code
    assert f"{synced.state} {disk.words}" in run.complaint.error
    assert f"free some space at {synced.state.parent}" in run.complaint.hint
    assert NO_REQUESTS == run.left

    shutil.copytree(FullDisk.after(synced), synced.state.parent, dirs_exist_ok=True)
    assert versions == synced.fingerprints(name)
    assert 0 == synced.run("sync", "--renew", "--all").code


@thorough
@pytest.mark.parametrize("kilobytes", [8, 36, 48, 72, 100, 140])
def test_disk_that_fills_up_on_the_way(host: Host, name: str, kilobytes: int) -> None:
    """Wherever the writing ends, the run reports the disk, and no record stays; the next run
    continues to one certificate and one upload.

    A limit on the size of files replaces the full disk, since any limit can be set.
    """
    assert 0 == host.run("plan").code  # makes the state

    run = host.run_apart("-q", "sync", wrapped_in=("prlimit", f"--fsize={kilobytes * 1024}"))

    assert FAILED == run.code
    assert f"{host.state} cannot be read or written" in run.complaint.error
    assert f"free some space at {host.state.parent}" in run.complaint.hint
    assert 0 == run.left.challenges

    cured = host.run("sync")

    assert 0 == cured.code
    assert 1 == run.left.certificates + cured.left.certificates
    assert 1 == run.left.qiniu_uploads + cured.left.qiniu_uploads
    assert 0 == cured.left.challenges
    assert 1 == len(host.fingerprints(name))


# --- Trouble with the state itself: the report cannot be remembered in the state, and is still sent
# once a day


OK, RUN_FAILED = 0, 1
STAMPS = ".certferry-told-*"


@pytest.fixture
def reported(world: World, tmp_path: Path, name: str, hook: EventReceiver) -> Host:
    """A machine with a state, and a channel."""
    host = Host(world, tmp_path, certificate(name, to=None))
    channel = f'[notify.hook]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"\n'
    host.config.write_text(host.config.read_text() + channel)
    assert OK == host.run("sync").code
    return host


def events(hook: EventReceiver) -> list[tuple[str, str]]:
    return [(event["event"], event["code"]) for event in hook.events]


def stamps(host: Host) -> list[Path]:
    return [*host.directory.rglob(STAMPS)]


def spoil(host: Host) -> Callable[[], object]:
    """Replace the state by another file, and return a function that restores the state."""
    whole = host.state.read_bytes()
    host.state.write_bytes(b"this is a diary, not a database\n" * 999)
    return lambda: host.state.write_bytes(whole)


def hide_key(host: Host) -> Callable[[], object]:
    """Take the key file away, and return a function that restores the key file."""
    key = host.key_file.rename(host.directory / "key")
    return lambda: key.rename(host.key_file)


@pytest.mark.parametrize("harm", [spoil, hide_key], ids=["another file", "no key"])
def test_a_state_that_is_of_no_use_is_reported_once_and_so_is_its_end(
    reported: Host, hook: EventReceiver, harm: Callable[[Host], Callable[[], object]]
) -> None:
    """Two runs send a single message, and the recovery another."""
    cure = harm(reported)

    assert [RUN_FAILED, RUN_FAILED] == [reported.run("sync").code for _ in range(2)]
    assert [("trouble", "state")] == events(hook)
    cure()
    assert [OK, OK] == [reported.run("sync").code for _ in range(2)]

    assert [("trouble", "state"), ("recovered", "state")] == events(hook)
    assert [] == stamps(reported)


@pytest.mark.parametrize("is_emptied", [True, False], ids=["emptied", "gone"])
def test_a_state_that_is_lost_is_reported_before_all_is_issued_again(
    reported: Host, hook: EventReceiver, *, is_emptied: bool
) -> None:
    """The run goes on, as at night, and the operator learns the reason for the orders. The key file
    proves a lost state, since a first run lacks the key file.
    """
    assert [] == events(hook)
    reported.state.unlink()
    if is_emptied:
        reported.state.touch(0o600)

    assert [OK, OK] == [reported.run("-q", "sync").code for _ in range(2)]

    assert [("trouble", "state_missing"), ("recovered", "state_missing")] == events(hook)
    assert "holds no state" in hook.events[0]["message"]
    assert [] == stamps(reported)


def test_trouble_without_a_state_is_reported_again_the_next_day(
    reported: Host, hook: EventReceiver
) -> None:
    """The stamp beside the state tells the time of the last report."""
    spoil(reported)
    assert RUN_FAILED == reported.run("sync").code
    (stamp,) = stamps(reported)
    assert (reported.state.parent, 0o600) == (stamp.parent, stamp.stat().st_mode & 0o777)

    yesterday = stamp.stat().st_mtime - timedelta(days=1).total_seconds()
    os.utime(stamp, (yesterday, yesterday))
    assert RUN_FAILED == reported.run("sync").code

    assert [("trouble", "state")] * 2 == events(hook)


def test_a_channel_that_took_nothing_is_reported_by_the_next_run(
    reported: Host, hook: EventReceiver
) -> None:
    """A report counts only after a service has taken the message."""
    spoil(reported)
    reported.rewrite(SECRET, "another secret")
    assert "notify hook: " in reported.run("sync").err
    assert [] == events(hook)
    reported.rewrite("another secret", SECRET)

    assert RUN_FAILED == reported.run("sync").code

    assert [("trouble", "state")] == events(hook)


def test_a_full_disk_reaches_the_channel(reported: Host, hook: EventReceiver) -> None:
    """The message is sent although the disk takes no writes."""
    disk = FullDisk.of(reported)

    run = reported.run_apart("-q", "sync", wrapped_in=disk.command)

    assert RUN_FAILED == run.code
    assert disk.words in run.complaint.error
    assert [("trouble", "state_unavailable")] == events(hook)


def test_the_hint_of_a_damaged_state_has_the_way_out(reported: Host) -> None:
    """Once the damaged file is moved away, the next run makes a new state."""
    spoil(reported)
    hint = reported.run("-q", "sync").complaint.hint
    assert "Without a backup, start over: move the file away" in hint

    reported.state.rename(reported.directory / "old.db")

    assert OK == reported.run("sync").code


def test_doctor_names_a_damaged_state_once(reported: Host) -> None:
    """The finding's subject is the path, and the message does not repeat the path."""
    spoil(reported)

    out = " ".join(reported.run("doctor").out.split())

    assert f"error: {reported.state}: is not a state of certferry" in out
