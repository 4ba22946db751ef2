"""The ports through which accounts are surveyed. `isinstance` finds out which protocols an account
implements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from certferry.core.discovery.inventory import FoundZone, Survey

Looked = Callable[[int, int], None]
"""Called after each domain with the number of domains read, and the number of all domains."""


@runtime_checkable
class Surveyed(Protocol):
    """A target able to list domains, for `init` and `discover`."""

    def survey(self, looked: Looked) -> Survey:
        """Find every domain, the certificate bound to the domain, and every certificate of the
        account. The result names whatever could not be read besides the domains. Only reads. Raises
        `DeployError` when the domains cannot be read.
        """


@runtime_checkable
class ZoneKeeper(Protocol):
    """A DNS account able to list zones. For other accounts, certferry assumes that the account has
    the zone of every name.
    """

    def zones(self) -> tuple[FoundZone, ...]:
        """Find every zone. Only reads. Raises `DnsError`."""


@runtime_checkable
class ZoneFinder(Protocol):
    """A DNS account unable to list zones, but able to find the zone of a name."""

    def zone_of(self, name: str) -> FoundZone:
        """Find the zone of a name. Only reads. Raises `ZoneNotFound` and `DnsError`."""
