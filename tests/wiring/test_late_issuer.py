"""The CAs of a run, before any of them is asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.config.load import load_text
from certferry.config.model import Settings
from certferry.config.values import DIRECTORIES
from certferry.core.certificates.certificate import KeyType
from certferry.core.planning.limits import Hold
from certferry.ports.issuer import IssueRequest
from certferry.wiring.authorities import issuer_for, rehearsing
from certferry.wiring.clock import now
from certferry_sandbox.testing.memory_state import MemoryState

USUAL, OTHER = DIRECTORIES["letsencrypt"], DIRECTORIES["zerossl"]
STAGING = DIRECTORIES["letsencrypt-staging"]
REQUEST = IssueRequest("img", ("img.example.com",), KeyType.EC256)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two CAs, as the settings name them."""
    text = """
acme.fallback = ["zerossl"]
[accounts.dnspod]
[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""
    return load_text(text, tmp_path / "certferry.toml", {})


@pytest.mark.parametrize("asked", [USUAL, OTHER])
def test_each_directory_has_a_budget_of_its_own(settings: Settings, asked: str) -> None:
    """What one CA asked for holds back no order at the other; without a directory it is about the
    usual one.
    """
    state, at = MemoryState(), now()
    state.save_hold(asked, Hold(REQUEST.names, at, at + timedelta(hours=1), for_all=True))
    issuer = issuer_for(settings, state, lambda _: None)

    held = {
        directory
        for directory in ("", USUAL, OTHER)
        if issuer.rate_limit_hold(replace(REQUEST, directory=directory)) is not None
    }

    assert held == ({"", USUAL} if asked == USUAL else {OTHER})


def test_rehearsal_asks_the_staging_directory_alone(settings: Settings) -> None:
    """No other CA's certificate is one for tests."""
    acme = rehearsing(settings).acme

    assert [("letsencrypt-staging", STAGING)] == [
        (ca.name, ca.directory) for ca in acme.authorities
    ]
