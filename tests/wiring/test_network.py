"""The resolvers of a run, as `[dns]` declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.adapters.acme.propagation import FixedWait
from certferry.config.load import load_text
from certferry.config.model import Settings
from certferry.wiring.clock import now
from certferry.wiring.network import USUAL_DOH, doh_of, propagation_for, resolvers_for

DOH = ("https://doh.example.com/dns-query",)


def settings(table: str) -> Settings:
    text = f"""
[dns]
{table}
[accounts.dnspod]
[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""
    return load_text(text, Path("certferry.toml"), {})


@pytest.mark.parametrize(
    ("table", "resolvers"),
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
def test_resolvers_over_https(table: str, resolvers: tuple[str, ...]) -> None:
    """Names go to other companies only if the network has no resolvers of its own, or if
    declared.
    """
    assert resolvers == doh_of(settings(table).dns)


def test_fixed_wait_needs_no_resolver() -> None:
    """With a fixed wait, neither challenges nor CAA use a resolver."""
    waiting = settings("wait = 60")

    assert isinstance(propagation_for(waiting, lambda _: None, now), FixedWait)
    assert resolvers_for(waiting, lambda _: None) is None
