"""Leases by the database's clock: a host that is killed, freezes or loses the database."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta

import pytest

from certferry.adapters.state.database import Transaction
from certferry.adapters.state.fencing import must_be_in_force
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.shared_leases import SharedState
from certferry.errors import DatabaseUnavailable, LeaseHeld, LeaseLost
from certferry.ports.state import Lease
from tests.support.forks import start
from tests.support.postgresql import KEY, Postgresql, RoundTrips, impatient, running_postgresql
from tests.support.waiting import eventually

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHORT = timedelta(seconds=1.5)
"""The length of a lease in these tests; the product's is two minutes."""

AT_WORK = """
import sys
from datetime import UTC, datetime, timedelta
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.shared_leases import SharedState
from certferry.core.redaction import Secret
from certferry.errors import LeaseLost
from certferry_sandbox.testing.contracts.state_issuance import make_order

url, key, seconds = sys.argv[1:]
length = timedelta(seconds=float(seconds))
state = SharedState(PostgresqlDatabase(url), Sealing(Secret(key)), "web-2", length)
lease = state.acquire("img", datetime(2030, 1, 1, tzinfo=UTC))
run = state.begin_run(datetime(2030, 1, 1, tzinfo=UTC))
print("at work", flush=True)
sys.stdin.readline()
for write in (lambda: state.extend(lease), lambda: state.save_order(lease, make_order("img"))):
    try:
        write()
        print("written", flush=True)
    except LeaseLost as lost:
        print(lost.message, flush=True)
"""


@pytest.fixture
def url(postgresql: Postgresql) -> str:
    """The URL of an empty state."""
    return postgresql.url(postgresql.new_state())


@pytest.fixture
def state(url: str) -> Iterator[SharedState]:
    """The state as this host opens it."""
    with closing(opened(url)) as store:
        yield store


def opened(url: str, host: str = "web-1", length: timedelta = SHORT) -> SharedState:
    """Open a state with short leases."""
    return SharedState(PostgresqlDatabase(url), Sealing(KEY), host, length)


@pytest.fixture
def other_host(url: str) -> Iterator[subprocess.Popen[str]]:
    """Another host with a lease on `img`; after a line of input, the host writes."""
    words = [sys.executable, "-c", AT_WORK, url, KEY.reveal(), str(SHORT.total_seconds())]
    with (
        start(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child,
        ExitStack() as ended,
    ):
        ended.callback(child.kill)
        assert child.stdout is not None
        assert "at work\n" == child.stdout.readline()
        yield child


def is_free(state: SharedState, lineage: str = "img") -> bool:
    """Return whether a lease can be taken."""
    try:
        state.release(state.acquire(lineage, NOW))
    except LeaseHeld:
        return False
    return True


def test_working_host_keeps_its_lease(
    state: SharedState, other_host: subprocess.Popen[str]
) -> None:
    """The lease lasts as long as the work, for any clock: the other host's clock shows 2030."""
    end = time.monotonic() + 2 * SHORT.total_seconds()
    while time.monotonic() < end:
        assert not is_free(state)
        time.sleep(0.05)

    assert ["written\n", "written\n"] == answers(other_host)


def test_lease_of_a_killed_host(state: SharedState, other_host: subprocess.Popen[str]) -> None:
    """The lease ends by time, and the next holder's token is greater."""
    other_host.kill()
    assert eventually(lambda: is_free(state))
    assert 1 < token_of(state)


def test_frozen_host(state: SharedState, other_host: subprocess.Popen[str]) -> None:
    """The next call of the woken host raises `LeaseLost`, and writes nothing."""
    other_host.send_signal(signal.SIGSTOP)
    assert eventually(lambda: is_free(state))
    other_host.send_signal(signal.SIGCONT)

    lost = "img: another run has taken over\n"
    assert [lost, lost] == answers(other_host)
    assert state.order("img") is None


def test_run_of_a_killed_host(url: str, other_host: subprocess.Popen[str]) -> None:
    """The same host reports the run from the end of the lease until its next run begins."""
    with closing(opened(url, "web-2")) as again, closing(opened(url)) as elsewhere:
        assert () == again.unended_runs()
        other_host.kill()
        assert eventually(lambda: len(again.unended_runs()) == 1)
        assert () == elsewhere.unended_runs()
        again.end_run(again.begin_run(NOW))
        assert () == again.unended_runs()


def test_lease_of_a_closed_store(url: str, state: SharedState) -> None:
    """Closing frees the lease at once."""
    with closing(opened(url, "web-2")) as other:
        other.acquire("img", NOW)
    assert is_free(state)


def test_round_trips(postgresql: Postgresql) -> None:
    """A lease is taken and released in two round trips, and every other call takes one. A fresh
    lease is extended without a round trip.
    """
    passed = 0.0
    with ExitStack() as ended:
        relay = ended.enter_context(closing(RoundTrips(postgresql)))
        database = PostgresqlDatabase(relay.url(postgresql.new_state()))
        state = SharedState(database, Sealing(KEY), "web-1", HOUR, clock=lambda: passed)
        ended.enter_context(closing(state))
        state.release(state.acquire("warm", NOW))

        def cost(work: Callable[[], object]) -> int:
            before = relay.count
            work()
            return relay.count - before

        lease = state.acquire("img", NOW)
        assert 2 == cost(lambda: state.release(state.acquire("another", NOW)))
        for moment, trips in ((0.0, 0), (HOUR.total_seconds() / 10, 1), (passed, 0)):
            passed += moment
            assert trips == cost(lambda: state.extend(lease))
        assert 1 == cost(lambda: state.reserve("qiniu", "", timedelta(seconds=1), 5))


def test_takeover_waits_for_a_write(url: str, state: SharedState) -> None:
    """The takeover comes after a write that began in time, and its holder sees the write."""
    database = PostgresqlDatabase(url)
    with (
        closing(opened(url, "web-2", timedelta(seconds=0.4))) as slow,
        ThreadPoolExecutor(1) as pool,
    ):
        lease = slow.acquire("img", NOW)
        taking: list[Future[bool]] = []

        def write(transaction: Transaction) -> int:
            must_be_in_force(transaction, database.dialect, lease)
            slow._is_closed.set()  # noqa: SLF001 - stops the renewal of the lease
            taking.append(pool.submit(is_free, state))
            time.sleep(1)
            assert not taking[0].done()
            transaction.update("lease", {"lineage": "img"}, since="written")
            return 1

        database.run(write)
        assert taking[0].result()
    database.close()


def test_lease_without_a_database() -> None:
    """Up to half of the lease's length after the last renewal, the error names the database; later
    the lease counts as lost, since another host may take it soon. The clock of the host is
    irrelevant.
    """
    passed = 0.0
    with running_postgresql() as server:
        database = impatient(server.url(server.new_state()))
        state = SharedState(
            database, Sealing(KEY), "web-1", timedelta(minutes=2), clock=lambda: passed
        )
        with closing(state):
            lease = state.acquire("img", NOW)
            state.extend(lease)
            server.stop()
            passed = 6.0
            with pytest.raises(DatabaseUnavailable):
                state.extend(lease)
            passed = 61.0
            with pytest.raises(LeaseLost, match="could not be renewed"):
                state.extend(lease)
            server.start()
            state.extend(lease)
            assert 1 == lease.token


def test_forged_lease(state: SharedState) -> None:
    """Holder and token must both be right."""
    lease = state.acquire("img", NOW)
    for other in (Lease("img", "another", 1), Lease("img", lease.holder, 2)):
        with pytest.raises(LeaseLost):
            state.extend(other)


def token_of(state: SharedState) -> int:
    """Return the current token of `img`."""
    [row] = state._database.rows("SELECT token FROM lease WHERE lineage = 'img'")  # noqa: SLF001 - the row itself
    return int(row["token"])


def answers(child: subprocess.Popen[str]) -> list[str]:
    """Let the other host write, and return its answers."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return [child.stdout.readline(), child.stdout.readline()]
