"""Ask one authoritative name server for the TXT values at a name."""

from __future__ import annotations

import errno
from collections.abc import Callable
from datetime import timedelta
from functools import partial

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
)
from certferry.adapters.acme.resolvers import PAYLOAD, to_name
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
