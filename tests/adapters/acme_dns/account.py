"""Registrations at the stand-in of an acme-dns server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certferry.adapters.acme_dns.dns import AcmeDnsServer, Settings, connect
from certferry.core.redaction import Secret
from certferry_sandbox.acme_dns import AcmeDnsService, Registered
from certferry_sandbox.testing.context import connected_with
from certferry_sandbox.zones import Zones

SERVED = "auth.example.org"


@dataclass(frozen=True)
class AcmeDnsAccount:
    """The stand-in and the DNS zones that the stand-in serves."""

    zones: Zones
    service: AcmeDnsService

    def connect(self, registration: Registered, **settings: Any) -> AcmeDnsServer:
        """Return a new provider for a registration, as another process would make the provider."""
        defaults: dict[str, Any] = {
            "api": self.service.url,
            "username": Secret(registration.username),
            "password": Secret(registration.password),
            "subdomain": registration.fulldomain,
        }
        return connected(**{**defaults, **settings})

    def stored(self, path: Path, **settings: Any) -> AcmeDnsServer:
        return connected(**{"api": self.service.url, "storage": path, **settings})

    def values(self, name: str) -> list[str]:
        """Return every TXT value at the name, one value for each record."""
        return [record.value for record in self.zones.records(name=name, rtype="TXT")]


def connected(**settings: Any) -> AcmeDnsServer:
    provider = connect(Settings(**settings), connected_with())
    assert isinstance(provider, AcmeDnsServer)
    return provider


def stored(path: Path, registrations: Sequence[Registered]) -> Path:
    path.write_text(
        json.dumps(
            {registration.subdomain: registration.as_stored() for registration in registrations},
            indent=2,
        )
    )
    path.chmod(0o600)
    return path


@contextmanager
def acme_dns_account() -> Iterator[AcmeDnsAccount]:
    """Run the stand-in for the time of a `with` block."""
    zones = Zones()
    zones.add_zone(SERVED, [f"ns.{SERVED}"])
    with AcmeDnsService(zones, SERVED) as service:
        yield AcmeDnsAccount(zones, service)
