"""The port to the handshakes that show which certificates the edges serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from certferry.core.network import Host
from certferry.core.observed.observation import Served

Named = Mapping[str, Sequence[str]]
"""Addresses of edges by domain, named by the domain's target."""

NONE_NAMED: Named = MappingProxyType({})


class Probe(Protocol):
    """Observes domains and other hosts from outside."""

    def served(
        self, domains: Sequence[str], named: Named = NONE_NAMED
    ) -> Mapping[str, tuple[Served, ...]]:
        """Make one TLS handshake with every address of each domain: the addresses in DNS and the
        `named` addresses. Return the certificates served.

        A silent address becomes a `Served` with a problem. A domain without addresses becomes one
        `Served` with an empty address. Raises only `Interrupted`.
        """

    def served_by(self, hosts: Sequence[Host]) -> Mapping[Host, tuple[Served, ...]]:
        """Do as `served`, at each host's own port, and at `Host.address` alone if given. For a host
        named by an address, the certificate must name the address.
        """
