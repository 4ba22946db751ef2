"""Whatever DNS services answer, their adapters raise certferry's errors alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import pytest
from hypothesis import given

from certferry.ports.examination import Delegated, Reported, Timed
from certferry.ports.survey import ZoneKeeper
from tests.adapters.dns.by_id.any_account import SERVICES, AnAccount, opened
from tests.adapters.dnspod.account import DnspodAccount
from tests.fuzz.bent import Bend, Bent, bends
from tests.fuzz.outcomes import only_ours, over_sockets

CHALLENGE = "_acme-challenge.www.example.com"


@dataclass(frozen=True, repr=False)
class BentAccount:
    """An account with two zones, and what stands before its service."""

    account: AnAccount
    front: Bent

    @property
    def api(self) -> str:
        """The address of the API, behind the front."""
        return self.front.url + urlsplit(self.account.service.url).path


@pytest.fixture(scope="module", params=SERVICES)
def bent(request: pytest.FixtureRequest) -> Iterator[BentAccount]:
    """Run the stand-in of each service."""
    with opened(request.param) as account, Bent(account.service.http.url) as front:
        account.add_zone("example.com")
        account.add_zone("example.org")
        yield BentAccount(account, front)


@over_sockets
@given(bend=bends())
def test_a_dns_service_is_asked(bent: BentAccount, bend: Bend) -> None:
    """Zones, a record put and taken away, with its handle and without."""
    provider = bent.account.connect(api=bent.api)
    fresh = bent.account.connect(api=bent.api)  # it has not listed the zones
    for call in (
        cast("ZoneKeeper", provider).zones,
        cast("Timed", provider).clock_ahead,
        partial(cast("Delegated", provider).name_servers, "example.com"),
        partial(provider.add_txt, CHALLENGE, "a value"),
        partial(fresh.add_txt, CHALLENGE, "another value"),
        partial(provider.remove_txt, CHALLENGE, "a value", None),
        partial(provider.remove_txt, CHALLENGE, "another value", "1|2"),
        partial(provider.add_txt, "_acme-challenge.example.net", "a value"),
    ):
        bent.front.turn = bend.turns()
        only_ours(call)
    if isinstance(bent.account, DnspodAccount):
        bent.front.turn = bend.turns()
        assert not any("example" in str(one) for one in cast("Reported", fresh).report().lines)
