"""What `watch` works with: the look from outside, with nothing else beside it."""

from __future__ import annotations

from certferry.config.model import VerifySettings
from certferry.ports.probe import HostProbe
from certferry.ports.progress import Pause
from certferry.wiring.clock import now


def host_probe(verify: VerifySettings, pause: Pause) -> HostProbe:
    """Return a look at any hosts, at more of them side by side than in a run.

    Raises `ConfigError` when the bundle of trusted roots cannot be read.
    """
    from certferry.adapters.probe.tls import HOSTS_AT_ONCE, TlsProbe

    resolvers = [(server.host, server.port) for server in verify.resolvers]
    return TlsProbe(
        resolvers, now, pause=pause, ca_bundle=verify.ca_bundle, hosts_at_once=HOSTS_AT_ONCE
    )
