"""The directory of certbot."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from certferry.adapters.sources.pem_files import PemFileSource
from certferry.errors import ConfigError
from certferry.migration import certbot
from tests.migration.old_homes import DIRECTORY, CertbotHome, issued

NAMES = ("img.example.com", "*.img.example.com")

read = partial(certbot.read, source=PemFileSource())

SYSTEMD = "run/systemd/system/"
CRON = "etc/cron.d/certbot"
DISABLE = "systemctl disable --now "


@pytest.fixture
def home(tmp_path: Path) -> CertbotHome:
    """An empty directory."""
    return CertbotHome(tmp_path / "letsencrypt")


def test_certificate_is_read_with_its_settings(home: CertbotHome) -> None:
    """The files are those behind `live`, by their lasting names."""
    made = issued(*NAMES, key_type="rsa2048")
    home.add(made, "img")

    [found] = read(home.path, home.path).certificates

    assert ("img", NAMES, "rsa2048") == (found.lineage, found.names, found.key_type)
    assert made.fingerprint == found.bundle.certificate.fingerprint
    assert found.files is not None
    assert str(home.path / "live" / "img" / "fullchain.pem") == found.files.fullchain
    assert (DIRECTORY, "manual") == (found.directory, found.proven_by)
    assert "certbot reconfigure --cert-name img --no-autorenew" == found.stop


def test_hooks_are_read(home: CertbotHome) -> None:
    """Whatever `--deploy-hook` and its sisters have left in the settings, and what is run for every
    certificate since it lies there.
    """
    conf = home.add(issued(*NAMES), "img")
    with conf.open("a") as file:
        file.write("pre_hook = None\nrenew_hook = /opt/ssl/hook.sh qiniu\n")
        file.write("post_hook = \"sh -c 'x start'\"\n")
    of_all = home.path / "renewal-hooks" / "deploy"
    of_all.mkdir(parents=True)
    for name, mode in (("01 told", 0o755), ("README", 0o644), ("off~", 0o755)):
        (of_all / name).touch(mode)
    ours = of_all / "02-certferry"
    ours.write_text("#!/bin/sh\n# ours\n\nexec /usr/local/bin/certferry hook certbot\n")
    ours.chmod(0o755)

    [found] = read(home.path, home.path).certificates

    told = f"'{of_all}/01 told'"
    assert ("/opt/ssl/hook.sh qiniu", "sh -c 'x start'", told) == found.installed.hooks


def machine_with(machine: Path, *there: str) -> Path:
    """Make a machine's root with files, and directories where a name ends with a slash."""
    machine.mkdir()
    for name in there:
        path = machine / name
        directory = path if name.endswith("/") else path.parent
        directory.mkdir(parents=True, exist_ok=True)
        if path is not directory:
            path.touch()
    return machine


def test_commands_name_a_directory_that_is_not_the_usual_one(
    home: CertbotHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed can be typed anywhere, and ends the renewals of nothing else: the machine's
    timer and crontab are those of the usual directory.
    """
    home.add(issued(*NAMES), "img")
    machine = machine_with(tmp_path / "machine", SYSTEMD, "lib/systemd/system/certbot.timer")
    monkeypatch.chdir(tmp_path)

    moved = read(Path(home.path.name), tmp_path / "usual", machine=machine)

    [found] = moved.certificates
    assert f"--config-dir {home.path} --cert-name img --no-autorenew" in found.stop
    assert () == moved.stop
    assert (DISABLE + "certbot.timer",) == read(home.path, home.path, machine=machine).stop


@pytest.mark.parametrize(
    ("there", "commands"),
    [
        ([SYSTEMD, "lib/systemd/system/certbot.timer", CRON], [DISABLE + "certbot.timer"]),
        ([SYSTEMD, "usr/lib/systemd/system/certbot.timer"], [DISABLE + "certbot.timer"]),
        (
            [SYSTEMD, "etc/systemd/system/snap.certbot.renew.timer"],
            [DISABLE + "snap.certbot.renew.timer"],
        ),
        (
            [SYSTEMD, "usr/lib/systemd/system/certbot-renew.timer"],
            [DISABLE + "certbot-renew.timer"],
        ),
        (
            [
                SYSTEMD,
                "run/systemd/system/certbot.timer",
                "etc/systemd/system/snap.certbot.renew.timer",
            ],
            [DISABLE + "certbot.timer", DISABLE + "snap.certbot.renew.timer"],
        ),
        (["lib/systemd/system/certbot.timer", CRON], [f"mv /{CRON} /{CRON}.disabled"]),
        ([CRON], [f"mv /{CRON} /{CRON}.disabled"]),
        ([SYSTEMD, CRON], []),
        ([SYSTEMD], []),
        (["lib/systemd/system/certbot.timer"], []),
        ([], []),
    ],
)
def test_what_starts_it_is_named(tmp_path: Path, there: list[str], commands: list[str]) -> None:
    """Debian's, snap's and Fedora's timers; Debian's crontab does nothing where systemd runs, and
    everything where it does not. Where none of them is, no command that fails is printed.
    """
    machine = machine_with(tmp_path / "machine", *there)

    assert tuple(commands) == certbot.what_stops_it(machine)


def test_damaged_entries_are_told_one_by_one(home: CertbotHome) -> None:
    """A link that leads nowhere, settings without files: the others are read."""
    home.add(issued(*NAMES), "img")
    home.add(issued("a.example.com"), "a").write_text("version = 4.0.0\n")
    home.add(issued("b.example.com"), "b")
    (home.path / "archive" / "b" / "privkey1.pem").unlink()

    found = read(home.path, home.path)

    assert ["img"] == [one.lineage for one in found.certificates]
    problems = {entry.entry: str(entry.problem) for entry in found.unreadable}
    assert {"a.conf", "b.conf"} == set(problems)
    assert "does not name its fullchain" in problems["a.conf"]
    assert "No such file" in problems["b.conf"]


def test_no_such_directory_is_an_error(tmp_path: Path) -> None:
    """A directory that is no certbot's is told."""
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path, tmp_path)
