"""Settings for a certificate that another client has renewed, where no file declares any."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.config.load import WITHOUT_FILE
from certferry.config.model import Settings
from certferry.core.desired.certificate import DesiredDeployment, PemFiles
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.wiring.settings import from_client
from tests.config.conftest import Load

FILES = PemFiles("/live/example.com/fullchain.pem", "/live/example.com/privkey.pem")
KEYS = {"QINIU_AK": "a", "QINIU_SECRET_KEY": "s"}


def test_without_a_file_the_clients_certificate_is_declared() -> None:
    """It goes to every domain it covers at Qiniu; only that account's keys are needed."""
    settings = from_client("example.com-0001", FILES, {"HOME": "/h", **KEYS})

    (wish,) = settings.certificates
    account = settings.accounts["qiniu"].values
    assert FILES == wish.files
    assert ("example.com-0001", (DesiredDeployment("qiniu"),)) == (wish.lineage, wish.deployments)
    assert ["qiniu"] == list(settings.accounts)
    assert {"access_key": "env:QINIU_AK", "secret_key": "env:QINIU_SECRET_KEY"} == dict(account)
    assert settings.path is None


def in_file(loaded: Load, text: str, **environ: str) -> Settings:
    """Declare a certificate in addition to a file that declares none."""
    return from_client("example.com", FILES, {"HOME": "/h", **environ}, loaded(text, **environ))


def test_file_without_certificates_says_where_and_how(loaded: Load) -> None:
    """Its account takes the client's certificate, whatever it is called; the rest of it holds."""
    settings = in_file(
        loaded,
        '[state]\nurl = "sqlite:///here.db"\n[accounts.cdn]\ntype = "qiniu"\n'
        'access_key = "env:MINE"\nsecret_key = "env:ALSO"\napi = "http://127.0.0.1:1"\n',
    )

    (wish,) = settings.certificates
    assert ("example.com", (DesiredDeployment("cdn"),)) == (wish.lineage, wish.deployments)
    assert FILES == wish.files
    assert "here.db" == settings.state.path.name
    assert "env:MINE" == settings.accounts["cdn"].values["access_key"]
    assert settings.path is not None


@pytest.mark.parametrize("account", ["", '[accounts.qiniu]\napi = "http://127.0.0.1:1"\n'])
def test_keys_that_the_file_lacks_come_from_the_environment(loaded: Load, account: str) -> None:
    """Its own environment files included; DNSPod's account is not needed."""
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


def test_without_a_file_every_missing_key_is_told() -> None:
    """Both of Qiniu's, and none of DNSPod's."""
    with pytest.raises(ConfigError) as caught:
        from_client("example.com", FILES, {"HOME": "/h"})

    assert [
        "QINIU_ACCESS_KEY / QINIU_AK: not set: the access key (AK) of the Qiniu account",
        "QINIU_SECRET_KEY / QINIU_SK: not set: the secret key (SK) of the Qiniu account",
    ] == str(caught.value).splitlines()
    assert WITHOUT_FILE == caught.value.hint


def test_secrets_print_nothing() -> None:
    """The settings hold references, not keys."""
    settings = from_client(
        "example.com", FILES, {"HOME": "/h", "QINIU_AK": "a", "QINIU_SK": "very-s"}
    )

    assert "very-s" not in repr(settings)
    assert Secret("very-s") != settings.accounts["qiniu"].values["secret_key"]
