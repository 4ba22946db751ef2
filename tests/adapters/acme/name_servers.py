"""A few zones on real name servers, and a clock that only pauses move."""

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
ANSWER_WITHIN = timedelta(seconds=5)  # on a busy machine
IMPATIENT = timedelta(seconds=0.4)  # where a silent server is part of the test
TIMEOUT = timedelta(seconds=60)  # on the clock of the pauses


class NameServers:
    """ns1 and ns2 serve example.com, ns3 serves example.net; a resolver knows both."""

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
        """Ask these servers, through this resolver."""
        usual: dict[str, Any] = {
            "resolvers": [(RESOLVER, self.port)],
            "port": self.port,
            "timeout": TIMEOUT,
            "pause": self.waits,
            "now": self.now,
            "answer_within": ANSWER_WITHIN,
        }
        return DnsPropagation(**{**usual, **settings})


@contextmanager
def name_servers() -> Iterator[NameServers]:
    """Run them for the time of a `with` block."""
    world = NameServers()
    with world.service:
        yield world


class OddServer:
    """A server that answers from a script: (name, type) → what to do with the response.

    Without a line in the script it answers that there is nothing. `queries` are the messages.
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
            made = act(response, transport)
            return None if made is None else Reply(made)
        for section, *record in act:
            getattr(response, section).append(dns.rrset.from_text(*record))
        return Reply(response.to_wire())


@contextmanager
def odd_servers(*servers: OddServer) -> Iterator[int]:
    """Run them on one port, which is given."""
    handlers: dict[str, Handler] = {server.address: server.handle for server in servers}
    running = DnsDaemon(handlers).start()
    try:
        yield running.port
    finally:
        running.stop()


class Reports:
    """What was reported, as sentences."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.moments: set[tuple[datetime, datetime]] = set()

    def __call__(self, what: Text, since: datetime, deadline: datetime) -> None:
        self.sentences.append(str(what))
        self.moments.add((since, deadline))


def one(name: str = NAME, *values: str) -> dict[str, frozenset[str]]:
    """Return the values, or the one, that a name must show."""
    return {name: frozenset(values or ["value"])}
