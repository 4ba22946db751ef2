"""Look at a CA's directory: whether it answers, by which clock, and what it calls itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from certferry.adapters.acme.client import identities_of, read_answer, read_directory
from certferry.adapters.acme.dns_persist import offer_in
from certferry.adapters.acme.network import Network
from certferry.adapters.acme.problems import in_our_words
from certferry.adapters.clients.service_clock import ahead_of
from certferry.core.dns_persist import Offer
from certferry.ports.progress import Pause


@dataclass(frozen=True, slots=True)
class SeenDirectory:
    """What a directory told. `identities` are the domain names by which CAA records name the CA
    (RFC 8555 §9.7.6), in lower case; none where it does not tell them. `ahead` is how far the CA's
    clock is ahead of this machine's, `None` where its answer has no date; `offer` what it says of
    dns-persist-01.
    """

    identities: frozenset[str]
    ahead: timedelta | None
    offer: Offer | None


def look_at_directory(
    url: str,
    *,
    ca_bundle: Path | None,
    proxy: str | None = None,
    pause: Pause,
    now: Callable[[], datetime],
) -> SeenDirectory:
    """Read the directory at a URL. Raises `IssuanceError`."""
    network = Network(ca_bundle=ca_bundle, proxy=proxy, pause=pause, now=now)
    with in_our_words(now), contextlib.closing(network):
        response = network.get(url)
        ahead = ahead_of(response.headers, now())
        identities = identities_of(read_directory(response))
        return SeenDirectory(identities, ahead, read_answer(offer_in, response))
