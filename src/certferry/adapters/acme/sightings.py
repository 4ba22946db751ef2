"""Which name servers have shown which challenge values, and what that means. No sockets here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from certferry.text import Text


@dataclass(frozen=True, slots=True)
class NameServer:
    """A server named in a zone's NS records, and the addresses under which it may be asked."""

    host: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sought:
    """The values that a name must show at every name server of its zone."""

    name: str
    zone: str
    values: frozenset[str]
    servers: tuple[NameServer, ...]


class Heard(Enum):
    """What came back from an address."""

    ANSWER = "the values at the name"
    REFUSAL = "an answer that does not count"
    HEARSAY = "an answer from somebody who does not hold the zone"
    SILENCE = "nothing"
    NO_ROUTE = "the question could not be sent from this host"


VALUE_ABSENT = Text("value absent")
NO_ANSWER = Text("no answer")
NO_ADDRESS = Text("has no address")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one address said about one name; `why` says what is wrong when a value is missing."""

    heard: Heard
    why: Text = VALUE_ABSENT
    values: frozenset[str] = frozenset()

    def shows(self, wanted: frozenset[str]) -> bool:
        """Tell whether every wanted value is there."""
        return self.heard is Heard.ANSWER and wanted <= self.values


UNASKED = Reading(Heard.SILENCE, NO_ANSWER)


class Verdict(Enum):
    """Whether a server counts as showing the values."""

    SEEN = "seen"
    MISSING = "missing"
    LEFT_OUT = "left out"


def judge(readings: Sequence[Reading], wanted: frozenset[str]) -> tuple[Verdict, Text]:
    """Judge a server by the readings of all its addresses; for the reason, see `Reading.why`.

    Each address that answers must show every value. Silent ones are forgiven while another
    answers. A server that this host cannot send to at all, as an IPv6-only one from a host
    without IPv6, is left out: it would never be seen.
    """
    if not readings:
        return Verdict.MISSING, NO_ADDRESS
    asked = [reading for reading in readings if reading.heard is not Heard.NO_ROUTE]
    if not asked:
        return Verdict.LEFT_OUT, readings[0].why
    answered = [reading for reading in asked if reading.heard is not Heard.SILENCE]
    lacking = [reading for reading in answered or asked if not reading.shows(wanted)]
    if lacking:
        return Verdict.MISSING, lacking[0].why
    return Verdict.SEEN, Text("")


class Sightings:
    """The readings so far. What an address has shown once, it is not asked for again."""

    def __init__(self, sought: Iterable[Sought]) -> None:
        self.sought = tuple(sought)
        self._readings: dict[tuple[str, str], Reading] = {}

    def note(self, address: str, name: str, reading: Reading) -> None:
        """Keep the newest reading of a name at an address."""
        self._readings[address, name] = reading

    def to_ask(self) -> dict[str, list[str]]:
        """Give the names to ask for at each address."""
        questions: dict[str, list[str]] = {}
        for one in self.sought:
            for server in one.servers:
                if self.verdict(one, server)[0] is Verdict.SEEN:
                    continue
                for address in server.addresses:
                    reading = self._readings.get((address, one.name))
                    names = questions.setdefault(address, [])
                    if one.name not in names and not (reading and reading.shows(one.values)):
                        names.append(one.name)
        return {address: names for address, names in questions.items() if names}

    def verdict(self, one: Sought, server: NameServer) -> tuple[Verdict, Text]:
        """Judge one server for one name; an address that was not asked yet counts as silent."""
        return judge(self._readings_of(one, server), one.values)

    def _readings_of(self, one: Sought, server: NameServer) -> list[Reading]:
        return [self._readings.get((a, one.name), UNASKED) for a in server.addresses]

    def verdicts(self, one: Sought) -> Mapping[NameServer, tuple[Verdict, Text]]:
        """Judge every server for one name."""
        return {server: self.verdict(one, server) for server in one.servers}

    def is_complete(self, one: Sought) -> bool:
        """Tell whether every server that can be asked shows every value, and one does."""
        verdicts = {verdict for verdict, _ in self.verdicts(one).values()}
        return Verdict.SEEN in verdicts and Verdict.MISSING not in verdicts

    @property
    def incomplete(self) -> list[Sought]:
        """What is not seen everywhere yet."""
        return [one for one in self.sought if not self.is_complete(one)]

    def missing(self) -> dict[str, Text]:
        """Give the servers that lack something, each with the reason."""
        return {
            server.host: why
            for one in self.incomplete
            for server, (verdict, why) in self.verdicts(one).items()
            if verdict is Verdict.MISSING
        }

    def refusing(self) -> list[str]:
        """Give the servers that answer as if they did not serve the zone."""
        return sorted(
            {
                server.host
                for one in self.incomplete
                for server in one.servers
                for reading in self._readings_of(one, server)
                if reading.heard in {Heard.REFUSAL, Heard.HEARSAY}
            }
        )

    def heard(self) -> set[Heard]:
        """Give the kinds of what came back, from every address that can be asked."""
        kinds = {
            reading.heard
            for one in self.sought
            for server in one.servers
            for reading in self._readings_of(one, server)
        }
        return kinds - {Heard.NO_ROUTE}

    def without_address(self) -> set[str]:
        """Give the servers that cannot be asked since no address of theirs is known."""
        return {
            server.host for one in self.sought for server in one.servers if not server.addresses
        }

    @property
    def lacks_only_unlocated(self) -> bool:
        """Whether every name is seen wherever there is an address to ask."""
        return all(
            Verdict.SEEN in {verdict for verdict, _ in self.verdicts(one).values()}
            and all(
                not server.addresses
                for server, (verdict, _) in self.verdicts(one).items()
                if verdict is Verdict.MISSING
            )
            for one in self.sought
        )

    def locate(self, host: str, addresses: tuple[str, ...]) -> None:
        """Take in the addresses of a server that had none."""
        self.sought = tuple(
            replace(one, servers=tuple(_located(s, host, addresses) for s in one.servers))
            for one in self.sought
        )

    def account(self) -> list[Text]:
        """Say for each name that is not seen everywhere where it is, where not, and why."""
        return [self._account_of(one) for one in self.incomplete]

    def _account_of(self, one: Sought) -> Text:
        verdicts = self.verdicts(one)
        seen = [server.host for server, (verdict, _) in verdicts.items() if verdict is Verdict.SEEN]
        return Text(
            "{name} {seen}{missing}{unreachable}",
            name=one.name,
            seen=_listed(Text("was seen at {servers}"), seen or [Text("none")]),
            missing=_listed(
                Text("; missing at {servers}"),
                [
                    Text("{server} ({why})", server=server.host, why=why)
                    for server, (verdict, why) in verdicts.items()
                    if verdict is Verdict.MISSING
                ],
            ),
            unreachable=_listed(
                Text("; not reachable from here: {servers}"), self._unreachable(one)
            ),
        )

    def _unreachable(self, one: Sought) -> list[Text]:
        return [
            Text("{server} {address} ({why})", server=server.host, address=address, why=reading.why)
            for server in one.servers
            for address in server.addresses
            if (reading := self._readings.get((address, one.name), UNASKED)).heard is Heard.NO_ROUTE
        ]


def _located(server: NameServer, host: str, addresses: tuple[str, ...]) -> NameServer:
    return replace(server, addresses=addresses) if server.host == host else server


def _listed(sentence: Text, servers: Sequence[object]) -> Text:
    return sentence.filled(servers=servers) if servers else Text("")
