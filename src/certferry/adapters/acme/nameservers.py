"""What name servers, and resolvers over HTTPS, answer about TXT values, and what that means."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import partial

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from certferry.adapters.acme import resolvers
from certferry.errors import system_words
from certferry.text import Text, verbatim

NO_ROUTE = frozenset(
    {
        errno.EACCES,  # a route marked "prohibit", or an address that is no host's
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,  # IPv6 is switched off
        errno.EHOSTUNREACH,
        errno.EINVAL,
        errno.ENETDOWN,
        errno.ENETUNREACH,
    }
)

VALUE_ABSENT = Text("value absent")
OLDER_VALUES = Text("not there yet")


class Heard(Enum):
    """What came back from an address."""

    ANSWER = "the values at the name"
    REFUSAL = "an answer that does not count"
    HEARSAY = "an answer from a server that does not hold the zone"
    SILENCE = "nothing"
    NO_ROUTE = "the question could not be sent from this host"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one address said about one name; `why` says what is wrong when a value is missing."""

    heard: Heard
    why: Text = VALUE_ABSENT
    values: frozenset[str] = frozenset()

    def shows(self, wanted: frozenset[str]) -> bool:
        """Return whether every wanted value is there."""
        return self.heard is Heard.ANSWER and wanted <= self.values


def ask(address: str, port: int, name: str, answer_within: timedelta) -> Reading:
    """Ask for the TXT values that a server has itself, by TCP where UDP brings no authoritative
    answer: networks block one and not the other, and proxies often take UDP alone. Never raises.
    """
    query = dns.message.make_query(
        resolvers.to_name(name), dns.rdatatype.TXT, use_edns=0, payload=resolvers.PAYLOAD, flags=0
    )
    seconds = answer_within.total_seconds()

    def over_udp() -> dns.message.Message:
        return dns.query.udp_with_fallback(
            query, address, timeout=seconds, port=port, ignore_unexpected=True, ignore_errors=True
        )[0]

    found = _heard(over_udp, name)
    if found.heard not in {Heard.SILENCE, Heard.HEARSAY}:
        return found
    over_tcp = _heard(partial(dns.query.tcp, query, address, timeout=seconds, port=port), name)
    return over_tcp if over_tcp.heard is Heard.ANSWER else found


def _heard(exchange: Callable[[], dns.message.Message], name: str) -> Reading:
    try:
        response = exchange()
    except dns.exception.Timeout:
        return Reading(Heard.SILENCE, resolvers.NO_ANSWER)
    except OSError as exc:
        heard = Heard.NO_ROUTE if exc.errno in NO_ROUTE else Heard.SILENCE
        return Reading(heard, system_words(exc))
    except (dns.exception.DNSException, EOFError):
        return Reading(Heard.SILENCE, resolvers.UNREADABLE)
    return read(response, name)


def read(response: dns.message.Message, name: str) -> Reading:
    """Read an authoritative answer; a value is its record's strings joined (RFC 7208 §3.3)."""
    refusal = _refusal(response)
    if refusal is not None:
        return refusal
    if not response.flags & dns.flags.AA:
        return Reading(Heard.HEARSAY, Text("not authoritative"))
    found = _txt_records(response, name)
    return Reading(Heard.ANSWER, OLDER_VALUES if found else VALUE_ABSENT, _values_of(found))


def read_kept(response: dns.message.Message, name: str) -> Reading:
    """Read a resolver's answer, with how long it may still be cached (RFC 2308 §5)."""
    refusal = _refusal(response)
    if refusal is not None:
        return refusal
    found = _txt_records(response, name)
    if found:
        why = Text("shows only older values, and may do so for another {time}")
        why = why.filled(time=timedelta(seconds=found.ttl))
        return Reading(Heard.ANSWER, why, _values_of(found))
    for records in response.authority:
        if records.rdclass == dns.rdataclass.IN and records.rdtype == dns.rdatatype.SOA:
            time = timedelta(seconds=min(records.ttl, *(one.minimum for one in records)))
            why = Text("still says that there is no such record, and may do so for another {time}")
            return Reading(Heard.ANSWER, why.filled(time=time))
    return Reading(Heard.ANSWER, Text("still says that there is no such record"))


def _refusal(response: dns.message.Message) -> Reading | None:
    if response.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return None
    return Reading(Heard.REFUSAL, verbatim(dns.rcode.to_text(response.rcode())))


def _txt_records(response: dns.message.Message, name: str) -> dns.rrset.RRset | None:
    return response.get_rrset(
        dns.message.ANSWER, resolvers.to_name(name), dns.rdataclass.IN, dns.rdatatype.TXT
    )


def _values_of(records: dns.rrset.RRset | None) -> frozenset[str]:
    return frozenset(b"".join(one.strings).decode(errors="replace") for one in records or ())


Opinions = Mapping[str, Mapping[str, Reading]]
"""Name → resolver, as it is called in sentences → what it said."""


def opinions_of(asked: Sequence[resolvers.HttpsResolver], names: Iterable[str]) -> Opinions:
    """Ask each resolver over HTTPS for each name, side by side."""
    names = list(names)
    with ThreadPoolExecutor(max(len(asked), 1)) as threads:
        answers = list(threads.map(lambda one: _ask(one, names), asked))
    return {
        name: {one.called: found[n] for one, found in zip(asked, answers, strict=True)}
        for n, name in enumerate(names)
    }


def _ask(resolver: resolvers.HttpsResolver, names: Sequence[str]) -> list[Reading]:
    """Ask one resolver; when it is silent once, the other names are not asked for."""
    readings: list[Reading] = []
    for name in names:
        if readings and readings[-1].heard is Heard.SILENCE:
            readings.append(readings[-1])
            continue
        query = dns.message.make_query(resolvers.to_name(name), dns.rdatatype.TXT)
        try:
            readings.append(read_kept(resolver.ask(query), name))
        except resolvers.Unheard as silence:
            readings.append(Reading(Heard.SILENCE, silence.problem))
    return readings


def those_heard(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """Return how the resolvers answered that did."""
    return {who: one for who, one in readings.items() if one.heard is not Heard.SILENCE}


def is_shown(readings: Mapping[str, Reading], wanted: frozenset[str]) -> bool:
    """Return whether every resolver that answers shows the values, and at least one does."""
    heard = those_heard(readings)
    return bool(heard) and all(one.shows(wanted) for one in heard.values())


def dissent(opinions: Opinions, wanted: Mapping[str, frozenset[str]]) -> list[Text]:
    """Return for each name which resolvers do not show the values, and why."""
    found: list[Text] = []
    for name, readings in opinions.items():
        others = {who: one.why for who, one in readings.items() if not one.shows(wanted[name])}
        if others:
            found.append(Text("{name}: {resolvers}", name=name, resolvers=with_reasons(others)))
    return found


def with_reasons(hosts: Mapping[str, Text]) -> list[Text]:
    """Return each host with the reason behind it."""
    return [Text("{server} ({why})", server=host, why=why) for host, why in hosts.items()]


NO_ADDRESS = Text("has no address")
UNASKED = Reading(Heard.SILENCE, resolvers.NO_ANSWER)


@dataclass(frozen=True, slots=True)
class Sought:
    """The values that a name must show at every host in the NS records of its zone."""

    name: str
    zone: str
    values: frozenset[str]
    hosts: tuple[str, ...]


class ServerVerdict(Enum):
    """Whether a server counts as showing the values of a name."""

    SEEN = "seen"
    MISSING = "missing"
    LEFT_OUT = "left out"


def judged_server(
    readings: Sequence[Reading], wanted: frozenset[str]
) -> tuple[ServerVerdict, Text]:
    """Judge a server: each address that answers must show every value; silent ones are forgiven
    while another answers. One that this host cannot send to (IPv6 alone) is left out.
    """
    if not readings:
        return ServerVerdict.MISSING, NO_ADDRESS
    asked = [reading for reading in readings if reading.heard is not Heard.NO_ROUTE]
    if not asked:
        return ServerVerdict.LEFT_OUT, readings[0].why
    answered = [reading for reading in asked if reading.heard is not Heard.SILENCE]
    lacking = [reading for reading in answered or asked if not reading.shows(wanted)]
    if lacking:
        return ServerVerdict.MISSING, lacking[0].why
    return ServerVerdict.SEEN, Text("")


class PropagationStatus:
    """The readings so far, by address; `opinions` are what other resolvers said last."""

    def __init__(self, sought: Iterable[Sought], addresses: Mapping[str, tuple[str, ...]]) -> None:
        self.sought = tuple(sought)
        self.addresses = dict(addresses)
        self._readings: dict[tuple[str, str], Reading] = {}
        self.opinions: Mapping[str, Mapping[str, Reading]] = {}
        self._without_unlocated = False
        self._accepted: set[str] = set()
        self._heard: set[str] = set()

    def accept(self, names: Iterable[str]) -> None:
        """Take the values of these names for seen."""
        self._accepted |= set(names)

    def note(self, address: str, name: str, reading: Reading) -> None:
        """Store the newest reading of a name at an address."""
        self._readings[address, name] = reading
        if reading.heard in {Heard.ANSWER, Heard.REFUSAL}:
            self._heard.add(name)

    def leave_out_unlocated(self) -> None:
        """Wait no longer for hosts without an address."""
        self._without_unlocated = True

    @property
    def unlocated(self) -> list[str]:
        """The hosts of which no address is known."""
        return sorted(host for host, addresses in self.addresses.items() if not addresses)

    def to_ask(self) -> dict[str, list[str]]:
        """Return the names to ask for at each address."""
        questions: dict[str, list[str]] = {}
        for one in self.sought:
            for host, (verdict, _) in self.verdicts(one).items():
                for address in self.addresses[host] if verdict is not ServerVerdict.SEEN else ():
                    names = questions.setdefault(address, [])
                    if one.name not in names and not self._reading(one, address).shows(one.values):
                        names.append(one.name)
        return {address: names for address, names in questions.items() if names}

    def verdicts(self, one: Sought) -> dict[str, tuple[ServerVerdict, Text]]:
        """Judge every host for one name; an address that was not asked yet counts as silent."""
        found: dict[str, tuple[ServerVerdict, Text]] = {}
        for host in one.hosts:
            addresses = self.addresses[host]
            found[host] = judged_server([self._reading(one, a) for a in addresses], one.values)
            if self._without_unlocated and not addresses:
                found[host] = ServerVerdict.LEFT_OUT, NO_ADDRESS
        return found

    @property
    def incomplete(self) -> list[Sought]:
        """What some host that can be asked does not show yet, or what none shows."""
        waiting = [one for one in self.sought if one.name not in self._accepted]
        missing, seen = ServerVerdict.MISSING, ServerVerdict.SEEN
        return [o for o in waiting if self._judged(o, missing) or not self._judged(o, seen)]

    @property
    def unheard(self) -> list[Sought]:
        """The incomplete of which no server has given an answer that counts."""
        return [one for one in self.incomplete if one.name not in self._heard]

    @property
    def held_up_by_silence(self) -> list[Sought]:
        """The incomplete that every host shows which answers, at least one of them."""
        return [
            one
            for one in self.incomplete
            if self._judged(one, ServerVerdict.SEEN)
            and self._judged(one, ServerVerdict.MISSING) == self.silent(one)
        ]

    def silent(self, one: Sought) -> dict[str, Text]:
        """Return the hosts that give no answer at any of their addresses, each with the reason."""
        unheard = {Heard.SILENCE, Heard.NO_ROUTE}
        return {
            host: why
            for host, why in self._judged(one, ServerVerdict.MISSING).items()
            if self.addresses[host]
            and all(self._reading(one, a).heard in unheard for a in self.addresses[host])
        }

    def missing(self) -> dict[str, Text]:
        """Return the hosts that lack something, each with the reason."""
        return {
            host: why
            for one in self.incomplete
            for host, why in self._judged(one, ServerVerdict.MISSING).items()
        }

    def heard(self) -> dict[Heard, set[str]]:
        """Return which hosts gave each kind of answer, without those that cannot be asked."""
        found: dict[Heard, set[str]] = {}
        for one in self.sought:
            for host in one.hosts:
                for address in self.addresses[host]:
                    found.setdefault(self._reading(one, address).heard, set()).add(host)
        found.pop(Heard.NO_ROUTE, None)
        return found

    def account(self) -> list[Text]:
        """Return for each name that is not seen everywhere where it is, where not, and why."""
        seen, missing = Text("was seen at {servers}"), Text("; missing at {servers}")
        unreachable = Text("; not reachable from here: {servers}")

        def reasons(one: Sought, verdict: ServerVerdict) -> list[Text]:
            return with_reasons(self._judged(one, verdict))

        return [
            Text(
                "{name} {seen}{missing}{unreachable}",
                name=one.name,
                seen=_listed(seen, [*self._judged(one, ServerVerdict.SEEN)] or [Text("none")]),
                missing=_listed(missing, reasons(one, ServerVerdict.MISSING)),
                unreachable=_listed(unreachable, reasons(one, ServerVerdict.LEFT_OUT)),
            )
            for one in self.incomplete
        ]

    def _reading(self, one: Sought, address: str) -> Reading:
        return self._readings.get((address, one.name), UNASKED)

    def _judged(self, one: Sought, wanted: ServerVerdict) -> dict[str, Text]:
        """Return the hosts with this verdict, each with the reason."""
        return {
            host: why for host, (verdict, why) in self.verdicts(one).items() if verdict is wanted
        }


def _listed(sentence: Text, servers: Sequence[object]) -> Text:
    return sentence.filled(servers=servers) if servers else Text("")


def advice(status: PropagationStatus, inventing: Mapping[str, Sequence[str]]) -> Text:
    """Return what to check when values are not seen; `inventing` resolvers make up addresses."""
    return _about_proxies(status, inventing) or _about_servers(status)


def _about_proxies(
    status: PropagationStatus, inventing: Mapping[str, Sequence[str]]
) -> Text | None:
    addresses = {
        a for one in status.incomplete for host in one.hosts for a in status.addresses[host]
    }
    if made_up := resolvers.made_up_among(list(addresses)):
        return Text(
            "a proxy on this host answers DNS with made-up addresses ({addresses}); let DNS"
            " bypass it, or name resolvers that it leaves alone in [dns].resolvers or [dns].doh",
            addresses=made_up,
        )
    if inventing:
        return Text(
            "{resolvers} give addresses for a name that does not exist, so the name servers are"
            " perhaps not where they say: let DNS bypass the proxy or filter, or name other"
            " resolvers in [dns].resolvers",
            resolvers=[
                Text("{resolver} ({addresses})", resolver=resolver, addresses=found)
                for resolver, found in inventing.items()
            ],
        )
    return None


def _about_servers(status: PropagationStatus) -> Text:
    zones = sorted({one.zone for one in status.incomplete})
    heard, missing = status.heard(), status.missing()
    servers = sorted(heard.get(Heard.REFUSAL, set()) | heard.get(Heard.HEARSAY, set()))
    if heard.keys() == {Heard.SILENCE}:
        fix = Text(
            "no name server answered at all: this host may not be allowed to ask them directly; let"
            " it send to port 53 outbound, UDP and TCP, of any address, or check the name servers"
            " of {zones}; where it may not, set `doh` or `wait` under [dns]"
        )
    elif heard.keys() - {Heard.SILENCE} == {Heard.HEARSAY}:
        fix = Text(
            "a router or a proxy seems to answer in place of the name servers of {zones}:"
            " let this host's queries to port 53 bypass it, UDP and TCP, or set `doh` or `wait`"
            " under [dns]"
        )
    elif servers:
        fix = Text(
            "{servers} should serve {zones} and do not: correct the name servers at the registrar"
        )
    elif missing and set(missing.values()) == {resolvers.NO_ANSWER} and Heard.ANSWER in heard:
        servers = sorted(missing)
        fix = Text(
            "this host gets no answer from {servers}, but one from other name servers of {zones}:"
            " let it send to port 53 outbound, UDP and TCP, of every address (firewall, security"
            " group)"
        )
    else:
        fix = Text(
            "check that {zones} is delegated to the provider that the record was written at, or"
            " give it longer with [dns].propagation_timeout"
        )
    return fix.filled(zones=zones, servers=servers)
