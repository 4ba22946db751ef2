"""Paces and budgets of hosts that share a state, by the database's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.http.http_client import Pacer
from certferry.adapters.state.connect import connect
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.shared_leases import SharedState
from certferry.adapters.state.sqlite import SqliteDatabase
from certferry.errors import DatabaseUnavailable
from certferry.ports.state import StateStore
from tests.support.hosts import HOSTS, at_once
from tests.support.postgresql import KEY, Postgresql, impatient, running_postgresql

THREADS, EACH = 4, 5
SECOND = timedelta(seconds=1)

CALLING = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from certferry.adapters.state.connect import connect
from certferry.core.redaction import Secret
from certferry.wiring.accounts import Paces

url, key, host, per_second, threads, each = sys.argv[1:]
state = connect(url, Secret(key), host=host)
paces = Paces(lambda: state)
print("ready", flush=True)
sys.stdin.readline()

def call(_):
    pace = paces.joined("qiniu", time.sleep, "https://api", float(per_second))
    sent = []
    for _ in range(int(each)):
        pace.wait()
        sent.append(time.time())
    return sent

with ThreadPoolExecutor(int(threads)) as pool:
    for sent in pool.map(call, range(int(threads))):
        print(*sent, flush=True)
state.close()
"""


@pytest.fixture(scope="module")
def url(postgresql: Postgresql) -> str:
    """The URL of an empty state."""
    return postgresql.url(postgresql.new_state())


@pytest.fixture(scope="module")
def hosts(url: str) -> Iterator[list[StateStore]]:
    """The state as each host opens it."""
    with ExitStack() as opened:
        names = (f"web-{number}" for number in range(HOSTS))
        yield [opened.enter_context(closing(connect(url, KEY, host=name))) for name in names]


@pytest.fixture(scope="module")
def database(url: str) -> Iterator[PostgresqlDatabase]:
    """The database of the state."""
    with closing(PostgresqlDatabase(url)) as opened:
        yield opened


def end_of(database: PostgresqlDatabase, account: str) -> datetime:
    """Return the end of the reserved requests of an account."""
    [row] = database.rows("SELECT until FROM pace WHERE account = ?", account)
    return datetime.fromisoformat(row["until"])


@given(
    requests=st.lists(
        st.tuples(st.integers(0, HOSTS - 1), st.integers(1, 5), st.sampled_from([0, 0, 0.02])),
        min_size=2,
        max_size=12,
    ),
    per_second=st.sampled_from([3, 5, 10, 50]),
)
def test_no_second_holds_more_than_the_limit(
    hosts: list[StateStore],
    database: PostgresqlDatabase,
    requests: list[tuple[int, int, float]],
    per_second: int,
) -> None:
    """The limit holds for any order of hosts, numbers of requests and pauses."""
    account, interval = uuid4().hex, SECOND / per_second
    interval += timedelta(microseconds=SECOND > interval * per_second)
    moments: list[datetime] = []
    for host, count, pause in requests:
        time.sleep(pause)
        began = datetime.now(UTC)
        ahead = hosts[host].reserve(account, "https://api", interval, count)
        first = end_of(database, account) - count * interval
        assert ahead is not None
        assert timedelta() <= ahead <= max(first - began, timedelta())
        moments += [first + number * interval for number in range(count)]

    assert sorted(moments) == moments
    for moment in moments:
        assert per_second >= sum(moment <= other < moment + SECOND for other in moments)


@pytest.mark.parametrize("place", ["server", "file"])
def test_processes_keep_one_pace_together(url: str, place: str, tmp_path: Path) -> None:
    """Hosts with a server, and processes of one host with a file, call with several threads at
    once: each request waits for its turn.
    """
    if place == "file":
        url = f"sqlite:///{tmp_path}/state.db"
        connect(url, KEY, host="web-1").close()
    per_second, began = 20, time.time()
    answers = at_once(CALLING, url, str(per_second), str(THREADS), str(EACH))
    sent = sorted(float(moment) for answer in answers for moment in answer.split())

    assert HOSTS * THREADS * EACH == len(sent)
    assert [] == [n for n, moment in enumerate(sent) if moment < began + n / per_second]


SET_BACK = [timedelta(minutes=10), timedelta(days=365_000)]


def reserved_until(ahead: timedelta) -> str:
    """Return a moment in the format of a table of paces."""
    return (datetime.now(UTC) + ahead).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.mark.parametrize("set_back", SET_BACK)
def test_server_clock_set_back(
    hosts: list[StateStore], database: PostgresqlDatabase, set_back: timedelta
) -> None:
    """A host ignores reserved turns of a wrong clock; later turns queue again."""
    hosts[0].reserve("late", "https://api", SECOND, 1)
    until = reserved_until(set_back)
    database.run(lambda transaction: transaction.execute("UPDATE pace SET until = ?", until))

    ahead = [host.reserve("late", "https://api", SECOND, 20) for host in hosts[:2]]

    assert ahead[0] == timedelta()
    assert ahead[1] is not None
    assert 20 * SECOND >= ahead[1] > 10 * SECOND


@pytest.mark.parametrize("set_back", [timedelta(minutes=1), *SET_BACK])
def test_host_clock_set_back(tmp_path: Path, set_back: timedelta) -> None:
    """Turns reserved before the change are dropped, and the next turns follow each other."""
    url = f"sqlite:///{tmp_path}/state.db"
    until = reserved_until(set_back)
    with closing(connect(url, KEY, host="web-1")) as state:
        state.reserve("late", "https://api", SECOND, 1)
        with closing(SqliteDatabase(tmp_path / "state.db")) as database:
            database.run(
                lambda transaction: transaction.execute("UPDATE pace SET until = ?", until)
            )

        ahead = [state.reserve("late", "https://api", SECOND, 20) for _ in range(2)]

    assert ahead[0] == timedelta()
    assert ahead[1] is not None
    assert 20 * SECOND >= ahead[1] > 10 * SECOND


def test_stopped_database() -> None:
    """Each request gets the database's error; requests continue after the database is back."""
    with running_postgresql() as server:
        url = server.url(server.new_state())
        with closing(SharedState(impatient(url), Sealing(KEY), "web-1")) as state:
            pacer = Pacer(
                50,
                pause=time.sleep,
                reserve=lambda count: state.reserve("qiniu", "", SECOND / 50, count),
            )
            pacer.wait()
            server.stop()
            for _ in range(2):
                with pytest.raises(DatabaseUnavailable, match="postgresql://"):
                    pacer.wait()
            server.start()
            pacer.wait()


ORDERING = """
import sys
from contextlib import closing
from datetime import UTC, datetime
from certferry.adapters.acme.budget import limits_at
from certferry.adapters.state.connect import connect
from certferry.core.planning.limits import PlannedOrder
from certferry.core.redaction import Secret
from certferry.errors import OrderPostponed

url, key, host, directory, tries, name = sys.argv[1:]
with closing(connect(url, Secret(key), host=host)) as state:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(tries)):
        names, now = (name.format(f"{host}-{number}"),), datetime.now(UTC)
        lease = state.acquire(f"{host}-{number}", now)
        try:
            state.claim_order(lease, directory, PlannedOrder(names), limits_at(directory), now)
            print(*names)
        except OrderPostponed:
            pass
"""
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


@pytest.mark.parametrize(
    ("name", "most"),
    [("{}.com", 300), ("{}.example.com", 50), ("www.example.com", 5)],
    ids=["an account in three hours", "a domain in a week", "the same names in a week"],
)
def test_limits_of_a_ca_hold_for_all_hosts(postgresql: Postgresql, name: str, most: int) -> None:
    """Hosts that order as fast as possible, at once, get exactly the number that Let's Encrypt
    allows.
    """
    url = postgresql.url(postgresql.new_state())
    tries = (most + 20) // HOSTS + 1

    answers = at_once(ORDERING, url, LETS_ENCRYPT, str(tries), name)

    assert most == sum(len(answer.split()) for answer in answers)


SPENDING = """
import sys
from contextlib import closing
from certferry.adapters.dnspod.dns import HourlyBudget, rate_of
from certferry.adapters.state.connect import connect
from certferry.core.redaction import Secret
from certferry.wiring.accounts import AccountNotes, Paces

class Spent(Exception):
    pass

def stop(_):
    raise Spent

url, key, host, per_hour = sys.argv[1:]
with closing(connect(url, Secret(key), host=host)) as state:
    memory = AccountNotes(lambda: state, "dnspod", is_kept=True)
    pace = Paces(lambda: state).joined("dnspod", lambda _: None, "", 1e6)
    budget = HourlyBudget(rate_of(int(per_hour)), memory=memory, pace=pace, pause=stop)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        while True:
            budget.wait()
            print("sent")
    except Spent:
        pass
"""


def test_hosts_share_the_budget_of_an_hour(postgresql: Postgresql) -> None:
    """Each request is spent once: all hosts together send a sixth of the hour's budget at once."""
    url = postgresql.url(postgresql.new_state())

    answers = at_once(SPENDING, url, "300")

    assert 50 == sum(len(answer.split()) for answer in answers)
