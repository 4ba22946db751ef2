"""The zones of a name server that takes dynamic updates, and the TXT records in them (RFC 2136).

A zone is found by its SOA record; a record is looked at before and after it is written, since a
server says NOERROR to an update that it ignores (RFC 2136 §3.4.2.2).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.rdtypes.ANY.TXT
import dns.rrset
import dns.tsig
import dns.update

from certferry.adapters.http.bounds import first_connection
from certferry.adapters.rfc2136.errors import (
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
from certferry.core.certificates.names import is_within, suffixes
from certferry.core.discovery.proposal import must_have_zone
from certferry.core.discovery.survey import FoundZone
from certferry.errors import DnsRejected
from certferry.ports.progress import Pause
from certferry.system_words import system_words
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
            return FoundZone(self._find_zone(name))
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

    def _find_zone(self, name: str) -> str:
        cut = ""
        for suffix in suffixes(name):
            answer = self._ask(_question(_absolute(suffix), dns.rdatatype.SOA), name)
            if answer.rcode() in NOT_MINE:
                continue
            if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
                raise refused(answer.rcode(), self._partner, name)
            owner = _zone_in(answer, name)
            if not answer.flags & dns.flags.AA:
                cut = max(cut, owner, key=len)
            elif owner:
                if len(cut) > len(owner):
                    raise delegated(name, cut, self._partner)
                return owner
        raise no_zone(name, self._partner)

    def _wrong_with(self, zone: str) -> Text | None:
        """Return what keeps a declared zone from being changed, as far as its SOA shows it."""
        answer = self._ask(_question(_absolute(zone), dns.rdatatype.SOA), zone)
        if answer.flags & dns.flags.AA and _zone_in(answer, zone) == zone:
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


def _zone_in(answer: dns.message.Message, name: str) -> str:
    """Return the longest zone that holds a name by an answer's SOA and NS records, or nothing."""
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


FUDGE = 300  # seconds that clocks may differ (RFC 8945 §10)
LENGTH_PREFIX = 2  # bytes before each message on TCP (RFC 1035 §4.2.2)
SILENT_ADDRESSES = 3  # of a server: IPv6 that leads nowhere must not keep one from IPv4
PAUSES_AFTER_LOSS = (1.0,)  # seconds: a server that is reloaded is back by then


class Unanswered(Exception):
    """No answer came, or none that can be read."""

    def __init__(self, problem: Text) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Unsigned(Exception):
    """An answer came that the key did not sign, and that is no refusal."""


class Conversation:
    """Speaks with one server, by one key. A connection for each question; safe to use from threads.

    Over TCP alone: an answer is then never cut, and a silent server never asked twice at a time.
    """

    def __init__(
        self,
        server: tuple[str, int],
        key: dns.tsig.Key,
        *,
        within: timedelta,
        now: Callable[[], datetime],
        pause: Pause,
    ) -> None:
        self._server = server
        self._key = key
        self._within = within.total_seconds()
        self._now = now
        self._pause = pause

    def ask(self, message: dns.message.Message) -> dns.message.Message:
        """Return the answer to a question, or to an update, that may be sent again where no answer
        came. An unsigned answer is returned where it refuses; NXDOMAIN is no refusal.

        Raises `Unanswered`, `Unsigned`, and `dns.tsig.PeerError` for a signature of ours that was
        not accepted.
        """
        wire, mac = self._signed(message)
        raw = self._answer(wire)
        answer = _unverified(raw, message)
        if answer.had_tsig:
            return _parsed(raw, self._key, mac)
        if answer.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            raise Unsigned
        return answer

    def clock_ahead(self, message: dns.message.Message) -> timedelta | None:
        """Return how far the server's clock is ahead by its signature, which is not verified;
        `None` where it has none. Raises `Unanswered`.
        """
        wire, _ = self._signed(message)
        answer, now = _unverified(self._answer(wire), message), self._now()
        if not answer.tsig:
            return None
        tsig = answer.tsig[0]
        # With BADTIME, the server's time is beside what it repeats of ours (RFC 8945 §5.2.3).
        seconds = int.from_bytes(tsig.other, "big") if tsig.other else tsig.time_signed
        return timedelta(seconds=seconds - int(now.timestamp()))

    def _signed(self, message: dns.message.Message) -> tuple[bytes, bytes]:
        """Return a message with its signature, by the run's clock, and the signature's MAC."""
        wire = message.to_wire()
        unsigned = dns.rdtypes.ANY.TSIG.TSIG(  # type: ignore[no-untyped-call]  # dnspython types it not
            dns.rdataclass.ANY,
            dns.rdatatype.TSIG,
            self._key.algorithm,
            0,
            FUDGE,
            b"",
            message.id,
            0,
            b"",
        )
        now = int(self._now().timestamp())
        signature, _ = dns.tsig.sign(  # type: ignore[no-untyped-call]  # dnspython types it not
            wire, self._key, unsigned, now, b""
        )
        data = signature.to_wire()
        fixed = struct.pack("!HHIH", dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(data))
        # The last of the header's counts is that of the additional records (RFC 1035 §4.1.1).
        [additional] = struct.unpack("!H", wire[10:12])
        counted = wire[:10] + struct.pack("!H", additional + 1) + wire[12:]
        return counted + (self._key.name.to_wire() or b"") + fixed + data, signature.mac

    def _answer(self, wire: bytes) -> bytes:
        """Send, and send again where no answer came: an update may be repeated (RFC 2136 §5.6)."""
        for pause in PAUSES_AFTER_LOSS:
            try:
                return self._exchanged(wire)
            except (OSError, EOFError):
                self._pause(pause)
        try:
            return self._exchanged(wire)
        except TimeoutError:
            raise Unanswered(Text("no answer")) from None
        except EOFError:
            raise Unanswered(Text("the connection was closed before an answer")) from None
        except OSError as exc:
            raise Unanswered(system_words(exc)) from exc

    def _exchanged(self, wire: bytes) -> bytes:
        with self._connected() as connection:
            deadline = time.monotonic() + self._within
            connection.sendall(struct.pack("!H", len(wire)) + wire)
            [length] = struct.unpack("!H", _read(connection, LENGTH_PREFIX, deadline))
            return _read(connection, length, deadline)

    def _connected(self) -> socket.socket:
        """Connect to the first of the server's addresses that accepts. Raises `OSError`."""
        places = socket.getaddrinfo(*self._server, type=socket.SOCK_STREAM)
        latest = time.monotonic() + SILENT_ADDRESSES * self._within
        return first_connection(places, self._within, latest)


def _unverified(raw: bytes, question: dns.message.Message) -> dns.message.Message:
    """Read the answer to a question. Raises `Unanswered`."""
    answer = _parsed(raw, False)  # noqa: FBT003 - that is how dnspython says "do not verify"
    if not question.is_response(answer):
        raise Unanswered(Text("an answer to something else"))
    return answer


def _parsed(
    raw: bytes, key: dns.tsig.Key | Literal[False], mac: bytes = b""
) -> dns.message.Message:
    """Read an answer, and verify its signature where there is a key. Raises as `ask` does."""
    try:
        return dns.message.from_wire(raw, keyring=key, request_mac=mac)
    except dns.tsig.PeerError:
        raise
    except (dns.tsig.BadSignature, dns.tsig.BadTime, dns.tsig.BadKey, dns.tsig.BadAlgorithm):
        raise Unsigned from None
    except (dns.exception.DNSException, ValueError, struct.error) as exc:
        raise Unanswered(Text("an answer that cannot be read")) from exc


def _read(connection: socket.socket, length: int, deadline: float) -> bytes:
    """Read so many bytes. Raises `TimeoutError`, and `EOFError` where there are fewer."""
    read = b""
    while len(read) < length:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(length - len(read))
        if not part:
            raise EOFError
        read += part
    return read
