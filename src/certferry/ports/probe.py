"""The port to TLS handshakes, which show the certificates that the edges (the addresses of a
domain) serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from certferry.core.discovery.watched import Host
from certferry.core.observed.observation import Served

Named = Mapping[str, Sequence[str]]
"""By domain, addresses of edges that the domain's target names."""

NONE_NAMED: Named = MappingProxyType({})


class Probe(Protocol):
    """Observes domains from outside."""

    def served(
        self, domains: Sequence[str], named: Named = NONE_NAMED
    ) -> Mapping[str, tuple[Served, ...]]:
        """Make one TLS handshake with every address of each domain: the addresses in DNS and the
        `named` addresses. Return the certificates served.

        By domain, the result has a `Served` for each address. A silent address has a `Served` with
        a problem. A domain without addresses has one `Served` with an empty address. Raises only
        `Interrupted`.
        """


class HostProbe(Probe, Protocol):
    """Observes hosts at any port as well."""

    def served_by(self, hosts: Sequence[Host]) -> Mapping[Host, tuple[Served, ...]]:
        """Return the certificates of hosts, as `served` does for domains, at each host's own port.
        If the host is an IP address, a valid certificate must have the address among its names.
        """
