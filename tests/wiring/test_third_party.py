"""Ports of other people's: whatever ends their work is told as theirs."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from types import ModuleType

import pytest

from certferry.core.secret import Secret
from certferry.errors import ConfigError, DnsError, DnsUnavailable, Interrupted
from certferry.text import Text
from certferry.wiring.adapters import Described, Guard

TOKEN = "planted-token-0123456789"


def guard(within: timedelta = timedelta(seconds=20)) -> Guard:
    """Watch over a port of a package's."""
    whose = Described("bad", "certferry-bad", ModuleType("bad_dns"))
    return Guard(whose, lambda: frozenset({Secret(TOKEN)}), within)


@pytest.mark.parametrize(
    "raised",
    [SystemExit(f"gone {TOKEN}"), GeneratorExit(), asyncio.CancelledError(), ValueError(TOKEN)],
    ids=lambda one: type(one).__name__,
)
def test_whatever_ends_the_work_is_the_packages_failure(raised: BaseException) -> None:
    """Not the thread's end, nor the process's; and it shows no secret."""
    with (
        pytest.raises(DnsError, match="certferry-bad: bad failed") as told,
        guard().over(DnsError, DnsUnavailable),
    ):
        raise raised
    assert type(raised).__name__ in str(told.value)
    assert TOKEN not in str(told.value)

    def connect() -> object:
        raise raised

    with pytest.raises(ConfigError, match="certferry-bad: bad failed"):
        guard().connecting((), connect)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted(Text("stopped"))])
def test_a_stop_stays_one(stop: BaseException) -> None:
    """The operator's, by Ctrl-C or within a pause."""
    with pytest.raises(type(stop)), guard().over(DnsError, DnsUnavailable):
        raise stop


def test_port_that_never_connects() -> None:
    """It is given up, and told: no command waits for ever."""
    never = threading.Event()
    try:
        with pytest.raises(ConfigError, match="bad does not connect within"):
            guard(timedelta(seconds=0.1)).connecting((), never.wait)
    finally:
        never.set()
