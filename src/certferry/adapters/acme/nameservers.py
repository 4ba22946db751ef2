"""What one server answers when it is asked for TXT values: an authoritative name server, or a
resolver by HTTPS.
"""

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

from certferry.adapters.acme.resolvers import (
    NO_ANSWER,
    PAYLOAD,
    UNREADABLE,
    HttpsResolver,
    Unheard,
    to_name,
)
from certferry.system_words import system_words
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
OLDER_VALUES = Text("only older values")


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
        to_name(name), dns.rdatatype.TXT, use_edns=0, payload=PAYLOAD, flags=0
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
        return Reading(Heard.SILENCE, NO_ANSWER)
    except OSError as exc:
        heard = Heard.NO_ROUTE if exc.errno in NO_ROUTE else Heard.SILENCE
        return Reading(heard, system_words(exc))
    except (dns.exception.DNSException, EOFError):
        return Reading(Heard.SILENCE, UNREADABLE)
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
        why = Text(
            "shows only older values, and may do so for another {time}",
            time=timedelta(seconds=found.ttl),
        )
        return Reading(Heard.ANSWER, why, _values_of(found))
    why = Text("still says that there is no such record")
    for records in response.authority:
        if records.rdclass == dns.rdataclass.IN and records.rdtype == dns.rdatatype.SOA:
            time = timedelta(seconds=min(records.ttl, *(one.minimum for one in records)))
            why = Text(
                "still says that there is no such record, and may do so for another {time}",
                time=time,
            )
            break
    return Reading(Heard.ANSWER, why)


def _refusal(response: dns.message.Message) -> Reading | None:
    if response.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return None
    return Reading(Heard.REFUSAL, verbatim(dns.rcode.to_text(response.rcode())))


def _txt_records(response: dns.message.Message, name: str) -> dns.rrset.RRset | None:
    return response.get_rrset(
        dns.message.ANSWER, to_name(name), dns.rdataclass.IN, dns.rdatatype.TXT
    )


def _values_of(records: dns.rrset.RRset | None) -> frozenset[str]:
    return frozenset(b"".join(one.strings).decode(errors="replace") for one in records or ())


Opinions = Mapping[str, Mapping[str, Reading]]
"""Name → resolver, as it is called in sentences → what it said."""


def opinions_of(resolvers: Sequence[HttpsResolver], names: Iterable[str]) -> Opinions:
    """Ask each resolver over HTTPS for each name, side by side."""
    names = list(names)
    with ThreadPoolExecutor(max(len(resolvers), 1)) as threads:
        answers = list(threads.map(lambda one: _ask(one, names), resolvers))
    return {
        name: {one.called: found[n] for one, found in zip(resolvers, answers, strict=True)}
        for n, name in enumerate(names)
    }


def _ask(resolver: HttpsResolver, names: Sequence[str]) -> list[Reading]:
    """Ask one resolver; when it is silent once, the other names are not asked for."""
    readings: list[Reading] = []
    for name in names:
        if readings and readings[-1].heard is Heard.SILENCE:
            readings.append(readings[-1])
            continue
        query = dns.message.make_query(to_name(name), dns.rdatatype.TXT)
        try:
            readings.append(read_kept(resolver.ask(query), name))
        except Unheard as silence:
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
