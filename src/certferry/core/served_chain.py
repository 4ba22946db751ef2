"""What a chain that clients refuse is lacking: judged by its dates, its names and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from certferry.core.abbreviations import first_of
from certferry.core.certificate import covered_by
from certferry.core.edges import EdgeProblem, EdgeProblemCode
from certferry.text import Text

_MOST_LISTED = 3
"""Names that a sentence lists: a CDN's own certificate has a hundred."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A certificate as it stands in a served chain. `names` are what a client compares the host
    with (RFC 6125 §6.4), so those of an issuer are empty.
    """

    fingerprint: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime


class End(Enum):
    """Where the way up from the leaf ends, among what is presented and what is trusted."""

    TRUSTED = "trusted"
    SELF_SIGNED_LEAF = "self_signed_leaf"
    UNTRUSTED_ROOT = "untrusted_root"
    MISSING_ISSUER = "missing_issuer"


@dataclass(frozen=True, slots=True)
class Way:
    """The certificates that lead up from the leaf, leaf first, as far as they were found.

    The last one is trusted, signs itself, or names an issuer that is neither presented nor trusted.
    """

    certificates: tuple[Presented, ...]
    end: End


def what_is_wrong(way: Way, host: str, now: datetime) -> EdgeProblem:
    """Say why clients refuse the chain, the plainest fault first."""
    return _of_the_leaf(way.certificates[0], host, now) or _of_its_issuers(way, now)


def _of_the_leaf(leaf: Presented, host: str, now: datetime) -> EdgeProblem | None:
    if now > leaf.not_after:
        return EdgeProblem(
            EdgeProblemCode.EXPIRED,
            Text("the certificate expired {ago} ago", ago=now - leaf.not_after),
            Text("bind a certificate that is valid; `certferry sync` does for those you declare"),
        )
    if now < leaf.not_before:
        return EdgeProblem(
            EdgeProblemCode.NOT_YET_VALID,
            Text("the certificate is valid only from {moment}", moment=leaf.not_before),
            Text("if it was issued just now, the clock of this machine may be slow"),
        )
    if not covered_by(leaf.names, host):
        return _for_another_name(leaf, host)
    return None


def _for_another_name(leaf: Presented, host: str) -> EdgeProblem:
    hint = Text(
        "bind a certificate for {host} to the domain; a CDN presents one of its own or of another"
        " domain where HTTPS is off",
        host=host,
    )
    if not leaf.names:
        message = Text("the certificate names no host")
    else:
        message = Text("the certificate is for {names}", names=first_of(leaf.names, _MOST_LISTED))
    return EdgeProblem(EdgeProblemCode.NAME_NOT_COVERED, message, hint)


def _of_its_issuers(way: Way, now: datetime) -> EdgeProblem:
    last = way.certificates[-1]
    if way.end is End.SELF_SIGNED_LEAF:
        return EdgeProblem(
            EdgeProblemCode.SELF_SIGNED,
            Text("the certificate is self-signed"),
            Text("bind one that a CA has issued"),
        )
    if way.end is End.MISSING_ISSUER and len(way.certificates) == 1:
        return EdgeProblem(
            EdgeProblemCode.CHAIN_INCOMPLETE,
            Text("the chain lacks the issuer {issuer}", issuer=last.issuer),
            Text("serve the fullchain: the leaf first, then its issuer certificates"),
        )
    if way.end is not End.TRUSTED:
        return _untrusted(last)
    expired = [issuer for issuer in way.certificates[1:] if now > issuer.not_after]
    if expired:
        return _expired(expired[0], now)
    return EdgeProblem(
        EdgeProblemCode.NOT_ACCEPTED,
        Text("clients do not accept the certificate: its key, signature or extensions"),
        Text("have it issued anew, for a web server, with RSA of 2048 bits or more or ECDSA P-256"),
    )


def without_valid_signer(signers: Sequence[Presented], now: datetime) -> EdgeProblem | None:
    """Say that what signed the leaf is presented and past its end. This machine may trust another
    certificate with the same key; a visitor's may not.
    """
    if not signers or any(now <= signer.not_after for signer in signers):
        return None
    return _expired(signers[0], now)


def _expired(issuer: Presented, now: datetime) -> EdgeProblem:
    return EdgeProblem(
        EdgeProblemCode.ISSUER_EXPIRED,
        Text(
            "its issuer {issuer} expired {ago} ago",
            issuer=issuer.subject,
            ago=now - issuer.not_after,
        ),
        Text("serve the chain that the CA gives today; a new certificate comes with it"),
    )


def _untrusted(last: Presented) -> EdgeProblem:
    """The root is usually not presented, so it is the last one's issuer; of itself, its own."""
    return EdgeProblem(
        EdgeProblemCode.UNTRUSTED_ISSUER,
        Text("its issuer {issuer} is not trusted (a staging CA?)", issuer=last.issuer),
        Text(
            "browsers trust no staging or private CA; where this one is meant, name its root with"
            " `ca_bundle` under [verify]"
        ),
    )
