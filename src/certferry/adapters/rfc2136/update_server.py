"""TXT records in the zones of a name server that takes dynamic updates (RFC 2136).

A zone is found by its SOA record. The records at a name are read before and after a write, because
a server answers NOERROR even to an update that the server ignores (RFC 2136 §3.4.2.2).

dnspython signs each message with the time of the system's clock, and verifies the server's
signatures (RFC 8945). Each exchange has a TCP connection of its own: answers over TCP are complete,
and TCP itself repeats lost packets.

Refusals by BIND, as seen at 9.20: NOTAUTH with BADKEY for an unknown key, or a known key with
another algorithm; REFUSED if the key lacks the permission; SERVFAIL if BIND cannot write the
journal.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, cast

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
from msgspec import Struct

from certferry import errors
from certferry.adapters.http.bounds import first_connection
from certferry.core.certificates.names import is_within, suffixes
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import must_have_zone
from certferry.ports.progress import Pause
from certferry.ports.state import must_still_hold
from certferry.text import Text

SERVICE = "RFC 2136"
TTL = 60  # seconds, for the first record at a name
SILENT_ADDRESSES = 3  # tried in full, so that broken IPv6 still leaves time for IPv4
PAUSES_AFTER_LOSS = (1.0,)  # seconds; a reloading server is back by then
ANSWERS = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})
NOT_MINE = frozenset({dns.rcode.REFUSED, dns.rcode.NOTAUTH})


_KEY = Text(
    "compare `key_name`, `key_secret` and `algorithm` with the key's statement at the server"
    " (BIND: `named-checkconf -p`): all three must match"
)
_PERMIT = Text(
    "set `server` to the zone's primary, and allow the key to change TXT records there (BIND:"
    " `update-policy { grant KEY subdomain ZONE TXT; };` in the zone's statement)"
)
_CLOCK = Text("set both clocks: signatures are valid for five minutes")
_NO_UPDATES = Text("set `server` to a server with dynamic updates (RFC 2136)")
_LATER = Text("try again in a few minutes, and check the server's log")
_WAY = Text("check that the server runs, and that this host reaches it over TCP")


_AT_ITS_END = Text(
    "remove the CNAME, or wait until the resolvers see it: certferry then writes the"
    " challenge at its target"
)
_ELSEWHERE = Text(
    "set `server` to the primary of the zone, or `dns` of the certificate to the account that has"
    " the zone"
)

_REFUSALS: dict[dns.rcode.Rcode, tuple[type[errors.DnsError], Text]] = {
    dns.rcode.REFUSED: (errors.DnsAccessDenied, _PERMIT),
    dns.rcode.NOTAUTH: (
        errors.ZoneNotFound,
        Text("set `server` to the primary of the zone: the present server is not the primary"),
    ),
    dns.rcode.NOTZONE: (
        errors.DnsRejected,
        Text("correct `zones` of the account: none of them contains the name"),
    ),
    dns.rcode.NOTIMP: (errors.DnsRejected, _NO_UPDATES),
    dns.rcode.FORMERR: (errors.DnsRejected, _NO_UPDATES),
    dns.rcode.SERVFAIL: (
        errors.DnsUnavailable,
        Text(
            "check the server's log; often the server lacks permission to write the zone's"
            " journal beside the zone file"
        ),
    ),
}


_LOST = (OSError, EOFError, dns.exception.Timeout)
_NOT_OURS = (dns.tsig.BadSignature, dns.tsig.BadTime, dns.tsig.BadKey, dns.tsig.BadAlgorithm)
_UNVERIFIED: Any = False  # dnspython's way to read without verifying


class ServerKey(Struct, frozen=True):
    """A server, and the key that signs updates for the server."""

    #: Host and port.
    server: tuple[str, int]
    #: The key, with name and secret.
    key: dns.tsig.Key
    #: The algorithm of the key, by BIND's name.
    algorithm: str

    @property
    def shown(self) -> str:
        """The server as named in sentences."""
        host, port = self.server
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Seen(Struct, frozen=True):
    """The TXT records at a name."""

    #: The value of each record, the strings joined.
    values: tuple[bytes, ...] = ()
    #: The TTL of the records, in seconds.
    ttl: int = TTL


class UpdateServer:
    """The `DnsProvider` of one server and one key. Thread-safe. A handle is the value.

    Without declared zones, the server is asked for the zone of a name.
    """

    def __init__(
        self,
        server_key: ServerKey,
        zones: Sequence[str],
        within: timedelta,
        now: Callable[[], datetime],
        pause: Pause,
    ) -> None:
        """Make the provider; `within` limits the time to connect, then the time of the exchange."""
        self._server_key = server_key
        self._declared = tuple(zones)
        self._within = within.total_seconds()
        self._now = now
        self._pause = pause
        self._found: dict[str, str] = {}

    def zones(self) -> tuple[FoundZone, ...] | None:
        """See `ports.survey.ZoneKeeper.zones`; `None` without declared zones."""
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
        """See `ports.examination.Timed.clock_ahead`. The server's time comes from the signature,
        which is not verified.
        """
        answer = self._answer(_question(dns.name.root, dns.rdatatype.SOA), "clock")
        now = self._now()
        if not answer.tsig:
            return None
        tsig = cast("dns.rdtypes.ANY.TSIG.TSIG", answer.tsig[0])
        # A refusal with BADTIME repeats our time in `time_signed`, and has the server's time in
        # `other` (RFC 8945 §5.2.3).
        seconds = int.from_bytes(tsig.other, "big") if tsig.other else tsig.time_signed
        try:
            return timedelta(seconds=seconds - int(now.timestamp()))
        except OverflowError:  # the field is unsigned, and may hold any number of bytes
            return None

    def add_txt(self, name: str, value: str) -> str:
        name = name.rstrip(".").lower()
        zone = self._zone(name)
        seen = self._values(name)
        if value.encode() not in seen.values:
            # All records at a name share one TTL (RFC 2181 §5.2), so the present TTL is kept.
            self._update(zone, name, lambda change, at: change.add(at, seen.ttl, _txt(value)))
            if value.encode() not in self._values(name).values:
                words = Text("{name}: {server} accepted the record, but does not show it")
                hint = Text("check which DNS view the server gives this host")
                raise self._error(errors.DnsUnavailable, words, hint, name=name)
        return value

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        del handle
        name = name.rstrip(".").lower()
        zone = self._zone(name)
        try:
            if value.encode() not in self._values(name).values:
                return False
        except errors.DnsRejected:  # for example a CNAME, which excludes other records
            return False
        self._update(zone, name, lambda change, at: change.delete(at, _txt(value)))
        return True

    def _update(
        self, zone: str, name: str, put: Callable[[dns.update.UpdateMessage, dns.name.Name], None]
    ) -> None:
        change = dns.update.UpdateMessage(dns.name.from_text(zone))
        put(change, dns.name.from_text(name))
        self._raise_for_rcode(self._ask(change, name), name, dns.rcode.NOERROR)

    def _values(self, name: str) -> _Seen:
        """Return the TXT records at a name. Raises `DnsRejected` for a CNAME there."""
        at = dns.name.from_text(name)
        answer = self._ask(_question(at, dns.rdatatype.TXT), name)
        self._raise_for_rcode(answer, name, *ANSWERS)
        for rrset in answer.answer:
            if rrset.name != at:
                continue
            if rrset.rdtype == dns.rdatatype.CNAME:
                # The server would ignore the update silently (RFC 2136 §3.4.2.2).
                words = Text("{name}: the name has a CNAME to {target}")
                target = rrset[0].to_text().rstrip(".")
                raise errors.DnsRejected(words.filled(name=name, target=target), hint=_AT_ITS_END)
            if rrset.rdtype == dns.rdatatype.TXT:
                records = [cast("dns.rdtypes.ANY.TXT.TXT", record) for record in rrset]
                return _Seen(tuple(b"".join(record.strings) for record in records), rrset.ttl)
        return _Seen()

    def _zone(self, name: str) -> str:
        """Return the zone that holds a name. Ask once for each name. Raises `DnsError`."""
        if name not in self._found:
            self._found[name] = self.zone_of(name).name
        return self._found[name]

    def _find_zone(self, name: str) -> str:
        cut = ""
        for suffix in suffixes(name):
            answer = self._ask(_question(dns.name.from_text(suffix), dns.rdatatype.SOA), name)
            if answer.rcode() in NOT_MINE:
                continue
            self._raise_for_rcode(answer, name, *ANSWERS)
            owner = _zone_in(answer, name)
            if not answer.flags & dns.flags.AA:
                cut = max(cut, owner, key=len)
            elif owner:
                if len(cut) > len(owner):
                    raise self._delegated(name, cut)
                return owner
        words = Text("{server} has no zone for {name}")
        raise self._error(errors.ZoneNotFound, words, _ELSEWHERE, name=name)

    def _wrong_with(self, zone: str) -> Text | None:
        """Return why the server cannot change a zone; `None` if the server has the zone's SOA."""
        answer = self._ask(_question(dns.name.from_text(zone), dns.rdatatype.SOA), zone)
        if answer.flags & dns.flags.AA and _zone_in(answer, zone) == zone:
            return None
        return Text(
            "{server} is not authoritative for {zone}", server=self._server_key.shown, zone=zone
        )

    def _ask(self, message: dns.message.Message, about: str) -> dns.message.Message:
        """Return the answer to a question or an update. An answer with a wrong signature is an
        error. An answer without a signature is accepted only as a refusal. Raises `DnsError`.
        """
        answer = self._answer(message, about)
        if answer.had_tsig:
            try:
                dns.message.from_wire(
                    answer.wire or b"", keyring=self._server_key.key, request_mac=message.mac
                )
            except dns.tsig.PeerError as exc:
                raise self._refused_signature(exc, about) from exc
            except _NOT_OURS:
                raise self._unsigned(about) from None
        elif answer.rcode() in ANSWERS:
            raise self._unsigned(about)
        elif answer.rcode() == dns.rcode.NOTAUTH:
            # Knot 3.4 answers NOTAUTH for an unknown key, PowerDNS 4.9 for any problem with a key
            # (both seen).
            words = Text(
                "{about}: {server} does not accept the key {key} with {algorithm} (NOTAUTH)"
            )
            hint = Text("{compare}. Or a clock is wrong: {clock}", compare=_KEY, clock=_CLOCK)
            raise self._error(errors.DnsAccessDenied, words, hint, about=about)
        return answer

    def _answer(self, message: dns.message.Message, about: str) -> dns.message.Message:
        """Sign and send a message, and return the answer with the signature not yet verified.

        If no answer comes, the message is sent once more: updates may be repeated (RFC 2136 §5.6).
        """
        message.use_tsig(self._server_key.key)
        for pause in PAUSES_AFTER_LOSS:
            with suppress(*_LOST):
                return self._exchanged(message, about)
            self._pause(pause)
        try:
            return self._exchanged(message, about)
        except (dns.exception.Timeout, TimeoutError):
            raise self._unanswered(about, Text("no answer")) from None
        except EOFError:
            problem = Text("the connection was closed before an answer")
            raise self._unanswered(about, problem) from None
        except OSError as exc:
            raise self._unanswered(about, errors.system_words(exc)) from exc

    def _exchanged(self, message: dns.message.Message, about: str) -> dns.message.Message:
        with self._connected() as connection:
            latest = time.monotonic() + self._within
            must_still_hold()
            connection.sendall(message.to_wire(prepend_length=True))
            received = _received(connection, latest)
        try:
            answer = dns.message.from_wire(received, keyring=_UNVERIFIED)
        except (dns.exception.DNSException, ValueError, struct.error) as exc:
            raise self._unanswered(about, Text("an unreadable answer")) from exc
        if not message.is_response(answer):
            raise self._unanswered(about, Text("an answer to another question"))
        return answer

    def _connected(self) -> socket.socket:
        """Connect to the server's first accepting address. Raises `OSError`."""
        places = socket.getaddrinfo(*self._server_key.server, type=socket.SOCK_STREAM)
        latest = time.monotonic() + SILENT_ADDRESSES * self._within
        return first_connection(places, self._within, latest)

    def _raise_for_rcode(
        self, answer: dns.message.Message, about: str, *codes: dns.rcode.Rcode
    ) -> None:
        """Raise the error for a response code other than `codes` (RFC 2136 §2.2)."""
        if (rcode := answer.rcode()) not in codes:
            words = Text("{about}: {server} answers {code} to the key {key}")
            kind, hint = _REFUSALS.get(rcode, (errors.DnsRejected, _LATER))
            raise self._error(kind, words, hint, about=about, code=dns.rcode.to_text(rcode))

    def _refused_signature(self, error: dns.tsig.PeerError, about: str) -> errors.DnsError:
        if isinstance(error, dns.tsig.PeerBadTime):
            words = Text("{about}: {server} finds this host's clock wrong (BADTIME)")
            return self._error(errors.DnsUnavailable, words, _CLOCK, about=about)
        words = Text("{about}: {server} has another secret for the key {key} (BADSIG)")
        if isinstance(error, dns.tsig.PeerBadKey):
            words = Text("{about}: {server} knows no key {key} with {algorithm} (BADKEY)")
        return self._error(errors.DnsAccessDenied, words, _KEY, about=about)

    def _delegated(self, name: str, cut: str) -> errors.DnsError:
        words = Text("{server} delegates {cut} to other name servers, which answer for {name}")
        hint = Text("set `server` to the primary of {cut}, or use the account that has it", cut=cut)
        return self._error(errors.ZoneNotFound, words, hint, cut=cut, name=name)

    def _unsigned(self, about: str) -> errors.DnsError:
        words = Text("{about}: an answer of {server} lacks the signature of the key {key}")
        hint = Text("check for a middlebox; certferry discarded the unsigned answer")
        return self._error(errors.DnsUnavailable, words, hint, about=about)

    def _unanswered(self, about: str, problem: Text) -> errors.DnsError:
        words = Text("{about}: {server}: {problem}")
        return self._error(errors.DnsUnavailable, words, _WAY, about=about, problem=problem)

    def _error(
        self, kind: type[errors.DnsError], words: Text, hint: Text, **values: object
    ) -> errors.DnsError:
        """Return an error; server and key fill the placeholders in `words`."""
        server_key = self._server_key
        places = {
            "server": server_key.shown,
            "key": server_key.key.name.to_text(),
            "algorithm": server_key.algorithm,
        }
        return kind(words.filled(**places, **values), hint=hint)


def _received(connection: socket.socket, latest: float) -> bytes:
    """Return the next message of a connection. Two octets before the message have the length (RFC
    1035 §4.2.2). Raises `OSError`, or `EOFError` if the connection ends early.

    `latest` is the end of the wait, in the seconds of `time.monotonic`. dnspython's own
    `receive_tcp` uses the system's clock, and would wait too long if that clock is set back.
    """
    length = int.from_bytes(_octets(connection, 2, latest), "big")
    return _octets(connection, length, latest)


def _octets(connection: socket.socket, count: int, latest: float) -> bytes:
    octets = b""
    while len(octets) < count:
        if (seconds := latest - time.monotonic()) <= 0:
            raise TimeoutError
        connection.settimeout(seconds)
        if not (more := connection.recv(count - len(octets))):
            raise EOFError
        octets += more
    return octets


def _question(name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> dns.message.Message:
    # No recursion: the answer must come from the server's own zones.
    return dns.message.make_query(name, rdtype, flags=0)


def _zone_in(answer: dns.message.Message, name: str) -> str:
    """Return the longest zone that holds `name`, by the SOA and NS records of an answer; or ""."""
    wanted = {dns.rdatatype.SOA, dns.rdatatype.NS}
    owners = (
        rrset.name.to_text(omit_final_dot=True).lower()
        for rrset in (*answer.answer, *answer.authority)
        if rrset.rdtype in wanted
    )
    return max((owner for owner in owners if is_within(name, owner)), key=len, default="")


def _txt(value: str) -> dns.rdtypes.ANY.TXT.TXT:
    return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, [value.encode()])
