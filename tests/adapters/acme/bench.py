"""An issuer with a faulty CA, a DNS zone, and a state in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from certferry.adapters.acme.issuer import AcmeIssuer
from certferry.adapters.acme.network import IssuerSettings
from certferry.adapters.acme.propagation import Propagation
from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.events import Activity, Event
from certferry.ports.issuer import IssueRequest
from certferry.ports.state import Lease
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.testing.interruptions import Fate, Port
from certferry_sandbox.testing.memory_state import MemoryState
from certferry_sandbox.zones import Zones
from tests.adapters.acme.ports import AtOnce, Clock, ZoneDns
from tests.adapters.acme.proxy import Proxy

ZONE = "example.com"


@dataclass(frozen=True)
class Ca:
    """Pebble, and the DNS service that Pebble queries."""

    pebble: Pebble
    zones: Zones
    dns: DnsService


@contextmanager
def running_ca(**options: Any) -> Iterator[Ca]:
    """Run a CA for the duration of a `with` block. The options go to Pebble."""
    zones = Zones()
    zones.add_zone(ZONE, ["ns1.dns.test"])
    servers = [NameServer(zones, "ns1.dns.test", "127.0.54.1")]
    with (
        DnsService(zones, servers, Resolver(zones, servers, "127.0.54.9")) as dns,
        Pebble(dns.resolver_endpoint, **options) as pebble,
    ):
        yield Ca(pebble, zones, dns)


class Bench:
    """A single lineage, with names that no other test uses."""

    def __init__(
        self,
        pebble: Pebble,
        zones: Zones,
        folder: Path,
        host: str = "127.0.0.1",
        proxy: Proxy | None = None,
    ) -> None:
        self.zones = zones
        self.proxy = proxy or Proxy(pebble, host)
        self.clock = Clock()
        self.state = MemoryState(is_alive=lambda _: False)
        self.dns = ZoneDns(zones)
        self.propagation = AtOnce(zones, self.clock)
        self.looks: Propagation | None = None  # used instead of `propagation`, if set
        self.lineage = f"img-{uuid4().hex[:12]}"
        self.name = f"{self.lineage}.{ZONE}"
        self.events: list[Event] = []
        self._ca_bundle = folder / f"{self.lineage}-ca.pem"
        self.proxy.authority.cert_pem.write_to_path(self._ca_bundle)

    def __enter__(self) -> Self:
        self.proxy.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.stop()

    def settings(self, **more: Any) -> IssuerSettings:
        """Return settings for the proxy, with further settings."""
        at_proxy = {"directory": self.proxy.directory_url, "ca_bundle": self._ca_bundle}
        return IssuerSettings(**{**at_proxy, **more})

    def issuer(self, **settings: Any) -> AcmeIssuer:
        return AcmeIssuer(
            settings=self.settings(**settings),
            state=self.state,
            propagation=self.looks or self.propagation,
            pause=self.clock.pause,
            now=self.clock.now,
        )

    def request(self, *names: str, key_type: KeyType = KeyType.EC256, **more: Any) -> IssueRequest:
        """Return a request for the given names, by default for the lineage's own name."""
        return IssueRequest(self.lineage, names or (self.name,), key_type, **more)

    def lease(self) -> Lease:
        """Take the lease, even from an earlier run."""
        return self.state.acquire(self.lineage, self.clock.now())

    def issue(
        self,
        *names: str,
        key_type: KeyType = KeyType.EC256,
        issuer: AcmeIssuer | None = None,
        **more: Any,
    ) -> CertificateBundle:
        """Issue a certificate, by default with a new issuer, as in another run."""
        request = self.request(*names, key_type=key_type, **more)
        return (issuer or self.issuer()).issue(request, self.dns, self.lease(), self.events.append)

    def sweep(self) -> None:
        self.issuer().sweep(self.lineage, [self.dns], self.clock.now())

    def doomed_issuer(self, fate: Fate) -> AcmeIssuer:
        return AcmeIssuer(
            settings=self.settings(),
            state=Port(self.state, fate),
            propagation=Port(self.propagation, fate),
            pause=Port(self.clock, fate).pause,
            now=self.clock.now,
        )

    def issue_under(self, fate: Fate, *names: str) -> CertificateBundle:
        return self.doomed_issuer(fate).issue(
            self.request(*names), Port(self.dns, fate), self.lease(), self.events.append
        )

    @property
    def activities(self) -> list[str]:
        return [str(event.what) for event in self.events if isinstance(event, Activity)]

    @property
    def txt_left(self) -> list[str]:
        """Return the lineage's values that remain in DNS."""
        return [
            record.value
            for record in self.zones.records(rtype="TXT")
            if record.name.endswith(self.name)
        ]

    @property
    def rows_left(self) -> int:
        return len(self.state.challenge_records(self.lineage))
