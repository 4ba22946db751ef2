"""Ask name servers, and resolvers over HTTPS, for TXT values, and judge the answers."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from msgspec import Struct

from certferry.adapters.acme import resolvers
from certferry.errors import system_words
from certferry.text import Text, verbatim

NO_ROUTE = frozenset(
    {
        errno.EACCES,  # a route marked "prohibit", or an address of no host
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,  # IPv6 is switched off
        errno.EHOSTUNREACH,
        errno.EINVAL,
        errno.ENETDOWN,
        errno.ENETUNREACH,
    }
)
"""Error numbers of sending from a host without a route, or without the address family."""

VALUE_ABSENT = Text("value absent")
OLDER_VALUES = Text("not there yet")


class Heard(Enum):
    """The kind of answer from an address."""

    ANSWER = "the values at the name"
    REFUSAL = "an answer that does not count"
    HEARSAY = "an answer from a server that does not hold the zone"
    SILENCE = "nothing"
    NO_ROUTE = "the question could not be sent from this host"


class Reading(Struct, frozen=True):
    """An address's answer about a name."""

    #: The kind of answer.
    heard: Heard
    #: Why a value is missing, as shown to operators.
    why: Text = VALUE_ABSENT
    #: The TXT values at the name.
    values: frozenset[str] = frozenset()

    def shows(self, wanted: frozenset[str]) -> bool:
        """Return whether the answer has every wanted value."""
        return self.heard is Heard.ANSWER and wanted <= self.values


def ask(address: str, port: int, name: str, answer_within: timedelta) -> Reading:
    """Ask a name server for the TXT values at a name, and return the reading. A failure of the
    network is a reading, too.

    If UDP brings no answer, or an answer from a server that does not hold the zone, TCP is tried:
    some networks block only UDP, and many proxies intercept only UDP.
    """
    query = dns.message.make_query(
        resolvers.to_name(name), dns.rdatatype.TXT, use_edns=0, payload=resolvers.PAYLOAD, flags=0
    )
    seconds = answer_within.total_seconds()

    def over_udp() -> dns.message.Message:
        return dns.query.udp_with_fallback(
            query, address, timeout=seconds, port=port, ignore_unexpected=True, ignore_errors=True
        )[0]

    by_udp = _heard(over_udp, name)
    if by_udp.heard not in {Heard.SILENCE, Heard.HEARSAY}:
        return by_udp
    by_tcp = _heard(partial(dns.query.tcp, query, address, timeout=seconds, port=port), name)
    return by_tcp if by_tcp.heard is Heard.ANSWER else by_udp


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
    """Read a name server's answer. The strings of a record are joined (RFC 7208 §3.3)."""
    refusal = _refusal(response)
    if refusal is not None:
        return refusal
    if not response.flags & dns.flags.AA:
        return Reading(Heard.HEARSAY, Text("not authoritative"))
    records = _txt_records(response, name)
    return Reading(Heard.ANSWER, OLDER_VALUES if records else VALUE_ABSENT, _values_of(records))


def read_kept(response: dns.message.Message, name: str) -> Reading:
    """Read a resolver's answer; `why` says how long a cache may keep the answer (RFC 2308 §5)."""
    refusal = _refusal(response)
    if refusal is not None:
        return refusal
    kept = _txt_records(response, name)
    if kept:
        why = Text("shows only older values, possibly for another {time}")
        why = why.filled(time=timedelta(seconds=kept.ttl))
        return Reading(Heard.ANSWER, why, _values_of(kept))
    for records in response.authority:
        if records.rdclass == dns.rdataclass.IN and records.rdtype == dns.rdatatype.SOA:
            time = timedelta(seconds=min(records.ttl, *(soa.minimum for soa in records)))
            why = Text("still answers that the record does not exist, possibly for another {time}")
            return Reading(Heard.ANSWER, why.filled(time=time))
    return Reading(Heard.ANSWER, Text("still answers that the record does not exist"))


def _refusal(response: dns.message.Message) -> Reading | None:
    if response.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return None
    return Reading(Heard.REFUSAL, verbatim(dns.rcode.to_text(response.rcode())))


def _txt_records(response: dns.message.Message, name: str) -> dns.rrset.RRset | None:
    return response.get_rrset(
        dns.message.ANSWER, resolvers.to_name(name), dns.rdataclass.IN, dns.rdatatype.TXT
    )


def _values_of(records: dns.rrset.RRset | None) -> frozenset[str]:
    return frozenset(b"".join(record.strings).decode(errors="replace") for record in records or ())


Opinions = Mapping[str, Mapping[str, Reading]]
"""Name → label of a resolver → the resolver's answer."""


def opinions_of(asked: Sequence[resolvers.HttpsResolver], names: Iterable[str]) -> Opinions:
    """Ask all resolvers over HTTPS for each name, in parallel."""
    names = list(names)
    with ThreadPoolExecutor(max(len(asked), 1)) as threads:
        answers = list(threads.map(lambda resolver: _ask(resolver, names), asked))
    return {
        name: {
            resolver.called: readings[n] for resolver, readings in zip(asked, answers, strict=True)
        }
        for n, name in enumerate(names)
    }


def _ask(resolver: resolvers.HttpsResolver, names: Sequence[str]) -> list[Reading]:
    """Ask a resolver for each name. After a silence, do not ask for the remaining names: the
    silence counts for these names as well.
    """
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
    """Return the readings of resolvers that answered."""
    return {who: reading for who, reading in readings.items() if reading.heard is not Heard.SILENCE}


def is_shown(readings: Mapping[str, Reading], wanted: frozenset[str]) -> bool:
    """Return whether some resolver answers, and all answering resolvers show the values."""
    heard = those_heard(readings)
    return bool(heard) and all(reading.shows(wanted) for reading in heard.values())


def dissent(opinions: Opinions, wanted: Mapping[str, frozenset[str]]) -> list[Text]:
    """Return a sentence for each name with resolvers that do not show every value. The sentence
    lists these resolvers with the reasons.
    """
    sentences: list[Text] = []
    for name, readings in opinions.items():
        others = {
            who: reading.why for who, reading in readings.items() if not reading.shows(wanted[name])
        }
        if others:
            sentences.append(Text("{name}: {resolvers}", name=name, resolvers=with_reasons(others)))
    return sentences


def with_reasons(hosts: Mapping[str, Text]) -> list[Text]:
    """Return each host followed by its reason in brackets."""
    return [Text("{server} ({why})", server=host, why=why) for host, why in hosts.items()]


NO_ADDRESS = Text("has no address")
UNASKED = Reading(Heard.SILENCE, resolvers.NO_ANSWER)


class Sought(Struct, frozen=True):
    """The values that a name must show at every name server of the zone."""

    #: The name at which the values are written.
    name: str
    #: The zone that holds the name.
    zone: str
    #: The TXT values that must appear.
    values: frozenset[str]
    #: The hosts in the zone's NS records.
    hosts: tuple[str, ...]


class ServerVerdict(Enum):
    """Whether a server counts as showing the values of a name."""

    SEEN = "seen"
    MISSING = "missing"
    LEFT_OUT = "left out"


def judged_server(
    readings: Sequence[Reading], wanted: frozenset[str]
) -> tuple[ServerVerdict, Text]:
    """Return the verdict on a server, and the reason. `readings` has a reading of each address.

    - SEEN: some address answers, and every address that answers shows all `wanted` values.
    - MISSING: an address answers without a value, all addresses in reach are silent, or the server
      has no address.
    - LEFT_OUT: this host has no route to any address, for example because all are IPv6.
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
    """The readings so far, by address and name."""

    def __init__(self, sought: Iterable[Sought], addresses: Mapping[str, tuple[str, ...]]) -> None:
        self.sought = tuple(sought)
        self.addresses = dict(addresses)
        self._readings: dict[tuple[str, str], Reading] = {}
        #: The last answers of resolvers over HTTPS.
        self.opinions: Mapping[str, Mapping[str, Reading]] = {}
        self._without_unlocated = False
        self._accepted: set[str] = set()
        self._heard: set[str] = set()

    def accept(self, names: Iterable[str]) -> None:
        """Count the values of these names as seen."""
        self._accepted |= set(names)

    def note(self, address: str, name: str, reading: Reading) -> None:
        """Store the newest reading of a name at an address."""
        self._readings[address, name] = reading
        if reading.heard in {Heard.ANSWER, Heard.REFUSAL}:
            self._heard.add(name)

    def leave_out_unlocated(self) -> None:
        """From now on, judge hosts without an address as `LEFT_OUT`."""
        self._without_unlocated = True

    @property
    def unlocated(self) -> list[str]:
        """The hosts without a known address."""
        return sorted(host for host, addresses in self.addresses.items() if not addresses)

    def to_ask(self) -> dict[str, list[str]]:
        """Return the names still to ask for at each address."""
        questions: dict[str, list[str]] = {}
        for sought in self.sought:
            for host, (verdict, _) in self.verdicts(sought).items():
                for address in self.addresses[host] if verdict is not ServerVerdict.SEEN else ():
                    names = questions.setdefault(address, [])
                    if sought.name not in names and not self._reading(sought, address).shows(
                        sought.values
                    ):
                        names.append(sought.name)
        return {address: names for address, names in questions.items() if names}

    def verdicts(self, sought: Sought) -> dict[str, tuple[ServerVerdict, Text]]:
        """Judge every host for one name; an address not yet asked counts as silent."""
        verdicts: dict[str, tuple[ServerVerdict, Text]] = {}
        for host in sought.hosts:
            addresses = self.addresses[host]
            verdicts[host] = judged_server(
                [self._reading(sought, a) for a in addresses], sought.values
            )
            if self._without_unlocated and not addresses:
                verdicts[host] = ServerVerdict.LEFT_OUT, NO_ADDRESS
        return verdicts

    @property
    def incomplete(self) -> list[Sought]:
        """The names not accepted yet that lack values: at a host judged `MISSING`, or because no
        host is judged `SEEN`.
        """
        waiting = [sought for sought in self.sought if sought.name not in self._accepted]
        missing, seen = ServerVerdict.MISSING, ServerVerdict.SEEN
        return [o for o in waiting if self._judged(o, missing) or not self._judged(o, seen)]

    @property
    def unheard(self) -> list[Sought]:
        """The incomplete names about which no name server of the zone has answered or refused."""
        return [sought for sought in self.incomplete if sought.name not in self._heard]

    @property
    def held_up_by_silence(self) -> list[Sought]:
        """The incomplete names shown by at least one host and missing only at silent hosts."""
        return [
            sought
            for sought in self.incomplete
            if self._judged(sought, ServerVerdict.SEEN)
            and self._judged(sought, ServerVerdict.MISSING) == self.silent(sought)
        ]

    def silent(self, sought: Sought) -> dict[str, Text]:
        """Return the hosts without an answer from any address, each with the reason."""
        unheard = {Heard.SILENCE, Heard.NO_ROUTE}
        return {
            host: why
            for host, why in self._judged(sought, ServerVerdict.MISSING).items()
            if self.addresses[host]
            and all(self._reading(sought, a).heard in unheard for a in self.addresses[host])
        }

    def missing(self) -> dict[str, Text]:
        """Return the hosts that lack a value, each with the reason."""
        return {
            host: why
            for sought in self.incomplete
            for host, why in self._judged(sought, ServerVerdict.MISSING).items()
        }

    def heard(self) -> dict[Heard, set[str]]:
        """Return the hosts by kind of answer, without the hosts out of reach."""
        hosts: dict[Heard, set[str]] = {}
        for sought in self.sought:
            for host in sought.hosts:
                for address in self.addresses[host]:
                    hosts.setdefault(self._reading(sought, address).heard, set()).add(host)
        hosts.pop(Heard.NO_ROUTE, None)
        return hosts

    def account(self) -> list[Text]:
        """Return a sentence for each incomplete name: the hosts that show the values, and the other
        hosts, each with the reason.
        """
        seen, missing = Text("was seen at {servers}"), Text("; missing at {servers}")
        unreachable = Text("; not reachable from here: {servers}")

        def reasons(sought: Sought, verdict: ServerVerdict) -> list[Text]:
            return with_reasons(self._judged(sought, verdict))

        return [
            Text(
                "{name} {seen}{missing}{unreachable}",
                name=sought.name,
                seen=_listed(seen, [*self._judged(sought, ServerVerdict.SEEN)] or [Text("none")]),
                missing=_listed(missing, reasons(sought, ServerVerdict.MISSING)),
                unreachable=_listed(unreachable, reasons(sought, ServerVerdict.LEFT_OUT)),
            )
            for sought in self.incomplete
        ]

    def _reading(self, sought: Sought, address: str) -> Reading:
        return self._readings.get((address, sought.name), UNASKED)

    def _judged(self, sought: Sought, wanted: ServerVerdict) -> dict[str, Text]:
        """Return the hosts with this verdict, each with the reason."""
        return {
            host: why for host, (verdict, why) in self.verdicts(sought).items() if verdict is wanted
        }


def _listed(sentence: Text, servers: Sequence[object]) -> Text:
    return sentence.filled(servers=servers) if servers else Text("")


def advice(status: PropagationStatus, inventing: Mapping[str, Sequence[str]]) -> Text:
    """Return what an operator should check if values are missing.

    `inventing` maps resolvers to the addresses that they made up.
    """
    return _about_proxies(status, inventing) or _about_servers(status)


def _about_proxies(
    status: PropagationStatus, inventing: Mapping[str, Sequence[str]]
) -> Text | None:
    addresses = {
        a for sought in status.incomplete for host in sought.hosts for a in status.addresses[host]
    }
    if made_up := resolvers.made_up_among(list(addresses)):
        return Text(
            "a proxy on this host answers DNS with made-up addresses ({addresses}); let DNS "
            "bypass the proxy, or set [dns].resolvers or [dns].doh to resolvers that the proxy "
            "leaves alone",
            addresses=made_up,
        )
    if inventing:
        return Text(
            "{resolvers} give addresses for a name that does not exist, so the name servers' "
            "addresses may be wrong too: let DNS bypass the proxy or filter, or set other "
            "resolvers in [dns].resolvers",
            resolvers=[
                Text("{resolver} ({addresses})", resolver=resolver, addresses=invented)
                for resolver, invented in inventing.items()
            ],
        )
    return None


def _about_servers(status: PropagationStatus) -> Text:
    zones = sorted({sought.zone for sought in status.incomplete})
    heard, missing = status.heard(), status.missing()
    servers = sorted(heard.get(Heard.REFUSAL, set()) | heard.get(Heard.HEARSAY, set()))
    if heard.keys() == {Heard.SILENCE}:
        fix = Text(
            "no name server answered: this host may be blocked from asking name servers "
            "directly. Allow port 53, UDP and TCP, to any address, or check the name servers of "
            "{zones}; if port 53 must stay closed, set `doh` or `wait` under [dns]"
        )
    elif heard.keys() - {Heard.SILENCE} == {Heard.HEARSAY}:
        fix = Text(
            "a router or proxy seems to answer in place of the name servers of {zones}: let this "
            "host's queries to port 53 bypass the router or proxy, UDP and TCP, or set `doh` or "
            "`wait` under [dns]"
        )
    elif servers:
        fix = Text(
            "{servers} should serve {zones} but do not: correct the name servers at the registrar"
        )
    elif missing and set(missing.values()) == {resolvers.NO_ANSWER} and Heard.ANSWER in heard:
        servers = sorted(missing)
        fix = Text(
            "{servers} do not answer this host, but other name servers of {zones} do: allow port "
            "53, UDP and TCP, to every address (firewall, security group)"
        )
    else:
        fix = Text(
            "check that {zones} is delegated to the provider that holds the record, or allow "
            "more time with [dns].propagation_timeout"
        )
    return fix.filled(zones=zones, servers=servers)
