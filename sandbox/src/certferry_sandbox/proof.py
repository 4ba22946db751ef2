"""What the demo proves, taken from the world itself and not from what certferry says."""

from __future__ import annotations

from dataclasses import dataclass

from certferry.core.observed.observation import Served
from certferry_sandbox.world import World


@dataclass(frozen=True, slots=True)
class Ledger:
    """The writes at every service so far, and our challenges that are still in DNS."""

    qiniu_writes: int
    dnspod_writes: int
    challenges_left: int

    @classmethod
    def of(cls, world: World) -> Ledger:
        """Read it off the stand-ins' journals and the zones."""
        records = world.zones.records(rtype="TXT")
        return cls(
            qiniu_writes=len(world.qiniu.writes()),
            dnspod_writes=len(world.dnspod.writes()),
            challenges_left=sum(record.name.startswith("_acme-challenge.") for record in records),
        )

    def writes_since(self, earlier: Ledger) -> int:
        """Count the writes in between."""
        return self.qiniu_writes - earlier.qiniu_writes + self.dnspod_writes - earlier.dnspod_writes


@dataclass(frozen=True, slots=True)
class EdgeChange:
    """What one edge presented for a domain before and after."""

    domain: str
    address: str
    before: str | None
    after: str | None

    def is_new(self, fingerprint: str) -> bool:
        """Whether the edge serves this certificate now, and did not before."""
        return self.after == fingerprint != self.before


def edge_changes(
    domain: str, before: tuple[Served, ...], after: tuple[Served, ...]
) -> tuple[EdgeChange, ...]:
    """Put what each address presented side by side, by address."""
    earlier = {seen.address: seen.fingerprint for seen in before}
    return tuple(
        EdgeChange(domain, seen.address, earlier.get(seen.address), seen.fingerprint)
        for seen in sorted(after, key=lambda seen: seen.address)
    )
