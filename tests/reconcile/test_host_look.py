"""The look at watched hosts: side by side, bounded, and held up by no dead host."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.network import Host
from certferry.core.observed.observation import Served
from certferry.core.observed.watched_hosts import WatchedHost
from certferry.errors import ConfigError, Interrupted, Problem
from certferry.ports.probe import NONE_NAMED, Named
from certferry.reconcile.host_look import AT_ONCE, LONGEST, Asked, HostLook
from certferry.text import Text

DAY = timedelta(days=1)
ENDS = datetime.now(UTC) + 60 * DAY
SILENT = Problem(EdgeProblemCode.TIMED_OUT, Text("no answer"))
DEAD_FOR, LIVING_FOR = 0.5, 0.02


class Network:
    """A `Probe`: living hosts answer quickly, and dead hosts keep a thread waiting."""

    def __init__(self, dead: Sequence[Host] = (), recovering: Sequence[Host] = ()) -> None:
        self.asked: list[Host] = []
        self.most = 0
        self._dead, self._recovering = {*dead}, {*recovering}
        self._now = 0
        self._guard = threading.Lock()

    def served(
        self, domains: Sequence[str], named: Named = NONE_NAMED
    ) -> Mapping[str, tuple[Served, ...]]:
        raise NotImplementedError

    def served_by(self, hosts: Sequence[Host]) -> Mapping[Host, tuple[Served, ...]]:
        (host,) = hosts
        with self._guard:
            is_dead = host in self._dead or (host in self._recovering and host not in self.asked)
            self.asked.append(host)
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(DEAD_FOR if is_dead else LIVING_FOR)
        with self._guard:
            self._now -= 1
        if is_dead:
            return {host: (Served("192.0.2.1", None, valid=False, problem=SILENT, silent=True),)}
        return {host: (Served("192.0.2.1", "aa" * 32, valid=True, not_after=ENDS),)}


def hosts(count: int, word: str = "h") -> list[Host]:
    return [Host(f"{word}{number}.example.com") for number in range(count)]


def looking(
    before: Sequence[WatchedHost] = (), longest: timedelta = LONGEST, at_once: int = AT_ONCE
) -> HostLook:
    known = {look.host: look for look in before}
    return HostLook(known, "here", lambda _: None, lambda: datetime.now(UTC), longest, at_once)


def asked(probe: Network | ConfigError, *listed: Host) -> list[Asked]:
    return [Asked(host, "shop", 14 * DAY, probe) for host in listed]


def seen(host: Host, *, is_silent: bool) -> WatchedHost:
    earlier = datetime.now(UTC) - DAY
    return WatchedHost(host.name, 443, "here", "shop", earlier, earlier, is_silent=is_silent)


def test_two_hundred_hosts_are_asked_side_by_side() -> None:
    """Each host is asked once. A handshake of four seconds would leave room in twenty seconds."""
    network = Network()
    began = time.monotonic()

    looks = looking().look(asked(network, *hosts(200)))

    assert 200 == len(looks) == len(network.asked)
    assert all(look.problem is None and 1 == look.valid for look in looks)
    assert AT_ONCE // 2 < network.most <= AT_ONCE
    rounds = -(-200 // AT_ONCE)
    assert rounds * 4 <= 20
    assert time.monotonic() - began < 20


def test_known_dead_hosts_come_last() -> None:
    """The living are all asked before the dead of the last look, and the dead only once."""
    dead, living = hosts(6, "dead"), hosts(30)
    network = Network(dead)
    before = [seen(host, is_silent=True) for host in dead]

    looks = looking(before, at_once=2).look(asked(network, *dead, *living))

    assert {*living} == {*network.asked[:30]}
    assert sorted(map(str, dead)) == sorted(map(str, network.asked[30:]))
    assert {*dead} == {look.host for look in looks if look.is_silent}


def test_newly_silent_host_is_asked_once_more() -> None:
    """A lost packet is no trouble; a host that stays silent is."""
    recovering, dead = hosts(1, "slow"), hosts(1, "dead")
    network = Network(dead, recovering)

    looks = looking().look(asked(network, *recovering, *dead, *hosts(3)))

    problems = {look.host: look.problem for look in looks}
    assert None is problems[recovering[0]]
    assert problems[dead[0]] is not None
    assert (2, 2) == (network.asked.count(recovering[0]), network.asked.count(dead[0]))


def test_look_is_bounded_and_the_next_look_goes_on() -> None:
    """Hosts for which the time is too short are left out, and come first the next time."""
    dead = hosts(9, "dead")
    before = [seen(host, is_silent=True) for host in dead]
    first = looking(before, timedelta(seconds=DEAD_FOR * 1.5), at_once=2)

    looks = first.look(asked(Network(dead), *dead))

    assert 0 < len(looks) < len(dead)
    left_out = {*dead} - {look.host for look in looks}
    kept = [look for look in before if look.host in left_out]
    network = Network(dead)
    looking([*kept, *looks], timedelta(seconds=DEAD_FOR / 2), at_once=2).look(asked(network, *dead))
    assert {*network.asked} <= left_out


def test_stopped_run_ends_the_look() -> None:
    """No further host is asked, and nothing is returned."""
    network, over = Network(), threading.Event()

    def pause(_: float) -> None:
        if len(network.asked) >= 5:
            over.set()
        if over.is_set():
            raise Interrupted(Text("stopped"))

    look = HostLook({}, "here", pause, lambda: datetime.now(UTC), at_once=2)

    with pytest.raises(Interrupted):
        look.look(asked(network, *hosts(50)))
    assert len(network.asked) < 10


def test_unusable_roots_are_a_problem_of_the_host() -> None:
    """The probe could not be made, and the other hosts are asked all the same."""
    error = ConfigError(Text("root.pem is not a bundle of certificates"))
    first, second = hosts(2)

    looks = looking().look([*asked(error, first), *asked(Network(), second)])

    assert {first: error.code, second: None} == {
        look.host: look.problem and look.problem.code for look in looks
    }
