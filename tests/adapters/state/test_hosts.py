"""Hosts that share a state: a single clock despite wrong ones, two hosts of one name, a lost
host.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certferry.adapters.state.columns import from_moment
from certferry.adapters.state.connect import connect
from certferry.adapters.state.host_tables import this_machine
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.shared_leases import SharedClock, SharedState
from certferry.core.assessment.hosts import with_away
from certferry.core.observed.records import HostWork
from certferry.errors import LeaseHeld
from certferry.ports.state import StateStore
from certferry.reconcile.run import others_of, problems_of_this_host
from certferry_sandbox.testing.contracts.state_hosts import host_of
from tests.support.forks import start
from tests.support.postgresql import KEY, Postgresql

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROUNDING = timedelta(milliseconds=1)
"""The precision of this test's sums of seconds."""
PRECISION = timedelta(seconds=0.5)
"""Half of the longest answer of the database's clock that certferry accepts."""

WRITING = """
import sys
from datetime import UTC, datetime, timedelta
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.shared_leases import SharedState
from certferry.core.observed.records import HistoryEntry
from certferry.core.redaction import Secret

url, key, host, *jumps = sys.argv[1:]
wrong = [timedelta(hours=int(one)) for one in jumps]
state = SharedState(
    PostgresqlDatabase(url), Sealing(Secret(key)), host,
    machine_now=lambda: datetime.now(UTC) + wrong[0],
)
run = state.begin_run(state.now())
for _ in sys.stdin:
    state.append_history(HistoryEntry(state.now(), "img", "issued", host, {}))
    wrong.append(wrong.pop(0))
    print("written", flush=True)
state.save_run(state.now(), succeeded=True)
state.end_run(run)
"""


@dataclass
class World:
    """A database with the right clock, a slow network, and a host's clocks."""

    passed: float = 0.0
    away: float = 0.0
    back: float = 0.0
    machine: datetime = NOW
    taken: float = 0.0

    def ask(self) -> str:
        """Return the database's moment when the question arrives."""
        self.passed += self.away
        moment = self.database
        self.passed += self.back
        self.taken = self.away + self.back
        return from_moment(moment)

    @property
    def database(self) -> datetime:
        """The current moment of the database's clock."""
        return NOW + timedelta(seconds=self.passed)


seconds = st.floats(0, 3, allow_nan=False)
steps = st.lists(
    st.tuples(st.floats(0, 1e6), seconds, seconds, st.datetimes(timezones=st.just(UTC)))
)


@given(steps)
def test_moments_are_the_databases(
    world_steps: list[tuple[float, float, float, datetime]],
) -> None:
    """For any latency and any clock of the host, a moment is wrong by at most half of the latency,
    and moments never go back: the writes of two hosts are in their order, and no run begins in the
    future.
    """
    world = World()
    clock = SharedClock(world.ask, lambda: world.passed, lambda: world.machine)
    latest = clock.now()
    most = world.taken
    for passed, world.away, world.back, world.machine in world_steps:
        world.passed += passed
        asked_at = world.passed
        clock.set(world.ask(), asked_at)
        most = max(world.taken, most) if world.taken <= 1 else most
        assert latest <= clock.now()
        latest = clock.now()
        assert abs(latest - world.database) <= timedelta(seconds=most / 2) + ROUNDING
        ahead = world.machine - world.database
        assert abs(clock.ahead() - ahead) <= timedelta(seconds=most / 2) + ROUNDING


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(-1e6, 1e6)), min_size=1))
@example([(1.0, -600.0)])
def test_server_whose_clock_is_set_back(jumps: list[tuple[float, float]]) -> None:
    """After the server's clock jumps to either side, time still passes: a deadline comes at most a
    ninth late.
    """
    moment, passed = datetime(2026, 12, 1, tzinfo=UTC), 0.0
    clock = SharedClock(moment.isoformat, lambda: passed, lambda: moment)
    before = clock.now()
    for seconds, jump in jumps:
        moment += timedelta(seconds=jump)
        clock.set(moment.isoformat(), passed)
        passed += seconds
        moment += timedelta(seconds=seconds)

        assert clock.now() - before >= timedelta(seconds=0.9 * seconds) - ROUNDING
        before = clock.now()


@pytest.fixture
def url(postgresql: Postgresql) -> str:
    """The URL of an empty state."""
    return postgresql.url(postgresql.new_state())


@pytest.fixture
def state(url: str) -> Iterator[StateStore]:
    """The state as the host `web-1` opens it."""
    with closing(connect(url, KEY, host="web-1")) as store:
        yield store


def opened(
    url: str, host: str = "web-2", ahead: timedelta = timedelta(0), **more: str
) -> SharedState:
    """Open the state on a host with a wrong clock."""
    return SharedState(
        PostgresqlDatabase(url),
        Sealing(KEY),
        host,
        machine_now=lambda: datetime.now(UTC) + ahead,
        **more,  # type: ignore[arg-type]  # the name of a machine
    )


def test_hosts_whose_clocks_are_off_or_jump(url: str, state: StateStore) -> None:
    """Two processes write in turn, one a day ahead, the other with a jumping clock. Their entries
    are in order, within the precision of the database's answers, and have the current moment.
    """
    words = [sys.executable, "-c", WRITING, url, KEY.reveal()]
    jumps = {"web-2": ["24"], "web-3": ["-24", "7000", "0", "-1"]}
    with ExitStack() as ended:
        hosts = [
            ended.enter_context(
                start([*words, name, *hours], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for name, hours in jumps.items()
        ]
        for host in hosts * 4:
            assert host.stdin is not None
            assert host.stdout is not None
            host.stdin.write("\n")
            host.stdin.flush()
            assert "written\n" == host.stdout.readline()
        for host in hosts:
            host.communicate()

    moments = [entry.at for entry in reversed(state.history("img", 100))]
    assert 8 == len(moments)
    assert all(later - earlier > -2 * PRECISION for earlier, later in pairwise(moments))
    assert moments[-1] - moments[0] < timedelta(minutes=1)
    assert abs(state.now() - moments[-1]) < timedelta(minutes=1)
    for name, hours in (("web-2", 24), ("web-3", -24)):
        observed = host_of(state, name)
        assert abs((observed.clock_ahead or timedelta(0)) - timedelta(hours=hours)) < timedelta(
            minutes=1
        )
        assert observed.last_run is not None
        assert abs(observed.last_run.ended_at - moments[-1]) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("ahead", "codes"),
    [
        (timedelta(seconds=50), []),
        (timedelta(seconds=-50), []),
        (timedelta(seconds=70), ["clock_off"]),
        (timedelta(days=-1), ["clock_off"]),
    ],
    ids=str,
)
def test_wrong_clock_of_a_host(url: str, ahead: timedelta, codes: list[str]) -> None:
    """A difference of more than a minute is reported with both moments; the hint names the uses of
    the host's own clock.
    """
    with closing(opened(url, ahead=ahead)) as store:
        problems = list(problems_of_this_host(store))
        assert codes == [problem.code for problem in problems]
        for problem in problems:
            moments = [problem.message.values[name] for name in ("machine", "shared")]
            machine, shared = [moment for moment in moments if isinstance(moment, datetime)]
            assert abs(machine - shared - ahead) < timedelta(seconds=5)
            assert "TLS" in str(problem.hint)


def test_two_machines_of_one_name(url: str, state: StateStore) -> None:
    """Each machine learns of the other during its runs; other hosts learn nothing."""
    with (
        closing(opened(url, "web-2", machine="one")) as first_machine,
        closing(opened(url, "web-2", machine="other")) as second_machine,
    ):
        for first, second in ((first_machine, second_machine), (second_machine, first_machine)):
            run = first.begin_run(first.now())
            again = second.begin_run(second.now())
            assert run.number != again.number, "each has its own run"
            assert first.other_machine_seen_at() is not None
            assert second.other_machine_seen_at() is None
            [problem] = problems_of_this_host(first)
            assert "host_name_twice" == problem.code
            assert 'host = "web-2-2"' in str(problem.hint)
            first.end_run(run)
            assert host_of(state, "web-2").running_since == again.began_at
            second.end_run(again)
    assert state.other_machine_seen_at() is None


def test_replaced_machine(url: str) -> None:
    """A day after the last run of the old machine, nothing is reported."""
    with closing(opened(url, "web-2", machine="old")) as old:
        old.end_run(old.begin_run(old.now() - timedelta(hours=27)))
    with closing(opened(url, "web-2", machine="new")) as new:
        assert [] == list(problems_of_this_host(new))


def test_running_host_cannot_be_forgotten(url: str, state: StateStore) -> None:
    """After the run has ended, or after the host was killed and its lease has ended, the host can
    be forgotten.
    """
    with closing(opened(url)) as other:
        run = other.begin_run(other.now())
        with pytest.raises(LeaseHeld, match="web-2 stays: a run has been in progress there since"):
            state.forget_host("web-2")
        other.end_run(run)
        other.begin_run(other.now())
    assert () == state.forget_host("web-2")
    assert ["web-1"] == [host.name for host in state.hosts()]


def test_host_that_stays_away(url: str, state: StateStore) -> None:
    """Other hosts notice after 26 hours, until a new run begins."""
    with closing(opened(url)) as away:
        assert () == notices_of(state), "it never ran"
        last = state.now() - timedelta(hours=26, minutes=1)
        away.end_run(away.begin_run(last))
        assert ["web-2"] == notices_of(state), "it began a run that never ended"
        away.save_run(last + timedelta(minutes=2), succeeded=True)
        assert () == notices_of(state)
        away.save_run(last, succeeded=False)
        assert ["web-2"] == notices_of(state)
        assert () == notices_of(away), "no host judges itself"

        run = away.begin_run(state.now())
        assert () == notices_of(state)
        away.end_run(run)
        assert ["web-2"] == notices_of(state)
        away.save_run(state.now(), succeeded=False)
        assert () == notices_of(state)


def notices_of(state: StateStore) -> list[str] | tuple[()]:
    """Return the hosts that stay away."""
    notices = with_away((), others_of(state), state.now())
    return [notice.subject.host for notice in notices] or ()


def test_machine_is_identified_by_a_digest() -> None:
    """The id itself is confidential (machine-id(5))."""
    assert this_machine() == this_machine()
    assert 32 == len(this_machine())


def test_work_and_declarations_of_hosts(postgresql: Postgresql) -> None:
    """A lease counts until its end; a declaration is outdated while another host has a newer
    declaration.
    """
    url = postgresql.url(postgresql.new_state())
    with ExitStack() as opened:
        first, second = (
            opened.enter_context(closing(connect(url, KEY, host=name)))
            for name in ("web-1", "web-2")
        )
        for store in (first, second):
            store.begin_run(store.now())
        first.declare({"img": "older", "ops": "same"}, "a.toml", lambda _: False)
        second.declare({"img": "newer", "ops": "same"}, "b.toml", lambda _: False)
        lease = second.acquire("ops", second.now())

        expected = {
            "web-1": HostWork(2, outdated=("img",)),
            "web-2": HostWork(2, holds=("ops",)),
        }
        assert expected == first.work_of_hosts() == second.work_of_hosts()

        second.release(lease)
        first.declare({"img": "newer", "ops": "same"}, "a.toml", lambda _: False)
        assert {"web-1": HostWork(2), "web-2": HostWork(2)} == second.work_of_hosts()
