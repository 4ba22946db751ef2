"""A session with in-memory fakes, at the speed of tests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta

from certferry.core.assessment.health import Concern, Expected, Recorded, concerns_of
from certferry.core.assessment.notices import ChannelState
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment
from certferry.core.observed.observation import TargetRules
from certferry.ports.progress import Progress, each_of, no_listener
from certferry.ports.state import StateStore
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import Ports, Run, history_keeper
from certferry.values import replace
from certferry.wiring.notifications import RunNotifications
from certferry.wiring.workspace import Workspace
from certferry_sandbox.testing.memory_dns import MemoryDns
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from certferry_sandbox.testing.memory_receiver import MemoryReceivers, MemorySource
from certferry_sandbox.testing.memory_state import MemoryState
from certferry_sandbox.testing.memory_target import MemoryCdn

START = datetime.fromisoformat("2026-11-24T12:00:00+00:00")


class FakeWorld:
    """A CDN account with one domain, a zone, and a clock that starts at noon.

    A change at the CDN takes `processing`, and the second edge follows `lag` later.
    """

    def __init__(
        self,
        *,
        processing: timedelta = timedelta(seconds=0.3),
        lag: timedelta = timedelta(seconds=0.2),
        lifetime: timedelta = timedelta(days=90),
    ) -> None:
        self._begun = time.monotonic()
        self._passed = timedelta(0)
        self.pauses: list[timedelta] = []
        self.stopped: BaseException | None = None
        self.state = MemoryState()
        self.dns = MemoryDns(["example.com"])
        self.issuer = MemoryIssuer(self.state, self.now, lifetime=lifetime)
        usual = (timedelta(minutes=8), timedelta(minutes=15))
        self.cdn = MemoryCdn(
            self.now,
            processing=processing,
            lags=(timedelta(0), lag),
            rules=TargetRules(timedelta(days=30), usual_change=usual),
        )
        self.cdn.add_domain("img.example.com", foreign=True)

    def now(self) -> datetime:
        """Return the moment, which passes as in the real world."""
        return START + self._passed + timedelta(seconds=time.monotonic() - self._begun)

    def pass_time(self, duration: timedelta) -> None:
        self._passed += duration

    def pause(self, seconds: float) -> None:
        if self.stopped is not None:
            raise self.stopped
        self.pauses.append(timedelta(seconds=seconds))
        self.pass_time(self.pauses[-1])

    def session(
        self, *all_desired: DesiredCertificate, progress: Progress = no_listener
    ) -> FakeWorkspace:
        """Open a session of a new run."""
        return FakeWorkspace(self, all_desired or (desired(),), progress)


class FakeNotifications(RunNotifications):
    """Notifications without a channel."""

    def __init__(self) -> None:
        """Skip the arguments of the real class: no channel is declared."""

    def channel_states(self) -> Mapping[str, ChannelState]:
        """Return no states."""
        return {}


class FakeWorkspace(Workspace):
    """A `Workspace` of fakes, without anything to open or to close."""

    def __init__(
        self, world: FakeWorld, all_desired: tuple[DesiredCertificate, ...], progress: Progress
    ) -> None:
        self._all_desired = all_desired
        self._world = world
        self.ports = Ports(
            issuer=world.issuer,
            source=MemorySource(),
            dns={"dnspod": world.dns},
            targets={"qiniu": world.cdn},
            receiver=MemoryReceivers().receiver,
            probe=world.cdn,
            state=world.state,
            now=world.now,
            progress=each_of(history_keeper(world.state, world.now, "tester@host"), progress),
        )

    def connect(self, run: Run, *, declares: bool = True) -> Ports:
        """Return the fakes as ports."""
        del declares
        return replace(self.ports, run=run)

    def reconciler(self) -> Reconciler:
        """Return a reconciler with the fakes."""
        return Reconciler(self.ports)

    def concerns(self, records: Recorded) -> tuple[Concern, ...]:
        """Return the concerns about the declared certificates."""
        expected = [Expected(certificate.lineage) for certificate in self._all_desired]
        return concerns_of(expected, records, self._world.now())

    def notifications(self, run: Run) -> FakeNotifications:
        """Return notifications without a channel."""
        del run
        return FakeNotifications()

    @property
    def state(self) -> StateStore:
        """The state of the fakes."""
        return self._world.state

    @property
    def certificates(self) -> tuple[DesiredCertificate, ...]:
        """The declared certificates."""
        return self._all_desired


def desired(lineage: str = "img", *domains: str) -> DesiredCertificate:
    """Return a declared certificate, for these domains or for all domains that the names cover."""
    return DesiredCertificate(
        lineage,
        ("img.example.com", "*.img.example.com"),
        "dnspod",
        deployments=(DesiredDeployment("qiniu", domains or None),),
    )
