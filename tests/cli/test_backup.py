"""`certferry backup` and `restore`: the file, the output, and the exit codes."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.cli.exits import Exit
from tests.adapters.state.test_backup import filled
from tests.support.command import Ended, run_here

CONFIG = """\
env_files = ["nowhere.env"]
[state]
url = "sqlite:///lib/state.db"
[accounts.nowhere]
token = "env:NOT_SET"
[[certificates]]
names = ["img.example.com"]
dns = "nowhere"
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Return a machine with a state, and with a configuration whose keys are missing."""
    folder = tmp_path / "old"
    (folder / "lib").mkdir(parents=True)
    folder.joinpath("lib").chmod(0o700)
    filled(folder / "lib", "img", "www")
    return configured(folder)


def configured(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "certferry.toml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    return folder


def run(host: Path, *arguments: str) -> Ended:
    return run_here(arguments, {"HOME": str(host), "PATH": os.environ["PATH"]}, host)


def test_from_one_machine_to_another(host: Path, tmp_path: Path) -> None:
    """The configuration file is enough; its environment files and variables may be missing. The
    backup and the restored files are private.
    """
    backup = run(host, "backup", "../b.tar")

    assert (Exit.OK, "") == (backup.code, backup.err)
    assert backup.out == (
        "Written (mode 0600): ../b.tar, with img, www\nThe backup opens your private keys: keep"
        " the file where only you can read it.\n"
    )
    assert 0o600 == (tmp_path / "b.tar").stat().st_mode & 0o777

    new = configured(tmp_path / "new")
    restored = run(new, "restore", "../b.tar")

    assert (Exit.OK, "") == (restored.code, restored.err)
    lines = restored.out.splitlines()
    assert lines[0].startswith(f"Restored to {new}/lib/state.db: img, www, as of 2026-")
    assert ["To see the changes: `certferry plan`"] == lines[1:]
    with closing(connect(new / "lib/state.db", new / "lib/secret.key")) as store:
        assert store.bundle("www", 1).privkey_pem


def test_previous_state_is_named(host: Path) -> None:
    """The output has the copy of each replaced file."""
    assert Exit.OK == run(host, "backup", "b.tar").code

    restored = run(host, "restore", "b.tar")

    assert f"The previous file is kept: {host}/lib/state.db.bak\n" in restored.out


def test_existing_file_is_replaced_by_force_only(host: Path) -> None:
    """The new file is private, even if the old file was open to others."""
    file = host / "b.tar"
    file.write_text("mine")
    file.chmod(0o644)

    refused = run(host, "backup", "b.tar")
    assert Exit.USAGE == refused.code
    assert f"error: {file} already exists\n" in refused.err
    assert "use --force to replace" in refused.err
    assert "mine" == file.read_text()

    assert Exit.OK == run(host, "backup", "b.tar", "--force").code
    assert 0o600 == file.stat().st_mode & 0o777
    assert ["b.tar", "certferry.toml", "lib"] == sorted(path.name for path in host.iterdir())


def test_backup_that_other_users_can_read(host: Path) -> None:
    """The error comes before any file is restored, because readers of the backup have the keys."""
    assert Exit.OK == run(host, "backup", "b.tar").code
    (host / "b.tar").chmod(0o644)

    refused = run(host, "restore", "b.tar")

    assert Exit.USAGE == refused.code
    message = f"b.tar is open to other users (mode 0644); run: chmod 600 {host}/b.tar\n"
    assert f"error: {message}" == refused.err


def test_backup_and_restore_during_a_run(host: Path) -> None:
    """A restore ends with an error instead of waiting, and a backup succeeds."""
    with closing(connect(host / "lib/state.db", host / "lib/secret.key")) as store:
        store.lineages()
        assert Exit.OK == run(host, "backup", "b.tar").code
        refused = run(host, "restore", "b.tar")

    assert Exit.TRY_LATER == refused.code
    assert f"error: another process has {host}/lib/state.db open\n" in refused.err
    assert ["secret.key", "state.db"] == [
        path.name
        for path in sorted((host / "lib").iterdir())
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backup", "no/such/b.tar"), "no/such/b.tar cannot be written: No such file or directory"),
        (("restore", "no.tar"), "no.tar cannot be read: No such file or directory"),
        (("restore", "certferry.toml"), "certferry.toml is not a backup of certferry"),
        (("--config", "no.toml", "backup", "b.tar"), "no.toml: cannot be read"),
    ],
)
def test_missing_and_foreign_files(host: Path, arguments: tuple[str, ...], message: str) -> None:
    """The error names the file."""
    ended = run(host, *arguments)

    assert ended.code in {Exit.USAGE, Exit.FAILED}
    assert message in ended.err


def test_backup_without_a_state(tmp_path: Path) -> None:
    """The error names the place of the state, and no file is created."""
    ended = run(configured(tmp_path / "new"), "backup", "b.tar")

    assert Exit.FAILED == ended.code
    assert f"there is no state at {tmp_path}/new/lib/state.db" in ended.err
    assert ["certferry.toml"] == [path.name for path in (tmp_path / "new").iterdir()]
