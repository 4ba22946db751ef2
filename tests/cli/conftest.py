"""Fixtures of the tests of `certferry init` and `certferry schedule`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from certferry_sandbox.authority import Authority
from certferry_sandbox.dnspod.service import DnspodService
from certferry_sandbox.qiniu.service import QiniuService
from certferry_sandbox.zones import Zones
from tests.cli.init_accounts import AK, DP_ID, DP_KEY, SK, Accounts
from tests.cli.schedules import CONFIG, KEYS


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    """Return accounts with two domains of a zone, and a domain outside all zones."""
    zones = Zones()
    with DnspodService(zones) as dnspod, QiniuService() as qiniu:
        dnspod.add_account(DP_ID, DP_KEY)
        dnspod.add_domain("example.com")
        qiniu.add_account(AK, SK)
        end = datetime.now(UTC) + timedelta(days=20, hours=1)
        old = Authority("Old").issue(
            ["img.example.com", "*.w.example.com"], end - timedelta(days=90), end
        )
        by_hand = qiniu.add_certificate(old, "by hand")
        qiniu.add_domain("img.example.com", https=by_hand)
        qiniu.add_domain(".w.example.com", https=by_hand)
        qiniu.add_domain("x.example.net")
        (tmp_path / "settings.toml").write_text(
            dedent(f"""\
            [state]
            url = "sqlite:///state.db"

            [accounts.dnspod]
            api = "{dnspod.url}"
            requests_per_second = 50

            [accounts.qiniu]
            api = "{qiniu.api_url}"
            fusion = "{qiniu.fusion_url}"
            uc = "{qiniu.uc_url}"
            """)
        )
        yield Accounts(tmp_path, dnspod, qiniu)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    keys = tmp_path / "keys.env"
    keys.touch(0o600)
    keys.write_text(KEYS)
    path = tmp_path / "certferry.toml"
    path.write_text(f'env_files = ["{keys}"]\n{CONFIG}')
    return path
