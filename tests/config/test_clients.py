"""What other ACME clients say, in variables."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from certferry.config.clients import (
    CLIENTS,
    MODES,
    Renewed,
    home_of_acme_sh,
    renewed_by,
    whoever_renewed,
)
from certferry.config.load import WITHOUT_FILE
from certferry.config.model import Settings
from certferry.core.desired import DesiredDeployment, PemFiles
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.wiring.settings import from_client
from tests.config.conftest import Load

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
        ("example.com", "*.example.com"),
    ),
    "lego": Renewed(
        "lego",
        "example.com",
        PemFiles("/lego/certificates/_.example.com.crt", "/lego/certificates/_.example.com.key"),
    ),
}
KEYS = {"QINIU_AK": "a", "QINIU_SECRET_KEY": "s"}


def test_every_mode_is_a_client_or_the_old_one() -> None:
    """Four modes, as the contract lists them."""
    assert ("acme.sh", "certbot", "lego", "qiniu") == MODES
    assert set(CLIENTS) == set(SPEECH)


@pytest.mark.parametrize("client", SPEECH)
def test_what_a_client_says_is_understood(client: str) -> None:
    """Its name for the certificate, without what a shell would replace, the fullchain and the key,
    and which domains it says these are for; who it is, too.
    """
    assert RENEWED[client] == renewed_by(client, SPEECH[client])
    assert RENEWED[client] == whoever_renewed(SPEECH[client])


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
        assert whoever_renewed(environ) is None


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


def test_acme_sh_is_at_home_where_it_says() -> None:
    """`LE_WORKING_DIR`, which it exports, else the usual directory."""
    assert Path("/opt/acme") == home_of_acme_sh({"LE_WORKING_DIR": "/opt/acme", "HOME": "/h"})
    assert Path("/h/.acme.sh") == home_of_acme_sh({"HOME": "/h"})


def test_without_a_file_the_clients_certificate_is_declared() -> None:
    """It goes to every domain it covers at Qiniu; only that account's keys are needed."""
    settings = from_client(RENEWED["certbot"], {"HOME": "/h", **KEYS})

    (wish,) = settings.certificates
    account = settings.accounts["qiniu"].values
    assert RENEWED["certbot"].files == wish.files
    assert ("example.com-0001", (DesiredDeployment("qiniu"),)) == (wish.lineage, wish.deployments)
    assert ["qiniu"] == list(settings.accounts)
    assert {"access_key": "env:QINIU_AK", "secret_key": "env:QINIU_SECRET_KEY"} == dict(account)
    assert settings.path is None


def in_file(loaded: Load, text: str, **environ: str) -> Settings:
    """Declare lego's certificate in addition to a file that declares none."""
    return from_client(RENEWED["lego"], {"HOME": "/h", **environ}, loaded(text, **environ))


def test_file_without_certificates_says_where_and_how(loaded: Load) -> None:
    """Its account takes the client's certificate, whatever it is called; the rest of it holds."""
    settings = in_file(
        loaded,
        '[state]\nurl = "sqlite:///here.db"\n[accounts.cdn]\ntype = "qiniu"\n'
        'access_key = "env:MINE"\nsecret_key = "env:ALSO"\napi = "http://127.0.0.1:1"\n',
    )

    (wish,) = settings.certificates
    assert ("example.com", (DesiredDeployment("cdn"),)) == (wish.lineage, wish.deployments)
    assert RENEWED["lego"].files == wish.files
    assert "here.db" == settings.state.path.name
    assert "env:MINE" == settings.accounts["cdn"].values["access_key"]
    assert settings.path is not None


@pytest.mark.parametrize("account", ["", '[accounts.qiniu]\napi = "http://127.0.0.1:1"\n'])
def test_keys_that_the_file_lacks_come_from_the_environment(loaded: Load, account: str) -> None:
    """Its own environment files included; DNSPod's account is nobody's business."""
    env_file = Path("cdn.env")
    env_file.write_text("QINIU_AK=a\n")
    env_file.chmod(0o600)

    settings = in_file(
        loaded,
        f'env_files = ["cdn.env"]\n{account}[accounts.dnspod]\ntoken = "env:DP_Key"\n',
        QINIU_SECRET_KEY="s",
    )

    values = settings.accounts["qiniu"].values
    assert ("env:QINIU_AK", "env:QINIU_SECRET_KEY") == (values["access_key"], values["secret_key"])


def test_key_that_neither_has_is_told(loaded: Load) -> None:
    """With both of its names."""
    with pytest.raises(ConfigError, match="QINIU_SECRET_KEY / QINIU_SK: not set"):
        in_file(loaded, '[accounts.qiniu]\naccess_key = "env:MINE"\n')


def test_of_two_accounts_none_is_guessed(loaded: Load) -> None:
    """Which one is meant is to be declared."""
    one = 'access_key = "env:A"\nsecret_key = "env:B"\ntype = "qiniu"\n'

    with pytest.raises(ConfigError, match="several accounts of Qiniu's: a, b") as caught:
        in_file(loaded, f"[accounts.a]\n{one}[accounts.b]\n{one}")

    assert "[[certificates]]" in str(caught.value.hint)


@pytest.mark.parametrize("client", SPEECH)
def test_without_a_file_every_missing_key_is_told(client: str) -> None:
    """Both of Qiniu's, and none of DNSPod's."""
    with pytest.raises(ConfigError) as caught:
        from_client(RENEWED[client], {"HOME": "/h"})

    assert [
        "QINIU_ACCESS_KEY / QINIU_AK: not set: the access key (AK) of the Qiniu account",
        "QINIU_SECRET_KEY / QINIU_SK: not set: the secret key (SK) of the Qiniu account",
    ] == str(caught.value).splitlines()
    assert WITHOUT_FILE == caught.value.hint


def test_secrets_print_nothing() -> None:
    """The settings hold references, not keys."""
    settings = from_client(RENEWED["lego"], {"HOME": "/h", "QINIU_AK": "a", "QINIU_SK": "very-s"})

    assert "very-s" not in repr(settings)
    assert Secret("very-s") != settings.accounts["qiniu"].values["secret_key"]
