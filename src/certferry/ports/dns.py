"""The port to a DNS provider: put a TXT value, take it away."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class DnsProvider(Protocol):
    """Writes challenge records into the zones of one account. A name is absolute, in ASCII and
    lower case, without a final dot.
    """

    def add_txt(self, name: str, value: str) -> str:
        """Put a TXT value at a name and return a handle by which any process can remove it.

        Must keep other values under the same name, since apex and wildcard share one (RFC 8555
        §8.4); must be idempotent, also when an answer was lost. Raises `ZoneNotFound`,
        `DnsAccessDenied`, `DnsRejected` or `DnsUnavailable`.
        """

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """Remove exactly this value, and return whether it was there.

        Without a handle it is looked for by name and value. With one that another process was given
        the record must be looked at first, by name, type and value: where it was kept, it may
        have been changed. A value that is gone already is fine.
        A service that takes nothing away, where newer values push out the old, answers that it was
        there: the next run has nothing to look for.

        Raises as `add_txt` does.
        """


@runtime_checkable
class SharedOut(DnsProvider, Protocol):
    """Several accounts that are one provider together."""

    def at(self, name: str) -> DnsProvider:
        """Return the account that writes at a name. Raises `DnsError` where none can."""
