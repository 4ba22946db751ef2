"""The requests of an account at Qiniu with 2,000 CDN domains and 500 certificates.

Adapter, engine and SQLite state are real, and the stand-in refuses more than ten requests a second.
Time is a number, which grows while a request waits for its turn or a run waits for a later look:
the pace is exact, and an hour at Qiniu takes a minute here. Certificates are visited in turn, since
the pace decides the time. The edges are a fake that serves the changes of the stand-in.

The program prints requests per domain, and fails if requests, silent times or memory exceed a
limit.

Usage: `python -m benchmarks.many_domains [--certificates N] [--processing SECONDS]`.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import mmap
import resource
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from time import process_time
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.many_domains_stand_in import KEYS, SECONDS, START
from certferry.adapters.qiniu.qiniu_client import QiniuClient, QiniuTransport
from certferry.adapters.qiniu.target import Qiniu
from certferry.adapters.qiniu.wire import Hosts, QiniuKeys
from certferry.adapters.state.connect import connect
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.pem import certificate_pem, parse_chain
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    Kind,
)
from certferry.core.network import Host
from certferry.core.observed.observation import ObservedTarget, Served, TargetRules
from certferry.core.planning.planner import Claims
from certferry.core.reasons import LONGEST
from certferry.core.redaction import Secret
from certferry.ports.probe import NONE_NAMED, Named
from certferry.ports.state import StateStore
from certferry.ports.target import Scope
from certferry.reconcile.reads import plans_of, survey_accounts
from certferry.reconcile.reconciler import LineageReconciler
from certferry.reconcile.run import Ports, Run
from certferry.wiring.accounts import AccountNotes
from certferry_sandbox.testing.memory_dns import MemoryDns
from certferry_sandbox.testing.memory_issuer import LIFETIME, MemoryCa, MemoryIssuer
from certferry_sandbox.testing.memory_receiver import MemoryReceivers, MemorySource

ACCOUNT = "qiniu"
DOMAINS_EACH = 4
MOST = {"first sync": 6.0, "no-op": 1.0, "no-op, a day later": 1.0, "renewal": 5.0}
"""The highest numbers of requests per domain."""
MOST_OF_PLAN = 3
"""Requests of `discover`, as a multiple of the requests of `plan` over the same account: neither
command asks again for details that a run has stored and the list shows as unchanged.
"""
MOST_MEMORY = 150  # MB
MOST_SILENCE = LONGEST + timedelta(seconds=10)
"""Progress is always shown: the next look comes after two minutes at most
(docs/reference/qiniu.md), and its requests wait for their turn.
"""
EDGE_LAG = timedelta(seconds=30)


class VirtualTime:
    """Time that passes at once, for this process and, through a file, for the stand-in's."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(SECONDS.pack(0.0))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), SECONDS.size)
        self._lock = threading.Lock()

    def clock(self) -> float:
        """Return the seconds since START."""
        return float(SECONDS.unpack(self._shared)[0])

    def now(self) -> datetime:
        """Return the moment."""
        return START + timedelta(seconds=self.clock())

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._shared[:] = SECONDS.pack(self.clock() + seconds)

    def pass_until(self, moment: datetime) -> None:
        """Let time pass until a moment, or return at once after it."""
        self.pause(max((moment - self.now()).total_seconds(), 0))


class FakeEdges:
    """The target, and the edges of its domains: a bound certificate is served after the end of its
    change and the edges' lag.
    """

    def __init__(self, target: Qiniu, time: VirtualTime, processing: timedelta) -> None:
        self._target = target
        self._time = time
        self._until_served = processing + EDGE_LAG
        self._certificates: dict[str, str] = {}
        self._served: dict[str, list[tuple[datetime, str]]] = {}

    def go_on_from(self, before: FakeEdges) -> None:
        """Serve the same certificates as the edges of an earlier process."""
        self._served, self._certificates = before._served, before._certificates

    def observe(self, scope: Scope) -> ObservedTarget:
        """See `ports.target.DeployTarget.observe`."""
        return self._target.observe(scope)

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """See `ports.target.DeployTarget.upload`."""
        remote_id = self._target.upload(lineage, bundle)
        self._certificates[remote_id] = bundle.certificate.fingerprint
        return remote_id

    def bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        """See `ports.target.DeployTarget.bind`."""
        request_id = self._target.bind(domain, kind, remote_id, https)
        since = self._time.now() + self._until_served
        self._served.setdefault(domain, []).append((since, self._certificates[remote_id]))
        return request_id

    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """See `ports.target.DeployTarget.retire`."""
        return self._target.retire(remote_id, label, unmanaged=unmanaged)

    def served_by(self, hosts: Sequence[Host]) -> dict[Host, tuple[Served, ...]]:
        """See `ports.probe.Probe.served_by`: no host is asked."""
        raise NotImplementedError(hosts)

    def served(
        self, domains: Sequence[str], named: Named = NONE_NAMED
    ) -> Mapping[str, tuple[Served, ...]]:
        """See `ports.probe.Probe.served`."""
        return {domain: self._seen(domain) for domain in domains}

    def _seen(self, domain: str) -> tuple[Served, ...]:
        now = self._time.now()
        in_force = [
            bound_certificate
            for since, bound_certificate in self._served.get(domain, ())
            if since <= now
        ]
        fingerprint = in_force[-1] if in_force else None
        return tuple(
            Served(address, fingerprint, valid=fingerprint is not None)
            for address in ("192.0.2.1", "192.0.2.2")
        )


@dataclass(slots=True)
class Silence:
    """The longest time without an event."""

    time: VirtualTime
    longest: float = 0.0
    _last: float = 0.0

    def begin(self) -> None:
        """Count from now on."""
        self.longest, self._last = 0.0, self.time.clock()

    def told(self, _: object) -> None:
        """Count an event."""
        now = self.time.clock()
        self.longest, self._last = max(self.longest, now - self._last), now

    def end(self) -> None:
        """Count the time since the last event."""
        self.told(None)


@dataclass(slots=True)
class StandIn:
    """The process with Qiniu's stand-in."""

    process: subprocess.Popen[str]
    urls: dict[str, str] = field(default_factory=dict)

    def ask(self) -> Any:
        """Read the next line of the process."""
        if self.process.stdout is None:
            raise TypeError(self.process)
        return json.loads(self.process.stdout.readline())

    def requests(self) -> Counter[str]:
        """Return the requests since the last call."""
        if self.process.stdin is None:
            raise TypeError(self.process)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return Counter(self.ask())


@contextmanager
def stand_in(directory: Path, domains: Sequence[str], processing: timedelta) -> Iterator[StandIn]:
    """Start the stand-in, with these domains, which serve HTTP alone."""
    (directory / "issuer.pem").write_text(issuer_of_memory())
    (directory / "domains").write_text("\n".join(domains))
    program = Path(__file__).with_name("many_domains_stand_in.py")
    files = [str(directory / name) for name in ("clock", "issuer.pem", "domains")]
    command = [sys.executable, str(program), *files, str(processing.total_seconds())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process_of_stand_in = StandIn(process)
        try:
            process_of_stand_in.urls = process_of_stand_in.ask()
            yield process_of_stand_in
        finally:
            process.terminate()


def issuer_of_memory() -> str:
    """Return the certificate that signs all certificates of the CA in memory."""
    ca = MemoryCa(lambda: START, LIFETIME)
    order = ca.begin_order(("example.com",), None)
    ca.validate(order)
    key = ec.generate_private_key(ec.SECP256R1())
    return certificate_pem(parse_chain(ca.finalize(order, key.public_key()))[1])


def desired(number: int) -> DesiredCertificate:
    """Return a certificate with its domains."""
    names = tuple(f"{name}.c{number}.example.com" for name in "abcd"[:DOMAINS_EACH])
    deployment = DesiredDeployment(ACCOUNT, names)
    return DesiredCertificate(f"c{number}", names, "dns", deployments=(deployment,))


def connected(urls: Mapping[str, str], state: StateStore, time: VirtualTime) -> Qiniu:
    """Connect the account for a process, in the same way as `adapters.qiniu.target.connect`."""
    memory = AccountNotes(lambda: state, ACCOUNT, is_kept=True)
    keys = QiniuKeys(*(Secret(key) for key in KEYS))
    transport = QiniuTransport(
        keys, Hosts(**urls), memory, pause=time.pause, now=time.now, clock=time.clock
    )
    rules = TargetRules(timedelta(days=30), needs_common_name=True)
    return Qiniu(
        QiniuClient(transport), rules, memory, pause=time.pause, now=time.now, clock=time.clock
    )


def visit_all(runs: Sequence[LineageReconciler], time: VirtualTime) -> None:
    """Visit each certificate until all are done, as `reconcile.visits` does."""
    numbers = itertools.count()
    heap = [(time.now(), next(numbers), run) for run in runs]
    while heap:
        due, _, run = heapq.heappop(heap)
        time.pass_until(due)
        waiting = run.reconcile()
        if waiting is not None:
            heapq.heappush(heap, (waiting.until, next(numbers), run))
    failed = [report for report in (run.report() for run in runs) if not report.ok]
    if failed:
        raise SystemExit(f"not all went well: {failed[0]}")


def _nothing() -> None:
    """Stop nothing."""


@dataclass(slots=True)
class Benchmark:
    """The world of a measurement. `tell` prints lines; `missed` has the exceeded limits."""

    place: StandIn
    state: StateStore
    time: VirtualTime
    declared: list[DesiredCertificate]
    processing: timedelta
    tell: Callable[[str], object]
    most_silence: timedelta
    missed: list[str] = field(default_factory=list)

    def measure_all(self) -> list[str]:
        """Measure each kind of run, and return the exceeded limits."""
        issuer = MemoryIssuer(self.state, self.time.now)
        edges: FakeEdges | None = None
        for run_kind, later in (
            ("first sync", timedelta(0)),
            ("no-op", timedelta(hours=1)),
            ("no-op, a day later", timedelta(days=1)),
            ("renewal", timedelta(days=61)),
        ):
            self.time.pause(later.total_seconds())
            target = connected(self.place.urls, self.state, self.time)
            edges = self._edges(target, edges)
            ports, silence = self._ports(edges, issuer)
            self._measure(run_kind, ports, silence)
        self._measure_looks(issuer, edges)
        return self.missed

    def _measure_looks(self, issuer: MemoryIssuer, edges: FakeEdges | None) -> None:
        """Compare the requests of `discover` with those of `plan`, each in a process of its own."""
        self.place.requests()
        edges = self._edges(connected(self.place.urls, self.state, self.time), edges)
        began = process_time()
        plans_of(self._ports(edges, issuer)[0], self.declared)
        planned, for_plan = self.place.requests().total(), process_time() - began
        target = connected(self.place.urls, self.state, self.time)
        edges, began = self._edges(target, edges), process_time()
        [look] = survey_accounts({ACCOUNT: target.survey}, edges, self.time.now, Run())
        if len(look.survey.domains) != len(self.declared) * DOMAINS_EACH:
            raise SystemExit(f"discover found {len(look.survey.domains)} domains")
        discovered, for_discover = self.place.requests().total(), process_time() - began
        times = discovered / planned
        self.tell(
            f"{'discover':<20} {discovered} requests, {times:.1f} x those of plan ({planned};"
            f" promised: {MOST_OF_PLAN}); {for_discover / for_plan:.1f} x its processor time"
        )
        if times > MOST_OF_PLAN:
            self.missed.append(f"discover: {times:.1f} x the requests of plan")

    def _edges(self, target: Qiniu, before: FakeEdges | None) -> FakeEdges:
        """Return the edges of a new process, with the certificates of the earlier process."""
        edges = FakeEdges(target, self.time, self.processing)
        if before is not None:
            edges.go_on_from(before)
        return edges

    def _ports(self, edges: FakeEdges, issuer: MemoryIssuer) -> tuple[Ports, Silence]:
        """Return the ports of a run, and the counter of its silent times."""
        silence = Silence(self.time)
        ports = Ports(
            issuer=issuer,
            source=MemorySource(),
            dns={"dns": MemoryDns(["example.com"])},
            targets={ACCOUNT: edges},
            receiver=MemoryReceivers().receiver,
            probe=edges,
            state=self.state,
            now=self.time.now,
            progress=silence.told,
            claims=Claims(),
        )
        return ports, silence

    def _measure(self, run_kind: str, ports: Ports, silence: Silence) -> None:
        begun = self.time.clock()
        silence.begin()
        visit_all(
            [LineageReconciler(certificate, ports) for certificate in self.declared], self.time
        )
        silence.end()
        count = len(self.declared) * DOMAINS_EACH
        requests = self.place.requests()
        each = requests.total() / count
        took = timedelta(seconds=round(self.time.clock() - begun))
        self.tell(
            f"{run_kind:<20} {each:5.2f} requests per domain (promised: {MOST[run_kind]:.0f});"
            f" took {took}, silent for at most {silence.longest:.0f} s (promised:"
            f" {self.most_silence.total_seconds():.0f})"
        )
        for kind, number in requests.most_common():
            self.tell(f"{number / count:27.3f}  {kind}")
        if each > MOST[run_kind]:
            self.missed.append(f"{run_kind}: {each:.2f} requests per domain")
        if silence.longest > self.most_silence.total_seconds():
            self.missed.append(f"{run_kind}: silent for {silence.longest:.0f} s")


def run(
    certificates: int,
    processing: timedelta,
    tell: Callable[[str], object],
    *,
    most_silence: timedelta = MOST_SILENCE,
) -> list[str]:
    """Measure an account with so many certificates; return the exceeded limits."""
    declared = [desired(number) for number in range(certificates)]
    domains = [name for certificate in declared for name in certificate.names]
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        time = VirtualTime(directory / "clock")
        state = connect(directory / "state.db", directory / "secret.key")
        with stand_in(directory, domains, processing) as place:
            world = Benchmark(place, state, time, declared, processing, tell, most_silence)
            missed = world.measure_all()
        state.close()
    return missed


def main() -> None:
    """Print the measurements; exit with 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--certificates", type=int, default=500)
    parser.add_argument("--processing", type=float, default=600.0, help="seconds a change takes")
    arguments = parser.parse_args()
    processing = timedelta(seconds=arguments.processing)
    missed = run(arguments.certificates, processing, lambda line: print(line, flush=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory, at most {memory:.0f} MB (promised: {MOST_MEMORY})")
    if memory > MOST_MEMORY:
        missed.append(f"{memory:.0f} MB of memory")
    if missed:
        raise SystemExit("; ".join(missed))


if __name__ == "__main__":
    main()
