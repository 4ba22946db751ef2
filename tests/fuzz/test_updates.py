"""Whatever a server answers to a signed update, nothing but certferry's errors gets out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.rfc2136.account import connected
from tests.adapters.rfc2136.scripted_server import Scripted, scripted
from tests.fuzz.outcomes import only_ours, over_sockets
from tests.fuzz.test_name_servers import bent_wire

NAME = "_acme-challenge.www.example.com"


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    """Run a server."""
    with scripted() as server:
        yield server


@over_sockets
@given(seed=st.integers(0, 2**32 - 1), is_signed=st.booleans())
def test_an_answer_to_an_update(server: Scripted, seed: int, *, is_signed: bool) -> None:
    """Bent by the server, which signs it all the same, or on the way."""
    chance = Random(seed)  # noqa: S311 - it bends answers, and guards nothing

    def bend(wire: bytes) -> bytes:
        return bent_wire(wire, chance)

    def none(wire: bytes) -> bytes:
        return wire

    server.bend, server.turn = (bend, none) if is_signed else (none, bend)
    provider = connected(server.address, timeout=timedelta(seconds=1))

    only_ours(
        partial(provider.add_txt, NAME, "a value"),
        partial(provider.remove_txt, NAME, "a value", None),
        provider.clock_ahead,
        partial(connected(server.address, zones=("example.com",)).zone_of, NAME),
    )
