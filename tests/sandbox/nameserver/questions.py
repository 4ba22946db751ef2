"""Questions to name servers in tests, and what their answers say."""

from __future__ import annotations

from collections.abc import Callable

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

CHALLENGE = "_acme-challenge.example.com"
BOTH = ("ns1.dns.test", "ns2.dns.test")
PATIENCE = 5.0
Ask = Callable[..., dns.message.Message]


def answers_of(message: dns.message.Message) -> list[str]:
    """The answer section, as text without TTLs."""
    return sorted(
        f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} {rdata}"
        for rrset in message.answer
        for rdata in rrset
    )


def authority(message: dns.message.Message) -> list[str]:
    """The authority section, as owner and type."""
    return [f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)}" for rrset in message.authority]


def is_authoritative(message: dns.message.Message) -> bool:
    """Return whether AA is set."""
    return bool(message.flags & dns.flags.AA)
