"""Whatever a service answers to the library lexicon, the port raises certferry's errors alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given

from certferry_sandbox.testing.contracts.dns import VALUE
from tests.adapters.lexicon.account import at
from tests.fuzz.bent import Bend, Bent, bends
from tests.fuzz.outcomes import only_ours, over_sockets
from tests.support.powerdns import PowerDns

NAME = "_acme-challenge.www.example.com"


@pytest.fixture(scope="module")
def front(one_powerdns: PowerDns) -> Iterator[Bent]:
    """Bend what a real PowerDNS answers."""
    with Bent(one_powerdns.url) as front:
        yield front


@over_sockets
@given(bend=bends())
def test_a_service_is_asked_by_lexicon(front: Bent, bend: Bend) -> None:
    """For a record put and taken away, and for the zone of a name."""
    provider = at(front.url)
    for call in (
        partial(provider.add_txt, NAME, VALUE),
        partial(provider.remove_txt, NAME, VALUE, None),
        partial(at(front.url).zone_of, NAME),
    ):
        front.turn = bend.turns()
        only_ours(call)
