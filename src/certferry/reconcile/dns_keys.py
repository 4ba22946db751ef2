"""Keys that a DNS account has refused, remembered so that no order is spent on them: before the
next one the account is asked, not the CA.
"""

from __future__ import annotations

from datetime import datetime

from certferry.core.identifiers import challenge_name
from certferry.errors import DnsAccessDenied, DnsError
from certferry.ports.dns import DnsProvider
from certferry.reconcile.doors import Doors

_NOTE = "keys refused"
_NO_VALUE = "certferry-asks-whether-its-keys-are-taken"
"""No challenge's value, which all have 43 characters (RFC 8555 §8.4)."""


def must_be_taken(label: str, name: str, doors: Doors) -> DnsProvider:
    """Return a DNS account. One that has refused its keys is first asked for something that
    changes nothing. Raises `DnsAccessDenied` when it still refuses them.
    """
    dns = doors.dns[label]
    if doors.state.account_note(label, _NOTE) is None:
        return dns
    try:
        dns.remove_txt(challenge_name(name), _NO_VALUE, None)
    except DnsAccessDenied:
        raise
    except DnsError:
        return dns  # it knows the keys, or nothing is known: the order finds out
    doors.state.update_account_note(label, _NOTE, lambda _: None)
    return dns


def note_refusal(label: str, now: datetime, doors: Doors) -> None:
    """Remember that an account has refused its keys."""
    doors.state.update_account_note(label, _NOTE, lambda _: now.isoformat())
