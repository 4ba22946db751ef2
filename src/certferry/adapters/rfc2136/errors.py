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
LATER = Text("try again in some minutes, and look at the server's log")
WAY = Text("see that the server runs, and that this host reaches it over TCP")


@dataclass(frozen=True, slots=True)
class Partner:
    """A server and the key it is spoken to with, for sentences."""

    server: str
    key: str
    algorithm: str


def refused_signature(error: dns.tsig.PeerError, partner: Partner, about: str) -> DnsError:
    """Give the error for a signature that the server did not accept."""
    if isinstance(error, dns.tsig.PeerBadTime):
        return DnsUnavailable(
            Text(
                "{about}: for {server}, this machine's clock is wrong (BADTIME)",
                about=about,
                server=partner.server,
            ),
            hint=_CLOCK,
        )
    if isinstance(error, dns.tsig.PeerBadKey):
        return DnsAccessDenied(
            Text(
                "{about}: {server} knows no key {key} with {algorithm} (BADKEY)",
                about=about,
                server=partner.server,
                key=partner.key,
                algorithm=partner.algorithm,
            ),
            hint=_KEY,
        )
    return DnsAccessDenied(
        Text(
            "{about}: {server} has another secret for the key {key} (BADSIG)",
            about=about,
            server=partner.server,
            key=partner.key,
        ),
        hint=_KEY,
    )


def refused_key(partner: Partner, about: str) -> DnsAccessDenied:
    """Give the error for NOTAUTH without a signature: Knot answers so to a key that it does not
    know, and PowerDNS to whatever is wrong with one (3.4 and 4.9, seen there).
    """
    return DnsAccessDenied(
        Text(
            "{about}: {server} does not accept the key {key} with {algorithm} (NOTAUTH)",
            about=about,
            server=partner.server,
            key=partner.key,
            algorithm=partner.algorithm,
        ),
        hint=Text("{compare}. Or a clock is wrong: {clock}", compare=_KEY, clock=_CLOCK),
    )


def untrusted(partner: Partner, about: str) -> DnsUnavailable:
    """Give the error for an answer that cannot be the server's own."""
    return DnsUnavailable(
        Text(
            "{about}: an answer of {server} is not signed with the key {key}",
            about=about,
            server=partner.server,
            key=partner.key,
        ),
        hint=Text("see what stands between this host and the server; nothing of it is believed"),
    )


def unanswered(partner: Partner, about: str, problem: Text) -> DnsUnavailable:
    """Give the error for no answer, or none that can be read."""
    said = Text("{about}: {server}: {problem}", about=about, server=partner.server, problem=problem)
    return DnsUnavailable(said, hint=WAY)


def refused(rcode: dns.rcode.Rcode, partner: Partner, about: str) -> DnsError:
    """Give the error that an answer's code stands for (RFC 2136 §2.2)."""
    message = Text(
        "{about}: {server} answers {code} to the key {key}",
        about=about,
        server=partner.server,
        code=dns.rcode.to_text(rcode),
        key=partner.key,
    )
    match rcode:
        case dns.rcode.REFUSED:
            return DnsAccessDenied(message, hint=_PERMIT)
        case dns.rcode.NOTAUTH:
            return ZoneNotFound(
                message, hint=Text("name the primary of the zone as `server`: it is not this one")
            )
        case dns.rcode.NOTZONE:
            return DnsRejected(
                message, hint=Text("correct `zones` of the account: the name is in none of them")
            )
        case dns.rcode.NOTIMP | dns.rcode.FORMERR:
            return DnsRejected(
                message,
                hint=Text("name a server that takes dynamic updates (RFC 2136) as `server`"),
            )
        case dns.rcode.SERVFAIL:
            return DnsUnavailable(
                message,
                hint=Text(
                    "look at the server's log; often it may not write its zone's journal, into the"
                    " directory of the zone's file"
                ),
            )
        case _:
            return DnsRejected(message, hint=LATER)


def no_zone(name: str, partner: Partner) -> ZoneNotFound:
    """Give the error for a name that the server has no zone for."""
    return ZoneNotFound(
        Text("{server} has no zone that holds {name}", server=partner.server, name=name),
        hint=Text(
            "name the primary of the zone as `server`, or the account that has it as `dns` of the"
            " certificate"
        ),
    )


def delegated(name: str, cut: str, partner: Partner) -> ZoneNotFound:
    """Give the error for a name that the server has delegated to others."""
    return ZoneNotFound(
        Text(
            "{server} delegates {cut} to other name servers, which are asked for {name}",
            server=partner.server,
            cut=cut,
            name=name,
        ),
        hint=Text("name the primary of {cut} as `server`, or the account that has it", cut=cut),
    )


def excluded(name: str, target: str) -> DnsRejected:
    """Give the error for a CNAME where the record is to be: a server ignores the update silently
    then (RFC 2136 §3.4.2.2).
    """
    return DnsRejected(
        Text("{name}: a CNAME to {target} stands there", name=name, target=target),
        hint=Text(
            "remove it, or wait until the resolvers see it: the challenge is then written at its"
            " end"
        ),
    )


def not_shown(name: str, partner: Partner) -> DnsUnavailable:
    """Give the error for an update that was accepted, and is not there."""
    return DnsUnavailable(
        Text(
            "{name}: {server} accepted the record, and does not show it",
            name=name,
            server=partner.server,
        ),
        hint=Text("look whether the server shows a zone of another view to this host"),
    )
