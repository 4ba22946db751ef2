"""certbot, lego and what their hooks leave."""

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

read = partial(certbot.read, source=PemFileSource())


@pytest.fixture
def home(tmp_path: Path) -> CertbotHome:
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

    executable = f"{of_all}/01 told"
    assert ("/opt/ssl/hook.sh qiniu", "sh -c 'x start'", executable) == found.installed.hooks


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


def test_damaged_entries_are_reported_one_by_one(home: CertbotHome) -> None:
    """A link that leads nowhere, settings without files: the others are read."""
    home.add(issued(*NAMES), "img")
    home.add(issued("a.example.com"), "a").write_text("version = 4.0.0\n")
    home.add(issued("b.example.com"), "b")
    (home.path / "archive" / "b" / "privkey1.pem").unlink()

    found = read(home.path, home.path)

    assert ["img"] == [one.lineage for one in found.certificates]
    problems = {entry.entry: str(entry.problem) for entry in found.unreadable}
    assert {"a.conf", "b.conf"} == set(problems)
    assert "lacks fullchain" in problems["a.conf"]
    assert "No such file" in problems["b.conf"]


def test_no_such_directory_is_an_error(tmp_path: Path) -> None:
    """A directory that is no certbot's is reported."""
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path, tmp_path)


# --- The directory of lego


LEGO_NAMES = ("*.img.example.com", "img.example.com")

read_lego = partial(lego.read, source=PemFileSource())


@pytest.fixture
def lego_home(tmp_path: Path) -> LegoHome:
    return LegoHome(tmp_path / ".lego")


def test_certificate_is_read(lego_home: LegoHome) -> None:
    """One whose first name is a wildcard has a file name of its own making."""
    made = issued(*LEGO_NAMES)
    crt = lego_home.add(made, LEGO_NAMES[0])

    [found] = read_lego(lego_home.path, lego_home.path).certificates
    assert ("img.example.com", LEGO_NAMES) == (found.lineage, found.names)
    assert made.fingerprint == found.bundle.certificate.fingerprint
    assert str(crt) == found.files.fullchain
    assert "--domains '*.img.example.com'" in found.stop


def test_damaged_entries_of_lego_are_reported_one_by_one(lego_home: LegoHome) -> None:
    """Whatever is wrong with some, the others are read; of `--no-bundle` the chain is missing."""
    lego_home.add(issued(*LEGO_NAMES), LEGO_NAMES[0])
    lego_home.add(issued("a.example.com"), "a.example.com").write_text(
        "-----BEGIN CERTIFICATE-----\n"
    )
    lego_home.add(issued("b.example.com"), "b.example.com", bundled=False)
    crt = lego_home.add(issued("c.example.com"), "c.example.com")
    crt.with_suffix(".key").write_text(other_key())

    found = read_lego(lego_home.path, lego_home.path)

    assert ["img.example.com"] == [one.lineage for one in found.certificates]
    problems = {entry.entry: str(entry.problem) for entry in found.unreadable}
    assert {"a.example.com.crt", "b.example.com.crt", "c.example.com.crt"} == set(problems)
    assert "the chain is incomplete" in problems["b.example.com.crt"]


def test_no_directory_of_lego_is_an_error(tmp_path: Path) -> None:
    """A directory that is no lego's is reported."""
    with pytest.raises(ConfigError, match="No such file"):
        read_lego(tmp_path, tmp_path)


def test_directory_is_where_lego_looks() -> None:
    """Beside whatever starts it, unless its variable says otherwise."""
    assert Path(".lego") == default_home({}, Path("/root"))
    assert Path("/l") == default_home({"LEGO_PATH": "/l"}, Path("/root"))


# --- What other ACME clients say, in variables


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


def test_every_mode_is_a_client_or_the_old_one() -> None:
    """Four modes, as README.md lists them."""
    assert ("acme.sh", "certbot", "lego", "qiniu") == (*CLIENTS, "qiniu") == hook_modes()
    assert set(CLIENTS) == set(SPEECH)


@pytest.mark.parametrize("client", SPEECH)
def test_what_a_client_says_is_understood(client: str) -> None:
    """Its name for the certificate, without what a shell would replace, the fullchain and the key;
    who it is, too.
    """
    assert RENEWED[client] == renewed_by(client, SPEECH[client])
    assert RENEWED[client] == renewed_by_any(SPEECH[client])


@pytest.mark.parametrize(
    ("client", "variable"),
    [(client, variable) for client in SPEECH for variable in CLIENTS[client].variables],
)
@pytest.mark.parametrize("rest", [{}, {"PATH": "/bin"}])
def test_a_missing_variable_is_named(client: str, variable: str, rest: dict[str, str]) -> None:
    """Not set, or set to nothing: the message names it, the hint says who is to run this."""
    for value in ({}, {variable: ""}):
        environ = {**SPEECH[client], **rest} | value
        if not value:
            del environ[variable]

        with pytest.raises(ConfigError) as caught:
            renewed_by(client, environ)

        assert f"{client} has not set {variable}" == str(caught.value)
        assert f"certferry hook {client}" in str(caught.value.hint)
        assert renewed_by_any(environ) is None


def test_relative_paths_are_those_of_where_the_client_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths that lego was given relatively hold where its hook runs, too."""
    monkeypatch.chdir(tmp_path)
    environ = {**SPEECH["lego"], "LEGO_CERT_PATH": "x.crt", "LEGO_CERT_KEY_PATH": "./x.key"}

    files = renewed_by("lego", environ).files

    assert PemFiles(str(tmp_path / "x.crt"), str(tmp_path / "x.key")) == files


def test_only_lego_ends_its_hook() -> None:
    """acme.sh 3.1 and certbot 4.0 let a hook run; lego 4.9 kills it after two minutes."""
    limited = {name: client.patience for name, client in CLIENTS.items() if client.patience}

    assert ["lego"] == list(limited)
    assert limited["lego"] < timedelta(minutes=2)
