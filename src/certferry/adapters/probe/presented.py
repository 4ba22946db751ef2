"""What an address presents, read and judged: foreign bytes, of which anything may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from cryptography import x509

from certferry.adapters.probe.certification_path import facts_of
from certferry.adapters.probe.trust import Trust
from certferry.core.certificate import fingerprint
from certferry.core.edges import EdgeProblem, EdgeProblemCode
from certferry.core.observed import Served
from certferry.core.served_chain import Presented
from certferry.text import Text

_UNREADABLE = EdgeProblem(
    EdgeProblemCode.UNREADABLE,
    Text("it presents a certificate that cannot be read"),
    Text("it is damaged, or no CA made it: bind another one"),
)


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
        problem=_UNREADABLE,
    )
    try:
        chain = [x509.load_der_x509_certificate(der) for der in chain_der]
        seen = replace(seen, not_after=chain[0].not_valid_after_utc)
        problem = trust.problem(chain, host, now)
    except Exception:  # noqa: BLE001 - the library reads lazily, and tells nowhere what it may raise
        return seen
    return replace(seen, valid=problem is None, problem=problem, chain=_facts(chain))


def _facts(chain: Sequence[x509.Certificate]) -> tuple[Presented, ...]:
    """What the chain tells of itself is for people: that it cannot be read changes no judgement."""
    try:
        return facts_of(chain)
    except Exception:  # noqa: BLE001 - the library reads lazily, and tells nowhere what it may raise
        return ()
