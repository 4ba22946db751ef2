"""The port to a DNS provider: add a TXT value and remove the value again."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class DnsProvider(Protocol):
    """Writes challenge records into the zones of one account.

    For each challenge a run

    1. calls `add_txt(name, value)` and stores the handle,
    2. waits until the zone's name servers serve the value, and asks the CA to check,
    3. calls `remove_txt(name, value, handle)`; after a crash a later run does so, in another
       process.

    Names are absolute, in ASCII and lower case, without a final dot.
    """

    def add_txt(self, name: str, value: str) -> str:
        """Add a TXT value to a name and return a handle with which any process can remove the
        value.

        Must keep other values under the name, because a wildcard and the name without `*.` share a
        TXT name (RFC 8555 §8.4). Must be idempotent, also if the answer to an earlier call was
        lost. Raises `ZoneNotFound`, `DnsAccessDenied`, `DnsRejected` or `DnsUnavailable`.
        """

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """Remove exactly this value, and return whether the value was there. An absent value is
        success.

        Without a handle, an implementation searches the record by name and value. With a handle
        from another process, an implementation first reads the record and compares name, type and
        value, because the stored handle may have been altered. If the service cannot remove values,
        and newer values push out older values, return true, so the next run does not search.

        Raises the errors of `add_txt`.
        """


@runtime_checkable
class SharedOut(DnsProvider, Protocol):
    """Several accounts that act as one provider."""

    def at(self, name: str) -> DnsProvider:
        """Return the account that writes records for a name. Raises `DnsError` if no account has
        the zone.
        """
