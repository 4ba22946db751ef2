"""Hosts that share a state: one clock, whatever theirs say; two of one name; one that is gone."""

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
EXACT = timedelta(milliseconds=1)
"""How exact the sums of this test's seconds are."""
EXACTLY = timedelta(seconds=0.5)
"""Half of the longest time in which an answer of the database's clock is taken."""

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
    """A database whose clock is right, a network that takes its time, and a host's clocks."""

    passed: float = 0.0
    away: float = 0.0
    back: float = 0.0
    machine: datetime = NOW
    taken: float = 0.0

    def ask(self) -> str:
        """Return what the database says at the moment at which the question reaches it."""
        self.passed += self.away
        said = self.database
        self.passed += self.back
        self.taken = self.away + self.back
        return from_moment(said)

    @property
    def database(self) -> datetime:
        """This moment by the database's clock."""
        return NOW + timedelta(seconds=self.passed)


seconds = st.floats(0, 3, allow_nan=False)
steps = st.lists(
    st.tuples(st.floats(0, 1e6), seconds, seconds, st.datetimes(timezones=st.just(UTC)))
)


@given(steps)
def test_moments_are_the_databases(
    ones: list[tuple[float, float, float, datetime]],
) -> None:
    """However long an answer takes, and whatever the clock of the host says, a moment is off by at
    most half of that time, and none is before an earlier one: what two hosts write stands in the
    order in which they wrote it, and what begins now has not begun in the future.
    """
    world = World()
    clock = SharedClock(world.ask, lambda: world.passed, lambda: world.machine)
    latest = clock.now()
    most = world.taken
    for passed, world.away, world.back, world.machine in ones:
        world.passed += passed
        asked = world.passed
        clock.set(world.ask(), asked)
        most = max(world.taken, most) if world.taken <= 1 else most
        assert latest <= clock.now()
        latest = clock.now()
        assert abs(latest - world.database) <= timedelta(seconds=most / 2) + EXACT
        ahead = world.machine - world.database
        assert abs(clock.ahead() - ahead) <= timedelta(seconds=most / 2) + EXACT


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(-1e6, 1e6)), min_size=1))
@example([(1.0, -600.0)])
def test_server_whose_clock_is_set_back(jumps: list[tuple[float, float]]) -> None:
    """After a jump of the server's clock to either side, time still passes: a deadline comes at
    most a ninth later than asked for.
    """
    moment, passed = datetime(2026, 12, 1, tzinfo=UTC), 0.0
    clock = SharedClock(moment.isoformat, lambda: passed, lambda: moment)
    before = clock.now()
    for seconds, jump in jumps:
        moment += timedelta(seconds=jump)
        clock.set(moment.isoformat(), passed)
        passed += seconds
        moment += timedelta(seconds=seconds)

        assert clock.now() - before >= timedelta(seconds=0.9 * seconds) - EXACT
        before = clock.now()


@pytest.fixture
def url(postgresql: Postgresql) -> str:
    """Where an empty state is."""
    return postgresql.url(postgresql.new_state())


@pytest.fixture
def state(url: str) -> Iterator[StateStore]:
    """The state as `web-1` sees it."""
    with closing(connect(url, KEY, host="web-1")) as store:
        yield store


def opened(
    url: str, host: str = "web-2", ahead: timedelta = timedelta(0), **more: str
) -> SharedState:
    """Open the state on a host whose clock is wrong."""
    return SharedState(
        PostgresqlDatabase(url),
        Sealing(KEY),
        host,
        machine_now=lambda: datetime.now(UTC) + ahead,
        **more,  # type: ignore[arg-type]  # the name of a machine
    )


def test_hosts_whose_clocks_are_off_or_jump(url: str, state: StateStore) -> None:
    """Two processes write in turn: one lives tomorrow, the other's clock jumps to and fro. What
    they write stands in its order, as exactly as the database answers, and is of this moment.
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
        for one in hosts * 4:
            assert one.stdin is not None
            assert one.stdout is not None
            one.stdin.write("\n")
            one.stdin.flush()
            assert "written\n" == one.stdout.readline()
        for one in hosts:
            one.communicate()

    written = [entry.at for entry in reversed(state.history("img", 100))]
    assert 8 == len(written)
    assert all(later - earlier > -2 * EXACTLY for earlier, later in pairwise(written))
    assert written[-1] - written[0] < timedelta(minutes=1)
    assert abs(state.now() - written[-1]) < timedelta(minutes=1)
    for name, hours in (("web-2", 24), ("web-3", -24)):
        found = host_of(state, name)
        assert abs((found.clock_ahead or timedelta(0)) - timedelta(hours=hours)) < timedelta(
            minutes=1
        )
        assert found.last_run is not None
        assert abs(found.last_run.ended_at - written[-1]) < timedelta(minutes=1)


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
def test_host_learns_that_its_clock_is_off(url: str, ahead: timedelta, codes: list[str]) -> None:
    """By more than a minute: with both moments, and what goes by this clock nevertheless."""
    with closing(opened(url, ahead=ahead)) as store:
        found = list(problems_of_this_host(store))
        assert codes == [one.code for one in found]
        for one in found:
            moments = [one.message.values[name] for name in ("machine", "shared")]
            machine, shared = [moment for moment in moments if isinstance(moment, datetime)]
            assert abs(machine - shared - ahead) < timedelta(seconds=5)
            assert "TLS" in str(one.hint)


def test_two_machines_of_one_name(url: str, state: StateStore) -> None:
    """Each learns of the other when it runs, and none of a machine that runs alone."""
    with (
        closing(opened(url, "web-2", machine="one")) as one,
        closing(opened(url, "web-2", machine="other")) as other,
    ):
        for first, second in ((one, other), (other, one)):
            run = first.begin_run(first.now())
            again = second.begin_run(second.now())
            assert run.number != again.number, "each has its own run"
            assert first.other_machine_seen_at() is not None
            assert second.other_machine_seen_at() is None
            [found] = problems_of_this_host(first)
            assert "host_name_twice" == found.code
            assert 'host = "web-2-2"' in str(found.hint)
            first.end_run(run)
            assert host_of(state, "web-2").running_since == again.began_at
            second.end_run(again)
    assert state.other_machine_seen_at() is None


def test_machine_that_took_another_ones_place(url: str) -> None:
    """A day later there is nothing to report."""
    with closing(opened(url, "web-2", machine="old")) as old:
        old.end_run(old.begin_run(old.now() - timedelta(hours=27)))
    with closing(opened(url, "web-2", machine="new")) as new:
        assert [] == list(problems_of_this_host(new))


def test_host_that_runs_is_not_forgotten_by_another(url: str, state: StateStore) -> None:
    """Once it has ended, or was killed and its lease with it, it is."""
    with closing(opened(url)) as other:
        run = other.begin_run(other.now())
        with pytest.raises(LeaseHeld, match="web-2 stays: a run has been in progress there since"):
            state.forget_host("web-2")
        other.end_run(run)
        other.begin_run(other.now())
    assert () == state.forget_host("web-2")
    assert ["web-1"] == [one.name for one in state.hosts()]


def test_host_that_stays_away(url: str, state: StateStore) -> None:
    """The others notice after 26 hours, and until it runs again: while it does, already."""
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
    found = with_away((), others_of(state), state.now())
    return [one.subject.host for one in found] or ()


def test_machine_is_known_by_a_digest() -> None:
    """The id itself is not to be shown (machine-id(5))."""
    assert this_machine() == this_machine()
    assert 32 == len(this_machine())


def test_what_each_host_works_on_and_declares(postgresql: Postgresql) -> None:
    """A lease counts while it lasts, and a declaration is outdated while another host has a newer
    one.
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
