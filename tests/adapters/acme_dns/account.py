"""Registrations at the stand-in of acme-dns."""

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
    """The stand-in, and what is in its zone."""

    zones: Zones
    service: AcmeDnsService

    def connect(self, of: Registered, **settings: Any) -> AcmeDnsServer:
        """Return a provider of one registration, as another process would make it."""
        written: dict[str, Any] = {
            "api": self.service.url,
            "username": Secret(of.username),
            "password": Secret(of.password),
            "subdomain": of.fulldomain,
        }
        return connected(**{**written, **settings})

    def stored(self, path: Path, **settings: Any) -> AcmeDnsServer:
        return connected(**{"api": self.service.url, "storage": path, **settings})

    def values(self, name: str) -> list[str]:
        """Return every TXT value at the name, one for each record."""
        return [record.value for record in self.zones.records(name=name, rtype="TXT")]


def connected(**settings: Any) -> AcmeDnsServer:
    provider = connect(Settings(**settings), connected_with())
    assert isinstance(provider, AcmeDnsServer)
    return provider


def stored(path: Path, registrations: Sequence[Registered]) -> Path:
    path.write_text(json.dumps({one.subdomain: one.as_stored() for one in registrations}, indent=2))
    path.chmod(0o600)
    return path


@contextmanager
def acme_dns_account() -> Iterator[AcmeDnsAccount]:
    """Run the stand-in for the time of a `with` block."""
    zones = Zones()
    zones.add_zone(SERVED, [f"ns.{SERVED}"])
    with AcmeDnsService(zones, SERVED) as service:
        yield AcmeDnsAccount(zones, service)
