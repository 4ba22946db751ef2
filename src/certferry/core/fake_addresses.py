"""Fake addresses, which stand for no host in the world: a resolver that answers with one is not
honest.
"""

from __future__ import annotations

import ipaddress

FOR_BENCHMARKS = ipaddress.ip_network("198.18.0.0/15")
"""RFC 2544; proxies that answer DNS themselves hand out addresses of it."""

_OF_PROXIES = ipaddress.ip_network("fc00::/18")
"""What sing-box and V2Ray make up for IPv6 (their documents on FakeIP and FakeDNS); RFC 4193 §3.1
keeps fc00::/8 for a use that was never defined.
"""

_NOWHERE = (ipaddress.ip_network("0.0.0.0/8"), ipaddress.ip_network("::/128"))
"""What lists of blocked names are answered with (RFC 1122 §3.2.1.3)."""


def is_made_up(address: str, *, at_home: bool = False) -> bool:
    """Tell whether an address was made up. For a world that is `at_home`, on loopback as a whole,
    a loopback address is a true one.
    """
    found = ipaddress.ip_address(address)
    if found.is_loopback:
        return not at_home
    return any(found in network for network in (FOR_BENCHMARKS, _OF_PROXIES, *_NOWHERE))
