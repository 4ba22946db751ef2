"""What a name server's refusals of a signed update mean for the operator (RFC 2136, RFC 8945).

The behaviour of BIND is that of 9.20, seen there: NOTAUTH with BADKEY for a key it does not know,
also one of another algorithm; REFUSED where the key may not; SERVFAIL where it cannot write the
journal.
"""

from __future__ import annotations

from dataclasses import dataclass

import dns.rcode
import dns.tsig

from certferry.errors import (
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    ZoneNotFound,
)
from certferry.text import Text

SERVICE = "RFC 2136"

_KEY = Text(
    "compare `key_name`, `key_secret` and `algorithm` with the key's statement at the server"
    " (BIND: `named-checkconf -p`): they must be the same there"
)
_PERMIT = Text(
    "let `server` be the zone's primary, and let the key change TXT records there: at BIND"
    " `update-policy { grant KEY subdomain ZONE TXT; };` in the zone's statement"
)
_CLOCK = Text("set both clocks: signatures are good for five minutes")
_NO_UPDATES = Text("name a server that takes dynamic updates (RFC 2136) as `server`")
LATER = Text("try again in some minutes, and look at the server's log")
WAY = Text("see that the server runs, and that this host reaches it over TCP")


@dataclass(frozen=True, slots=True)
class Partner:
    """A server and the key it is spoken to with, for sentences."""

    server: str
    key: str
    algorithm: str

    def sentence(self, words: Text, **values: object) -> Text:
        """Return a sentence whose places for the server and its key are filled, too."""
        mine = {"server": self.server, "key": self.key, "algorithm": self.algorithm}
        return words.filled(**mine, **values)


def refused_signature(error: dns.tsig.PeerError, partner: Partner, about: str) -> DnsError:
    """Return the error for a signature that the server did not accept."""
    if isinstance(error, dns.tsig.PeerBadTime):
        words = Text("{about}: for {server}, this machine's clock is wrong (BADTIME)")
        return DnsUnavailable(partner.sentence(words, about=about), hint=_CLOCK)
    words = Text("{about}: {server} has another secret for the key {key} (BADSIG)")
    if isinstance(error, dns.tsig.PeerBadKey):
        words = Text("{about}: {server} knows no key {key} with {algorithm} (BADKEY)")
    return DnsAccessDenied(partner.sentence(words, about=about), hint=_KEY)


def refused_key(partner: Partner, about: str) -> DnsAccessDenied:
    """Return the error for NOTAUTH without a signature: Knot answers so to a key that it does not
    know, and PowerDNS to whatever is wrong with one (3.4 and 4.9, seen there).
    """
    words = Text("{about}: {server} does not accept the key {key} with {algorithm} (NOTAUTH)")
    hint = Text("{compare}. Or a clock is wrong: {clock}", compare=_KEY, clock=_CLOCK)
    return DnsAccessDenied(partner.sentence(words, about=about), hint=hint)


def untrusted(partner: Partner, about: str) -> DnsUnavailable:
    """Return the error for an answer that cannot be the server's own."""
    words = Text("{about}: an answer of {server} is not signed with the key {key}")
    hint = Text("check for a middlebox; the unsigned answer was discarded")
    return DnsUnavailable(partner.sentence(words, about=about), hint=hint)


def unanswered(partner: Partner, about: str, problem: Text) -> DnsUnavailable:
    """Return the error for no answer, or one that cannot be read."""
    words = Text("{about}: {server}: {problem}")
    return DnsUnavailable(partner.sentence(words, about=about, problem=problem), hint=WAY)


_REFUSALS: dict[dns.rcode.Rcode, tuple[type[DnsError], Text]] = {
    dns.rcode.REFUSED: (DnsAccessDenied, _PERMIT),
    dns.rcode.NOTAUTH: (
        ZoneNotFound,
        Text("name the primary of the zone as `server`: it is not this one"),
    ),
    dns.rcode.NOTZONE: (
        DnsRejected,
        Text("correct `zones` of the account: the name is in none of them"),
    ),
    dns.rcode.NOTIMP: (DnsRejected, _NO_UPDATES),
    dns.rcode.FORMERR: (DnsRejected, _NO_UPDATES),
    dns.rcode.SERVFAIL: (
        DnsUnavailable,
        Text(
            "look at the server's log; often it may not write its zone's journal, into the"
            " directory of the zone's file"
        ),
    ),
}


def refused(rcode: dns.rcode.Rcode, partner: Partner, about: str) -> DnsError:
    """Return the error that an answer's code stands for (RFC 2136 §2.2)."""
    words = Text("{about}: {server} answers {code} to the key {key}")
    kind, hint = _REFUSALS.get(rcode, (DnsRejected, LATER))
    return kind(partner.sentence(words, about=about, code=dns.rcode.to_text(rcode)), hint=hint)


def no_zone(name: str, partner: Partner) -> ZoneNotFound:
    """Return the error for a name that the server has no zone for."""
    hint = Text(
        "name the primary of the zone as `server`, or the account that has it as `dns` of the"
        " certificate"
    )
    words = Text("{server} has no zone that holds {name}")
    return ZoneNotFound(partner.sentence(words, name=name), hint=hint)


def delegated(name: str, cut: str, partner: Partner) -> ZoneNotFound:
    """Return the error for a name that the server has delegated to others."""
    words = Text("{server} delegates {cut} to other name servers, which are asked for {name}")
    hint = Text("name the primary of {cut} as `server`, or the account that has it", cut=cut)
    return ZoneNotFound(partner.sentence(words, cut=cut, name=name), hint=hint)


def excluded(name: str, target: str) -> DnsRejected:
    """Return the error for a CNAME where the record is to be: a server ignores the update silently
    then (RFC 2136 §3.4.2.2).
    """
    hint = Text(
        "remove it, or wait until the resolvers see it: the challenge is then written at its end"
    )
    return DnsRejected(
        Text("{name}: a CNAME to {target} stands there", name=name, target=target), hint=hint
    )


def not_shown(name: str, partner: Partner) -> DnsUnavailable:
    """Return the error for an update that was accepted, and is not there."""
    words = Text("{name}: {server} accepted the record, and does not show it")
    hint = Text("check which DNS view the server gives this host")
    return DnsUnavailable(partner.sentence(words, name=name), hint=hint)
