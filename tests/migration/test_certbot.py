"""The directory of certbot."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import pytest

from certferry.adapters.files.source import PemFileSource
from certferry.errors import ConfigError
from certferry.migration import certbot
from tests.migration.old_homes import DIRECTORY, CertbotHome, issued

NAMES = ("img.example.com", "*.img.example.com")

read = partial(certbot.read, source=PemFileSource())


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
    assert str(home.path / "live" / "img" / "fullchain.pem") == found.files.fullchain
    assert DIRECTORY == found.directory


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
    [found] = read(home.path, home.path).certificates

    told = f"{of_all}/01 told"
    assert ("/opt/ssl/hook.sh qiniu", "sh -c 'x start'", told) == found.installed.hooks


def test_command_that_switches_it_off_can_be_typed_anywhere(
    home: CertbotHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then certbot reads its settings no more; those of others are left as they are."""
    conf = home.add(issued(*NAMES), "img")
    other = home.add(issued("a.example.com"), "a")
    monkeypatch.chdir(tmp_path)

    _, found = read(Path(home.path.name), home.path).certificates
    monkeypatch.chdir("/")
    subprocess.run(["sh", "-c", found.stop], check=True)

    assert not conf.exists()
    assert ["a"] == [one.lineage for one in read(home.path, home.path).certificates]
    assert other.exists()


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
