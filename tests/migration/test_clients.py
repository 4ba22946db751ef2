"""The homes of certbot and lego, and the variables that clients set for their hooks."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from certferry.adapters.files.source import PemFileSource
from certferry.core.desired.certificate import PemFiles
from certferry.errors import ConfigError
from certferry.migration import certbot, lego
from certferry.migration.lego import default_home
from certferry.migration.renewed import CLIENTS, Renewed, renewed_by, renewed_by_any
from certferry.wiring.selection import hook_modes
from tests.migration.old_homes import DIRECTORY, CertbotHome, LegoHome, issued, other_key

# --- The directory of certbot


NAMES = ("img.example.com", "*.img.example.com")

read_home = partial(certbot.read, source=PemFileSource())


@pytest.fixture
def home(tmp_path: Path) -> CertbotHome:
    return CertbotHome(tmp_path / "letsencrypt")


def test_certificate_is_read_with_the_settings_of_certbot(home: CertbotHome) -> None:
    """The paths are the lasting links below `live`."""
    issued_certificate = issued(*NAMES, key_type="rsa2048")
    home.add(issued_certificate, "img")

    [certificate] = read_home(home.path, home.path).certificates

    assert ("img", NAMES, "rsa2048") == (
        certificate.lineage,
        certificate.names,
        certificate.key_type,
    )
    assert issued_certificate.fingerprint == certificate.bundle.certificate.fingerprint
    assert str(home.path / "live" / "img" / "fullchain.pem") == certificate.files.fullchain
    assert DIRECTORY == certificate.directory


def test_hooks_of_certbot_are_read(home: CertbotHome) -> None:
    """The hooks are the commands that `--deploy-hook` and similar options stored in the settings,
    and the executables that certbot runs after every renewal.
    """
    conf = home.add(issued(*NAMES), "img")
    with conf.open("a") as file:
        file.write("pre_hook = None\nrenew_hook = /opt/ssl/hook.sh qiniu\n")
        file.write("post_hook = \"sh -c 'x start'\"\n")
    of_all = home.path / "renewal-hooks" / "deploy"
    of_all.mkdir(parents=True)
    for name, mode in (("01 told", 0o755), ("README", 0o644), ("off~", 0o755)):
        (of_all / name).touch(mode)
    [certificate] = read_home(home.path, home.path).certificates

    executable = f"{of_all}/01 told"
    assert ("/opt/ssl/hook.sh qiniu", "sh -c 'x start'", executable) == certificate.installed.hooks


def test_command_that_stops_certbot_works_in_any_directory(
    home: CertbotHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed command removes certbot's settings of one certificate and keeps the settings of
    all others.
    """
    conf = home.add(issued(*NAMES), "img")
    other = home.add(issued("a.example.com"), "a")
    monkeypatch.chdir(tmp_path)

    _, certificate = read_home(Path(home.path.name), home.path).certificates
    monkeypatch.chdir("/")
    subprocess.run(["sh", "-c", certificate.stop], check=True)

    assert not conf.exists()
    assert ["a"] == [
        remaining.lineage for remaining in read_home(home.path, home.path).certificates
    ]
    assert other.exists()


def test_damaged_entries_are_reported_one_by_one(home: CertbotHome) -> None:
    """For a broken link and for settings without files the report names the entry, and certferry
    reads all other entries.
    """
    home.add(issued(*NAMES), "img")
    home.add(issued("a.example.com"), "a").write_text("version = 4.0.0\n")
    home.add(issued("b.example.com"), "b")
    (home.path / "archive" / "b" / "privkey1.pem").unlink()

    old_home = read_home(home.path, home.path)

    assert ["img"] == [certificate.lineage for certificate in old_home.certificates]
    problems = {entry.entry: str(entry.problem) for entry in old_home.unreadable}
    assert {"a.conf", "b.conf"} == set(problems)
    assert "lacks fullchain" in problems["a.conf"]
    assert "No such file" in problems["b.conf"]


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    """The error quotes the system's message for a missing directory."""
    with pytest.raises(ConfigError, match="No such file"):
        read_home(tmp_path, tmp_path)


# --- The directory of lego


LEGO_NAMES = ("*.img.example.com", "img.example.com")

read_lego = partial(lego.read, source=PemFileSource())


@pytest.fixture
def lego_home(tmp_path: Path) -> LegoHome:
    return LegoHome(tmp_path / ".lego")


def test_certificate_of_lego_is_read(lego_home: LegoHome) -> None:
    """The name of a lineage and of the file differ if the first name is a wildcard."""
    issued_certificate = issued(*LEGO_NAMES)
    crt = lego_home.add(issued_certificate, LEGO_NAMES[0])

    [certificate] = read_lego(lego_home.path, lego_home.path).certificates
    assert ("img.example.com", LEGO_NAMES) == (certificate.lineage, certificate.names)
    assert issued_certificate.fingerprint == certificate.bundle.certificate.fingerprint
    assert str(crt) == certificate.files.fullchain
    assert "--domains '*.img.example.com'" in certificate.stop


def test_damaged_entries_of_lego_are_reported_one_by_one(lego_home: LegoHome) -> None:
    """The report names each damaged entry, and certferry reads all other entries; with
    `--no-bundle` the chain is missing.
    """
    lego_home.add(issued(*LEGO_NAMES), LEGO_NAMES[0])
    lego_home.add(issued("a.example.com"), "a.example.com").write_text(
        "-----BEGIN CERTIFICATE-----\n"
    )
    lego_home.add(issued("b.example.com"), "b.example.com", bundled=False)
    crt = lego_home.add(issued("c.example.com"), "c.example.com")
    crt.with_suffix(".key").write_text(other_key())

    old_home = read_lego(lego_home.path, lego_home.path)

    assert ["img.example.com"] == [certificate.lineage for certificate in old_home.certificates]
    problems = {entry.entry: str(entry.problem) for entry in old_home.unreadable}
    assert {"a.example.com.crt", "b.example.com.crt", "c.example.com.crt"} == set(problems)
    assert "the chain is incomplete" in problems["b.example.com.crt"]


def test_missing_directory_of_lego_is_an_error(tmp_path: Path) -> None:
    """The error quotes the system's message for a missing directory."""
    with pytest.raises(ConfigError, match="No such file"):
        read_lego(tmp_path, tmp_path)


def test_default_home_is_the_default_of_lego() -> None:
    """The default is a folder in the working directory; lego's variable takes precedence."""
    assert Path(".lego") == default_home({}, Path("/root"))
    assert Path("/l") == default_home({"LEGO_PATH": "/l"}, Path("/root"))


# --- Variables that clients set for their hooks


SPEECH = {
    "acme.sh": {
        "Le_Domain": "*.example.com",
        "CERT_PATH": "/ssl/*.example.com_ecc/*.example.com.cer",
        "CERT_KEY_PATH": "/ssl/*.example.com_ecc/*.example.com.key",
        "CA_CERT_PATH": "/ssl/*.example.com_ecc/ca.cer",
        "CERT_FULLCHAIN_PATH": "/ssl/*.example.com_ecc/fullchain.cer",
    },
    "certbot": {
        "RENEWED_LINEAGE": "/etc/letsencrypt/live/example.com-0001",
        "RENEWED_DOMAINS": "example.com *.example.com",
    },
    "lego": {
        "LEGO_ACCOUNT_EMAIL": "ops@example.com",
        "LEGO_CERT_DOMAIN": "*.example.com",
        "LEGO_CERT_PATH": "/lego/certificates/_.example.com.crt",
        "LEGO_CERT_KEY_PATH": "/lego/certificates/_.example.com.key",
    },
}
RENEWED = {
    "acme.sh": Renewed(
        "acme.sh",
        "example.com",
        PemFiles(
            "/ssl/*.example.com_ecc/fullchain.cer", "/ssl/*.example.com_ecc/*.example.com.key"
        ),
    ),
    "certbot": Renewed(
        "certbot",
        "example.com-0001",
        PemFiles(
            "/etc/letsencrypt/live/example.com-0001/fullchain.pem",
            "/etc/letsencrypt/live/example.com-0001/privkey.pem",
        ),
    ),
    "lego": Renewed(
        "lego",
        "example.com",
        PemFiles("/lego/certificates/_.example.com.crt", "/lego/certificates/_.example.com.key"),
    ),
}


def test_modes_are_the_clients_and_the_targets() -> None:
    """The clients come first, then the types of targets."""
    assert (*CLIENTS, "aliyun", "qiniu", "tencentcloud") == hook_modes()
    assert ("acme.sh", "certbot", "lego") == tuple(CLIENTS)
    assert set(CLIENTS) == set(SPEECH)


@pytest.mark.parametrize("client", SPEECH)
def test_variables_of_a_client_are_understood(client: str) -> None:
    """The variables identify the client, the certificate's name without shell characters, and the
    paths of fullchain and key.
    """
    assert RENEWED[client] == renewed_by(client, SPEECH[client])
    assert RENEWED[client] == renewed_by_any(SPEECH[client])


@pytest.mark.parametrize(
    ("client", "variable"),
    [(client, variable) for client in SPEECH for variable in CLIENTS[client].variables],
)
@pytest.mark.parametrize("more", [{}, {"PATH": "/bin"}])
def test_missing_variable_is_named(client: str, variable: str, more: dict[str, str]) -> None:
    """For a missing or empty variable the message names the variable, and the hint says how to run
    the command.
    """
    for changes in ({}, {variable: ""}):
        environ = {**SPEECH[client], **more} | changes
        if not changes:
            del environ[variable]

        with pytest.raises(ConfigError) as caught:
            renewed_by(client, environ)

        assert f"{client} has not set {variable}" == str(caught.value)
        assert f"certferry hook {client}" in str(caught.value.hint)
        assert renewed_by_any(environ) is None


def test_relative_paths_start_from_the_directory_of_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths from lego become absolute paths before another process reads the files."""
    monkeypatch.chdir(tmp_path)
    environ = {**SPEECH["lego"], "LEGO_CERT_PATH": "x.crt", "LEGO_CERT_KEY_PATH": "./x.key"}

    files = renewed_by("lego", environ).files

    assert PemFiles(str(tmp_path / "x.crt"), str(tmp_path / "x.key")) == files


def test_lego_alone_limits_the_time_of_a_hook() -> None:
    """Version 4.9 of lego kills a hook after two minutes; acme.sh 3.1 and certbot 4.0 set
    no limit.
    """
    limited = {name: client.patience for name, client in CLIENTS.items() if client.patience}

    assert ["lego"] == list(limited)
    assert limited["lego"] < timedelta(minutes=2)
