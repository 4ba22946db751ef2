"""What has changed at a host since it was looked at before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from certferry.core.edges import EdgeProblemCode
from certferry.core.observed import Served
from certferry.core.watched import HostLook

Presents = tuple[str | None, EdgeProblemCode | None]
"""What an address presents, and what is wrong with that."""


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """An address presents something else than before; `before` is `None` for a new one."""

    now: Served
    before: Served | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed at a host: at its addresses, and whether `concerns` are others."""

    addresses: tuple[AddressChanged, ...]
    concerns: bool

    def __bool__(self) -> bool:
        return bool(self.addresses) or self.concerns


def changes(before: HostLook, now: HostLook) -> Changes:
    """Compare two looks. A CDN names other addresses each time, so one that is new is news only
    when it presents what none did before, and one that is gone is none.
    """
    return Changes(tuple(_addresses(before, now)), _codes(before) != _codes(now))


def _addresses(before: HostLook, now: HostLook) -> Iterator[AddressChanged]:
    known = {address.address: address for address in before.served}
    told = set(map(presents, before.served))
    for address in now.served:
        earlier = known.get(address.address)
        if earlier is None and presents(address) in told:
            continue
        if earlier is None or presents(earlier) != presents(address):
            yield AddressChanged(address, earlier)


def presents(address: Served) -> Presents:
    """Give what an address presents, without what passes by itself, such as the days left."""
    return address.fingerprint, None if address.problem is None else address.problem.code


def _codes(look: HostLook) -> set[tuple[EdgeProblemCode, bool]]:
    return {(concern.problem.code, concern.is_failure) for concern in look.concerns}
