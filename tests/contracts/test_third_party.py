"""The contract of DNS providers, for the package from the recipe in CONTRIBUTING.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certferry.core.redaction import Secret
from certferry.ports.dns import DnsProvider
from certferry_sandbox.testing.context import connected_with
from certferry_sandbox.testing.contracts.dns import ZONE, DnsProviderContract, Values
from certferry_sandbox.zones import Zones
from tests.data.third_party.src.certferry_harbour.dns import Settings, connect
from tests.support.harbour import Harbour, harbour


class TestHarbour(DnsProviderContract):
    """A service that does not exist."""

    @pytest.fixture
    def zones(self) -> Zones:
        zones = Zones()
        zones.add_zone(ZONE, ["ns1.harbour.example"])
        return zones

    @pytest.fixture
    def service(self, zones: Zones) -> Iterator[Harbour]:
        with harbour(zones) as service:
            yield service

    @pytest.fixture
    def provider(self, service: Harbour) -> DnsProvider:
        return connect(Settings(Secret(service.token), service.http.url), connected_with())

    @pytest.fixture
    def other(self, service: Harbour) -> DnsProvider:
        """Return another connection."""
        return connect(Settings(Secret(service.token), service.http.url), connected_with())

    @pytest.fixture
    def denied(self, service: Harbour) -> DnsProvider:
        return connect(Settings(Secret("wrong"), service.http.url), connected_with())

    @pytest.fixture
    def values(self, zones: Zones) -> Values:
        return lambda name: [r.value for r in zones.records(name=name, rtype="TXT")]
