"""The hosts that a CA's directory names: where signed requests go, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from certferry.adapters.acme.network import must_be_private
from certferry.core.foreign_words import quoted
from certferry.errors import CaUnavailable
from certferry.text import Text

_PORTS = {"https": 443, "http": 80}  # RFC 9110 §4.2


def origins_of(directory_url: str, document: Mapping[str, object]) -> frozenset[str]:
    """Give the host and port of a directory, and of every address in it."""
    return frozenset(_origins([directory_url, *document.values()]))


def is_at(url: str, origins: frozenset[str]) -> bool:
    """Tell whether an address is at one of these; what is no address is left to the request."""
    return set(_origins([url])) <= origins


def must_be_at(url: str, origins: frozenset[str]) -> None:
    """Refuse an address elsewhere: who can change one order could have this host send requests to
    services of its own network. Raises `CaUnavailable`.
    """
    must_be_private(url)
    if not is_at(url, origins):
        [elsewhere] = _origins([url])
        raise CaUnavailable(
            Text("the CA names an address at another host: {host}", host=quoted(elsewhere)),
            hint=Text(
                "nothing was sent there: its directory is at {hosts}; if this lasts, ask the CA",
                hosts=sorted(origins),
            ),
        )


def _origins(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        try:
            parts = parse_url(value)  # type: ignore[arg-type]  # what is no text is none
        except (LocationParseError, TypeError, AttributeError):
            continue
        if parts.scheme in _PORTS and parts.host:
            yield f"{parts.host.lower()}:{parts.port or _PORTS[parts.scheme]}"
