"""A look at watched hosts: many at once, bounded in time, and no host holds up another.

Hosts with a silent address take the longest: such a host holds a thread for up to half a minute.
They are therefore asked after the hosts that answered the last time. A host that is silent for the
first time is asked once more at the end, because a lost packet is no trouble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.assessment.watching import in_turn
from certferry.core.discovery.watched import HostObservation, in_short, judged
from certferry.core.network import Host
from certferry.core.observed.watched_hosts import WatchedHost
from certferry.errors import ConfigError
from certferry.ports.probe import Probe
from certferry.ports.progress import Clock, Pause
from certferry.values import replace

AT_ONCE = 48
"""The most hosts asked at once. A host has few addresses, and many systems allow a process only
1,024 open files.
"""

LONGEST = timedelta(seconds=90)
"""After this time a look begins with no further host; the next look begins with the hosts left out.
"""


@dataclass(frozen=True)
class Asked:
    """A host to look at, with the judgement that its `[[watch]]` asks for."""

    host: Host  #: The host.
    watch: str  #: The name of the `[[watch]]`.
    expiring: timedelta  #: The time left below which a certificate is trouble.
    #: Completes handshakes, with the roots of the `[[watch]]`; an error if the roots are unusable.
    probe: Probe | ConfigError


@dataclass(eq=False)
class HostLook:
    """A look at watched hosts by one certferry host."""

    #: The last look at each host, from the state.
    before: Mapping[Host, WatchedHost]
    #: The name of this certferry host.
    by: str
    #: Ends the look by `Interrupted` if the run is stopped.
    pause: Pause
    now: Clock
    #: After this time the look begins with no further host.
    longest: timedelta = LONGEST
    #: How many hosts are asked at once.
    at_once: int = AT_ONCE

    def look(self, asked: Sequence[Asked]) -> tuple[WatchedHost, ...]:
        """Look at hosts, and return the results. Hosts for which the time is too short are left
        out. Raises `Interrupted`.
        """
        until = self.now() + self.longest
        by_host = {each.host: each for each in asked}
        turns = [by_host[host] for host in in_turn(by_host, self.before)]
        seen = self._each(turns, until)
        once_more = [by_host[host] for host, look in seen.items() if self._is_news(look)]
        return tuple({**seen, **self._each(once_more, until)}.values())

    def _is_news(self, look: WatchedHost) -> bool:
        """Return whether a host is silent that was not silent in the look before."""
        before = self.before.get(look.host)
        return look.is_silent and (before is None or not before.is_silent)

    def _each(self, asked: Sequence[Asked], until: datetime) -> dict[Host, WatchedHost]:
        if not asked:
            return {}
        pool = ThreadPoolExecutor(min(self.at_once, len(asked)), thread_name_prefix="watch")
        try:
            looks = list(pool.map(lambda each: self._one(each, until), asked))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        return {look.host: look for look in looks if look is not None}

    def _one(self, asked: Asked, until: datetime) -> WatchedHost | None:
        """Look at one host; return `None` after `until`."""
        self.pause(0)
        now, host = self.now(), asked.host
        if now >= until:
            return None
        if isinstance(asked.probe, ConfigError):
            unasked = in_short(HostObservation(host, ()), asked.watch, self.by, now)
            return replace(unasked, problem=asked.probe.problem())
        served = asked.probe.served_by([host])[host]
        observed = judged(host, served, self.now(), asked.expiring)
        return in_short(observed, asked.watch, self.by, now)
