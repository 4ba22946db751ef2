"""Clients and a server for the tests of the HTTP client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certferry.adapters.http.http_client import HttpClient
from certferry_sandbox import httpd
from tests.adapters.http.calls import SHORT, new_client, serve
from tests.adapters.recorded_pauses import RecordedPauses


@pytest.fixture
def waits() -> RecordedPauses:
    return RecordedPauses()


@pytest.fixture
def service() -> Iterator[httpd.HttpService]:
    """Start a server that answers every path, and a single path with a redirect."""
    with httpd.HttpService(serve) as running:
        yield running


@pytest.fixture
def client(waits: RecordedPauses) -> HttpClient:
    return new_client(waits)


@pytest.fixture
def short_timeout_client(waits: RecordedPauses) -> HttpClient:
    return new_client(waits, timeouts=SHORT)
