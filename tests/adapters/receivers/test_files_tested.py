"""Deliveries to files with a program `test`, which runs before `reload`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from certferry.adapters.files.directory import NAMES
from certferry.core.desired.certificate import FileDelivery
from certferry.errors import DeployError
from certferry.values import replace
from tests.adapters.receivers.bench import (
    LINEAGE,
    delivered_files,
    directory,
    holds,
    issue,
    program,
)

REFUSING = "echo 'nginx: [emerg] cannot load certificate' >&2; exit 1"


@pytest.fixture
def tested(delivery: FileDelivery, tmp_path: Path) -> FileDelivery:
    """A delivery with a `test` that records each run, and fails while there is a file `refuse`."""
    script = f"echo test >> ran; if test -e refuse; then {REFUSING}; fi"
    return replace(delivery, test=program(tmp_path, "/bin/sh", "-c", script))


def facts(ssl: Path) -> dict[str, tuple[bytes, int, int, int, int]]:
    """Return content, inode, mode, owner and time of every file, hidden files too."""
    return {
        path.name: (
            path.read_bytes(),
            (state := path.lstat()).st_ino,
            state.st_mode,
            state.st_uid,
            state.st_mtime_ns,
        )
        for path in ssl.iterdir()
    }


def test_program_runs_before_reload(tested: FileDelivery, tmp_path: Path, ssl: Path) -> None:
    """Both run with the new files in place, and nothing else stays in the directory."""
    bundle = issue()

    directory(tested).deliver(LINEAGE, bundle)

    assert ["test", bundle.certificate.fingerprint] == (tmp_path / "ran").read_text().split()
    assert holds(ssl, bundle)


def test_refused_files_leave_the_earlier_files(
    tested: FileDelivery, tmp_path: Path, ssl: Path
) -> None:
    """The very files come back with modes, owners, times and receipt; `reload` does not run."""
    directory(tested).deliver(LINEAGE, old := issue())
    (ssl / "cert.pem").chmod(0o604)
    os.utime(ssl / "privkey.pem", (1, 1))
    before, ran = facts(ssl), (tmp_path / "ran").read_text()
    (tmp_path / "refuse").touch()

    with pytest.raises(DeployError) as refused:
        directory(tested).deliver(LINEAGE, issue())

    message = str(refused.value.message)
    assert "nginx: [emerg] cannot load certificate; the files are as before" in message
    assert refused.value.retry.allowed
    assert before == facts(ssl)
    assert f"{ran}test\n" == (tmp_path / "ran").read_text()
    assert old.certificate.fingerprint == directory(tested).observe(None).bound


def test_refused_first_delivery_leaves_nothing(
    tested: FileDelivery, tmp_path: Path, ssl: Path
) -> None:
    """Files that were missing before are missing again; other files stay."""
    ssl.mkdir()
    (ssl / "dhparam.pem").write_text("theirs")
    (tmp_path / "refuse").touch()

    with pytest.raises(DeployError):
        directory(tested).deliver(LINEAGE, issue())

    assert ["dhparam.pem"] == [path.name for path in ssl.iterdir()]


def test_refused_files_of_another_client_come_back(
    tested: FileDelivery, tmp_path: Path, ssl: Path
) -> None:
    """The first delivery over files of another client is undone as well."""
    ssl.mkdir()
    (ssl / "fullchain.pem").write_text("theirs")
    (ssl / "privkey.pem").write_text("their key")
    (ssl / "privkey.pem").chmod(0o640)
    before = facts(ssl)
    (tmp_path / "refuse").touch()

    with pytest.raises(DeployError):
        directory(tested).deliver(LINEAGE, issue())

    assert before == facts(ssl)


def test_next_delivery_after_a_refusal(tested: FileDelivery, tmp_path: Path, ssl: Path) -> None:
    """Once the server's configuration is right, the same certificate is delivered."""
    directory(tested).deliver(LINEAGE, issue())
    new = issue()
    (tmp_path / "refuse").touch()
    with pytest.raises(DeployError):
        directory(tested).deliver(LINEAGE, new)
    (tmp_path / "refuse").unlink()

    directory(tested).deliver(LINEAGE, new)

    assert holds(ssl, new)


def test_refusal_after_a_failed_reload(tested: FileDelivery, tmp_path: Path, ssl: Path) -> None:
    """The files from before the unfinished delivery come back, because they were tested."""
    directory(tested).deliver(LINEAGE, old := issue())
    failing = replace(tested, reload=program(tmp_path, "false"))
    with pytest.raises(DeployError):
        directory(failing).deliver(LINEAGE, issue())
    (tmp_path / "refuse").touch()

    with pytest.raises(DeployError):
        directory(tested).deliver(LINEAGE, issue())

    assert holds(ssl, old)
    assert directory(tested).observe(None).drift is None


def test_delivering_again_runs_both_programs(
    tested: FileDelivery, tmp_path: Path, ssl: Path
) -> None:
    """A server that did not present the certificate is asked again to read the files."""
    directory(tested).deliver(LINEAGE, bundle := issue())
    inodes = {name: (ssl / name).stat().st_ino for name in NAMES}

    directory(tested).deliver(LINEAGE, bundle)
    directory(tested).deliver(LINEAGE, bundle, again=True)

    fingerprint = bundle.certificate.fingerprint
    assert 2 * ["test", fingerprint] == (tmp_path / "ran").read_text().split()
    assert inodes == {name: (ssl / name).stat().st_ino for name in NAMES}
    assert holds(ssl, bundle)


def test_missing_program_is_found_before_any_change(tested: FileDelivery, tmp_path: Path) -> None:
    """The observation reports the missing program, so no certificate is ordered in vain."""
    missing = replace(tested, test=program(tmp_path, "/no/such/program"))

    problem = directory(missing).observe(None).problem

    assert problem is not None
    assert "/no/such/program" in str(problem.message)


def test_leftovers_of_another_user_are_not_followed(
    tested: FileDelivery, tmp_path: Path, ssl: Path
) -> None:
    """Links with certferry's hidden names lead to no file outside the directory."""
    directory(tested).deliver(LINEAGE, issue())
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "fullchain.pem").write_text("private")
    (ssl / ".certferry-before").symlink_to(outside)
    (ssl / ".certferry-live").symlink_to(".certferry-before")
    (ssl / "fullchain.pem").unlink()
    (ssl / "fullchain.pem").symlink_to(".certferry-live/fullchain.pem")
    new = issue()

    assert directory(tested).observe(None).problem is None
    directory(tested).deliver(LINEAGE, new)

    assert "private" == (outside / "fullchain.pem").read_text()
    assert delivered_files(ssl)["fullchain.pem"] == new.fullchain_pem.encode()
    assert holds(ssl, new)
