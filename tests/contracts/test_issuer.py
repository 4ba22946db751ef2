"""The contract of issuers, for the fake and for ACME at Pebble."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certferry.errors import CaUnavailable
from certferry.ports.issuer import Issuer
from certferry.text import Text
from certferry_sandbox.testing.contracts.issuer import MOST_CALLS, IssuerContract, IssuerWorld
from certferry_sandbox.testing.interruptions import Fate, Life, Port
from certferry_sandbox.testing.memory_dns import MemoryDns
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from tests.adapters.acme.bench import Bench, Ca
from tests.support.tiers import spread

CHALLENGES = ("_acme-challenge.img.example.com", "_acme-challenge.www.img.example.com")


class MemoryWorld(IssuerWorld):
    name = "img.example.com"

    def __init__(self) -> None:
        super().__init__()
        self.dns = self._memory = MemoryDns(["example.com"])
        self._now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
        self._sees = True
        self.memory_issuer = MemoryIssuer(self.state, self.now, lookup=self._look)

    def issuer(self, fate: Fate | None = None) -> Issuer:
        """Return the same CA, through a state under the given fate."""
        return self.memory_issuer.seen_by(self.state if fate is None else Port(self.state, fate))

    def values(self) -> list[str]:
        return [value for name in CHALLENGES for value in self._memory.values(name)]

    def count_issued(self) -> int:
        return self.memory_issuer.issued

    def refuse_proofs(self, *, refused: bool) -> None:
        """Hide the challenge records from the CA, or show them again."""
        self._sees = not refused

    def now(self) -> datetime:
        """Return a moment that only the test moves."""
        return self._now

    def pass_time(self, duration: timedelta) -> None:
        self._now += duration

    def _look(self, name: str) -> list[str]:
        return self._memory.values(name) if self._sees else []


class AcmeWorld(IssuerWorld):
    """Pebble behind a proxy, and a zone that the test writes to directly."""

    def __init__(self, bench: Bench, ca: Ca) -> None:
        super().__init__()
        self.state = bench.state
        self.dns = bench.dns
        self.name = bench.name
        self._bench = bench
        self._ca = ca

    def issuer(self, fate: Fate | None = None) -> Issuer:
        """Return an issuer at the proxy, which also counts a life's calls."""
        self._bench.proxy.life = fate if isinstance(fate, Life) else None
        return self._bench.issuer() if fate is None else self._bench.doomed_issuer(fate)

    def values(self) -> list[str]:
        return self._bench.txt_left

    def count_issued(self) -> int:
        return self._bench.proxy.finalized

    def refuse_proofs(self, *, refused: bool) -> None:
        if refused:
            self._ca.dns.resolver.refusing()
        else:
            self._ca.dns.resolver.recover()

    def now(self) -> datetime:
        """Return real time, with shortened rests."""
        return self._bench.clock.now()

    def pass_time(self, duration: timedelta) -> None:
        self._bench.clock.advance(duration)


class TestMemoryIssuer(IssuerContract):
    """The fake."""

    @pytest.fixture
    def new_world(self) -> Callable[[], IssuerWorld]:
        return MemoryWorld

    def test_failure_that_was_set_ends_every_proof(self) -> None:
        """The failure ends proofs of every process until taken back."""
        world, failure = MemoryWorld(), CaUnavailable(Text("the CA is away"))
        world.memory_issuer.fail_with(failure)
        with pytest.raises(CaUnavailable) as raised:
            world.issue()
        assert failure is raised.value
        assert [] == world.values()

        world.memory_issuer.fail_with(None)
        assert world.issue().key_matches

    def test_lifetime_can_be_set(self) -> None:
        """The lifetime begins at the moment of issue."""
        world = MemoryWorld()
        issuer = MemoryIssuer(world.state, world.now, lifetime=timedelta(days=6))
        bundle = issuer.issue(world.request(), world.dns, world.lease(), world.events.append)

        assert timedelta(days=6) == bundle.certificate.lifetime
        assert world.now() == bundle.certificate.not_before

    def test_first_name_is_the_common_name_where_it_fits(self) -> None:
        """The port demands the common name, within the limit of a real CA (RFC 5280,
        ub-common-name).
        """
        world = MemoryWorld()
        long = f"{'x' * 60}.{world.name}"

        assert world.name == world.issue(world.name, long).certificate.common_name
        assert "" == world.issue(long).certificate.common_name


class TestAcmeIssuer(IssuerContract):
    """ACME at Pebble."""

    stops = spread(range(1, MOST_CALLS), 8)

    @pytest.fixture
    def new_world(self, ca: Ca, tmp_path: Path) -> Iterator[Callable[[], IssuerWorld]]:
        with ExitStack() as running:

            def new_world() -> IssuerWorld:
                bench = Bench(ca.pebble, ca.zones, tmp_path)
                running.enter_context(bench.proxy)
                return AcmeWorld(bench, ca)

            yield new_world
