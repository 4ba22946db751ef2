"""What the tests of the DNSPod stand-in share: accounts, zones, a clock, and a client."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from certferry_sandbox.dnspod.service import DnspodService
from certferry_sandbox.zones import Zones
from tests.support.dnspod_calls import (
    LOGIN,
    NOW,
    TIMEOUT,
    TOKEN,
    TOKEN_ID,
    USER_AGENT,
    Answer,
    CallApi,
)
from tests.support.manual_clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """The clock of zones, index and lockout."""
    return ManualClock()


@pytest.fixture
def zones(clock: ManualClock) -> Zones:
    """The zones that the service writes to."""
    return Zones(clock)


@pytest.fixture
def service(zones: Zones) -> Iterator[DnspodService]:
    """Two accounts with domains of every kind."""
    with DnspodService(zones, nameservers=["ns1.dns.test", "ns2.dns.test"], now=lambda: NOW) as api:
        api.add_account(TOKEN_ID, TOKEN, "ops@example.com")
        other = api.add_account("77777", "0" * 32, "other@example.org")
        api.add_domain("example.com")
        api.add_domain("dev.example.com", min_ttl=120)
        api.add_domain("例子.com", grade="DP_Ultra")
        for status in ("pause", "spam", "lock"):
            api.add_domain(f"{status}.example.net", status=status)
        api.add_domain("example.org", account=other)
        yield api


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A client that introduces itself as the documentation asks."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["User-Agent"] = USER_AGENT
        yield session


@pytest.fixture
def call(service: DnspodService, session: requests.Session) -> CallApi:
    """Call an action as a good client does, and give the answer."""

    def call(action: str, **fields: str | int) -> Answer:
        form = {"login_token": LOGIN, "format": "json", "lang": "en"} | fields
        response = session.post(f"{service.url}/{action}", data=form, timeout=TIMEOUT)
        assert 200 == response.status_code
        answer: Answer = json.loads(response.content)
        return answer

    return call
