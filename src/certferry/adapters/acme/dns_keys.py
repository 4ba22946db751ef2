"""Keys that a DNS account has refused, remembered so that no order is spent on them: before the
next one the account is asked, not the CA.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from certferry.core.certificates.names import challenge_name
from certferry.errors import DnsAccessDenied, DnsError
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import IssueRequest
from certferry.ports.state import StateStore

_NOTE = "keys refused"
_NO_VALUE = "certferry-asks-whether-its-keys-are-taken"
"""No challenge's value, which all have 43 characters (RFC 8555 §8.4)."""


@contextlib.contextmanager
def known_to_be_taken(request: IssueRequest, dns: DnsProvider, state: StateStore) -> Iterator[None]:
    """Ask an account that has refused its keys for something that changes nothing, and remember
    when it refuses them in the block. Raises `DnsAccessDenied` while it refuses them.
    """
    account = request.dns
    if state.account_note(account, _NOTE) is not None and _takes_keys(request.names[0], dns):
        state.update_account_note(account, _NOTE, lambda _: None)
    try:
        yield
    except DnsAccessDenied:
        state.update_account_note(account, _NOTE, lambda _: "yes")
        raise


def _takes_keys(name: str, dns: DnsProvider) -> bool:
    """Tell whether an account takes its keys, as far as it says. Raises `DnsAccessDenied`."""
    try:
        dns.remove_txt(challenge_name(name), _NO_VALUE, None)
    except DnsAccessDenied:
        raise
    except DnsError:
        return False  # it knows the keys, or nothing is known: the order finds out
    return True
