"""The law of two hosts with one state. A scheduler chooses any order of their calls, kills a host
at any call, or stops a host for longer than its leases: the world ends as after one host.

Each run is a thread that stops before each call through a port (the state, the CA, the CDN, the DNS
service) until the scheduler lets exactly one run go on.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.shared_leases import LENGTH, SharedState
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.planning.planner import Claims
from certferry.ports.state import StateStore, must_still_hold
from certferry.reconcile.reconciler import LineageReconciler
from certferry.reconcile.run import Ports, history_keeper
from certferry.values import replace
from certferry_sandbox.testing.interruptions import Altered, Fate, Killed, Port
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from tests.reconcile.model import MOMENT, ModelWorld
from tests.support.postgresql import KEY, Postgresql
from tests.support.tiers import THOROUGH, examples

HOSTS = ("web-1", "web-2")
LINEAGES = ("img", "static")
MOST_CALLS = 20_000
SHARES = 4
"""The examples are divided among so many tests, which run in parallel."""


class Engine:
    """One host's run, which stops before each of its calls until `step`. `due` is the end of a
    wait.
    """

    def __init__(self, host: str, state: StateStore) -> None:
        self.host = host
        self.state = state
        self.due: datetime | None = None
        self.calls = 0
        self.is_over = self.is_killed = False
        self._problem: BaseException | None = None
        self._may_go, self._has_stopped = threading.Semaphore(0), threading.Semaphore(0)

    def begin(self, work: Callable[[Engine], None]) -> None:
        """Begin the run; return when it stands before its first call."""

        def live() -> None:
            try:
                self.stop()
                work(self)
            except Killed:
                pass
            except BaseException as problem:  # noqa: BLE001 - raised in the test's own thread
                self._problem = problem
            self.is_over = True
            self._has_stopped.release()

        threading.Thread(target=live, daemon=True).start()
        self._has_stopped.acquire()

    def step(self) -> None:
        """Let the run make one call, and stop before the next."""
        self._may_go.release()
        self._has_stopped.acquire()
        if self._problem is not None:
            raise self._problem

    def kill(self) -> None:
        """End the run before its next call: no later call is carried out."""
        self.is_killed = True
        self.step()

    def stop(self) -> None:
        """Stop before a call until the scheduler goes on."""
        if not self.is_killed:
            self._has_stopped.release()
            self._may_go.acquire()
        if self.is_killed:
            raise Killed

    def wait_until(self, moment: datetime) -> None:
        """Wait until a moment of the scheduler's clock."""
        self.due = moment
        self.stop()
        self.due = None


@dataclass(frozen=True, slots=True)
class Calls:
    """The fate of the calls to one port of a run: each call is a step. Before a call to another
    port than the state's, the run checks its lease, as every adapter does.
    """

    engine: Engine
    is_guarded: bool = True

    def before(self) -> None:
        """See `Fate.before`."""
        self.engine.stop()
        self.engine.calls += 1
        if self.is_guarded:
            must_still_hold()

    def after(self) -> None:
        """See `Fate.after`."""


class SharedWorld(ModelWorld):
    """The model world with a state in PostgreSQL, and the runs of each host."""

    def __init__(self, url: str, server: Postgresql, database: str) -> None:
        super().__init__(processing=timedelta(minutes=1), lags=(timedelta(0), timedelta(minutes=1)))
        self._url, self._server, self._database = url, server, database
        self.opened = ExitStack()
        self.own = self.open_state("test")
        self.state: Any = self.own
        self.issuer = MemoryIssuer(self.own, self.now)
        self.declared = [
            self.desired(f"{name}.example.com", names=(f"{name}.example.com",), lineage=name)
            for name in LINEAGES
        ]
        for name in LINEAGES:
            self.cdn.add_domain(f"{name}.example.com")
        self.claims = Claims(self.declared)
        self._expiries: list[tuple[datetime, str]] = []

    def open_state(self, host: str) -> StateStore:
        """Open the state as a host with the scheduler's clock."""
        database, sealing = PostgresqlDatabase(self._url), Sealing(KEY)
        state = SharedState(database, sealing, host, LENGTH, self.seconds)
        return self.opened.enter_context(closing(state))

    def seconds(self) -> float:
        """Return the seconds of the scheduler's clock."""
        return self.clock.timestamp()

    def ports(self, process: str, fate: Fate | None = None) -> Ports:
        """Connect the ports of an undisturbed run."""
        return self._connected(process, self.own, self.cdn, self.dns)

    def begin(self, host: str) -> Engine:
        """Begin a run on a host."""
        engine = Engine(host, self.open_state(host))
        state: Any = Port(engine.state, Calls(engine, is_guarded=False))
        cdn: Any = Port(Altered(self.cdn, upload=partial(self._upload, engine)), Calls(engine))
        dns: Any = Port(self.dns, Calls(engine))

        def work(engine: Engine) -> None:
            issuer = self.issuer.seen_by(state, Calls(engine))
            ports = replace(self._connected(host, state, cdn, dns), issuer=issuer)
            runs = [LineageReconciler(desired, ports) for desired in self.declared]
            due = [(self.clock, number) for number in range(len(runs))]
            while due:
                moment, number = heappop(due)
                if moment > self.clock:
                    engine.wait_until(moment)
                waiting = runs[number].reconcile()
                if waiting is not None:
                    heappush(due, (waiting.until, number))

        engine.begin(work)
        return engine

    def _upload(self, engine: Engine, lineage: str, bundle: CertificateBundle) -> str:
        """Upload as Qiniu's adapter does, with two calls: read the list, then send. A second upload
        makes a second copy (docs/facts/qiniu.md §4.1).
        """
        label = label_of(lineage, bundle.certificate.fingerprint)
        if label in self.cdn.remote_labels:
            return self.cdn.upload(lineage, bundle)  # finds it
        Calls(engine).before()
        self.cdn.uploads += 1
        return self.cdn.put(label, bundle)

    def _connected(self, host: str, state: Any, cdn: Any, dns: Any) -> Ports:
        return Ports(
            issuer=self.issuer.seen_by(state),
            source=self.source,
            dns={"dnspod": dns},
            targets={"qiniu": cdn},
            receiver=self.receivers.receiver,
            probe=cdn,
            state=state,
            now=self.now,
            progress=history_keeper(state, self.now, host),
            claims=self.claims,
        )

    def run_calmly(self) -> None:
        """Make an undisturbed run."""
        self.pass_to_the_end(
            *(LineageReconciler(desired, self.ports("calm")) for desired in self.declared)
        )
        self.pass_time(MOMENT)

    def lapse(self, engine: Engine) -> None:
        """End a host's leases after their length, unless the host renews the leases."""
        self._expiries.append((self.clock + LENGTH, engine.host))

    def interleave(self, engines: list[Engine], events: Sequence[Event], turns: list[int]) -> None:
        """Let both runs make their calls in alternating turns of given lengths; at the end each
        turn is a single call.
        """
        order = (number % 2 for number, turn in enumerate(turns) for _ in range(turn))
        chosen = itertools.chain(order, itertools.cycle((0, 1)))
        left = {host: [one for one in events if one.host == host] for host in HOSTS}
        for _ in range(MOST_CALLS):
            self._expire()
            living = [engine for engine in engines if not engine.is_over]
            if not living:
                return
            ready = [one for one in living if one.due is None or one.due <= self.clock]
            if not ready:
                moments = [one.due for one in living if one.due is not None]
                self.clock = min([*moments, *(moment for moment, _ in self._expiries)])
                continue
            wanted = engines[next(chosen)]
            engine = wanted if wanted in ready else ready[0]
            engine.step()
            self.pass_time(MOMENT)
            self._strike(engine, engines, left[engine.host])
        raise AssertionError("it waits for ever")

    def _strike(self, engine: Engine, engines: list[Engine], events: list[Event]) -> None:
        if engine.is_over or not events or engine.calls < events[0].calls:
            return
        event = events.pop(0)
        self.lapse(engine)
        if event.is_kill:
            engine.kill()
            engines[engines.index(engine)] = self.begin(engine.host)
        else:
            engine.due = max(engine.due or self.clock, self.clock + 2 * LENGTH)

    def _expire(self) -> None:
        for moment, host in [one for one in self._expiries if one[0] <= self.clock]:
            self._expiries.remove((moment, host))
            lapsed = f"UPDATE lease SET until = '2000' WHERE holder LIKE '{host}/%'"  # noqa: S608 - a constant
            self._server.ask(lapsed, self._database)

    def must_be_well(self) -> None:
        """Check the law after an undisturbed run."""
        assert [] == self.cdn.broken
        for name in LINEAGES:
            assert [] == self.dns.values(f"_acme-challenge.{name}.example.com")
        for desired in self.declared:
            assert self.plan(desired).is_settled
        versions = {name: self.own.versions(name) for name in LINEAGES}
        assert self.issuer.issued == sum(map(len, versions.values()))
        assert self.cdn.uploads == len(self.cdn.ever_uploaded) == self.issuer.issued
        for name, found in versions.items():
            [served, *_] = self.cdn.served([f"{name}.example.com"])[f"{name}.example.com"]
            assert found[0].certificate.fingerprint == served.fingerprint


@dataclass(frozen=True, slots=True)
class Event:
    """An event after a number of a host's calls: the run is killed and begun again, or stands still
    for twice the length of its leases.
    """

    host: str
    calls: int
    is_kill: bool


@contextmanager
def shared_world(server: Postgresql) -> Iterator[SharedWorld]:
    """Open a world with a state of its own."""
    database = server.new_state()
    world = SharedWorld(server.url(database), server, database)
    try:
        with world.opened:
            yield world
    finally:
        server.ask(f"DROP DATABASE {database} WITH (FORCE)")


events = st.lists(
    st.builds(Event, st.sampled_from(HOSTS), st.integers(1, 200), st.booleans()), max_size=4
)


@pytest.mark.timeout(300)  # half a second each on a machine that does nothing else
@pytest.mark.parametrize("share", range(SHARES if THOROUGH else 1))
@settings(
    max_examples=examples(50, 10), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    turns=st.lists(st.integers(1, 4) | st.integers(1, 60), max_size=40),
    renews=st.booleans(),
    befalls=events,
)
def test_any_order_of_two_hosts_calls(
    postgresql: Postgresql, share: int, turns: list[int], befalls: list[Event], *, renews: bool
) -> None:
    """Each lineage has one certificate, uploaded once and served; no used copy is removed, and no
    record is left.
    """
    with shared_world(postgresql) as world:
        if renews:
            world.run_calmly()
            world.pass_time(timedelta(days=61))
        world.interleave([world.begin(host) for host in HOSTS], befalls, turns)
        world.run_calmly()
        assert (2 if renews else 1) * len(LINEAGES) == world.issuer.issued
        world.must_be_well()
