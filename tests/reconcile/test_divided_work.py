"""Several hosts with one PostgreSQL divide the work and leave another host's work alone; a host
that was frozen does nothing after its leases ended.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.shared_leases import LENGTH, SharedState
from certferry.core.desired.certificate import DesiredCertificate, FileDelivery
from certferry.core.desired.declaration import delivered
from certferry.core.events import Asking, Event, LineageEnded
from certferry.core.planning.division import owns
from certferry.core.planning.report import SEEN, LineageReport, Outcome, Result, of_lineage
from certferry.core.redaction import Secret
from certferry.errors import LeaseHeld
from certferry.ports.state import Lease
from certferry.reconcile.reconciler import LineageReconciler, Reconciler, RunRules
from certferry.reconcile.run import Ports, WaitLimit
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.contracts.state_issuance import make_order
from certferry_sandbox.testing.interruptions import Altered
from certferry_sandbox.testing.memory_receiver import MemoryReceivers
from tests.reconcile.many_certificates import ManyCertificates, now
from tests.support.postgresql import KEY, Postgresql
from tests.support.tiers import thorough
from tests.support.waiting import eventually

SHORT = timedelta(seconds=1.5)
"""The length of a lease in tests of its end or its renewal."""

MANY = 40
HOSTS = ("web-1", "web-2")


@pytest.fixture
def database(postgresql: Postgresql) -> str:
    """Create a database with an empty state, and return its name."""
    return postgresql.new_state()


@pytest.fixture
def url(postgresql: Postgresql, database: str) -> str:
    """Return the URL of the database."""
    return postgresql.url(database)


@contextmanager
def opened(
    url: str, host: str, length: timedelta = LENGTH, key: Secret = KEY
) -> Iterator[SharedState]:
    """Open the state as one of the hosts."""
    state = SharedState(PostgresqlDatabase(url), Sealing(key), host, length)
    with closing(state):
        state.end_run(state.begin_run(state.now()))  # from now on the other host knows this host
        yield state


@dataclass
class Host:
    """A host with its reconciler, and the reports of its runs."""

    many: ManyCertificates
    state: Any
    receivers: MemoryReceivers
    events: list[Event]

    def ports(self) -> Ports:
        ports = self.many.ports()
        return replace(
            ports,
            state=self.state,
            issuer=self.many.issuer.seen_by(self.state),
            receiver=self.receivers.receiver,
            progress=self.events.append,
        )

    def sync(self, *, scheduled: bool = True) -> dict[str, LineageReport]:
        """Sync everything, and return the report of each certificate."""
        engine = Reconciler(self.ports())
        report = engine.sync(self.many.certificates, WaitLimit(), scheduled=scheduled)
        assert report.complete
        return {one.lineage: one for one in report.lineages}

    @property
    def looked(self) -> list[str]:
        """Return the lineage of each question to a service."""
        return [event.lineage for event in self.events if isinstance(event, Asking)]

    @property
    def looked_at(self) -> list[str]:
        """Return the lineages in the order of the first question."""
        return [*dict.fromkeys(self.looked)]


@contextmanager
def two_hosts(
    url: str, many: ManyCertificates, length: timedelta = LENGTH
) -> Iterator[tuple[Host, Host]]:
    """Let two hosts open one state."""
    with opened(url, "web-1", length) as here, opened(url, "web-2", length) as there:
        yield (
            Host(many, here, MemoryReceivers(), []),
            Host(many, there, MemoryReceivers(), []),
        )


def test_two_hosts_do_the_work_once(url: str) -> None:
    """Both run at the same time over many lineages: each is issued, uploaded and bound once, and
    each host begins with its own share.
    """
    many = ManyCertificates(MANY)
    with two_hosts(url, many) as hosts, ThreadPoolExecutor(2) as threads:
        reports = list(threads.map(Host.sync, hosts))

        assert (MANY, MANY, MANY) == (
            many.issuer.issued,
            many.cdn.uploads,
            many.cdn.writes,
        )
        for host in hosts:
            own = [n for n in reports[0] if owns(host.state.host, HOSTS, n)]
            assert set(host.looked_at[: len(own) // 2]) <= set(own)
        ends = Counter(of_lineage(one) for report in reports for one in report.values())
        assert {Result.IN_ORDER, Result.ELSEWHERE} >= ends.keys()
        assert all(one.outcomes for report in reports for one in report.values())
        for name in reports[0]:
            assert any(of_lineage(one[name]) is Result.IN_ORDER for one in reports)
        assert all(one.ok for one in hosts[0].sync().values())
    assert MANY == many.issuer.issued
    assert not many.dns.values("_acme-challenge.img0.example.com")


def test_two_hosts_whose_connections_are_cut(
    postgresql: Postgresql, url: str, database: str
) -> None:
    """The database ends connections at any moment, again and again: finished work is not
    repeated.
    """
    many = ManyCertificates(MANY // 2)
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608 - a name of ours
        f" WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    )
    with two_hosts(url, many) as hosts, ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(host.sync) for host in hosts]
        while not all(run.done() for run in runs):
            postgresql.ask(cut)
            time.sleep(0.1)
        for run in runs:
            assert all(one.ok for one in run.result().values())
    assert (MANY // 2, MANY // 2) == (many.issuer.issued, many.cdn.uploads)


def with_files(many: ManyCertificates) -> DesiredCertificate:
    """Declare a directory on each host for the only certificate as well."""
    [certificate] = many.certificates
    files = delivered(FileDelivery("/etc/nginx/tls"))
    both = (*certificate.deployments, files)
    many.certificates = [replace(certificate, deployments=both)]
    return many.certificates[0]


def test_scheduled_run_leaves_what_another_host_does(url: str) -> None:
    """The run ends at once and in order: the report names the other host and the beginning of its
    work.
    """
    many = ManyCertificates(2)
    with two_hosts(url, many, SHORT) as (here, there):
        began = datetime.fromisoformat("2026-11-24T12:00:00+00:00")
        held = there.state.acquire("img0.example.com", began)

        reports = here.sync()

        [step] = reports["img0.example.com"].outcomes
        assert (Outcome.ELSEWHERE, "web-2", began) == (step.outcome, step.host, step.since)
        assert "on web-2 has been working since 2026-11-24 12:00 UTC" in str(step.detail)
        assert (None, None, None) == (step.code, step.hint, step.waiting)
        assert Result.IN_ORDER is of_lineage(reports["img1.example.com"])
        ended = [e.lineage for e in here.events if isinstance(e, LineageEnded)]
        assert ["img1.example.com", "img0.example.com"] == ended
        there.state.release(held)
        assert {Result.IN_ORDER} == {of_lineage(one) for one in here.sync().values()}


def test_host_that_died_costs_its_lineages_the_rest_of_its_lease(url: str) -> None:
    """A dead host renews no lease; a waiting run goes on at the end of the lease."""
    many = ManyCertificates(1)
    with two_hosts(url, many, SHORT) as (here, there):
        there.state.acquire("img0.example.com", now())
        there.state._is_closed.set()  # noqa: SLF001 - no thread renews the lease any more

        reports = here.sync()

        assert [Result.IN_ORDER] == [of_lineage(one) for one in reports.values()]
        assert any("on web-2 has been working" in str(event) for event in here.events)


def refused_while_another_works(here: Host, there: Host) -> list[LeaseHeld]:
    """Have the other host do all its work while this host asks for its first lease; return the
    refusals.
    """
    first: Callable[[str, datetime], Lease] = here.state.acquire
    refusals: list[LeaseHeld] = []

    def acquire(lineage: str, at: datetime) -> Lease:
        if refusals:
            return first(lineage, at)
        held = there.state.acquire(lineage, at)
        try:
            return first(lineage, at)
        except LeaseHeld as refusal:
            refusals.append(refusal)
            there.state.release(held)
            there.sync()
            raise

    here.state = Altered(here.state, acquire=acquire)
    return refusals


def test_host_installs_what_another_issued_in_the_same_run(url: str) -> None:
    """The other host finishes before the end of this run: a last pass installs the certificate in
    this host's directory.
    """
    many = ManyCertificates(1)
    name = with_files(many).lineage
    with two_hosts(url, many) as (here, there):
        refusals = refused_while_another_works(here, there)
        report = here.sync()[name]

    assert ["web-2"] == [one.host for one in refusals]
    assert Result.IN_ORDER is of_lineage(report)
    assert (1, 1) == (many.issuer.issued, many.cdn.uploads)
    files = FileDelivery("/etc/nginx/tls")
    for host in (here, there):
        assert 1 == len(host.receivers.receiver(files).deliveries)


def test_host_asks_no_service_for_what_another_saw_served_in_the_same_run(url: str) -> None:
    """The account's pace is left to hosts with work. The next run, and a run by hand, look at the
    service.
    """
    many = ManyCertificates(1)
    [name] = (one.lineage for one in many.certificates)
    with two_hosts(url, many) as (here, there):
        refusals = refused_while_another_works(here, there)
        report = here.sync()[name]
        asked = len(here.looked)

        assert refusals
        assert (Result.IN_ORDER, SEEN) == (of_lineage(report), report.outcomes[0].detail)
        assert many.issuer.issued == 1
        for scheduled in (True, False):
            assert Result.IN_ORDER is of_lineage(here.sync(scheduled=scheduled)[name])
            assert asked < len(here.looked)
            asked = len(here.looked)
        assert asked > 0


def test_order_for_names_that_the_file_no_longer_has(url: str) -> None:
    """The run forgets the order under its own lease, and orders anew."""
    many = ManyCertificates(1)
    [name] = (one.lineage for one in many.certificates)
    with two_hosts(url, many) as (here, there):
        lease = there.state.acquire(name, now())
        there.state.save_order(lease, make_order(name))
        there.state.release(lease)

        assert Result.IN_ORDER is of_lineage(here.sync()[name])
        assert there.state.order(name) is None
    assert 1 == many.issuer.issued


def test_host_observes_nothing_that_another_works_on(url: str) -> None:
    """While the state has open work, a run asks for the lease before any service."""
    many = ManyCertificates(1)
    [name] = (one.lineage for one in many.certificates)
    with two_hosts(url, many, SHORT) as (here, there):
        held = there.state.acquire(name, now())
        assert Result.ELSEWHERE is of_lineage(here.sync()[name])
        assert not here.looked
        there.state.release(held)


@pytest.mark.parametrize("is_before", [True, False], ids=["before this run", "during it"])
def test_host_observes_nothing_that_another_bound_and_will_see_served(
    url: str, *, is_before: bool
) -> None:
    """Between its passes the other host holds no lease, and comes back: a certificate takes the
    requests of one host. At its end this run reports success.
    """
    many = ManyCertificates(8, processing=timedelta(0))
    own = [one for one in many.certificates if owns("web-1", HOSTS, one.lineage)]
    theirs, later = own[0], next(one for one in many.certificates if one not in own)
    many.certificates = [theirs, later]
    with two_hosts(url, many) as (here, there):
        store_certificate(there, later)
        run, state, at_work = there.state.begin_run(now()), here.state, list[LineageReconciler]()

        def bind() -> None:
            if not at_work:
                at_work.append(
                    LineageReconciler(theirs, there.ports(), RunRules(keeps_pauses=True))
                )
                assert at_work[0].reconcile()

        def remembered_of(lineages: Sequence[str]) -> Any:
            bind()
            return state.remembered_of(lineages)

        def acquire(lineage: str, at: datetime) -> Any:
            if lineage == later.lineage:
                assert at_work[0].reconcile() is None
            return state.acquire(lineage, at)

        if is_before:
            bind()
        here.state = Altered(state, remembered_of=remembered_of, acquire=acquire)
        reports = here.sync()
        there.state.end_run(run)

    assert ({later.lineage}, {theirs.lineage}) == ({*here.looked}, {*there.looked})
    assert {Result.IN_ORDER} == {of_lineage(one) for one in reports.values()}
    assert (1, 2) == (many.issuer.issued, many.cdn.writes)


def test_certificate_that_another_host_bound_since_the_first_pass_is_looked_at(url: str) -> None:
    """The first pass of the run was refused the lease. The last pass observes the certificate and
    reports the served certificate of each domain.
    """
    many = ManyCertificates(1, processing=timedelta(0))
    [certificate] = many.certificates
    with two_hosts(url, many) as (here, there):
        run, state, refusals = there.state.begin_run(now()), here.state, list[LeaseHeld]()
        first: Callable[[str, datetime], Lease] = state.acquire

        def acquire(lineage: str, at: datetime) -> Lease:
            if refusals:
                return first(lineage, at)
            held = there.state.acquire(lineage, at)
            try:
                return first(lineage, at)
            except LeaseHeld as refusal:
                refusals.append(refusal)
                there.state.release(held)
                assert LineageReconciler(
                    certificate, there.ports(), RunRules(keeps_pauses=True)
                ).reconcile()
                raise

        here.state = Altered(state, acquire=acquire)
        report = here.sync()[certificate.lineage]
        there.state.end_run(run)

    [domain] = (domain for one in certificate.deployments for domain in one.domains or ())
    assert domain in [step.domain for step in report.outcomes]
    assert Result.IN_ORDER is of_lineage(report)
    assert (1, 1, 1) == (many.issuer.issued, many.cdn.writes, len(refusals))


def test_what_a_host_bound_before_it_died_is_seen_served_in_the_same_run(url: str) -> None:
    """The dead host seems to work for two minutes more: this run first leaves the certificate
    alone, and finishes the work at its own end.
    """
    many = ManyCertificates(1, processing=timedelta(0))
    [certificate] = many.certificates
    with two_hosts(url, many) as (here, there):
        there.state.begin_run(now())
        assert LineageReconciler(
            certificate, there.ports(), RunRules(keeps_pauses=True)
        ).reconcile()

        report = here.sync()[certificate.lineage]

        assert Result.IN_ORDER is of_lineage(report)
        [record] = here.state.remembered(certificate.lineage).rollouts
        assert record.verified_at is not None
        ends = [one for one in here.events if isinstance(one, LineageEnded)]
    assert (1, 1, 1) == (many.issuer.issued, many.cdn.writes, len(ends))


def store_certificate(host: Host, desired: DesiredCertificate) -> None:
    """Store an unbound certificate that is not due."""
    bundle = make_bundle(*desired.names, not_before=now() - timedelta(days=1))
    lease = host.state.acquire(desired.lineage, now())
    host.state.save_version(lease, bundle, now())
    host.state.release(lease)


def test_run_by_hand_waits_for_another_host(url: str) -> None:
    """A run by hand waits as for another run of its own host, and names the working host."""
    many = ManyCertificates(1)
    with two_hosts(url, many) as (here, there), ThreadPoolExecutor(1) as threads:
        held = there.state.acquire("img0.example.com", now())
        run = threads.submit(here.sync, scheduled=False)
        waits = "on web-2 has been working since"
        assert eventually(lambda: any(waits in str(event) for event in here.events))
        assert not run.done()
        there.state.release(held)
        assert {Result.IN_ORDER} == {of_lineage(one) for one in run.result().values()}


CHILD = """
import sys
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import WaitLimit
from tests.reconcile.test_divided_work import child_engine

with child_engine(*sys.argv[1:]) as (ports, certificates):
    report = Reconciler(ports).sync(certificates, WaitLimit(), scheduled=True)
    for step in report.lineages[0].outcomes:
        print(step.outcome, step.host, flush=True)
"""


READING = {"/cdn.observe", "/files.observe", "/ca.proofs"}
"""The calls of a planning run, with a lease or without."""


class World:
    """A server for another process: it notes each call, and answers one of the calls late."""

    def __init__(self, late: str) -> None:
        self.calls: list[str] = []
        self.is_reached = threading.Event()
        self.may_answer = threading.Event()
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                world.calls.append(self.path)
                if self.path == late and not world.is_reached.is_set():
                    world.is_reached.set()
                    world.may_answer.wait(60)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @contextmanager
    def running(self) -> Iterator[World]:
        thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.may_answer.set()
            self.server.shutdown()
            self.server.server_close()


class Remote:
    """A port with a request of the real client before each call."""

    def __init__(self, port: Any, name: str, call: Callable[[str], object]) -> None:
        self._port, self._name, self._call = port, name, call

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._port, method)
        if not callable(found):
            return found

        def called(*arguments: Any, **named: Any) -> Any:
            self._call(f"/{self._name}.{method}")
            return found(*arguments, **named)

        return called


@contextmanager
def child_engine(
    url: str, key: str, world: str
) -> Iterator[tuple[Ports, list[DesiredCertificate]]]:
    """Yield the ports of the frozen process: a world in its memory, reached over HTTP."""
    from certferry.adapters.http.http_client import HttpClient, Pacer

    http = HttpClient(pace=Pacer(1000, pause=time.sleep), pause=time.sleep)

    def call(path: str) -> None:
        http.send("POST", f"{world}{path}", body=b"", repeatable=True)

    many = ManyCertificates(1)
    certificate = with_files(many)
    with opened(url, "web-2", SHORT, Secret(key)) as state:
        issuer = many.issuer.seen_by(state)
        issuer._ca = Remote(issuer._ca, "ca", call)  # type: ignore[assignment]  # noqa: SLF001 - by name; the CA itself is asked
        receivers = MemoryReceivers()
        ports = replace(
            many.ports(),
            state=state,
            issuer=issuer,
            dns={"dns": Remote(many.dns, "dns", call)},
            targets={"cdn": Remote(many.cdn, "cdn", call)},
            receiver=lambda one: Remote(receivers.receiver(one), "files", call),
        )
        yield ports, [certificate]


@pytest.mark.parametrize(
    "late",
    [
        *("/ca.finalize", "/dns.add_txt", "/cdn.bind"),
        pytest.param("/ca.begin_order", marks=thorough),
        pytest.param("/ca.validate", marks=thorough),
        pytest.param("/dns.remove_txt", marks=thorough),
        pytest.param("/cdn.upload", marks=thorough),
        pytest.param("/files.deliver", marks=thorough),
    ],
)
def test_host_that_was_frozen_does_nothing_when_it_wakes_up(
    postgresql: Postgresql, url: str, database: str, late: str
) -> None:
    """Frozen in any call for longer than its lease, a host changes and removes nothing afterwards.
    It stores only the place of the record in the interrupted call, and then finds the other host at
    work.
    """
    with World(late).running() as world, ExitStack() as ended:
        words = [sys.executable, "-c", CHILD, url, KEY.reveal(), world.url]
        child = ended.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        ended.callback(child.kill)
        assert eventually(world.is_reached.is_set)
        child.send_signal(signal.SIGSTOP)
        with opened(url, "web-1", SHORT) as state:
            taken: list[Lease] = []
            assert eventually(lambda: took_over(state, taken))
            calls, stored = [*world.calls], rows(postgresql, database)
            world.may_answer.set()
            child.send_signal(signal.SIGCONT)
            said, _ = child.communicate(timeout=60)

        assert "elsewhere web-1\n" == said.splitlines(keepends=True)[-1]
        assert {*world.calls[len(calls) :]} <= READING
        assert 0 == child.returncode
        after = rows(postgresql, database)
        if late == "/dns.add_txt":
            [before], [record] = stored.pop("challenge_record"), after.pop("challenge_record")
            assert (None, "record-1") == (before["handle"], record["handle"])
        assert stored == after


def took_over(state: SharedState, taken: list[Lease]) -> bool:
    """Take the lease of the only lineage as soon as the holder has lost it."""
    with suppress(LeaseHeld):
        if not taken:
            taken.append(state.acquire("img0.example.com", now()))
    return bool(taken)


WORKED_ON = (
    *("version", "acme_order", "issuance", "issue_try", "challenge_record", "upload"),
    *("rollout", "withdrawal", "hold", "failed_proof", "history", "acme_account"),
)


def rows(postgresql: Postgresql, database: str) -> dict[str, list[dict[str, object]]]:
    """Return every row that runs store about their work."""
    tables: dict[str, list[dict[str, object]]] = {}
    for table in WORKED_ON:
        whole = f"SELECT to_jsonb({table}) FROM {table}"  # noqa: S608 - the schema's own names
        tables[table] = [row for (row,) in postgresql.ask(whole, database)]
    return tables
