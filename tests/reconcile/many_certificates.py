"""The reconciler with its worker threads, over many certificates and in-memory fakes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment
from certferry.core.events import Event
from certferry.core.planning.planner import Claims
from certferry.ports.progress import Progress
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import Ports, Run, held_lease
from certferry_sandbox.testing.memory_dns import MemoryDns
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from certferry_sandbox.testing.memory_receiver import MemoryReceivers, MemorySource
from certferry_sandbox.testing.memory_state import MemoryState
from certferry_sandbox.testing.memory_target import MemoryCdn


def now() -> datetime:
    return datetime.now(UTC)


class Counted:
    """The state with a counter of calls by method name: `Counted(state).calls["save_run"]`."""

    def __init__(self, state: object) -> None:
        self.calls: Counter[str] = Counter()
        self._state = state

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._state, name)


class ManyCertificates:
    """Several certificates with one domain each, on a fast CDN in memory.

    For example:

        many = ManyCertificates(30)
        report = many.reconciler().sync(many.certificates, WaitLimit())
        assert report.ok
        assert 30 == many.issuer.issued

    Time is real here and passes are made by worker threads; `ModelWorld` has a virtual clock and a
    single thread.
    """

    def __init__(
        self,
        count: int,
        processing: timedelta = timedelta(milliseconds=20),
        cdn: type[MemoryCdn] = MemoryCdn,
    ) -> None:
        self.state: Any = MemoryState()  #: a test may put a wrapped state in its place
        self.lease = partial(held_lease, self.state, now)  #: takes a lineage's lease
        self.run = Run()  #: the run of `ports`, to stop it
        self.dns = MemoryDns(["example.com"])
        self.claims = Claims()  #: the domains of all declared certificates
        self.cdn = cdn(now, processing=processing, lags=(timedelta(0),))
        self.issuer = MemoryIssuer(self.state, now)
        self.events: list[Event] = []  #: the progress of the runs
        self.watch: Progress = self.events.append  #: the listener of the runs
        self.certificates = [self._desired(f"img{number}.example.com") for number in range(count)]

    def _desired(self, domain: str) -> DesiredCertificate:
        self.cdn.add_domain(domain)
        deployment = DesiredDeployment("cdn", (domain,))
        return DesiredCertificate(domain, (domain,), "dns", deployments=(deployment,))

    def ports(self) -> Ports:
        return Ports(
            issuer=self.issuer,
            source=MemorySource(),
            dns={"elsewhere": MemoryDns(["example.org"]), "dns": self.dns},
            targets={"cdn": self.cdn},
            receiver=MemoryReceivers().receiver,
            probe=self.cdn,
            state=self.state,
            now=now,
            progress=self.watch,
            claims=self.claims,
            run=self.run,
        )

    def reconciler(self) -> Reconciler:
        return Reconciler(self.ports())
