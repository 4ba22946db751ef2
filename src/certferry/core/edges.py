"""What is wrong at an edge, in our words: a code for programs, a sentence and advice for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from certferry.text import Text


class EdgeProblemCode(StrEnum):
    """Stable words for programs; they appear in JSON."""

    # a certificate is presented
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    NAME_NOT_COVERED = "name_not_covered"
    SELF_SIGNED = "self_signed"
    CHAIN_INCOMPLETE = "chain_incomplete"
    ISSUER_EXPIRED = "issuer_expired"
    UNTRUSTED_ISSUER = "untrusted_issuer"
    NOT_ACCEPTED = "not_accepted"
    UNREADABLE = "unreadable"
    # the address answers, and presents none
    NO_CERTIFICATE = "no_certificate"
    HANDSHAKE_FAILED = "handshake_failed"
    NO_TLS = "no_tls"
    OLD_TLS = "old_tls"
    # the address does not answer
    REFUSED = "refused"
    CLOSED = "closed"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    # this machine cannot ask it
    NO_IPV6 = "no_ipv6"
    NOT_ASKED = "not_asked"
    # there is no address
    NOT_IN_DNS = "not_in_dns"
    NO_ADDRESS = "no_address"
    RESOLVER_SILENT = "resolver_silent"
    NO_RESOLVER = "no_resolver"
    # of all addresses of a host together
    ENDS_SOON = "ends_soon"
    OLDER_CERTIFICATE = "older_certificate"
    CERTIFICATES_DIFFER = "certificates_differ"
    CHAINS_DIFFER = "chains_differ"


@dataclass(frozen=True, slots=True)
class EdgeProblem:
    """Something that is wrong at an address, or at the addresses of a host together."""

    code: EdgeProblemCode
    message: Text
    hint: Text | None = None
