"""What `certferry schedule install` warns of, and what it does not schedule."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from certferry.cli.exits import Exit
from tests.adapters.schedule.crontab_owner import CrontabOwner
from tests.cli.schedules import KEYS, certferry, entry


def test_each_kind_of_warning_has_its_hint(owner: CrontabOwner, config: Path) -> None:
    """Set apart by an empty line."""
    (config.parent / "keys.env").write_text("")
    proxy = {"https_proxy": "http://me:geheim@proxy.example:3128"}
    environ = {**owner.environ, **dict(line.split("=") for line in KEYS.split()), **proxy}

    _, _, err = certferry(environ, "-q", "--config", config, "schedule", "install")

    parts = [part.partition(":")[0] for part in err.split("\n\n")]
    assert ["warning", "hint", "warning", "hint"] == parts


def test_failures_that_no_operator_would_read_are_warned_of(
    owner: CrontabOwner, config: Path
) -> None:
    """Once, with the two ways of being told; either of them is enough."""
    config.write_text(config.read_text().partition("[notify.ops]")[0])

    _, _, err = certferry(owner.environ, "--config", config, "schedule", "install")

    assert 1 == err.count("no channel and no heartbeat is declared")
    assert "`certferry help notify`" in err
    assert "`certferry help monitoring`" in err
    config.chmod(0o600)
    config.write_text(config.read_text() + '[heartbeat]\nurl = "https://hc.example.com/ping"\n')
    _, _, err = certferry(owner.environ, "--config", config, "schedule", "install")
    assert "" == err


def test_the_line_needs_no_environment(owner: CrontabOwner, config: Path) -> None:
    """`env -i sh -c` with the line of the crontab starts certferry, which reads its configuration:
    here it tells what is wrong with it.
    """
    certferry(owner.environ, "--config", config, "schedule", "install")
    command = entry(owner.read())["command"].decode()
    config.write_text(config.read_text() + "\n[frobnicate]\n")

    result = subprocess.run(
        ["/usr/bin/env", "-i", "HOME=/", "/bin/sh", "-c", command],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )

    assert Exit.USAGE == result.returncode, result.stderr
    assert f"error: {config}:" in result.stderr
    assert "frobnicate" in result.stderr


def test_secrets_that_only_this_environment_has_are_warned_of(
    owner: CrontabOwner, config: Path
) -> None:
    """Each reference, where it stands, and what to do; what an env file gives is in order."""
    (config.parent / "keys.env").write_text("DP_Id=1\nDP_Key=k\nQINIU_SECRET_KEY=\n")
    environ = {**owner.environ, "QINIU_ACCESS_KEY": "a", "QINIU_SECRET_KEY": "s"}

    code, _, err = certferry(environ, "-q", "--config", config, "schedule", "install")

    assert Exit.OK == code
    assert (
        dedent(f"""\
        warning: {config}:3: [accounts.qiniu] access_key: cron/systemd will not have QINIU_ACCESS_KEY set
        warning: {config}:4: [accounts.qiniu] secret_key: cron/systemd will not have QINIU_SECRET_KEY set

        hint: write the variables into a file that `env_files` names, or refer to them by file: or command:
        """)  # noqa: E501 - a transcript is as wide as it is
        == err
    )
    assert b"sync" in entry(owner.read())["command"]


@pytest.fixture
def program_elsewhere(tmp_path: Path, owner: CrontabOwner) -> dict[str, str]:
    """An environment whose PATH leads to a program that lies where cron does not look."""
    path = tmp_path / "sbin" / "mynginx"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return {**owner.environ, "PATH": f"{owner.environ['PATH']}:{path.parent}"}


def test_a_program_that_cron_does_not_find_is_warned_of(
    owner: CrontabOwner, config: Path, program_elsewhere: Mapping[str, str]
) -> None:
    """When it is installed, with the path to write; not where the crontab has a PATH above the
    line that leads there.
    """
    reload = '{ to = "files", directory = "ssl", reload = "mynginx -s reload" }'
    config.write_text(config.read_text().replace('{ to = "qiniu" }', reload))
    sbin = config.parent / "sbin"

    _, _, installed = certferry(program_elsewhere, "-q", "--config", config, "schedule", "install")

    assert (
        f"warning: {config}:14: [[certificates.deploy]] reload: mynginx is not found when the"
        f" system starts the run; here it is {sbin}/mynginx\n\n"
        "hint: write the whole path of each; the run looks for programs in /usr/bin:/bin alone\n"
    ) == installed

    line = owner.read() or b""
    owner.write(f"PATH=/usr/bin:/bin:{sbin}\n".encode() + line)
    assert "" == certferry(program_elsewhere, "--config", config, "schedule", "install")[2]


def test_a_wrong_configuration_is_not_scheduled(owner: CrontabOwner, config: Path) -> None:
    """What would fail every night is told now."""
    config.write_text("[frobnicate]\n")

    code, _, err = certferry(owner.environ, "--config", config, "schedule", "install")

    assert Exit.USAGE == code
    assert "frobnicate" in err
    assert owner.read() is None


def test_no_configuration_is_not_scheduled(owner: CrontabOwner, tmp_path: Path) -> None:
    """The run would have neither keys nor names."""
    code, _, err = certferry(
        owner.environ, "--config", tmp_path / "none.toml", "schedule", "install"
    )

    assert Exit.USAGE == code
    assert "none.toml" in err
    assert owner.read() is None


def test_run_that_would_have_nothing_to_do(owner: CrontabOwner, tmp_path: Path) -> None:
    """A file for hooks alone, which declares no certificates: it is installed, with a warning."""
    path = tmp_path / "certferry.toml"
    path.write_text('[accounts.qiniu]\naccess_key = "file:ak"\nsecret_key = "file:sk"\n')

    code, _, err = certferry(owner.environ, "--config", path, "schedule", "install")

    assert Exit.OK == code
    assert f"warning: {path} declares no certificates\n" in err
    assert "hint: declare them with [[certificates]]" in err
    entry(owner.read())
