"""An edge that presents a certificate which no CA would make: one whose DER bytes were edited."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certferry_sandbox.authority import Authority
from tests.adapters.probe.edge import context_of, serving

Edit = Callable[[bytes], bytes]

FAR_END = datetime(2055, 1, 1, tzinfo=UTC)
"""From 2050 on the end is written with four digits of a year (RFC 5280 section 4.1.2.5)."""


def replacing(old: bytes, new: bytes) -> Edit:
    """Exchange bytes that stand in it, for as many others: every length in it stays true."""

    def edit(der: bytes) -> bytes:
        assert old in der
        assert len(old) == len(new)
        return der.replace(old, new, 1)

    return edit


@contextmanager
def odd_edge(address: str, port: int, name: str, edit: Edit, folder: Path) -> Iterator[bytes]:
    """Serve such a certificate at an address for a while; give its DER."""
    issued = Authority("Odd CA").issue([name], datetime(2026, 1, 1, tzinfo=UTC), FAR_END)
    der = edit(issued.leaf.public_bytes(Encoding.DER))
    pem = ssl.DER_cert_to_PEM_cert(der) + issued.privkey_pem
    try:
        context_of(pem, folder)
    except ssl.SSLError as refused:  # OpenSSL 3.0 does, of Debian 12 and Ubuntu 24.04
        pytest.skip(f"{ssl.OPENSSL_VERSION} presents no such certificate: {refused.reason}")
    with serving(pem, folder, address, port):
        yield der
