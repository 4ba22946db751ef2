"""Directories and links that a delivery to files refuses, and deliveries stopped halfway."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from certferry.adapters.files.directory import NAMES
from certferry.core.desired.certificate import FileDelivery
from certferry.core.observed.observation import DomainState
from certferry.core.reasons import ReasonCode
from certferry.errors import TargetRejected
from certferry.values import replace
from tests.adapters.receivers.bench import LINEAGE, directory, holds, issue, mode, program
from tests.adapters.receivers.test_files import is_in_order, look
from tests.adapters.state.test_full_disk import in_a_namespace_of_its_own
from tests.another_user import NOBODY, as_root, given_away
from tests.house.tree import ROOT
from tests.support.tiers import thorough

KILLED_DELIVERY = Path(__file__).with_name("killed_delivery.py")

DISTURBED_DELIVERY = Path(__file__).with_name("disturbed_delivery.py")

ONE_DELIVERY = Path(__file__).with_name("one_delivery.py")


def a_file_in_its_place(ssl: Path) -> None:
    """`directory` is a file."""
    ssl.touch()


def a_directory_in_the_keys_place(ssl: Path) -> None:
    (ssl / "privkey.pem").mkdir(parents=True)


@pytest.mark.parametrize(
    ("how", "message", "hint"),
    [
        (a_file_in_its_place, "{ssl} is not a directory", "correct `directory`, or move the file"),
        (
            a_directory_in_the_keys_place,
            "{ssl}/privkey.pem is a directory, not a file",
            "move the file away, or correct `directory`",
        ),
    ],
)
def test_wrong_kind_of_file(
    delivery: FileDelivery, ssl: Path, how: Callable[[Path], None], message: str, hint: str
) -> None:
    """The observation already reports the file, so that no certificate is issued."""
    how(ssl)

    must_be_refused(delivery, message.format(ssl=ssl), hint)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("leads", [True, False])
def test_file_that_is_a_link(delivery: FileDelivery, ssl: Path, name: str, *, leads: bool) -> None:
    """As in certbot's `live`, the delivery neither follows nor replaces the link."""
    (ssl / "archive").mkdir(parents=True)
    (ssl / name).symlink_to("archive/1.pem")
    if leads:
        (ssl / "archive" / "1.pem").write_text("theirs")

    must_be_refused(
        delivery, f"{ssl}/{name} is a symbolic link", "certferry writes files of its own; choose"
    )
    assert (ssl / name).is_symlink()
    assert {name, "archive"} == {path.name for path in ssl.iterdir()}
    assert not leads or "theirs" == (ssl / name).read_text()


@pytest.mark.parametrize("to", ["nowhere", "ssl"])
def test_directory_that_is_a_dangling_link(delivery: FileDelivery, ssl: Path, to: str) -> None:
    """The observation reports the link; a link to itself counts as dangling."""
    ssl.symlink_to(to)

    must_be_refused(
        delivery, f"{ssl} is a symbolic link without a target", "create the directory that the link"
    )
    assert [ssl.name] == [path.name for path in ssl.parent.iterdir()]


def test_directory_that_is_a_link(delivery: FileDelivery, ssl: Path) -> None:
    """The delivery goes to the link's target."""
    bundle = issue()
    (ssl.parent / "real").mkdir()
    ssl.symlink_to("real")

    directory(delivery).deliver(LINEAGE, bundle)

    assert ssl.is_symlink()
    assert holds(ssl.parent / "real", bundle)
    assert is_in_order(delivery, bundle)


@as_root
@pytest.mark.parametrize("owner", [None, str(NOBODY)])
def test_link_that_a_tenant_controls(
    delivery: FileDelivery, tmp_path: Path, owner: str | None
) -> None:
    """The owner of the parent directory could lead the link to another key: root overwrites
    nothing, even if the files are for the tenant.
    """
    others, theirs = tmp_path / "others", issue()
    directory(FileDelivery(str(others))).deliver(LINEAGE, theirs)
    tenant = tmp_path / "tenant"
    tenant.mkdir()
    (tenant / "ssl").symlink_to(others)
    given_away(tenant / "ssl")
    given_away(tenant)
    delivery = replace(delivery, directory=f"{tenant}/ssl", owner=owner)

    messages = {
        None: f"{tenant}/ssl lies in {tenant}, which belongs to nobody",
        str(NOBODY): f"{tenant}/ssl is a symbolic link that nobody can change",
    }
    must_be_refused(delivery, messages[owner], "")
    assert holds(others, theirs)
    assert (0, 0o600) == ((others / "privkey.pem").stat().st_uid, mode(others / "privkey.pem"))


@as_root
@pytest.mark.parametrize("name", [*NAMES, ".certferry", ".certferry-draft-x"])
def test_links_of_a_tenant_in_the_directory(tmp_path: Path, name: str) -> None:
    """The target of the link keeps its content, owner and mode."""
    precious = tmp_path / "precious"
    precious.write_text("root's")
    precious.chmod(0o600)
    ssl = tmp_path / "ssl"
    ssl.mkdir()
    given_away(ssl)
    (ssl / name).symlink_to(precious)
    delivery = FileDelivery(str(ssl), owner=str(NOBODY), mode=0o644)

    with suppress(TargetRejected):
        directory(delivery).deliver(LINEAGE, issue())

    facts = precious.stat()
    assert (0, 0o600, "root's") == (facts.st_uid, mode(precious), precious.read_text())


@as_root
def test_directory_of_the_files_owner(tmp_path: Path) -> None:
    """A delivery for the directory's owner succeeds; the error for another owner has a hint."""
    ssl, bundle = tmp_path / "ssl", issue()
    ssl.mkdir()
    given_away(ssl)
    delivery = FileDelivery(str(ssl), owner=str(NOBODY))

    directory(delivery).deliver(LINEAGE, bundle)

    assert is_in_order(delivery, bundle)
    assert holds(ssl, bundle)
    assert NOBODY == (ssl / "privkey.pem").stat().st_uid
    must_be_refused(
        replace(delivery, owner=None),
        f"{ssl} belongs to nobody, who can change it",
        'if the files should belong to nobody, write owner = "nobody" beside `directory`',
    )


@as_root
def test_directory_in_the_home_of_a_user(tmp_path: Path) -> None:
    """A key in a user's home needs that user as `owner`."""
    home = tmp_path / "home"
    (home / "ssl").mkdir(parents=True)
    given_away(home)
    delivery = FileDelivery(str(home / "ssl"))

    must_be_refused(
        delivery,
        f"{home}/ssl lies in {home}, which belongs to nobody",
        'if the files should belong to nobody, write owner = "nobody" beside `directory`',
    )
    named = replace(delivery, owner="nobody")
    directory(named).deliver(LINEAGE, issue())
    assert NOBODY == (home / "ssl" / "privkey.pem").stat().st_uid


def test_directory_that_other_users_can_change(delivery: FileDelivery, ssl: Path) -> None:
    """Other users could replace the files, so the delivery is refused."""
    ssl.mkdir()
    ssl.chmod(0o1777)

    must_be_refused(delivery, f"{ssl} can be changed by every user (mode 1777)", "run: chmod go-w")
    assert [] == list(ssl.iterdir())


@as_root
def test_directory_that_is_swapped_during_a_delivery(tmp_path: Path) -> None:
    """A tenant replaces the open directory with a link to another directory: the key goes to the
    opened directory, and the link's target stays unchanged.
    """
    tenant, others, theirs = tmp_path / "tenant", tmp_path / "others", issue()
    directory(FileDelivery(str(others))).deliver(LINEAGE, theirs)
    (tenant / "ssl").mkdir(parents=True)
    given_away(tenant / "ssl")
    given_away(tenant)
    swap = "mv tenant/ssl tenant/moved && ln -s ../others tenant/ssl"
    delivery = FileDelivery(
        f"{tenant}/ssl", owner=str(NOBODY), reload=program(tmp_path, "sh", "-c", swap)
    )
    bundle = issue()

    directory(delivery).deliver(LINEAGE, bundle)

    assert holds(tenant / "moved", bundle)
    assert holds(others, theirs)


def test_missing_parent_directory(delivery: FileDelivery, tmp_path: Path) -> None:
    """The delivery creates the last directory only: the disk may not be mounted."""
    delivery = replace(delivery, directory=str(tmp_path / "mnt" / "ssl"))

    must_be_refused(
        delivery, f"there is no directory {tmp_path}/mnt", "create the directory, or correct"
    )
    assert not (tmp_path / "mnt").exists()


@pytest.mark.parametrize(("key", "kind"), [("owner", "user"), ("group", "group")])
@pytest.mark.parametrize("name", ["no-such", "4294967295", "9" * 5000])
def test_unknown_owner(delivery: FileDelivery, ssl: Path, key: str, kind: str, name: str) -> None:
    """The delivery is refused before any file is written."""
    delivery = replace(delivery, **{key: name})  # type: ignore[arg-type]  # both are names

    must_be_refused(
        delivery, f"this host has no {kind} called {name}", "create the user or group first"
    )
    assert not ssl.exists()


def test_missing_program(delivery: FileDelivery, tmp_path: Path, ssl: Path) -> None:
    """The delivery is refused: new files that the server has not read are worse than old files."""
    delivery = replace(delivery, reload=program(tmp_path, "no-such-program"))

    must_be_refused(
        delivery, "the program no-such-program cannot be found", "write the program's full path"
    )
    assert not ssl.exists()


def must_be_refused(delivery: FileDelivery, message: str, hint: str) -> None:
    """Observation and delivery must give the same error, with this message and hint."""
    observed = look(delivery)
    with pytest.raises(TargetRejected) as refused:
        directory(delivery).deliver(LINEAGE, issue())

    assert DomainState.UNAVAILABLE is observed.state
    assert refused.value == observed.problem
    assert str(refused.value.message).startswith(message)
    assert str(refused.value.hint).startswith(hint)


def in_another_process(folder: Path, *wrapped_in: str) -> dict[str, object]:
    """Deliver a new certificate in a process with fewer rights or a smaller disk."""
    result = subprocess.run(
        [*wrapped_in, sys.executable, str(ONE_DELIVERY), str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    reported: dict[str, object] = json.loads(result.stdout)
    return reported


def without_rights() -> tuple[str, ...]:
    """Return a wrapper that drops root's capabilities, which leaves an ordinary user's rights."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--inh-caps=-all", "--bounding-set=-all")


def test_directory_without_write_permission(ssl: Path) -> None:
    """The error names the path; the earlier files stay."""
    bundle = issue()
    directory(FileDelivery(str(ssl))).deliver(LINEAGE, bundle)
    ssl.chmod(0o555)

    reported = in_another_process(ssl, *without_rights())

    ssl.chmod(0o755)
    assert f"{ssl} cannot be written to" == reported["message"]
    assert "run certferry as a user with read and write permission there" == reported["hint"]
    assert holds(ssl, bundle)


@pytest.mark.parametrize("made", [True, False])
def test_read_only_disk(tmp_path: Path, *, made: bool) -> None:
    """The observation already reports the disk, even to root."""
    disk = in_a_namespace_of_its_own(tmp_path)
    mounted = shlex.quote(str(tmp_path))
    script = f'cd {mounted} && mkdir -p {"ssl" if made else "."} && mount -o remount,ro . && "$@"'

    reported = in_another_process(tmp_path / "ssl", *disk, "sh", "-c", script, "sh")

    place = tmp_path / "ssl" if made else tmp_path
    assert f"{place} is on a read-only file system" == reported["message"]
    assert reported["message"] == reported["seen"]
    assert str(reported["hint"]).startswith(
        "mount the file system for writing, or correct `directory`"
    )


def test_owner_without_root(ssl: Path) -> None:
    """Only root can give files away; the error and its hint come before any file is replaced."""
    ssl.mkdir()

    reported = in_another_process(ssl, *without_rights(), "env", "OWNER=65534")

    assert (
        f"cannot change the owner of {ssl}/chain.pem: Operation not permitted"
        == reported["message"]
    )
    assert (
        "only root can give a file to another user or to a group without being a member: run"
        " certferry as root, or remove `owner` and `group`; the earlier files are unchanged"
    ) == reported["hint"]
    assert not reported["again"]
    assert [] == list(ssl.iterdir())


@pytest.mark.parametrize("blocks", [0, 1])
def test_limit_on_the_size_of_files(ssl: Path, blocks: int) -> None:
    """The old files stay whole, and the drafts are removed."""
    bundle = issue()
    directory(FileDelivery(str(ssl))).deliver(LINEAGE, bundle)
    limited = f'ulimit -f {blocks}; exec "$@"'

    reported = in_another_process(ssl, "/bin/sh", "-c", limited, "sh")

    assert f"{ssl} cannot be written: the disk is full" == reported["message"]
    assert "the earlier files are unchanged" == reported["hint"]
    assert reported["again"]
    assert holds(ssl, bundle)


def test_full_disk(tmp_path: Path) -> None:
    """On a small file system that another program has filled, the delivery removes its drafts."""
    (tmp_path / "disk").mkdir()
    disk = in_a_namespace_of_its_own(tmp_path / "disk")
    mounted = shlex.quote(str(tmp_path / "disk"))
    fill = (
        f'cd {mounted} && mkdir ssl && ! dd if=/dev/zero of=fill bs=1k 2>/dev/null; "$@"; ls -A ssl'
    )

    result = subprocess.run(
        [
            *disk,
            "sh",
            "-c",
            fill,
            "sh",
            sys.executable,
            str(ONE_DELIVERY),
            str(tmp_path / "disk" / "ssl"),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )

    reported, *remaining = result.stdout.splitlines()
    assert "the disk is full" in json.loads(reported)["message"]
    assert [] == remaining


@pytest.mark.parametrize(
    ("way", "step"),
    [
        ("refused", 17),
        *(pytest.param(way, 1, marks=thorough) for way in ("plain", "tested", "refused")),
    ],
)
def test_delivery_that_is_killed_anywhere(tmp_path: Path, way: str, step: int) -> None:
    """Before any system call: every file is whole, key and certificate always match, and the next
    run ends with the new certificate and a program that has read all files.
    """
    result = subprocess.run(
        [sys.executable, str(KILLED_DELIVERY), str(tmp_path), way, str(step)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) > 30 / step
    states = [tuple(line["killed"].values()) for line in lines]
    assert {"A", "B"} == {owner for state in states for owner in state}
    assert [] == [line["killed"] for line in lines if mixes(line["killed"])]
    assert all(line["bound"] == line["killed"]["fullchain.pem"] for line in lines)
    # A refused delivery ends with the same files as before.
    assert (way == "refused") == lines[-1]["same"]
    assert step > 1 or any(len(line["keys"]) > 1 for line in lines)  # a draft beside the key
    for line in lines:
        assert {"0600"} == set(line["keys"]), line
        assert {"B"} == set(line["finished"].values()), line
        assert [".certferry"] == line["left"], line
        # `reload` reads A, then B once or twice: a killed delivery may not have recorded its run.
        assert 2 == len(set(line["seen"])), line
        assert 2 <= len(line["seen"]) <= 3, line
        assert line["in_order"] <= (len(line["seen"]) == 2), line


@pytest.mark.parametrize(("name", "how"), [("fullchain.pem", "edit"), ("privkey.pem", "open")])
def test_another_program_writes_during_a_delivery(ssl: Path, name: str, how: str) -> None:
    """The files are read back before the server is notified, and the change is reported; the next
    observation names the drift.
    """
    result = subprocess.run(
        [sys.executable, str(DISTURBED_DELIVERY), str(ssl), name, how],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )

    reported = json.loads(result.stdout)
    assert f"{ssl / name} is no longer as certferry wrote it a moment ago" == reported["message"]
    assert "another program writes to the same files; keep only one of the two" == reported["hint"]
    assert not reported["reloaded"]
    assert reported["drift"] == (None if how == "edit" else ReasonCode.DELIVERY_UNFINISHED)


def mixes(owners: dict[str, str]) -> bool:
    """Return whether a server reads a key and a certificate of different deliveries."""
    return owners["privkey.pem"] != owners["fullchain.pem"]
