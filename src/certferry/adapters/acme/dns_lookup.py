"""Where names lead: by this host's resolvers, and by others where those deny it or make it up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from certferry.adapters.acme.https_resolver import HttpsResolver
from certferry.adapters.acme.propagation_advice import made_up_among
from certferry.adapters.acme.resolvers import Resolvers
from certferry.errors import DnsUnavailable, ZoneNotFound
from certferry.text import Text

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class DnsLookup:
    """Asks the resolvers of `Resolvers`, and those `over_https` once more by themselves. Safe to
    use from any thread.
    """

    def __init__(
        self,
        endpoints: Sequence[tuple[str, int]],
        answer_within: timedelta,
        over_https: Sequence[HttpsResolver],
    ) -> None:
        self._resolvers = Resolvers(endpoints, answer_within, over_https)
        self._elsewhere = (
            Resolvers((), answer_within, over_https, plain=False) if over_https else None
        )

    def alias(self, name: str) -> str | None:
        """See `Resolvers.alias`."""
        return self._resolvers.alias(name)

    def invented(self) -> dict[str, list[str]]:
        """See `Resolvers.invented`."""
        return self._resolvers.invented()

    def zone_of(self, name: str) -> str:
        """See `Resolvers.zone_of`."""
        return self._not_denied(Resolvers.zone_of, name)

    def name_servers(self, zone: str) -> tuple[str, ...]:
        """See `Resolvers.name_servers`."""
        return self._not_denied(Resolvers.name_servers, zone)

    def addresses(self, host: str) -> tuple[str, ...]:
        """See `Resolvers.addresses`. Such as stand for no host are told, and those from elsewhere
        are better.
        """
        found = self._resolvers.addresses(host)
        made_up = made_up_among(found)
        if (found and not made_up) or self._elsewhere is None:
            return found
        if made_up:
            log.warning(
                Text(
                    "a proxy on this host answers DNS with made-up addresses: it says that {host}"
                    " is at {addresses}; other resolvers are asked over HTTPS",
                    host=host,
                    addresses=made_up,
                )
            )
        return self._elsewhere.addresses(host) or found

    def _not_denied(self, question: Callable[[Resolvers, str], _T], name: str) -> _T:
        """Ask elsewhere for what the resolvers deny: a company's know its own names only."""
        try:
            return question(self._resolvers, name)
        except ZoneNotFound as denied:
            if self._elsewhere is None:
                raise
            try:
                return question(self._elsewhere, name)
            except DnsUnavailable:
                raise denied from None
