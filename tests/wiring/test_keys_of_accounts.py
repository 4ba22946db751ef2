"""An account whose table has no keys takes them from the variables that other clients use."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.adapters.alidns.dns import Settings as AlidnsSettings
from certferry.config.load import load
from certferry.config.model import AccountTable, Settings
from certferry.config.unattended import lost_secrets
from certferry.errors import ConfigError
from certferry.wiring.accounts import bound
from certferry.wiring.adapters import DNS_PROVIDERS, installed
from certferry.wiring.settings import ADAPTERS

ALIDNS = """\
[accounts.alidns]
[[certificates]]
names = ["example.com"]
dns = "alidns"
"""
KEY, SECRET = "LTAIplanted", "planted-4711"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the configuration is written."""
    return tmp_path / "certferry.toml"


def settings(file: Path, text: str, **environ: str) -> Settings:
    """Write a configuration and read it."""
    file.write_text(text)
    file.chmod(0o600)
    return load(file, environ, ADAPTERS)


def account_of(settings: Settings, label: str) -> AccountTable:
    """Give an account as it was read."""
    return settings.accounts[label]


def lines_of(settings: Settings, label: str) -> list[str]:
    """Connect an account that cannot be connected, and give the lines of the refusal."""
    account = account_of(settings, label)
    described = installed().of_account(DNS_PROVIDERS, account)
    with pytest.raises(ConfigError) as caught:
        bound(described, account, settings.secrets.resolve)
    return str(caught.value.message).splitlines()


@pytest.mark.parametrize(
    "names", [("Ali_Key", "Ali_Secret"), ("ALICLOUD_ACCESS_KEY", "ALICLOUD_SECRET_KEY")]
)
def test_a_table_without_keys(file: Path, names: tuple[str, str]) -> None:
    """The keys are those that acme.sh's and lego's variables hold. No program gets them, and cron
    is told that it will lack them.
    """
    found = settings(file, ALIDNS, **dict(zip(names, (KEY, SECRET), strict=True)))

    account = account_of(found, "alidns")
    expected = {"access_key_id": f"env:{names[0]}", "access_key_secret": f"env:{names[1]}"}
    assert expected == dict(account.values)
    one = bound(installed().of_account(DNS_PROVIDERS, account), account, found.secrets.resolve)
    assert isinstance(one, AlidnsSettings)
    assert KEY == one.access_key_id.reveal()
    assert set(names) <= found.secrets.withheld()
    said = [str(finding.text) for finding in lost_secrets(found)]
    assert [True, True] == [name in line for name, line in zip(names, said, strict=True)]


def test_keys_in_a_file_of_the_environment(file: Path) -> None:
    """What `env_files` set counts as much, so that cron has it too."""
    keys = file.with_name("keys.env")
    keys.write_text(f"Ali_Key={KEY}\nAli_Secret={SECRET}\n")
    keys.chmod(0o600)

    found = settings(file, f'env_files = ["{keys}"]\n{ALIDNS}')

    assert "env:Ali_Secret" == account_of(found, "alidns").values["access_key_secret"]
    assert [] == lost_secrets(found)


def test_other_settings_of_a_table_without_keys(file: Path) -> None:
    """An address is no key."""
    text = ALIDNS.replace(
        "[accounts.alidns]\n", '[accounts.mine]\ntype = "alidns"\napi = "https://127.0.0.1"\n'
    ).replace('dns = "alidns"', 'dns = "mine"')

    found = settings(file, text, Ali_Key=KEY, Ali_Secret=SECRET)

    assert "env:Ali_Key" == account_of(found, "mine").values["access_key_id"]


def test_the_line_to_write_is_named(file: Path) -> None:
    """For each key that is nowhere; of an account that has one key in its table, the other is not
    looked for elsewhere: halves of two accounts would be no account.
    """
    line = (
        'missing, and {names} is not set; write `{key} = "env:{first}"`, and `{first}=…` into one'
        " of the `env_files`"
    )
    of_id = line.format(names="Ali_Key / ALICLOUD_ACCESS_KEY", key="access_key_id", first="Ali_Key")
    of_secret = line.format(
        names="Ali_Secret / ALICLOUD_SECRET_KEY", key="access_key_secret", first="Ali_Secret"
    )

    assert [
        f"{file}:1: [accounts.alidns] access_key_id: {of_id}",
        f"{file}:1: [accounts.alidns] access_key_secret: {of_secret}",
    ] == lines_of(settings(file, ALIDNS), "alidns")

    half = ALIDNS.replace("]\n[[", f']\naccess_key_id = "{KEY}"\n[[')
    assert [f"{file}:1: [accounts.alidns] access_key_secret: {of_secret}"] == lines_of(
        settings(file, half, Ali_Key="LTAIanother", Ali_Secret=SECRET), "alidns"
    )


def test_a_setting_that_no_variable_holds(file: Path) -> None:
    """It is missing, and that is all."""
    text = ALIDNS.replace("alidns", "lexicon")

    [line] = lines_of(settings(file, text), "lexicon")

    assert line.endswith("[accounts.lexicon] provider: missing")


def test_keys_that_others_may_replace(file: Path) -> None:
    """A registration of acme-dns may be a file: variables are not mixed into it."""
    environ = {
        "ACMEDNS_BASE_URL": "https://acme-dns.example.com",
        "ACMEDNS_USERNAME": "planted-user",
        "ACMEDNS_PASSWORD": "planted-4711",
        "ACMEDNS_SUBDOMAIN": "planted-sub",
    }
    text = ALIDNS.replace("alidns", "acme-dns")
    in_a_file = text.replace("]\n[[", ']\nstorage = "registrations.json"\n[[')

    whole = account_of(settings(file, text, **environ), "acme-dns").values
    beside = account_of(settings(file, in_a_file, **environ), "acme-dns").values

    assert {"api", "username", "password", "subdomain"} == set(whole)
    assert {"api", "storage"} == set(beside)
