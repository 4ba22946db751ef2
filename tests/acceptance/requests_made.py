"""The requests to a world and the records in the world, by the logs of the services."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

from certferry_sandbox.world import World


@dataclass(frozen=True, slots=True)
class RequestsMade:
    """Counts up to a moment; the difference of two counts is the activity in between."""

    qiniu_requests: int = 0
    qiniu_writes: int = 0
    qiniu_uploads: int = 0
    dnspod_requests: int = 0
    dnspod_writes: int = 0
    ca_requests: int = 0
    orders: int = 0
    certificates: int = 0
    challenges: int = 0

    @classmethod
    def of(cls, world: World) -> Self:
        """Read the stand-ins' journals, the zones, and the CA's log."""
        log = world.pebble.log
        return cls(
            qiniu_requests=len(world.qiniu.requests()),
            qiniu_writes=len(world.qiniu.writes()),
            qiniu_uploads=len(world.qiniu.requests("POST /sslcert")),
            dnspod_requests=len(world.dnspod.calls()),
            dnspod_writes=len(world.dnspod.writes()),
            ca_requests=log.count("-> calling handler()"),
            orders=log.count("POST /order-plz "),
            certificates=log.count("Issued certificate serial "),
            challenges=len(challenges(world)),
        )

    def __sub__(self, earlier: RequestsMade) -> RequestsMade:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(earlier), strict=True)
        return RequestsMade(*(now - then for now, then in pairs))


NO_REQUESTS = RequestsMade()


def writes_since(world: World, before: RequestsMade) -> tuple[int, int, int]:
    """Count the writes at Qiniu and at DNSPod, and the orders."""
    since = RequestsMade.of(world) - before
    return since.qiniu_writes, since.dnspod_writes, since.orders


def assert_nothing_written(left: RequestsMade) -> None:
    """Assert that the providers, the CA and DNS are unchanged."""
    counts = (left.qiniu_writes, left.dnspod_writes, left.certificates, left.challenges)
    assert (0, 0, 0, 0) == counts


def challenges(world: World) -> list[str]:
    records = world.zones.records(rtype="TXT")
    return [record.name for record in records if record.name.startswith("_acme-challenge.")]
