"""Where the challenges of names are written, and whether an account can write there at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from certferry.adapters.acme.dns01 import Propagation
from certferry.core.identifiers import challenge_name
from certferry.core.survey import FoundZone
from certferry.ports.dns import DnsProvider
from certferry.ports.survey import ZoneKeeper


def challenge_places(names: Sequence[str], propagation: Propagation) -> Iterator[str]:
    """Give the name at which the value of each challenge goes, each once: the end of its aliases.
    Raises `DnsError`.
    """
    for name in dict.fromkeys(map(challenge_name, names)):
        yield propagation.follow(name)


def zones_of(dns: DnsProvider) -> tuple[FoundZone, ...] | None:
    """Give an account's zones, `None` where its provider cannot list them. Raises `DnsError`."""
    return cast("ZoneKeeper", dns).zones() if hasattr(dns, "zones") else None
