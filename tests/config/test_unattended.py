"""Settings in a run by the system: needed variables, and missing variables and programs."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from certferry.config.unattended import (
    directories_filled,
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
    return f"{ACCOUNTS}{CERTIFICATE}\n[[certificates.deploy]]\n{tables}\n"


def test_lost_secrets_of_the_present_environment(loaded: Load, folder: Path) -> None:
    """A run by the system has literals, files and environment files, but not the variables of this
    process.
    """
    external = '\n[acme]\neab_kid = "k"\neab_hmac_key = "env:EAB"\n'
    lost = lost_secrets(loaded(ACCOUNTS + CERTIFICATE + external, DP_Key="k", EAB="ZWFi"))
    assert [
        (
            "certferry.toml:4: [accounts.dnspod] token: cron and systemd start the run without"
            " DP_Key"
        ),
        "certferry.toml: [acme] eab_hmac_key: cron and systemd start the run without EAB",
    ] == [str(finding.text) for finding in lost]

    keys = folder / "keys.env"
    keys.touch(0o600)
    keys.write_text("DP_Key=k\nEAB=ZWFi\n")
    settings = loaded('env_files = ["keys.env"]\n' + ACCOUNTS + CERTIFICATE + external)

    assert [] == lost_secrets(settings)


def test_lost_secrets_of_a_shared_state(loaded: Load) -> None:
    """The findings include the key, the password and the variable of libpq."""
    state = '[state]\nurl = "postgresql://a@127.0.0.1/x"\nkey = "env:KEY"\n'

    texts = [finding.text for finding in lost_secrets(loaded(state, PGPASSWORD="p"))]

    assert [
        "certferry.toml:3: [state] key: cron and systemd start the run without KEY",
        "certferry.toml:1: [state] password: cron and systemd start the run without PGPASSWORD",
    ] == [str(text) for text in texts]


def test_home_as_a_needed_variable() -> None:
    """An unusual home and the directory of the state are needed; cron sets the usual home
    itself.
    """
    usual = pwd.getpwuid(os.geteuid()).pw_dir

    assert {} == needed_environment({"HOME": usual, "PATH": "/bin"})
    assert {"HOME": "/srv/home"} == needed_environment({"HOME": "/srv/home"})
    assert {"XDG_DATA_HOME": "/srv/data"} == needed_environment(
        {"HOME": usual, "XDG_DATA_HOME": "/srv/data"}
    )


@pytest.mark.parametrize(
    ("environ", "needed"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, {"HTTPS_PROXY"}),
        ({"http_proxy": "p:1", "NO_PROXY": "localhost"}, {"http_proxy", "NO_PROXY"}),
        ({"ALL_PROXY": "socks5://p:1"}, {"ALL_PROXY"}),
        ({"HTTPS_PROXY": ""}, set()),
        ({"FTP_PROXY": "http://p:1"}, set()),
        ({"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "/b"}, {"CURL_CA_BUNDLE"}),
        ({"SSL_CERT_FILE": "/c", "SSL_CERT_DIR": "/d"}, {"SSL_CERT_FILE"}),
    ],
)
def test_needed_variables_of_the_http_library(environ: dict[str, str], needed: set[str]) -> None:
    """The result has exactly the variables that affect the library."""
    assert {name: environ[name] for name in needed} == needed_environment(environ)
    assert [] == withheld_variables(environ)


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTPS_PROXY": "http://p:1"},
        {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"},
        {"ALL_PROXY": "http://p:1", "no_proxy": "ca.example"},
        {"ALL_PROXY": "http://p:1", "no_proxy": "other.example"},
        {"REQUESTS_CA_BUNDLE": "/a", "CURL_CA_BUNDLE": "/b"},
        {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "/b"},
        {"SSL_CERT_FILE": "/c", "SSL_CERT_DIR": "/d"},
    ],
)
def test_http_library_with_the_needed_variables(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`requests` chooses the same proxies and trusted CAs as with the whole environment."""
    variables = needed_environment(environ)

    with monkeypatch.context() as whole:
        for name, value in environ.items():
            whole.setenv(name, value)
        before = decided()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert before == decided()


def decided() -> dict[str, object]:
    """Return the settings that `requests` derives from the environment."""
    with requests.Session() as session:
        merged = session.merge_environment_settings("https://ca.example/", {}, None, None, None)
        return {**merged, "proxies": dict(merged["proxies"])}


@given(
    st.sampled_from(["https_proxy", "HTTP_PROXY", "all_proxy"]),
    st.text(st.characters(codec="ascii", exclude_characters="@"), min_size=1),
    st.sampled_from(["http://{}@p:1", "{}@p", "socks5h://u:{}@p:1/"]),
)
def test_proxy_with_a_user_is_withheld(name: str, secret: str, form: str) -> None:
    """The message has the variable's name, and never the value."""
    value = form.format(secret)

    [finding] = withheld_variables({name: value, "NO_PROXY": "localhost"})

    assert (
        f"{name}: the variable may contain a password, so certferry does not store it for the run"
        == str(finding.text)
    )


def test_withheld_proxy_is_not_needed() -> None:
    """The exceptions to a proxy are still needed, since the operator sets the proxy elsewhere."""
    environ = {"HTTPS_PROXY": "http://me:geheim@p:1", "NO_PROXY": "localhost"}

    assert {"NO_PROXY": "localhost"} == needed_environment(environ)


def test_programs_outside_the_path_of_the_system(loaded: Load, folder: Path) -> None:
    """The findings have programs without a path, with their present place. A program that is
    missing here too is omitted, since every run fails.
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
        f"[accounts.dnspod] token: mypass {missed}; here the program is {folder}/sbin/mypass",
        (
            f"[[certificates.deploy]] reload: mynginx {missed}; here the program is"
            f" {folder}/sbin/mynginx"
        ),
    ] == [str(finding.text).partition(": ")[2] for finding in lost]
    assert [] == lost_programs(settings, environ["PATH"], environ)


def test_files_without_programs(loaded: Load, folder: Path) -> None:
    """A delivery to files writes into its directory, or into the parent of a missing directory."""
    settings = loaded(deployed('to = "files"\ndirectory = "ssl/img"'))

    assert not runs_programs(settings)
    assert [folder] == directories_filled(settings)
    (folder / "ssl/img").mkdir(parents=True)
    assert [folder / "ssl/img"] == directories_filled(settings)


def test_deployments_and_secrets_with_programs(loaded: Load) -> None:
    """A reload, a command, and the command of a secret count as programs."""
    secret = ACCOUNTS.replace("env:DP_Key", "command:pass show dnspod")
    external = '[acme]\neab_kid = "k"\neab_hmac_key = "command:pass show eab"\n'

    assert not runs_programs(loaded(ACCOUNTS + CERTIFICATE))
    assert runs_programs(loaded(deployed('to = "files"\ndirectory = "s"\nreload = "true"')))
    assert runs_programs(loaded(deployed('to = "command"\ncommand = "true"')))
    assert runs_programs(loaded(secret + CERTIFICATE))
    assert runs_programs(loaded(external + ACCOUNTS + CERTIFICATE))
