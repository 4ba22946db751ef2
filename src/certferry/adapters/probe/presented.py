"""What an address presents, read and judged: foreign bytes, of which anything may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from cryptography import x509

from certferry.adapters.probe.trust import Trust
from certferry.core.certificate import fingerprint
from certferry.core.observed import Served
from certferry.text import Text


def presented(
    address: str, chain_der: Sequence[bytes], trust: Trust, host: str, now: datetime
) -> Served:
    """Judge a chain as a client would. One that cannot be read is this address's problem, and has
    its fingerprint all the same.
    """
    seen = Served(
        address,
        fingerprint(chain_der[0]),
        valid=False,
        problem=Text("it presents a certificate that cannot be read"),
    )
    try:
        chain = [x509.load_der_x509_certificate(der) for der in chain_der]
        seen = replace(seen, not_after=chain[0].not_valid_after_utc)
        problem = trust.problem(chain, host, now)
    except Exception:  # noqa: BLE001 - the library reads lazily, and tells nowhere what it may raise
        return seen
    return replace(seen, valid=problem is None, problem=problem)
