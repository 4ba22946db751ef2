"""What of the settings the system's run needs, and what it will miss."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from certferry.config.unattended import (
    changes_owners,
    directories_filled,
    directories_kept,
    files_read,
    lost_secrets,
    needed_environment,
    runs_programs,
)
from tests.config.conftest import Load

ACCOUNTS = """
[accounts.dnspod]
id = "12345"
token = "env:DP_Key"
"""
CERTIFICATE = """
[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""


def deployed(tables: str) -> str:
    """Give a configuration with a deployment."""
    return f"{ACCOUNTS}{CERTIFICATE}\n[[certificates.deploy]]\n{tables}\n"


def test_only_what_the_present_environment_sets_is_lost(loaded: Load, folder: Path) -> None:
    """A literal, a file and what an env file sets are there at night too; a variable is not."""
    external = '\n[acme]\neab_kid = "k"\neab_hmac_key = "env:EAB"\n'
    lost = lost_secrets(loaded(ACCOUNTS + CERTIFICATE + external, DP_Key="k", EAB="e"))
    assert [
        (
            "certferry.toml:4: [accounts.dnspod] token: "
            "nothing sets DP_Key when the system starts the run"
        ),
        "certferry.toml: [acme] eab_hmac_key: nothing sets EAB when the system starts the run",
    ] == [str(finding.text) for finding in lost]

    keys = folder / "keys.env"
    keys.touch(0o600)
    keys.write_text("DP_Key=k\nEAB=e\n")
    settings = loaded('env_files = ["keys.env"]\n' + ACCOUNTS + CERTIFICATE + external)

    assert () == lost_secrets(settings)
    assert keys in files_read(settings)


def test_only_a_variable_that_decides_is_needed(loaded: Load, folder: Path) -> None:
    """The usual home and a state that the file names need nothing."""
    usual = pwd.getpwuid(os.geteuid()).pw_dir
    by_variable = loaded(ACCOUNTS + CERTIFICATE, XDG_DATA_HOME="/srv/data")
    by_file = loaded('[state]\nurl = "sqlite:///s/state.db"\n' + ACCOUNTS + CERTIFICATE)
    environ = {"HOME": usual, "XDG_DATA_HOME": "/srv/data"}

    assert {"XDG_DATA_HOME": "/srv/data"} == needed_environment(by_variable, environ)
    assert {} == needed_environment(by_file, environ)
    assert {"HOME": "/srv/home"} == needed_environment(by_file, {"HOME": "/srv/home"})
    assert (folder / "s",) == directories_kept(by_file)


def test_files_alone_run_no_program(loaded: Load, folder: Path) -> None:
    """Their directory is written into; one that is still to be made, where that happens."""
    settings = loaded(deployed('to = "files"\ndirectory = "ssl/img"'))

    assert not runs_programs(settings)
    assert not changes_owners(settings)
    assert (folder,) == directories_filled(settings)
    (folder / "ssl/img").mkdir(parents=True)
    assert (folder / "ssl/img",) == directories_filled(settings)


def test_an_owner_is_noticed(loaded: Load) -> None:
    """Giving a file away takes a right of its own."""
    files = 'to = "files"\ndirectory = "ssl"\nowner = "root"'

    assert changes_owners(loaded(deployed(files)))


def test_every_program_of_the_operators_is_noticed(loaded: Load) -> None:
    """A reload, a command, and a secret that a command gives."""
    secret = ACCOUNTS.replace("env:DP_Key", "command:pass show dnspod")

    assert not runs_programs(loaded(ACCOUNTS + CERTIFICATE))
    assert runs_programs(loaded(deployed('to = "files"\ndirectory = "s"\nreload = "true"')))
    assert runs_programs(loaded(deployed('to = "command"\ncommand = "true"')))
    assert runs_programs(loaded(secret + CERTIFICATE))
