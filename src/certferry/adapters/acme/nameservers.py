"""Ask one authoritative name server for the TXT values at a name."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import TypeVar

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from certferry.adapters.acme.propagation_status import (
    NO_ANSWER,
    OLDER_VALUES,
    UNREADABLE,
    VALUE_ABSENT,
    Heard,
    Reading,
    made_up_among,
    with_reasons,
)
from certferry.adapters.acme.resolvers import PAYLOAD, HttpsResolver, Resolvers, Unheard, to_name
from certferry.errors import DnsUnavailable, ZoneNotFound
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


def ask(address: str, port: int, name: str, answer_within: timedelta) -> Reading:
    """Ask over UDP, and over TCP when the answer does not fit. Where none comes, or another host's
    in its place, TCP is tried as well: networks block the one and not the other, and a proxy that
    answers DNS itself often takes UDP alone. Never raises for what it meets.

    Recursion is not desired: a server must show what it has itself.
    """
    query = dns.message.make_query(
        to_name(name), dns.rdatatype.TXT, use_edns=0, payload=PAYLOAD, flags=0
    )
    seconds = answer_within.total_seconds()
    usual = partial(_over_udp, query, address, port, seconds)
    found = _heard(usual, name)
    if found.heard not in {Heard.SILENCE, Heard.HEARSAY}:
        return found
    over_tcp = _heard(partial(dns.query.tcp, query, address, timeout=seconds, port=port), name)
    return over_tcp if over_tcp.heard is Heard.ANSWER else found


def _over_udp(
    query: dns.message.Message, address: str, port: int, seconds: float
) -> dns.message.Message:
    response, _ = dns.query.udp_with_fallback(
        query, address, timeout=seconds, port=port, ignore_unexpected=True, ignore_errors=True
    )
    return response


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
    """Read the values off an answer: each is a record's strings joined (RFC 7208 §3.3).

    Only an authoritative answer counts; "no such name" is one without values.
    """
    if response.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return Reading(Heard.REFUSAL, verbatim(dns.rcode.to_text(response.rcode())))
    if not response.flags & dns.flags.AA:
        return Reading(Heard.HEARSAY, Text("not authoritative"))
    found = txt_records(response, name)
    return Reading(Heard.ANSWER, OLDER_VALUES if found else VALUE_ABSENT, values_of(found))


def txt_records(response: dns.message.Message, name: str) -> dns.rrset.RRset | None:
    """Give the TXT records at a name in an answer."""
    return response.get_rrset(
        dns.message.ANSWER, to_name(name), dns.rdataclass.IN, dns.rdatatype.TXT
    )


def values_of(records: dns.rrset.RRset | None) -> frozenset[str]:
    """Give the values of TXT records."""
    return frozenset(b"".join(one.strings).decode(errors="replace") for one in records or ())


_T = TypeVar("_T")

log = logging.getLogger(__name__)


class DnsLookup:
    """Asks the resolvers of `Resolvers`, and those `over_https` once more by themselves. Safe to
    use from any thread.
    """

    def __init__(
        self,
        endpoints: Sequence[tuple[str, int]],
        answer_within: timedelta,
        over_https: Sequence[HttpsResolver],
    ) -> None:
        self._resolvers = Resolvers(endpoints, answer_within, over_https)
        self._elsewhere = (
            Resolvers((), answer_within, over_https, plain=False) if over_https else None
        )

    def alias(self, name: str) -> str | None:
        """See `Resolvers.alias`."""
        return self._resolvers.alias(name)

    def invented(self) -> dict[str, list[str]]:
        """See `Resolvers.invented`."""
        return self._resolvers.invented()

    def zone_of(self, name: str) -> str:
        """See `Resolvers.zone_of`."""
        return self._not_denied(Resolvers.zone_of, name)

    def name_servers(self, zone: str) -> tuple[str, ...]:
        """See `Resolvers.name_servers`."""
        return self._not_denied(Resolvers.name_servers, zone)

    def addresses(self, host: str) -> tuple[str, ...]:
        """See `Resolvers.addresses`. Such as stand for no host are told, and those from elsewhere
        are better.
        """
        found = self._resolvers.addresses(host)
        made_up = made_up_among(found)
        if (found and not made_up) or self._elsewhere is None:
            return found
        if made_up:
            log.warning(
                Text(
                    "a proxy on this host answers DNS with made-up addresses: it says that {host}"
                    " is at {addresses}; other resolvers are asked over HTTPS",
                    host=host,
                    addresses=made_up,
                )
            )
        return self._elsewhere.addresses(host) or found

    def _not_denied(self, question: Callable[[Resolvers, str], _T], name: str) -> _T:
        """Ask elsewhere for what the resolvers deny: a company's know its own names only."""
        try:
            return question(self._resolvers, name)
        except ZoneNotFound as denied:
            if self._elsewhere is None:
                raise
            try:
                return question(self._elsewhere, name)
            except DnsUnavailable:
                raise denied from None


Opinions = Mapping[str, Mapping[str, Reading]]
"""Name → resolver, as it is called in sentences → what it said."""


class SecondOpinion:
    """Asks resolvers over HTTPS. Where they were `chosen` by the operator they are asked in any
    case, else only when the name servers cannot be.
    """

    def __init__(self, resolvers: Sequence[HttpsResolver], *, chosen: bool) -> None:
        self._resolvers = tuple(resolvers)
        self.chosen = chosen

    def __bool__(self) -> bool:
        """Tell whether there is any resolver to ask."""
        return bool(self._resolvers)

    def ask(self, names: Iterable[str]) -> Opinions:
        """Ask each resolver for each name, side by side."""
        names = list(names)
        found: dict[str, dict[str, Reading]] = {name: {} for name in names}
        with ThreadPoolExecutor(max(len(self._resolvers), 1)) as threads:
            answers = threads.map(lambda one: _ask(one, names), self._resolvers)
            for resolver, readings in zip(self._resolvers, answers, strict=True):
                for name, reading in zip(names, readings, strict=True):
                    found[name][resolver.called] = reading
        return found


def is_shown(readings: Mapping[str, Reading], wanted: frozenset[str]) -> bool:
    """Tell whether every resolver that answers shows the values. One that is silent is forgiven
    while another answers: from some networks not all of them can be reached.
    """
    heard = those_heard(readings)
    return bool(heard) and all(one.shows(wanted) for one in heard.values())


def those_heard(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """Give what came of the resolvers that answered."""
    return {who: one for who, one in readings.items() if one.heard is not Heard.SILENCE}


def dissent(opinions: Opinions, wanted: Mapping[str, frozenset[str]]) -> list[Text]:
    """Say for each name which resolvers do not show the values, and why."""
    said: list[Text] = []
    for name, readings in opinions.items():
        others = {who: one.why for who, one in readings.items() if not one.shows(wanted[name])}
        if others:
            resolvers = with_reasons(others)
            said.append(Text("{name}: {resolvers}", name=name, resolvers=resolvers))
    return said


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


def read_kept(response: dns.message.Message, name: str) -> Reading:
    """Read an answer that may have been kept for a while, and say how long it may be kept still: a
    record by its own time, and that there is none by the zone's SOA record (RFC 2308 §5).
    """
    if response.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return Reading(Heard.REFUSAL, verbatim(dns.rcode.to_text(response.rcode())))
    found = txt_records(response, name)
    if found:
        why = Text(
            "shows only older values, and may do so for another {time}",
            time=timedelta(seconds=found.ttl),
        )
        return Reading(Heard.ANSWER, why, values_of(found))
    left = _negative_time(response)
    if left is None:
        return Reading(Heard.ANSWER, Text("still says that there is no such record"))
    why = Text(
        "still says that there is no such record, and may do so for another {time}", time=left
    )
    return Reading(Heard.ANSWER, why)


def _negative_time(response: dns.message.Message) -> timedelta | None:
    for records in response.authority:
        if records.rdclass == dns.rdataclass.IN and records.rdtype == dns.rdatatype.SOA:
            return timedelta(seconds=min(records.ttl, *(one.minimum for one in records)))
    return None
