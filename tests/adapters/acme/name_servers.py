"""Zones on real name servers, and a clock that only pauses advance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import dns.message
import dns.rrset

from certferry.adapters.acme.propagation import DnsPropagation
from certferry.text import Text
from certferry_sandbox.nameserver.daemon import DnsDaemon, Handler, Reply, Transport
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.zones import Zones
from tests.adapters.recorded_pauses import RecordedPauses

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NAME = "_acme-challenge.example.com"
HOSTS = ("ns1.dns.test", "ns2.dns.test", "ns3.dns.test")
RESOLVER = "127.0.53.9"
ANSWER_WITHIN = timedelta(seconds=5)  # enough on a busy machine
SHORT_WAIT = timedelta(seconds=0.4)  # for tests with a silent server
TIMEOUT = timedelta(seconds=60)  # on the clock of the pauses


class NameServers:
    """ns1 and ns2 serve example.com, ns3 serves example.net, and a resolver finds both zones."""

    def __init__(self) -> None:
        self.waits = RecordedPauses()
        self.zones = Zones(self.waits.clock)
        self.zones.add_zone("example.com", HOSTS[:2])
        self.zones.add_zone("example.net", HOSTS[2:])
        self.servers = [
            NameServer(self.zones, host, f"127.0.53.{number}")
            for number, host in enumerate(HOSTS, 1)
        ]
        self.resolver = Resolver(self.zones, self.servers, RESOLVER)
        self.service = DnsService(self.zones, self.servers, self.resolver)

    @property
    def port(self) -> int:
        return self.service.port

    def now(self) -> datetime:
        return START + timedelta(seconds=self.waits.clock())

    def propagation(self, **settings: Any) -> DnsPropagation:
        """Return a propagation check that queries the servers through the resolver."""
        defaults: dict[str, Any] = {
            "resolvers": [(RESOLVER, self.port)],
            "port": self.port,
            "timeout": TIMEOUT,
            "pause": self.waits,
            "now": self.now,
            "answer_within": ANSWER_WITHIN,
        }
        return DnsPropagation(**{**defaults, **settings})


@contextmanager
def name_servers() -> Iterator[NameServers]:
    """Run name servers for the duration of a `with` block."""
    world = NameServers()
    with world.service:
        yield world


class OddServer:
    """A server that answers from a script: (name, type) → the records or a function.

    Other queries get an empty answer. `queries` holds all messages.
    """

    def __init__(self, script: dict[tuple[str, str], Any], address: str = "127.0.53.8") -> None:
        self.address = address
        self.queries: list[dns.message.Message] = []
        self._script = script

    def handle(self, wire: bytes, transport: Transport) -> Reply | None:
        query = dns.message.from_wire(wire)
        self.queries.append(query)
        question = query.question[0]
        key = (question.name.to_text(omit_final_dot=True), question.to_text().split()[-1])
        response = dns.message.make_response(query)
        act = self._script.get(key, [])
        if callable(act):
            wire_answer = act(response, transport)
            return None if wire_answer is None else Reply(wire_answer)
        for section, *record in act:
            getattr(response, section).append(dns.rrset.from_text(*record))
        return Reply(response.to_wire())


@contextmanager
def odd_servers(*servers: OddServer) -> Iterator[int]:
    """Run servers on a single port, and yield the port."""
    handlers: dict[str, Handler] = {server.address: server.handle for server in servers}
    running = DnsDaemon(handlers).start()
    try:
        yield running.port
    finally:
        running.stop()


class Reports:
    """The reports of a wait, as sentences."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.moments: set[tuple[datetime, datetime]] = set()

    def __call__(self, activity: Text, since: datetime, deadline: datetime) -> None:
        self.sentences.append(str(activity))
        self.moments.add((since, deadline))


def values_at(name: str = NAME, *values: str) -> dict[str, frozenset[str]]:
    """Return the values, by default `value`, that a name must show."""
    return {name: frozenset(values or ["value"])}
