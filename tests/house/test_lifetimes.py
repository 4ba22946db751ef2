"""The table of lifetimes in Qiniu's reference pages says what the core decides."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from certferry.adapters.qiniu.target import MIN_REMAINING_DAYS
from certferry.core.certificates.renewal import renew_at
from certferry.core.observed.observation import TargetRules
from tests.core.strategies import certificate
from tests.house.tree import ROOT

RULES = TargetRules(timedelta(days=MIN_REMAINING_DAYS))
HOURS = 160
"""How long certificates of six days live (Let's Encrypt's profiles page, 2026-07-14)."""

LIVES = {90: timedelta(days=90), 64: timedelta(days=64), 45: timedelta(days=45)}
_ROW = re.compile(r"^\| (\d+) \| (\d+) \| (\d+|—) \| (\d+|—) \|", re.MULTILINE)


def row(days: int, lifetime: timedelta) -> tuple[str, ...]:
    """What the core says: renewed after, uploadable for, and how long the old one serves then."""
    leaf = certificate(lifetime=lifetime)
    renewal = renew_at(leaf) - leaf.not_before
    window = RULES.upload_deadline(leaf) - leaf.not_before
    takes = window > timedelta(0)
    return (
        str(days),
        str(renewal.days),
        str(window.days) if takes else "—",
        str((lifetime - renewal).days) if takes else "—",
    )


@pytest.mark.parametrize("page", ["qiniu.md", "qiniu.zh-CN.md"])
def test_the_table_of_lifetimes_is_true(page: str) -> None:
    """For 90, 64, 45 and 6 days, in both languages."""
    text = (ROOT / "docs/reference" / page).read_text(encoding="utf-8")
    expected = [row(days, lifetime) for days, lifetime in LIVES.items()]
    expected.append(row(6, timedelta(hours=HOURS)))

    assert expected == _ROW.findall(text)
