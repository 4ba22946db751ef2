"""An edge with a certificate that no CA would issue: the DER bytes are edited."""

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
"""From 2050 on, the end of the validity has a year of four digits (RFC 5280 section 4.1.2.5)."""


def replacing(old: bytes, new: bytes) -> Edit:
    """Replace bytes by as many other bytes, so that every length in the DER stays right."""

    def edit(der: bytes) -> bytes:
        assert old in der
        assert len(old) == len(new)
        return der.replace(old, new, 1)

    return edit


@contextmanager
def odd_edge(address: str, port: int, name: str, edit: Edit, folder: Path) -> Iterator[bytes]:
    """Serve an edited certificate for the duration of a `with` block; yield its DER."""
    issued = Authority("Odd CA").issue([name], datetime(2026, 1, 1, tzinfo=UTC), FAR_END)
    der = edit(issued.leaf.public_bytes(Encoding.DER))
    pem = ssl.DER_cert_to_PEM_cert(der) + issued.privkey_pem
    try:
        context_of(pem, folder)
    except ssl.SSLError as refused:  # as OpenSSL 3.0 of Debian 12 and Ubuntu 24.04 does
        pytest.skip(f"{ssl.OPENSSL_VERSION} presents no such certificate: {refused.reason}")
    with serving(pem, folder, address, port):
        yield der
