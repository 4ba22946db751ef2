"""Resolvers and probes for the public DNS and the edges, made from `[dns]` and `[verify]`."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from certferry.config.model import DnsSettings, Settings, VerifySettings
from certferry.ports.probe import HostProbe
from certferry.ports.progress import Clock, Pause

if TYPE_CHECKING:
    from certferry.adapters.acme.propagation import Propagation
    from certferry.adapters.acme.resolvers import HttpsResolver, Resolvers

USUAL_DOH = (
    "https://223.5.5.5/dns-query",  # in China
    "https://1.12.12.12/dns-query",  # in China, of another operator
    "https://1.1.1.1/dns-query",  # outside
)
"""The HTTPS resolvers, unless `[dns]` sets `doh` or names a private resolver (`doh_of`). The URLs
have addresses in place of names, because the resolvers are needed when DNS does not answer.
"""


def propagation_for(settings: Settings, pause: Pause, now: Clock) -> Propagation:
    """Return the object that waits for challenge records to appear in DNS: until lookups show the
    records, or for the fixed time in `wait` of `[dns]`.
    """
    from certferry.adapters.acme.propagation import DnsPropagation, FixedWait

    dns = settings.dns
    if dns.wait is not None:
        return FixedWait(dns.wait, pause, now)
    return DnsPropagation(
        resolvers=[(server.host, server.port) for server in dns.resolvers],
        port=dns.port,
        timeout=dns.propagation_timeout,
        pause=pause,
        now=now,
        over_https=_over_https(dns, pause),
        chosen=bool(dns.doh),
    )


def resolvers_for(settings: Settings, pause: Pause) -> Resolvers | None:
    """Return the resolvers of `[dns]`; `None` if `wait` of `[dns]` forbids lookups."""
    from certferry.adapters.acme.propagation import ANSWER_WITHIN
    from certferry.adapters.acme.resolvers import Resolvers

    dns = settings.dns
    if dns.wait is not None:
        return None
    servers = [(server.host, server.port) for server in dns.resolvers]
    return Resolvers(servers, ANSWER_WITHIN, _over_https(dns, pause))


def chosen_for(settings: Settings, pause: Pause) -> tuple[HttpsResolver, ...]:
    """Return the HTTPS resolvers named in `[dns]`."""
    return _over_https(settings.dns, pause) if settings.dns.doh else ()


def doh_of(dns: DnsSettings) -> tuple[str, ...]:
    """Return the URLs of HTTPS resolvers: `doh` of `[dns]` if set, otherwise `USUAL_DOH`. If `doh`
    is not set and `[dns]` names a resolver with a private address, return an empty tuple.
    """
    if dns.doh is not None:
        return dns.doh
    own = [server for server in dns.resolvers if not ipaddress.ip_address(server.host).is_global]
    return () if own else USUAL_DOH


def _over_https(dns: DnsSettings, pause: Pause) -> tuple[HttpsResolver, ...]:
    from certferry.adapters.acme.propagation import ANSWER_WITHIN
    from certferry.adapters.acme.resolvers import at_urls

    return at_urls(doh_of(dns), ANSWER_WITHIN, pause)


def probe_for(
    verify: VerifySettings, pause: Pause, clock: Clock, *, alone: bool = False
) -> HostProbe:
    """Return the probe that asks edges for their certificates. `alone`: the process does no other
    work meanwhile, so the probe asks more hosts at once. Raises `ConfigError`.
    """
    from certferry.adapters.probe.tls import DOMAINS_AT_ONCE, HOSTS_AT_ONCE, TlsProbe

    resolvers = [(server.host, server.port) for server in verify.resolvers]
    return TlsProbe(
        resolvers,
        clock,
        pause=pause,
        port=verify.port,
        ca_bundle=verify.ca_bundle,
        hosts_at_once=HOSTS_AT_ONCE if alone else DOMAINS_AT_ONCE,
    )
