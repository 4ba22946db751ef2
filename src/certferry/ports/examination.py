"""The ports through which `certferry doctor` examines an account.

An adapter may implement any of these protocols; certferry asks with `isinstance`. An account with
none of the protocols is left out of the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol, runtime_checkable

from msgspec import Struct

from certferry.errors import Problem
from certferry.text import Text


@runtime_checkable
class Examined(Protocol):
    """An account that can examine itself: the keys, the keys' permissions, the quotas."""

    def examine(self, account: str) -> tuple[Problem, ...]:
        """Examine the account, whose label is `account`, by reading calls only. Return the problems
        found; a refused call is a problem. Raises `CertferryError` if the service could not be
        asked at all.
        """


@runtime_checkable
class Timed(Protocol):
    """A service whose answers contain the time."""

    def clock_ahead(self) -> timedelta | None:
        """Return how far the service's clock is ahead of ours; `None` if unknown. Works without
        keys. Raises `CertferryError`.
        """


@runtime_checkable
class Delegated(Protocol):
    """A DNS account that knows the name servers of the account's zones."""

    def name_servers(self, zone: str) -> frozenset[str]:
        """Return the name servers to which a zone must be delegated; empty if unknown. Raises
        `DnsError`.
        """


@runtime_checkable
class PointedAt(Protocol):
    """A target that serves a domain once the domain's CNAME points to the target."""

    def cnames(self) -> Mapping[str, str]:
        """Return, by domain, the name to which the domain's CNAME should point. Raises
        `DeployError`.
        """


class AccountReport(Struct, frozen=True):
    """The answers of an account, for a report in an issue."""

    service: str  #: The service's name.
    #: The answers in words, without secrets.
    lines: tuple[Text, ...]
    #: Whether at least one call with the credentials succeeded.
    credentials_work: bool


@runtime_checkable
class Reporting(Protocol):
    """An account that can make test calls, for a report in an issue."""

    def report(self) -> AccountReport:
        """Make a few reading calls and return the answers. Raises `Interrupted`."""
