"""What the tests of the HTTP client share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certferry.adapters.http.client import HttpClient
from certferry_sandbox import httpd
from tests.adapters.http.calls import SHORT, new_client, serve
from tests.adapters.waits import Waits


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def service() -> Iterator[httpd.HttpService]:
    """Start a server that answers everything, and one path with a redirect."""
    with httpd.HttpService(serve) as running:
        yield running


@pytest.fixture
def client(waits: Waits) -> HttpClient:
    return new_client(waits)


@pytest.fixture
def impatient(waits: Waits) -> HttpClient:
    return new_client(waits, timeouts=SHORT)
