"""Altered files of other programs: their readers raise only certferry's own errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.files.receipt import Receipt
from certferry.adapters.files.source import PemFileSource
from certferry.adapters.schedule.cron import own_entries, with_entry, without_entry
from certferry.config.env_files import environment_with
from certferry.config.load import load
from certferry.core.discovery.proposal import Places, TargetAccount
from certferry.migration import acme_sh, certbot, lego
from certferry.migration.home import OldClient
from certferry.migration.takeover import propose_takeover
from certferry.wiring.settings import ADAPTERS
from tests.fuzz.altered_answers import ODD, altered_bytes
from tests.fuzz.outcomes import in_memory, only_ours
from tests.migration.old_homes import (
    VARIABLES,
    AcmeShHome,
    CertbotHome,
    LegoHome,
    in_base64,
    issued,
)

NAME = "img.example.com"
MADE = issued(NAME, f"*.{NAME}")
PLACES = Places(dns="dnspod", zones=None, targets=(TargetAccount("qiniu"),))
SEEDS = st.integers(0, 2**32 - 1)
ENV = rb"""# keys of the CDN
export QINIU_AK="a \"quoted\" key"
QINIU_SK='single'plain"double" # a comment
DP_Id=13490
EMPTY=
"""
CONFIG = b"""env_files = ["env"]
[state]
url = "sqlite:///state.db"
[accounts.qiniu]
access_key = "env:QINIU_AK"
secret_key = "env:QINIU_SK"
[[certificates]]
fullchain = "fullchain.pem"
privkey = "privkey.pem"
deploy = [{ to = "qiniu", tls_versions = ["TLSv1.2"] }]
"""
CRONTAB = b"""PATH=/usr/bin:"/opt/x"
17 3 * * * /usr/local/bin/certferry sync # certferry schedule
@daily true
"""
READERS: dict[OldClient, Callable[..., Any]] = {
    OldClient.ACME_SH: partial(acme_sh.read, variables=VARIABLES),
    OldClient.CERTBOT: certbot.read,
    OldClient.LEGO: lego.read,
}


def altered(data: bytes, seed: int) -> bytes:
    """Alter a file's content once or a few times, often by an odd character more."""
    chance = Random(seed)  # noqa: S311 - for alterations, not for security
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) + 1)
        odd = data[:at] + chance.choice(ODD) + data[at:]
        data = odd if chance.random() < 0.5 else altered_bytes(data, chance)
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@in_memory
@given(data=st.binary(max_size=200) | SEEDS.map(partial(altered, ENV)))
def test_an_env_file(folder: Path, data: bytes) -> None:
    """The file sets variables, or every wrong line is reported."""
    path = folder / "env"
    path.write_bytes(data)
    path.chmod(0o600)

    only_ours(partial(environment_with, {}, [path]))


@in_memory
@given(config=SEEDS, env=SEEDS)
def test_a_configuration_with_its_env_file(folder: Path, config: int, env: int) -> None:
    """The configuration is read, or every error is reported."""
    path = folder / "certferry.toml"
    for altered_file, data in (
        (path, altered(CONFIG, config)),
        (folder / "env", altered(ENV, env)),
    ):
        altered_file.write_bytes(data)
        altered_file.chmod(0o600)

    only_ours(partial(load, path, {"HOME": str(folder)}, ADAPTERS))


@in_memory
@given(seed=SEEDS, client=st.sampled_from(OldClient), place=st.integers(0, 20))
def test_the_home_of_another_client(
    tmp_path_factory: pytest.TempPathFactory, seed: int, client: OldClient, place: int
) -> None:
    """With a damaged file, the other certificates are proposed or a single error is raised."""
    path = tmp_path_factory.mktemp("home") / "home"
    _fill(client, path)
    notes = sorted(path.rglob("*.conf"))
    files = [*notes * 3, *sorted(file for file in path.rglob("*") if file.is_file())]
    spoilt = files[place % len(files)]
    spoilt.write_bytes(altered(spoilt.read_bytes(), seed))

    def proposed() -> None:
        takeover = READERS[client](path, path, PemFileSource())
        for keep in (True, False):
            propose_takeover(takeover.certificates, PLACES, client, keep_client=keep)

    only_ours(proposed)


def _fill(client: OldClient, path: Path) -> None:
    match client:
        case OldClient.ACME_SH:
            home = AcmeShHome(path)
            home.keep_keys(ACCOUNT_EMAIL="ops@example.com")
            home.add(
                MADE,
                NAME,
                Le_RealFullChainPath="/opt/ssl/img.pem",
                Le_RealKeyPath="/opt/ssl/img.key",
                Le_ReloadCmd=in_base64("nginx -s reload && true"),
            )
        case OldClient.CERTBOT:
            CertbotHome(path).add(MADE, NAME)
        case OldClient.LEGO:
            LegoHome(path).add(MADE, NAME)


@in_memory
@given(data=st.binary(max_size=200) | SEEDS.map(partial(altered, CRONTAB)))
def test_a_crontab(data: bytes) -> None:
    """The file has arbitrary bytes of its owner: our entry is recognised, and all others stay."""
    only_ours(
        partial(own_entries, data),
        partial(with_entry, data, b"certferry sync", time(3, 17)),
        partial(without_entry, data),
    )


@in_memory
@given(seed=SEEDS)
def test_a_receipt(seed: int) -> None:
    """Other users may change the file: a damaged receipt is ignored."""
    receipt = Receipt("ab" * 32, {"cert.pem": "cd" * 32}, "ef" * 32)

    only_ours(partial(Receipt.decode, altered(receipt.encode(), seed)))
