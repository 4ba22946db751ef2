"""Lists of DNSPod's, or of a gateway in its place, that have no end."""

from __future__ import annotations

import itertools

import pytest

from certferry.adapters.dns.answers import MOST_PAGES
from certferry.adapters.dnspod.dns import Settings, connect
from certferry.core.secret import Secret
from certferry.errors import DnsUnavailable
from certferry_sandbox import httpd
from certferry_sandbox.testing.context import connected_with
from tests.adapters.dnspod.account import TOKEN, TOKEN_ID
from tests.adapters.waits import Waits

ZONE = "example.com"
MANY = 10**9


@pytest.mark.parametrize("action", ["Domain.List", "Record.List"])
def test_list_without_an_end(action: str) -> None:
    """Each page has another entry and none is the last: given up after so many."""
    numbers = itertools.count(1)

    def answer(request: httpd.Request) -> httpd.Response:
        is_endless = request.path == f"/{action}"
        number = next(numbers) if is_endless else 1
        total = MANY if is_endless else 1
        return httpd.Response.json(
            {
                "status": {"code": "1", "message": "Action completed successful"},
                "info": {"domain_total": total, "record_total": total},
                "domains": [{"id": number, "punycode": ZONE, "status": "enable"}],
                "records": [{"id": number, "name": "_acme-challenge", "type": "TXT", "value": "?"}],
            }
        )

    with httpd.HttpService(answer) as service:
        settings = Settings(
            Secret(TOKEN_ID), Secret(TOKEN), api=service.url, requests_per_second=1e6
        )
        provider = connect(settings, connected_with(pause=Waits(), contact="ops@example.com"))
        with pytest.raises(DnsUnavailable, match="does not come to an end"):
            provider.remove_txt(f"_acme-challenge.{ZONE}", "value", None)

    assert MOST_PAGES + 1 == next(numbers)


def test_half_a_list_is_not_the_whole() -> None:
    """A service that gives the first page again and again, with more told, has not told all."""

    def answer(request: httpd.Request) -> httpd.Response:
        del request
        return httpd.Response.json(
            {
                "status": {"code": "1", "message": "Action completed successful"},
                "info": {"domain_total": 3},
                "domains": [{"id": 1, "punycode": "another.example", "status": "enable"}],
            }
        )

    with httpd.HttpService(answer) as service:
        settings = Settings(
            Secret(TOKEN_ID), Secret(TOKEN), api=service.url, requests_per_second=1e6
        )
        provider = connect(settings, connected_with(pause=Waits(), contact="ops@example.com"))
        with pytest.raises(DnsUnavailable, match="does not come to an end"):
            provider.add_txt(f"_acme-challenge.{ZONE}", "value")

        assert 2 == len(service.journal)
