"""Look at a CA's directory: whether it answers, by which clock, and what it calls itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from certferry.adapters.acme.client import identities_of, read_directory
from certferry.adapters.acme.network import Network
from certferry.adapters.acme.problems import in_our_words
from certferry.adapters.clients.told_time import ahead_of
from certferry.ports.progress import Pause


@dataclass(frozen=True, slots=True)
class SeenDirectory:
    """What a directory told. `identities` are the domain names by which CAA records name the CA
    (RFC 8555 §9.7.6), in lower case; none where it does not tell them. `ahead` is how far the CA's
    clock is ahead of this machine's, `None` where its answer has no date.
    """

    identities: frozenset[str]
    ahead: timedelta | None


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
        return SeenDirectory(identities_of(read_directory(response)), ahead)
