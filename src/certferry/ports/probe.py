"""The port to what the world is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from certferry.core.discovery.watched import Host
from certferry.core.observed.observation import Served


class Probe(Protocol):
    """Looks at domains from outside."""

    def served(self, domains: Sequence[str]) -> Mapping[str, tuple[Served, ...]]:
        """Shake hands with every address of each domain, once each, and say what each presents.

        An address that does not answer is reported, not raised; so is a domain without addresses,
        as one `Served` with an empty address. Raises only `Interrupted`.
        """


class HostProbe(Probe, Protocol):
    """Looks at any hosts as well."""

    def served_by(self, hosts: Sequence[Host]) -> Mapping[Host, tuple[Served, ...]]:
        """Do as `served`, at each host's own port. One that is an address is looked at itself, and
        its certificate has to name it.
        """
