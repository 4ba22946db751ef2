"""Which of the chains that a CA offers for one certificate is taken (RFC 8555 §7.4.2)."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from certferry.adapters.acme.client import Client
from certferry.core.pem import common_name, parse_certificates
from certferry.errors import CertificateError
from certferry.text import Text

MOST_CHAINS = 10
"""Chains that are looked at; Let's Encrypt offers two or three."""

_log = logging.getLogger(__name__)


def chosen_chain(client: Client, url: str, root: str | None) -> str:
    """Download the certificate, with the chain whose topmost certificate was issued by `root`, a
    common name; where there is none, or none is wanted, the one that the CA prefers.
    """
    usual, others = client.chains(url, most=MOST_CHAINS)
    if root is None:
        return usual
    offered = []
    for chain in _each(usual, others):
        topmost = _topmost_issuer(chain)
        if topmost == root:
            return chain
        offered.append(topmost)
    _log.warning(
        Text(
            "the CA offers no chain to {root} (`preferred_chain`), only to {roots}",
            root=root,
            roots=offered,
        )
    )
    return usual


def _each(usual: str, others: Iterator[str]) -> Iterator[str]:
    yield usual
    yield from others


def _topmost_issuer(chain: str) -> str:
    """Return who issued the last certificate of a chain, as certbot's `--preferred-chain` has it;
    of one that cannot be read, nothing: what is wrong is told if it is the one that is taken.
    """
    try:
        return common_name(parse_certificates(chain)[-1].issuer)
    except CertificateError:
        return ""
