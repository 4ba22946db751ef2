"""The ports through which accounts are surveyed. An account may implement any of these protocols;
certferry asks with `isinstance`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from certferry.core.discovery.inventory import FoundZone, Survey

Looked = Callable[[int, int], None]
"""A listener, called after each domain with the number of domains read and the number of all
domains.
"""


@runtime_checkable
class Surveyed(Protocol):
    """A target that can list its domains, for `certferry init` and `certferry discover`."""

    def survey(self, looked: Looked) -> Survey:
        """Return every domain with the bound certificate, and every certificate of the account. If
        a part of the account other than the list of domains cannot be read, the result has the
        error (`Survey.unread`). Only reads. Raises `DeployError` when the domains cannot be listed.
        """


@runtime_checkable
class ZoneKeeper(Protocol):
    """A DNS account able to list zones. If an account is neither a `ZoneKeeper` nor a `ZoneFinder`,
    certferry assumes that the account has the zone of every name.
    """

    def zones(self) -> tuple[FoundZone, ...]:
        """Return every zone. Only reads. Raises `DnsError`."""


@runtime_checkable
class ZoneFinder(Protocol):
    """A DNS account unable to list zones, but able to find the zone of a name."""

    def zone_of(self, name: str) -> FoundZone:
        """Return the zone of a name. Only reads. Raises `DnsError`, for example `ZoneNotFound`."""
