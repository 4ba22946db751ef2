"""Look at domains from outside: every address, one handshake each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from certferry.adapters.probe.addresses import Addresses, resolve, without_address
from certferry.adapters.probe.handshake import served_chain
from certferry.adapters.probe.no_handshake import NoHandshake
from certferry.adapters.probe.presented import presented
from certferry.adapters.probe.trust import Trust
from certferry.core import identifiers
from certferry.core.observed import Served
from certferry.core.watched import Host, is_address
from certferry.errors import Interrupted
from certferry.ports.progress import Pause
from certferry.text import Text

DOMAINS_AT_ONCE = 4
ADDRESSES_AT_ONCE = 8
"""Of one look, and of one domain of it. Several lineages are looked at side by side as well, and a
process may often open no more than 1,024 files.
"""

HOSTS_AT_ONCE = 16
"""Where nothing else goes on beside the look."""

ANSWER_WITHIN = timedelta(seconds=5)
"""How long a resolver may take for one question."""


class TlsProbe:
    """Shakes hands with what the resolvers name. A wildcard is looked at under a label of ours.

    No resolvers means the system's. `pause` is asked before each handshake whether the run has been
    stopped. Raises `ConfigError` when `ca_bundle` cannot be read; default is the system's trust.
    """

    def __init__(
        self,
        resolvers: Sequence[tuple[str, int]],
        now: Callable[[], datetime],
        *,
        pause: Pause,
        port: int = 443,
        ca_bundle: Path | None = None,
        answer_within: timedelta = ANSWER_WITHIN,
        hosts_at_once: int = DOMAINS_AT_ONCE,
    ) -> None:
        self._resolvers = resolvers
        self._now = now
        self._pause = pause
        self._port = port
        self._answer_within = answer_within
        self._hosts_at_once = hosts_at_once
        self._trust = Trust(ca_bundle)

    def look(self, domains: Sequence[str]) -> dict[str, tuple[Served, ...]]:
        """See `ports.probe.Probe.look`."""
        hosts = {domain: Host(domain, self._port) for domain in domains}
        seen = self.look_at(list(hosts.values()))
        return {domain: seen[host] for domain, host in hosts.items()}

    def look_at(self, hosts: Sequence[Host]) -> dict[Host, tuple[Served, ...]]:
        """See `ports.probe.HostProbe.look_at`. One that is silent takes its time beside the
        others.
        """
        looking = _Looking(self._pause)
        pool = ThreadPoolExecutor(self._hosts_at_once, thread_name_prefix="look")
        try:
            seen = pool.map(lambda host: self._look(host, looking), hosts)
            found = dict(zip(hosts, seen, strict=True))
        except BaseException:
            # The run does not wait for a handshake that is under way.
            looking.end()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        return found

    def _look(self, host: Host, looking: _Looking) -> tuple[Served, ...]:
        looking.must_go_on()
        name = _asked(host.name)
        addresses = self._addresses(name)
        silent = tuple(
            Served(address="", fingerprint=None, valid=False, problem=problem, silent=True)
            for problem in addresses.problems
        )
        if not addresses.found:
            return silent or (_without_address(name),)
        with ThreadPoolExecutor(min(ADDRESSES_AT_ONCE, len(addresses.found))) as pool:
            look_at = partial(self._look_at, name=name, port=host.port, looking=looking)
            seen = tuple(pool.map(look_at, addresses.found))
        return seen + silent

    def _addresses(self, name: str) -> Addresses:
        if is_address(name):
            return Addresses((name,), ())
        return resolve(name, self._resolvers, self._answer_within)

    def _look_at(self, address: str, name: str, port: int, looking: _Looking) -> Served:
        looking.must_go_on()
        try:
            chain_der = served_chain(address, port, name)
        except NoHandshake as error:
            return Served(address, None, valid=False, problem=error.problem, silent=error.silent)
        return presented(address, chain_der, self._trust, name, self._now())


class _Looking:
    """One look, by many threads. Each of them is told only once that the run has been stopped
    (`ports.progress.Pause`); here that ends the look of them all.
    """

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._over = threading.Event()

    def end(self) -> None:
        """Begin nothing more."""
        self._over.set()

    def must_go_on(self) -> None:
        """Raise `Interrupted` when the run no longer waits for the rest."""
        if self._over.is_set():
            raise Interrupted(Text("stopped"))
        try:
            self._pause(0)
        except Interrupted:
            self.end()
            raise


def _asked(domain: str) -> str:
    if identifiers.is_wildcard(domain):
        return f"certferry-probe.{identifiers.base_name(domain)}"
    return domain


def _without_address(host: str) -> Served:
    problem = without_address(host)
    return Served(address="", fingerprint=None, valid=False, problem=problem, silent=True)
