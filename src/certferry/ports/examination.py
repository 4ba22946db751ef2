"""The ports through which an account is examined before it is relied on. An adapter has those it
can, as `isinstance` shows; of one that has none nothing is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, runtime_checkable

from certferry.errors import Problem
from certferry.text import Text


@runtime_checkable
class Examined(Protocol):
    """An account that can be examined: its keys, what they may do, what it has room for."""

    def examine(self, account: str) -> tuple[Problem, ...]:
        """Look at the account of this label by calls that read alone. Changes nothing. What is
        refused is a finding; raises `CertferryError` where nothing could be asked.
        """


@runtime_checkable
class Timed(Protocol):
    """A service whose answers bear the time."""

    def clock_ahead(self) -> timedelta | None:
        """Return how far its clock is ahead, if known. Needs no keys. Raises `CertferryError`."""


@runtime_checkable
class Delegated(Protocol):
    """A DNS account that knows which name servers its zones are served by."""

    def name_servers(self, zone: str) -> frozenset[str]:
        """Return the hosts to delegate a zone to, if known. Raises `DnsError`."""


@runtime_checkable
class PointedAt(Protocol):
    """A target that serves a domain once a CNAME leads to it."""

    def cnames(self) -> Mapping[str, str]:
        """Return the name that each domain's CNAME is to lead to. Raises `DeployError`."""


@dataclass(frozen=True, slots=True)
class AccountReport:
    """How an account answered, in lines without secrets; `credentials_work` if one call did."""

    service: str
    lines: tuple[Text, ...]
    credentials_work: bool


@runtime_checkable
class Reporting(Protocol):
    """An account of whose calls an issue can have a report."""

    def report(self) -> AccountReport:
        """Make a few reading calls, and return how they were answered. Raises `Interrupted`."""
