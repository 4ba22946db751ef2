"""Whom a run may ask about DNS, as `[dns]` has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.adapters.acme.propagation import FixedWait
from certferry.config.load import load_text
from certferry.config.model import Settings
from certferry.wiring.clock import now
from certferry.wiring.network import USUAL_DOH, doh_of, propagation_for, resolvers_for

DOH = ("https://doh.example.com/dns-query",)


def settings(written: str) -> Settings:
    text = f"""
[dns]
{written}
[accounts.dnspod]
[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""
    return load_text(text, Path("certferry.toml"), {})


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("", USUAL_DOH),
        ('resolvers = ["223.5.5.5"]', USUAL_DOH),
        ('resolvers = ["10.0.0.2"]', ()),
        ('resolvers = ["[fd00::2]:53", "223.5.5.5"]', ()),
        ("doh = []", ()),
        (f'doh = ["{DOH[0]}"]', DOH),
        (f'resolvers = ["10.0.0.2"]\ndoh = ["{DOH[0]}"]', DOH),
    ],
)
def test_who_is_asked_by_https(written: str, asked: tuple[str, ...]) -> None:
    """Names go to others only where the network has no resolvers of its own, or if declared."""
    assert asked == doh_of(settings(written).dns)


def test_no_resolver_is_asked_where_there_is_a_wait() -> None:
    """Neither for challenges nor for CAA."""
    waiting = settings("wait = 60")

    assert isinstance(propagation_for(waiting, lambda _: None, now), FixedWait)
    assert resolvers_for(waiting, lambda _: None) is None
