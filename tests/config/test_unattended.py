"""What of the settings the system's run needs, and what it will miss."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from certferry.config.unattended import (
    changes_owners,
    directories_filled,
    directories_kept,
    files_read,
    lost_programs,
    lost_secrets,
    needed_environment,
    runs_programs,
    withheld_variables,
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
    assert keys in files_read(settings, {})


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


@pytest.mark.parametrize(
    ("environ", "needed"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, {"HTTPS_PROXY"}),
        ({"http_proxy": "p:1", "NO_PROXY": "localhost"}, {"http_proxy", "NO_PROXY"}),
        ({"ALL_PROXY": "socks5://p:1"}, {"ALL_PROXY"}),
        ({"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, {"https_proxy"}),
        ({"HTTPS_PROXY": "http://p:1", "https_proxy": ""}, set()),
        ({"HTTPS_PROXY": ""}, set()),
        ({"NO_PROXY": "localhost"}, set()),
        ({"FTP_PROXY": "http://p:1"}, set()),
        ({"REQUESTS_CA_BUNDLE": "/a", "CURL_CA_BUNDLE": "/b"}, {"REQUESTS_CA_BUNDLE"}),
        ({"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "/b"}, {"CURL_CA_BUNDLE"}),
        ({"SSL_CERT_FILE": "/c", "SSL_CERT_DIR": "/d"}, {"SSL_CERT_FILE"}),
    ],
)
def test_what_the_http_library_obeys_is_needed(
    loaded: Load, environ: dict[str, str], needed: set[str]
) -> None:
    """And nothing that counts for nothing."""
    settings = loaded(ACCOUNTS + CERTIFICATE)

    found = needed_environment(settings, environ)

    assert {name: environ[name] for name in needed} == found
    assert () == withheld_variables(environ)


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTPS_PROXY": "http://p:1"},
        {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"},
        {"HTTPS_PROXY": "http://p:1", "https_proxy": ""},
        {"ALL_PROXY": "http://p:1", "no_proxy": "ca.example"},
        {"ALL_PROXY": "http://p:1", "no_proxy": "other.example"},
        {"REQUESTS_CA_BUNDLE": "/a", "CURL_CA_BUNDLE": "/b"},
        {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "/b"},
        {"SSL_CERT_FILE": "/c", "SSL_CERT_DIR": "/d"},
    ],
)
def test_with_what_is_needed_the_http_library_does_the_same(
    loaded: Load, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`requests` decides on proxies and trust as it does in the whole environment."""
    needed = needed_environment(loaded(ACCOUNTS + CERTIFICATE), environ)

    with monkeypatch.context() as whole:
        for name, value in environ.items():
            whole.setenv(name, value)
        before = decided()
    for name, value in needed.items():
        monkeypatch.setenv(name, value)

    assert before == decided()


def decided() -> dict[str, object]:
    """Give what `requests` makes of this environment."""
    with requests.Session() as session:
        return dict(session.merge_environment_settings("https://ca.example/", {}, None, None, None))


@given(
    st.sampled_from(["https_proxy", "HTTP_PROXY", "all_proxy"]),
    st.text(st.characters(codec="ascii", exclude_characters="@"), min_size=1),
    st.sampled_from(["http://{}@p:1", "{}@p", "socks5h://u:{}@p:1/"]),
)
def test_a_proxy_that_names_a_user_is_withheld(name: str, secret: str, form: str) -> None:
    """It is told by its name, and never with what is in it."""
    value = form.format(secret)

    [finding] = withheld_variables({name: value, "NO_PROXY": "localhost"})

    assert f"{name}: a password may be in it, so it is not written down for the run" == str(
        finding.text
    )


def test_a_withheld_proxy_is_not_needed(loaded: Load) -> None:
    """What decides when it is used is, since the operator sets the proxy elsewhere."""
    environ = {"HTTPS_PROXY": "http://me:geheim@p:1", "NO_PROXY": "localhost"}

    assert {"NO_PROXY": "localhost"} == needed_environment(loaded(ACCOUNTS + CERTIFICATE), environ)


def test_bundles_are_found_from_anywhere(loaded: Load, folder: Path) -> None:
    """And are files that the run reads; one that the file names counts more at the edge."""
    environ = {"REQUESTS_CA_BUNDLE": "ca.pem", "SSL_CERT_FILE": "edge.pem"}
    settings = loaded(ACCOUNTS + CERTIFICATE)
    assert {
        "REQUESTS_CA_BUNDLE": str(folder / "ca.pem"),
        "SSL_CERT_FILE": str(folder / "edge.pem"),
    } == needed_environment(settings, environ)
    assert {folder / "ca.pem", folder / "edge.pem"} <= set(files_read(settings, environ))

    (folder / "root.pem").touch()
    named = loaded('[verify]\nca_bundle = "root.pem"\n' + ACCOUNTS + CERTIFICATE)
    assert ["REQUESTS_CA_BUNDLE"] == list(needed_environment(named, environ))


def test_every_file_that_a_run_reads_is_known(loaded: Load, folder: Path) -> None:
    """Secrets in files too, wherever they are named, and the pair of a ferried certificate."""
    external = '[acme]\neab_kid = "k"\neab_hmac_key = "file:~/eab"\n'
    accounts = ACCOUNTS.replace("env:DP_Key", "file:keys/dnspod")
    ferried = """
[[certificates]]
name = "img"
fullchain = "f.pem"
privkey = "k.pem"
"""

    read = files_read(loaded(external + accounts + ferried), {"HOME": "/srv/home"})

    assert {
        Path("certferry.toml"),
        folder / "keys/dnspod",
        Path("/srv/home/eab"),
        folder / "f.pem",
        folder / "k.pem",
    } == set(read)


def test_programs_that_a_run_will_not_find(loaded: Load, folder: Path) -> None:
    """Those that are named without a path and lie elsewhere; with where they lie here, which is
    never guessed.
    """
    (folder / "sbin").mkdir()
    for name in ("mynginx", "mypass"):
        (folder / "sbin" / name).write_text("#!/bin/sh\n")
        (folder / "sbin" / name).chmod(0o755)
    accounts = ACCOUNTS.replace("env:DP_Key", "command:mypass 'show it'")
    settings = loaded(
        accounts
        + CERTIFICATE
        + """
[[certificates.deploy]]
to = "files"
directory = "ssl"
reload = "mynginx -s reload"

[[certificates.deploy]]
to = "command"
command = ["nowhere", "geheim"]

[[certificates.deploy]]
to = "command"
command = "sbin/mynginx"

[[certificates.deploy]]
to = "command"
command = "sh -c true"
"""
    )
    environ = {"PATH": f"/usr/bin:/bin:{folder}/sbin"}

    lost = lost_programs(settings, "/usr/bin:/bin", environ)

    missed = "is not found when the system starts the run"
    assert [
        f"[accounts.dnspod] token: mypass {missed}; here it is {folder}/sbin/mypass",
        f"[[certificates.deploy]] reload: mynginx {missed}; here it is {folder}/sbin/mynginx",
        f"[[certificates.deploy]] command: nowhere {missed}",
    ] == [str(finding.text).partition(": ")[2] for finding in lost]
    assert () == lost_programs(settings, environ["PATH"], environ)[:-1]


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
    external = '[acme]\neab_kid = "k"\neab_hmac_key = "command:pass show eab"\n'

    assert not runs_programs(loaded(ACCOUNTS + CERTIFICATE))
    assert runs_programs(loaded(deployed('to = "files"\ndirectory = "s"\nreload = "true"')))
    assert runs_programs(loaded(deployed('to = "command"\ncommand = "true"')))
    assert runs_programs(loaded(secret + CERTIFICATE))
    assert runs_programs(loaded(external + ACCOUNTS + CERTIFICATE))
