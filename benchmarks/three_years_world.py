"""The world of `three_years.py`: a host whose clock may be wrong, two CAs, a DNS account and a CDN.

Each service may fail for a while. All decisions are certferry's.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from benchmarks.three_years_ca import OTHER, USUAL, SimulatedCas
from certferry.core.assessment.dispatch import Notification
from certferry.core.assessment.notices import USUAL as USUAL_TOPICS
from certferry.core.assessment.notices import Message, Notice, Topic, noticed
from certferry.core.certificates.certificate import CertificateBundle, renew_at
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Issuance
from certferry.core.network import REFUSED
from certferry.core.observed.observation import TargetRules
from certferry.core.planning.planner import Claims
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.report import SyncReport
from certferry.errors import ClockWrong, DnsUnavailable, TargetAccessDenied, TargetRejected
from certferry.ports.notifier import Answered, Sent
from certferry.ports.progress import no_listener
from certferry.reconcile.notifications import Channel, Notifications
from certferry.reconcile.reconciler import LineageReconciler, Reconciler, RunRules
from certferry.reconcile.retries import ScheduledRun
from certferry.reconcile.run import Ports, WaitLimit
from certferry.text import Text
from certferry_sandbox.testing.interruptions import Altered, Port
from certferry_sandbox.testing.memory_dns import MemoryDns
from certferry_sandbox.testing.memory_receiver import MemoryReceivers, MemorySource
from certferry_sandbox.testing.memory_state import MemoryState
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.support.runs import AtOnce

START = datetime.fromisoformat("2026-11-24T03:17:29+00:00")
YEAR = timedelta(days=365)
HALF_DAY = timedelta(hours=12)
DOMAINS = {"img": ("img", "a.img"), "www": ("www",), "video": ("video",)}
"""The certificates, and the domains of each."""


class Trouble(StrEnum):
    """Trouble for a while."""

    CA = "ca"
    DNS = "dns"
    TARGET = "target"
    UPLOAD = "upload"
    HOST_OFF = "host off"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Fault:
    """Trouble that begins once a year, at the run at which a renewal is due, and lasts for a while.
    `offset` is the error of the host's clock.
    """

    trouble: Trouble
    lasts: timedelta
    offset: timedelta = timedelta(0)


@dataclass(slots=True)
class Measured:
    """The measurements. The shortest times are those of served certificates and of uploads; a
    negative time was too late.
    """

    calls: Counter[str] = field(default_factory=Counter)
    issued: int = 0
    expiry: timedelta | None = None
    upload: timedelta | None = None
    problems: int = 0
    messages: int = 0

    def served(self, left: timedelta) -> None:
        """Count the remaining life of a served certificate."""
        self.expiry = left if self.expiry is None else min(self.expiry, left)

    def uploaded(self, left: timedelta) -> None:
        """Count the remaining time for an upload."""
        self.upload = left if self.upload is None else min(self.upload, left)


@dataclass(slots=True)
class Gate:
    """A fate of a port's calls: calls are counted, and refused while `refusal` gives an error."""

    port: str
    calls: Counter[str]
    refusal: Callable[[], Exception | None]

    def before(self) -> None:
        """Count the call, and refuse if `refusal` gives an error."""
        self.calls[self.port] += 1
        error = self.refusal()
        if error is not None:
            raise error

    def after(self) -> None:
        """Let the answer through."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place of deployment: `wants` is the life that a new certificate must have left,
    `processing` the time of a change. If requests are `dated`, those of a wrong clock are refused.
    """

    wants: timedelta
    processing: timedelta
    lags: tuple[timedelta, ...]
    dated: bool = field(kw_only=True)


QINIU = Place(
    timedelta(days=30), timedelta(minutes=10), (timedelta(0), timedelta(minutes=2)), dated=True
)
"""Qiniu's CDN: its minimum life, the time of its changes, and its dated requests
(docs/facts/qiniu.md §2.3, §4.6, §5.6).
"""
SERVER = Place(timedelta(0), timedelta(0), (timedelta(0),), dated=False)
"""A server that takes any certificate at once, with any clock."""


class MeasuredCdn(MemoryCdn):
    """A CDN that reports the remaining time of each upload, and refuses uploads while it
    `refuses`.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        place: Place,
        refuses: Callable[[], bool],
        uploaded: Callable[[timedelta], object],
    ) -> None:
        rules = TargetRules(min_remaining=place.wants)
        super().__init__(now, processing=place.processing, lags=place.lags, rules=rules)
        self._true_now = now
        self._wants = place.wants
        self._refuses = refuses
        self._note = uploaded

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """See `ports.target.DeployTarget.upload`."""
        if self._refuses():
            raise TargetRejected(Text("the account takes no certificates"))
        remote_id = super().upload(lineage, bundle)
        self._note(bundle.certificate.remaining(self._true_now()) - self._wants)
        return remote_id


class VirtualReconciler(Reconciler):
    """The engine, with waits that pass at once, as in `reconcile.work_queue`."""

    def __init__(self, ports: Ports, pass_until: Callable[[datetime], object]) -> None:
        super().__init__(ports)
        self._pass_until = pass_until

    def run(
        self,
        wishes: Sequence[DesiredCertificate],
        wait_limit: WaitLimit,
        issuing: Issuing,
        *,
        keeps_pauses: bool = False,
    ) -> SyncReport:
        """See `Reconciler.run`."""
        del wait_limit  # virtual time has no limit
        runs = [
            LineageReconciler(certificate, self.ports, RunRules(issuing, keeps_pauses=keeps_pauses))
            for certificate in wishes
        ]
        numbers = itertools.count()
        heap = [(self.ports.now(), next(numbers), run) for run in runs]
        while heap:
            moment, _, run = heapq.heappop(heap)
            self._pass_until(moment)
            waiting = run.reconcile()
            if waiting is not None:
                heapq.heappush(heap, (waiting.until, next(numbers), run))
        return SyncReport(tuple(run.report() for run in runs))


class World:
    """A host with its certificates, for the simulated time."""

    def __init__(
        self,
        lifetime: Callable[[datetime], timedelta],
        *,
        place: Place = QINIU,
        fault: Fault | None = None,
        falls_back: bool = False,
    ) -> None:
        self.clock = START
        self.measured = Measured()
        self._fault = fault
        self._begun: list[datetime] = []
        state = MemoryState()
        self._dated = place.dated
        self.cdn = MeasuredCdn(
            lambda: self.clock, place, partial(self._is, Trouble.UPLOAD), self.measured.uploaded
        )
        self.cas = SimulatedCas(
            state, self.now, lambda: self.clock, lifetime, partial(self._is, Trouble.CA)
        )
        self.state: Any = Altered(state, bundle=self.cas.bundle)
        authorities = (USUAL, OTHER) if falls_back else (USUAL,)
        self.certificates = [
            self._wish(name, Issuance(authorities=authorities)) for name in DOMAINS
        ]

    def _wish(self, lineage: str, issuance: Issuance) -> DesiredCertificate:
        domains = tuple(f"{domain}.example.com" for domain in DOMAINS[lineage])
        for domain in domains:
            self.cdn.add_domain(domain)
        names = (f"{lineage}.example.com", f"*.{lineage}.example.com")
        deployments = (DesiredDeployment("cdn", domains),)
        return DesiredCertificate(lineage, names, "dns", deployments=deployments, issuance=issuance)

    def now(self) -> datetime:
        """Return the host's clock."""
        wrong = self._fault is not None and self._is(Trouble.CLOCK)
        return self.clock + (self._fault.offset if wrong and self._fault else timedelta(0))

    def live(self, years: float) -> Measured:
        """Let the host run twice a day for so long, and return the measurements."""
        number, end = 0, START + YEAR * years
        while (moment := START + number * HALF_DAY) < end:
            number += 1
            self.clock = max(self.clock, moment)
            self._begin_fault()
            self._measure()
            if not self._is(Trouble.HOST_OFF):
                self._tell(
                    ScheduledRun(self._engine, self._pause, WaitLimit()).sync(self.certificates)
                )
                self._measure()
        self.measured.issued = self.cas.issued
        self.measured.calls += self.cas.calls
        self.measured.calls["changes"] = self.cdn.uploads + self.cdn.writes + self.cdn.removals
        return self.measured

    # Trouble

    def _begin_fault(self) -> None:
        """Begin the year's trouble when a renewal is due, which is the worst moment."""
        if self._fault is None or self.clock < START + len(self._begun) * YEAR:
            return
        current = next(iter(self.state.versions("img")), None)
        if current is not None and self.clock >= renew_at(current.certificate, current.window):
            self._begun.append(self.clock)

    def _is(self, trouble: Trouble) -> bool:
        fault = self._fault
        if fault is None or fault.trouble is not trouble or not self._begun:
            return False
        return self.clock < self._begun[-1] + fault.lasts

    def _dns_refusal(self) -> Exception | None:
        return DnsUnavailable(Text("no answer")) if self._is(Trouble.DNS) else None

    def _target_refusal(self) -> Exception | None:
        if self._is(Trouble.TARGET):
            return TargetAccessDenied(Text("the keys are not accepted"))
        if self._dated and abs(self.now() - self.clock) > REFUSED:
            return ClockWrong(Text("this machine's clock is wrong"))
        return None

    # certferry at work

    def _engine(self) -> VirtualReconciler:
        calls = self.measured.calls
        dns: Any = Port(MemoryDns(["example.com"]), Gate("dns", calls, self._dns_refusal))
        target: Any = Port(self.cdn, Gate("target", calls, self._target_refusal))
        ports = Ports(
            issuer=self.cas,
            source=MemorySource(),
            dns={"dns": dns},
            targets={"cdn": target},
            receiver=MemoryReceivers().receiver,
            probe=self.cdn,
            state=self.state,
            now=self.now,
            progress=no_listener,
            claims=Claims(),
        )
        return VirtualReconciler(ports, self._pass_until)

    def _pass_until(self, moment: datetime) -> None:
        self._pause((moment - self.now()).total_seconds())

    def _pause(self, seconds: float) -> None:
        self.clock += timedelta(seconds=max(seconds, 0))
        self._measure()

    def _measure(self) -> None:
        for served in self.cdn.served(
            [domain for wish in self.certificates for domain in wish.deployments[0].domains or ()]
        ).values():
            for address in served:
                if address.not_after is not None:
                    self.measured.served(address.not_after - self.clock)

    def _tell(self, report: SyncReport) -> None:
        versions = {wish.lineage: self.state.versions(wish.lineage) for wish in self.certificates}

        def change(before: tuple[Notice, ...]) -> tuple[Notice, ...]:
            return noticed(report, before, self.now(), versions=versions, declared=list(DOMAINS))

        channel = Channel("ops", frozenset(USUAL_TOPICS), Reader, self._words)
        run = AtOnce(self._pause)
        Notifications({"ops": channel}, self.state, now=self.now, run=run).notify(change)

    def _words(self, due: Sequence[Notification]) -> Message:
        self.measured.messages += 1
        begun = [
            notification
            for notification in due
            if notification.notice.topic is Topic.TROUBLE and not notification.again
        ]
        self.measured.problems += len(begun)
        return Message("news", ())


class Reader:
    """A channel that takes every message."""

    def send(self, message: Message, /) -> Answered:
        """See `ports.notifier.Notifier.send`."""
        del message
        return Sent()
