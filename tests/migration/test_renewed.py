"""What other ACME clients say, in variables."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from certferry.cli import hook
from certferry.core.desired.certificate import PemFiles
from certferry.errors import ConfigError
from certferry.migration.renewed import (
    CLIENTS,
    QINIU,
    Renewed,
    renewed_by,
    renewed_by_any,
)

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
    assert ("acme.sh", "certbot", "lego", "qiniu") == (*CLIENTS, QINIU) == hook.MODES
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
    """Paths that lego was told relatively hold where its hook runs, too."""
    monkeypatch.chdir(tmp_path)
    environ = {**SPEECH["lego"], "LEGO_CERT_PATH": "x.crt", "LEGO_CERT_KEY_PATH": "./x.key"}

    files = renewed_by("lego", environ).files

    assert PemFiles(str(tmp_path / "x.crt"), str(tmp_path / "x.key")) == files


def test_only_lego_ends_its_hook() -> None:
    """acme.sh 3.1 and certbot 4.0 let a hook run; lego 4.9 kills it after two minutes."""
    limited = {name: client.patience for name, client in CLIENTS.items() if client.patience}

    assert ["lego"] == list(limited)
    assert limited["lego"] < timedelta(minutes=2)
