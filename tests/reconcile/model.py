"""A model world around the real reconciler: every port is an in-memory fake, time is virtual, and a
run can be killed between any two calls through a port.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any

from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    Retirement,
)
from certferry.core.events import Event
from certferry.core.network import Host
from certferry.core.observed.observation import Served, TargetRules
from certferry.core.planning.plan import Plan
from certferry.core.planning.planner import Claims
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.report import LineageReport
from certferry.core.planning.timing import Times
from certferry.ports.probe import NONE_NAMED, Named
from certferry.ports.progress import each_of
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler, RunRules, plan_lineage
from certferry.reconcile.run import Ports, history_keeper
from certferry.values import replace
from certferry_sandbox.testing.interruptions import Fate, Killed, Life, Port
from certferry_sandbox.testing.memory_dns import MemoryDns
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from certferry_sandbox.testing.memory_receiver import MemoryReceivers, MemorySource
from certferry_sandbox.testing.memory_state import MemoryState
from certferry_sandbox.testing.memory_target import MemoryCdn

START = datetime.fromisoformat("2026-11-24T12:00:00+00:00")
MOST_PASSES = 400
MOMENT = timedelta(microseconds=1)
"""The time between two runs: no two runs begin at the same moment."""
IMMORTAL = 1_000_000
"""More calls than any run makes."""


def issuing_of(*, renew: bool) -> Issuing:
    """Return the way a run issues: due certificates, or with `renew` every certificate."""
    return Issuing.ALWAYS if renew else Issuing.IF_DUE


class FallenEdges:
    """A `Probe` of edges that present an unknown certificate, whatever is bound."""

    def served(
        self, domains: Sequence[str], named: Named = NONE_NAMED
    ) -> dict[str, tuple[Served, ...]]:
        return dict.fromkeys(domains, (Served("192.0.2.1", "ff" * 32, valid=True),))

    def served_by(self, hosts: Sequence[Host]) -> dict[Host, tuple[Served, ...]]:
        return dict.fromkeys(hosts, (Served("192.0.2.1", "ff" * 32, valid=True),))


FALLEN = FallenEdges()


class ModelWorld:
    """A CDN account, a DNS zone and a CA in memory, with a virtual clock.

    For example:

        world = ModelWorld(processing=timedelta(minutes=10))
        world.cdn.add_domain("img.example.com")
        desired = world.desired()
        assert world.run(desired, kill_after=7) is None  # killed before the eighth call of a port
        assert world.run(desired).ok  # the next run finishes, and passes the time of its waits
        world.pass_time(timedelta(days=61))
        assert world.plan(desired).issue is not None

    `processing` is the length of a change at the CDN, `lags` the delay of each edge, `lifetime` the
    life of a new certificate, and `rules` the CDN's rules for uploads.
    """

    def __init__(
        self,
        *,
        processing: timedelta = timedelta(minutes=10),
        lags: tuple[timedelta, ...] = (timedelta(0), timedelta(minutes=3)),
        lifetime: timedelta = timedelta(days=90),
        rules: TargetRules | None = None,
    ) -> None:
        self.clock = START  #: the time of all ports; a run moves the clock to the end of each wait
        self.alive: set[str] = set()  #: the processes that may hold a lease
        self.state = MemoryState(self.alive.__contains__)
        self.source = MemorySource()  #: another client's files
        self.dns = MemoryDns(["example.com"])
        self.issuer = MemoryIssuer(self.state, self.now, lifetime=lifetime)
        self.cdn = MemoryCdn(self.now, processing=processing, lags=lags, rules=rules)
        self.receivers = MemoryReceivers()  #: directories and commands that take certificates
        self.claims = Claims()  #: the domains of all declared certificates; a single one needs none
        self.events: list[Event] = []  #: the progress of all runs
        self.calls = 0  #: the calls through ports of the last run
        self._runs = 0

    def now(self) -> datetime:
        return self.clock

    def pass_time(self, duration: timedelta) -> None:
        self.clock += duration

    def desired(
        self,
        *domains: str,
        names: tuple[str, ...] = ("img.example.com", "*.img.example.com"),
        https: DesiredHttps | None = None,
        retire: Retirement = Retirement.SUPERSEDED,
        lineage: str = "img",
    ) -> DesiredCertificate:
        """Declare one certificate, served at these domains, or at every domain it covers."""
        deployment = DesiredDeployment(
            "qiniu", domains or None, https=https or DesiredHttps(), retire=retire
        )
        return DesiredCertificate(lineage, names, "dnspod", deployments=(deployment,))

    def run(
        self,
        desired: DesiredCertificate,
        *,
        kill_after: int = IMMORTAL,
        renew: bool = False,
        scheduled: bool = False,
    ) -> LineageReport | None:
        """Run to the end, passing the time of each wait. Return `None` after a kill; `kill_after`
        is the number of calls through ports before the kill.
        """
        reports = self.run_together(
            [desired], kill_after=kill_after, renew=renew, scheduled=scheduled
        )
        return None if reports is None else reports[0]

    def run_together(
        self,
        all_desired: Sequence[DesiredCertificate],
        *,
        kill_after: int = IMMORTAL,
        renew: bool = False,
        scheduled: bool = False,
    ) -> list[LineageReport] | None:
        """Run several lineages in one process; each gets its next pass at the end of its wait."""
        self._runs += 1
        process = f"run {self._runs}"
        self.alive.add(process)
        life = Life(kill_after)
        try:
            ports = self.ports(process, life)
            issuing = issuing_of(renew=renew)
            runs = [
                LineageReconciler(desired, ports, RunRules(issuing, keeps_pauses=scheduled))
                for desired in all_desired
            ]
            self.pass_to_the_end(*runs)
            return [run.report() for run in runs]
        except Killed:
            return None
        finally:
            self.alive.discard(process)
            self.calls = kill_after - life.left
            self.pass_time(MOMENT)

    def pass_to_the_end(self, *runs: LineageReconciler) -> None:
        """Make passes until no lineage waits; the lineage with the earliest moment comes first."""
        due = [(self.clock, number) for number in range(len(runs))]
        for _ in range(MOST_PASSES * len(runs)):
            moment, number = heappop(due)
            self.clock = max(self.clock, moment)
            waiting = runs[number].reconcile()
            if waiting is not None:
                heappush(due, (waiting.until, number))
            if not due:
                return
        raise AssertionError("it waits for ever")

    def ports(self, process: str, fate: Fate | None = None) -> Ports:
        fate = fate or Life(IMMORTAL)
        state: Any = Port(self.state.seen_by(process), fate)

        dns: Any = Port(self.dns, fate)
        cdn: Any = Port(self.cdn, fate)
        source: Any = Port(self.source, fate)

        return Ports(
            issuer=self.issuer.seen_by(state),
            source=source,
            dns={"dnspod": dns},
            targets={"qiniu": cdn},
            receiver=lambda delivery: Port(self.receivers.receiver(delivery), fate),
            probe=cdn,
            state=state,
            now=self.now,
            progress=each_of(history_keeper(state, self.now, "tester"), self.events.append),
            claims=self.claims,
        )

    def challenge_values(self) -> list[str]:
        return self.dns.values("_acme-challenge.img.example.com")

    def plan(
        self, desired: DesiredCertificate, issuing: Issuing = Issuing.IF_DUE, **ports: Any
    ) -> Plan:
        """Plan without any change, with some ports replaced."""
        times = Times.at(self.clock)
        ours = replace(self.ports("planner"), **ports)
        return plan_lineage(desired, observe(desired, ours), times, issuing)
