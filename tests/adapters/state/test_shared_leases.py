"""Leases by the database's clock: what a host does that dies, freezes or loses the database."""

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
from tests.support.postgresql import KEY, Postgresql, RoundTrips, impatient, running_postgresql
from tests.support.waiting import eventually

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHORT = timedelta(seconds=1.5)
"""A lease's length in these tests: two minutes would be as right."""

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
    """Where an empty state is."""
    return postgresql.url(postgresql.new_state())


@pytest.fixture
def state(url: str) -> Iterator[SharedState]:
    """The state as this host sees it."""
    with closing(opened(url)) as store:
        yield store


def opened(url: str, host: str = "web-1", length: timedelta = SHORT) -> SharedState:
    """Open a state whose leases are short."""
    return SharedState(PostgresqlDatabase(url), Sealing(KEY), host, length)


@pytest.fixture
def other_host(url: str) -> Iterator[subprocess.Popen[str]]:
    """Another host, which is at work on `img`; told so, it writes."""
    words = [sys.executable, "-c", AT_WORK, url, KEY.reveal(), str(SHORT.total_seconds())]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child,
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


def test_host_that_works_keeps_its_lease(
    state: SharedState, other_host: subprocess.Popen[str]
) -> None:
    """For as long as it works, whatever the clocks of the hosts say: one lives in 2030."""
    end = time.monotonic() + 2 * SHORT.total_seconds()
    while time.monotonic() < end:
        assert not is_free(state)
        time.sleep(0.05)

    assert ["written\n", "written\n"] == answers(other_host)


def test_host_that_was_killed(state: SharedState, other_host: subprocess.Popen[str]) -> None:
    """Its lease ends by time, and the next holder's token is greater."""
    other_host.kill()
    assert eventually(lambda: is_free(state))
    assert 1 < token_of(state)


def test_host_that_freezes(state: SharedState, other_host: subprocess.Popen[str]) -> None:
    """When it wakes up, its next call raises `LeaseLost`, and it writes nothing."""
    other_host.send_signal(signal.SIGSTOP)
    assert eventually(lambda: is_free(state))
    other_host.send_signal(signal.SIGCONT)

    lost = "img: another run has taken over\n"
    assert [lost, lost] == answers(other_host)
    assert state.order("img") is None


def test_run_of_a_host_that_was_killed(url: str, other_host: subprocess.Popen[str]) -> None:
    """That host reports it from the end of its lease until the next run begins."""
    with closing(opened(url, "web-2")) as again, closing(opened(url)) as elsewhere:
        assert () == again.unended_runs()
        other_host.kill()
        assert eventually(lambda: len(again.unended_runs()) == 1)
        assert () == elsewhere.unended_runs()
        again.end_run(again.begin_run(NOW))
        assert () == again.unended_runs()


def test_lease_of_a_store_that_is_closed_is_free_at_once(url: str, state: SharedState) -> None:
    """No host has to wait for the end of what ended well."""
    with closing(opened(url, "web-2")) as other:
        other.acquire("img", NOW)
    assert is_free(state)


def test_round_trips(postgresql: Postgresql) -> None:
    """A lease is taken and given back in two, and each of the rest takes one: but a lease that was
    taken or renewed a moment ago is not renewed.
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


def test_write_ends_before_the_lease_is_taken(url: str, state: SharedState) -> None:
    """What takes a lease over comes after a write that began in time, and sees it."""
    database = PostgresqlDatabase(url)
    with (
        closing(opened(url, "web-2", timedelta(seconds=0.4))) as slow,
        ThreadPoolExecutor(1) as pool,
    ):
        lease = slow.acquire("img", NOW)
        taking: list[Future[bool]] = []

        def write(transaction: Transaction) -> int:
            must_be_in_force(transaction, database.dialect, lease)
            slow._is_closed.set()  # noqa: SLF001 - nothing renews it any more
            taking.append(pool.submit(is_free, state))
            time.sleep(1)
            assert not taking[0].done()
            transaction.update("lease", {"lineage": "img"}, since="written")
            return 1

        database.run(write)
        assert taking[0].result()
    database.close()


def test_database_that_is_gone() -> None:
    """While the last renewal is young, the error says that the database is gone; from half of the
    lease's length on, that its lease is lost, since another host may have it soon. No clock of the
    host is asked.
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


def test_lease_that_is_another_ones(state: SharedState) -> None:
    """Neither holder nor token may be made up."""
    lease = state.acquire("img", NOW)
    for other in (Lease("img", "another", 1), Lease("img", lease.holder, 2)):
        with pytest.raises(LeaseLost):
            state.extend(other)


def token_of(state: SharedState) -> int:
    """Return the token that `img` has now."""
    [row] = state._database.rows("SELECT token FROM lease WHERE lineage = 'img'")  # noqa: SLF001 - the row itself
    return int(row["token"])


def answers(child: subprocess.Popen[str]) -> list[str]:
    """Have the other host write, and return what it says of it."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return [child.stdout.readline(), child.stdout.readline()]
