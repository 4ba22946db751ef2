"""The public DNS, as `[dns]` says that it is to be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certferry.config.model import Settings
from certferry.ports.progress import Pause
from certferry.wiring.clock import now

if TYPE_CHECKING:
    from certferry.adapters.acme.propagation import Propagation
    from certferry.adapters.acme.resolvers import Resolvers


def propagation_for(settings: Settings, pause: Pause) -> Propagation:
    """Give the look for challenge records."""
    from certferry.adapters.acme.propagation import Propagation

    dns = settings.dns
    return Propagation(
        resolvers=[(server.host, server.port) for server in dns.resolvers],
        port=dns.port,
        timeout=dns.propagation_timeout,
        pause=pause,
        now=now,
    )


def resolvers_for(settings: Settings) -> Resolvers:
    """Give the resolvers by themselves."""
    from certferry.adapters.acme.propagation import ANSWER_WITHIN
    from certferry.adapters.acme.resolvers import Resolvers

    servers = [(server.host, server.port) for server in settings.dns.resolvers]
    return Resolvers(servers, ANSWER_WITHIN)
