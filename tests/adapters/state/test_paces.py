"""The pace of an account that hosts share, by the database's clock."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.http.client import Pacer
from certferry.adapters.state.connect import connect
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.errors import DatabaseUnavailable
from certferry.ports.state import StateStore
from tests.support.postgresql import KEY, Postgresql, running_postgresql
from tests.support.tiers import THOROUGH

HOSTS = 4 if THOROUGH else 2
THREADS, EACH = 4, 5
SECOND = timedelta(seconds=1)

CALLING = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from certferry.adapters.state.connect import connect
from certferry.core.secret import Secret
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
    """Where an empty state is."""
    return postgresql.url(postgresql.new_state())


@pytest.fixture(scope="module")
def hosts(url: str) -> Iterator[list[StateStore]]:
    """The state as each host sees it."""
    with ExitStack() as opened:
        names = (f"web-{number}" for number in range(HOSTS))
        yield [opened.enter_context(closing(connect(url, KEY, host=name))) for name in names]


@pytest.fixture(scope="module")
def database(url: str) -> Iterator[PostgresqlDatabase]:
    """The database behind it."""
    with closing(PostgresqlDatabase(url)) as opened:
        yield opened


def end_of(database: PostgresqlDatabase, account: str) -> datetime:
    """Return until when an account's requests are reserved."""
    [row] = database.rows("SELECT until FROM pace WHERE account = ?", account)
    return datetime.fromisoformat(row["until"])


@given(
    asked=st.lists(
        st.tuples(st.integers(0, HOSTS - 1), st.integers(1, 5), st.sampled_from([0, 0, 0.02])),
        min_size=2,
        max_size=12,
    ),
    per_second=st.sampled_from([3, 5, 10, 50]),
)
def test_no_second_holds_more_than_the_limit(
    hosts: list[StateStore],
    database: PostgresqlDatabase,
    asked: list[tuple[int, int, float]],
    per_second: int,
) -> None:
    """In whichever order hosts ask, for how many, and after whatever pauses."""
    account, interval = uuid4().hex, SECOND / per_second
    interval += timedelta(microseconds=SECOND > interval * per_second)
    moments: list[datetime] = []
    for host, count, pause in asked:
        time.sleep(pause)
        began = datetime.now(UTC)
        ahead = hosts[host].reserve(account, "https://api", interval, count)
        first = end_of(database, account) - count * interval
        assert ahead is not None
        assert timedelta() <= ahead <= max(first - began, timedelta())
        moments += [first + number * interval for number in range(count)]

    assert sorted(moments) == moments
    for moment in moments:
        assert per_second >= sum(moment <= one < moment + SECOND for one in moments)


def test_hosts_keep_one_pace_together(url: str) -> None:
    """Processes with threads, at once: no request is sent before as many turns have come."""
    per_second = 20
    with ExitStack() as ended:
        calling = [started(url, f"web-{number}", per_second, ended) for number in range(HOSTS)]
        for child in calling:
            assert child.stdout is not None
            assert "ready\n" == child.stdout.readline()
        began = time.time()
        for child in calling:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        answers = [child.communicate()[0] for child in calling]
    sent = sorted(float(one) for answer in answers for one in answer.split())

    assert HOSTS * THREADS * EACH == len(sent)
    assert [] == [n for n, one in enumerate(sent) if one < began + n / per_second]


def started(url: str, host: str, per_second: int, ended: ExitStack) -> subprocess.Popen[str]:
    """Start a host that calls a service with several threads, as soon as a line comes."""
    words = [url, KEY.reveal(), host, str(per_second), str(THREADS), str(EACH)]
    child = subprocess.Popen(
        [sys.executable, "-c", CALLING, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    ended.enter_context(child)
    ended.callback(child.kill)
    return child


def test_clock_of_the_server_that_was_set_back(
    hosts: list[StateStore], database: PostgresqlDatabase
) -> None:
    """No host waits for a moment that only a wrong clock has written; then they queue again."""
    hosts[0].reserve("late", "https://api", SECOND, 1)
    database.run(
        lambda one: one.execute("UPDATE pace SET until = ?", "2999-01-01T00:00:00.000000Z")
    )

    ahead = [host.reserve("late", "https://api", SECOND, 100) for host in hosts[:2]]

    assert ahead[0] == timedelta()
    assert ahead[1] is not None
    assert 100 * SECOND >= ahead[1] > 90 * SECOND


def test_database_that_is_gone() -> None:
    """The error is the database's, for each request; they go on when it is there again."""
    with running_postgresql() as server:
        url = server.url(server.new_state())
        with closing(connect(url, KEY, host="web-1")) as state:
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
