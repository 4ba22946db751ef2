"""The zones of a name server that takes dynamic updates, and the TXT records in them (RFC 2136).

A zone is found by its SOA record; a record is looked at before and after it is written, since a
server says NOERROR to an update that it ignores (RFC 2136 §3.4.2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset
import dns.tsig
import dns.update

from certferry.adapters.clients.rfc2136_conversation import Conversation, Unanswered, Unsigned
from certferry.adapters.clients.rfc2136_errors import (
    Partner,
    delegated,
    excluded,
    no_zone,
    not_shown,
    refused,
    refused_key,
    refused_signature,
    unanswered,
    untrusted,
)
from certferry.core.identifiers import is_within, suffixes
from certferry.core.survey import FoundZone
from certferry.core.zone_choice import must_have_zone
from certferry.errors import DnsRejected
from certferry.text import Text

TTL = 60  # seconds, of a record beside which there is no other
NOT_MINE = frozenset({dns.rcode.REFUSED, dns.rcode.NOTAUTH})


@dataclass(frozen=True, slots=True)
class _Seen:
    """The TXT values at a name, and how long they may be kept."""

    values: tuple[bytes, ...] = ()
    ttl: int = TTL


class UpdateServer:
    """One server, spoken to by one key. Safe to use from threads. A handle is the value.

    `zones` are those that the key may change; without them, the server is asked.
    """

    def __init__(self, partner: Partner, conversation: Conversation, zones: Sequence[str]) -> None:
        self._partner = partner
        self._conversation = conversation
        self._declared = tuple(zones)
        self._found: dict[str, str] = {}

    def zones(self) -> tuple[FoundZone, ...] | None:
        """See `ports.survey.ZoneKeeper.zones`; `None` where none are declared."""
        if not self._declared:
            return None
        return tuple(FoundZone(zone, self._wrong_with(zone)) for zone in self._declared)

    def zone_of(self, name: str) -> FoundZone:
        """See `ports.survey.ZoneFinder.zone_of`."""
        if not self._declared:
            return FoundZone(self._asked_for_zone(name))
        zones = [
            FoundZone(zone, self._wrong_with(zone) if is_within(name, zone) else None)
            for zone in self._declared
        ]
        return must_have_zone(name, zones)

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        question = _question(dns.name.root, dns.rdatatype.SOA)
        try:
            return self._conversation.clock_ahead(question)
        except Unanswered as exc:
            raise unanswered(self._partner, "clock", exc.problem) from exc

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`."""
        name = name.rstrip(".").lower()
        zone = self._zone(name)
        seen = self._values(name)
        if value.encode() not in seen.values:
            # A set of records has one TTL (RFC 2181 §5.2): what is there keeps its own.
            self._update(zone, name, lambda change, at: change.add(at, seen.ttl, _txt(value)))
            if value.encode() not in self._values(name).values:
                raise not_shown(name, self._partner)
        return value

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`."""
        del handle
        name = name.rstrip(".").lower()
        zone = self._zone(name)
        try:
            if value.encode() not in self._values(name).values:
                return False
        except DnsRejected:  # a CNAME, beside which nothing is
            return False
        self._update(zone, name, lambda change, at: change.delete(at, _txt(value)))
        return True

    def _update(
        self,
        zone: str,
        name: str,
        put: Callable[[dns.update.UpdateMessage, dns.name.Name], None],
    ) -> None:
        change = dns.update.UpdateMessage(_absolute(zone))
        put(change, _absolute(name))
        rcode = self._ask(change, name).rcode()
        if rcode != dns.rcode.NOERROR:
            raise refused(rcode, self._partner, name)

    def _values(self, name: str) -> _Seen:
        """Read the TXT records at a name. Raises `DnsRejected` where a CNAME stands there."""
        at = _absolute(name)
        answer = self._ask(_question(at, dns.rdatatype.TXT), name)
        if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            raise refused(answer.rcode(), self._partner, name)
        for rrset in answer.answer:
            if rrset.name != at:
                continue
            if rrset.rdtype == dns.rdatatype.CNAME:
                raise excluded(name, rrset[0].to_text().rstrip("."))
            if rrset.rdtype == dns.rdatatype.TXT:
                records = [cast("dns.rdtypes.ANY.TXT.TXT", record) for record in rrset]
                return _Seen(tuple(b"".join(one.strings) for one in records), rrset.ttl)
        return _Seen()

    def _zone(self, name: str) -> str:
        """Find the zone that a name is in, once. Raises `ZoneNotFound`."""
        if name not in self._found:
            self._found[name] = self.zone_of(name).name
        return self._found[name]

    def _asked_for_zone(self, name: str) -> str:
        cut = ""
        for suffix in suffixes(name):
            answer = self._ask(_question(_absolute(suffix), dns.rdatatype.SOA), name)
            if answer.rcode() in NOT_MINE:
                continue
            if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
                raise refused(answer.rcode(), self._partner, name)
            owner = _zone_told(answer, name)
            if not answer.flags & dns.flags.AA:
                cut = max(cut, owner, key=len)
            elif owner:
                if len(cut) > len(owner):
                    raise delegated(name, cut, self._partner)
                return owner
        raise no_zone(name, self._partner)

    def _wrong_with(self, zone: str) -> Text | None:
        """Tell what keeps a declared zone from being written into, as far as its SOA shows it."""
        answer = self._ask(_question(_absolute(zone), dns.rdatatype.SOA), zone)
        if answer.flags & dns.flags.AA and _zone_told(answer, zone) == zone:
            return None
        return Text(
            "{server} is not authoritative for {zone}", server=self._partner.server, zone=zone
        )

    def _ask(self, message: dns.message.Message, about: str) -> dns.message.Message:
        try:
            answer = self._conversation.ask(message)
        except dns.tsig.PeerError as exc:
            raise refused_signature(exc, self._partner, about) from exc
        except Unsigned:
            raise untrusted(self._partner, about) from None
        except Unanswered as exc:
            raise unanswered(self._partner, about, exc.problem) from exc
        if answer.rcode() == dns.rcode.NOTAUTH and not answer.had_tsig:
            raise refused_key(self._partner, about)
        return answer


def _question(name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> dns.message.Message:
    # Recursion is not desired: the server must show what it has itself.
    return dns.message.make_query(name, rdtype, flags=0)


def _zone_told(answer: dns.message.Message, name: str) -> str:
    """Give the longest zone that holds a name by an answer's SOA and NS records, or nothing."""
    wanted = {dns.rdatatype.SOA, dns.rdatatype.NS}
    owners = (
        rrset.name.to_text(omit_final_dot=True).lower()
        for rrset in (*answer.answer, *answer.authority)
        if rrset.rdtype in wanted
    )
    return max((owner for owner in owners if is_within(name, owner)), key=len, default="")


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name)


def _txt(value: str) -> dns.rdtypes.ANY.TXT.TXT:
    return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, [value.encode()])
