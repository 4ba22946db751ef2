"""What resolvers elsewhere in the world say of the challenge values: asked by HTTPS, they are heard
also where a filter or a proxy takes every question to port 53.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from certferry.adapters.acme.https_resolver import HttpsResolver, Unheard
from certferry.adapters.acme.nameservers import txt_records, values_of
from certferry.adapters.acme.propagation_status import Heard, Reading, with_reasons
from certferry.adapters.acme.resolvers import to_name
from certferry.text import Text, verbatim

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
