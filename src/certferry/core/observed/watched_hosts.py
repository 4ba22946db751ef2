"""Hosts of `[[watch]]`, as the last look at each host left them in the state."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from certferry.core.network import Host
from certferry.errors import Problem
from certferry.values import replace

FORGOTTEN_AFTER = timedelta(days=2)
"""A look older than this counts no more: the certferry host that looked is away, or has lost the
watched host from its file. A host looks twice a day at least.
"""


class WatchedHost(Struct, frozen=True):
    """The last look at a watched host by one certferry host."""

    #: The host's name, or an IP address without brackets.
    name: str
    port: int  #: The TCP port.
    by: str  #: The certferry host that looked.
    #: The name of the `[[watch]]` with the host.
    watch: str
    looked_at: datetime  #: When the look began.
    #: Since when the host has had a problem, or has had none.
    since: datetime
    #: The worst problem, with the severity; `None` if the host is in order.
    problem: Problem | None = None
    #: How many further problems the look found.
    more: int = 0
    #: How many addresses the host has within reach of this machine.
    addresses: int = 0
    #: How many of `addresses` present a certificate that clients accept.
    valid: int = 0
    #: The fingerprint of the presented certificate that ends first; `None` if no address presents
    #: a certificate. The other facts are about the same certificate, `None` or empty if unreadable.
    fingerprint: str | None = None
    issuer: str = ""  #: The issuer's name.
    not_before: datetime | None = None  #: The beginning of validity.
    not_after: datetime | None = None  #: The end of validity.
    #: Whether an address was silent, so an answer takes the longest time.
    is_silent: bool = False

    @property
    def host(self) -> Host:
        """The host to connect to."""
        return Host(self.name, self.port)

    @property
    def key(self) -> tuple[str, int, str]:
        """The identity in the state: at most one look is stored for a key."""
        return (self.name, self.port, self.by)


def continued(before: WatchedHost | None, now: WatchedHost) -> WatchedHost:
    """Return the look to store after the look `before`: trouble that goes on, and order that goes
    on, keep the beginning. A look that is older than the stored look changes nothing.
    """
    if before is None:
        return now
    if before.looked_at > now.looked_at:
        return before
    is_alike = (before.problem is None) == (now.problem is None)
    return replace(now, since=before.since) if is_alike else now
