"""Reasons why clients refuse a served chain, and the check that a CA issued the certificate that
certferry ordered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import Enum, StrEnum

from msgspec import Struct

from certferry.core.certificates import certificate
from certferry.errors import CertificateRejected, Problem
from certferry.text import LINEAGE, Text


class EdgeProblemCode(StrEnum):
    """The codes of problems at the addresses of a host. Programs read the codes in JSON, so a code
    never changes.
    """

    # the address presents a certificate
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    NAME_NOT_COVERED = "name_not_covered"
    SELF_SIGNED = "self_signed"
    CHAIN_INCOMPLETE = "chain_incomplete"
    ISSUER_EXPIRED = "issuer_expired"
    UNTRUSTED_ISSUER = "untrusted_issuer"
    NOT_ACCEPTED = "not_accepted"
    UNREADABLE = "unreadable"
    # the address answers, and presents no certificate
    NO_CERTIFICATE = "no_certificate"
    HANDSHAKE_FAILED = "handshake_failed"
    NO_TLS = "no_tls"
    OLD_TLS = "old_tls"
    # the address does not answer
    REFUSED = "refused"
    CLOSED = "closed"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    # this machine cannot ask the address
    NO_IPV6 = "no_ipv6"
    NOT_ASKED = "not_asked"
    # the host has no address
    NOT_IN_DNS = "not_in_dns"
    NO_ADDRESS = "no_address"
    RESOLVER_SILENT = "resolver_silent"
    NO_RESOLVER = "no_resolver"
    # found by comparing all addresses of a host
    ENDS_SOON = "ends_soon"
    OLDER_CERTIFICATE = "older_certificate"
    CERTIFICATES_DIFFER = "certificates_differ"
    CHAINS_DIFFER = "chains_differ"


_MOST_LISTED = 3
"""How many names a sentence lists at most. A CDN's own certificate may have a hundred names."""


class Presented(Struct, frozen=True):
    """A certificate in a served chain."""

    fingerprint: str  #: SHA-256 over the DER, in lower-case hex.
    subject: str  #: The subject's common name, or the subject's whole name without a common name.
    issuer: str  #: The issuer's name, in the form of `subject`.
    #: The DNS names of a leaf, which clients compare with the host (RFC 6125 §6.4). Empty for an
    #: issuer.
    names: tuple[str, ...]
    not_before: datetime  #: The beginning of validity.
    not_after: datetime  #: The end of validity.


class End(Enum):
    """How the certificates of a `Way` end."""

    TRUSTED = "trusted"  #: With a root that clients trust.
    SELF_SIGNED_LEAF = "self_signed_leaf"  #: With a leaf that is signed by its own key.
    UNTRUSTED_ROOT = "untrusted_root"  #: With a root that clients do not trust.
    #: With a certificate whose issuer is neither presented nor trusted.
    MISSING_ISSUER = "missing_issuer"


class Way(Struct, frozen=True):
    """The certificates on the way from a leaf to a root. The way is incomplete if an issuer is
    neither presented by the server nor trusted.
    """

    #: Leaf first, each certificate followed by the certificate's issuer.
    certificates: tuple[Presented, ...]
    end: End  #: How the way ends.


def what_is_wrong(way: Way, host: str, now: datetime) -> Problem:
    """Return why clients refuse a chain.

    The leaf's expiry, beginning and names are judged first, then the signatures on the way to a
    root, then the expiry of issuers. The first fault is returned. Without a fault of these kinds,
    return `NOT_ACCEPTED`.
    """
    return _of_the_leaf(way.certificates[0], host, now) or _of_its_issuers(way, now)


def _of_the_leaf(leaf: Presented, host: str, now: datetime) -> Problem | None:
    if now > leaf.not_after:
        return Problem(
            EdgeProblemCode.EXPIRED,
            Text("the certificate expired {ago} ago", ago=now - leaf.not_after),
            Text("bind a valid certificate; `certferry sync` does so for declared certificates"),
        )
    if now < leaf.not_before:
        return Problem(
            EdgeProblemCode.NOT_YET_VALID,
            Text("the certificate is valid only from {moment}", moment=leaf.not_before),
            Text("if the certificate was issued just now, this host's clock may be slow"),
        )
    if not certificate.covered_by(leaf.names, host):
        return _for_another_name(leaf, host)
    return None


def _for_another_name(leaf: Presented, host: str) -> Problem:
    hint = Text(
        "bind a certificate for {host} to the domain; while HTTPS is off, a CDN presents a"
        " certificate of its own or of another domain",
        host=host,
    )
    if not leaf.names:
        message = Text("the certificate contains no host name")
    else:
        message = Text(
            "the certificate is for {names}", names=certificate.first_of(leaf.names, _MOST_LISTED)
        )
    return Problem(EdgeProblemCode.NAME_NOT_COVERED, message, hint)


def _of_its_issuers(way: Way, now: datetime) -> Problem:
    last = way.certificates[-1]
    if way.end is End.SELF_SIGNED_LEAF:
        return Problem(
            EdgeProblemCode.SELF_SIGNED,
            Text("the certificate is self-signed"),
            Text("bind a certificate from a CA"),
        )
    if way.end is End.MISSING_ISSUER and len(way.certificates) == 1:
        return Problem(
            EdgeProblemCode.CHAIN_INCOMPLETE,
            Text("the chain lacks the issuer {issuer}", issuer=last.issuer),
            Text("serve the fullchain: the leaf first, then its issuer certificates"),
        )
    if way.end is not End.TRUSTED:
        # The sentence names the issuer of the last certificate. This is usually the root, because
        # servers omit the root. A presented root is its own issuer.
        return Problem(
            EdgeProblemCode.UNTRUSTED_ISSUER,
            Text("the issuer {issuer} is not trusted (a staging CA?)", issuer=last.issuer),
            Text(
                "browsers trust no staging or private CA; for an intended private CA, set"
                " `ca_bundle` under [verify] to its root"
            ),
        )
    expired = [issuer for issuer in way.certificates[1:] if now > issuer.not_after]
    if expired:
        return _expired(expired[0], now)
    return Problem(
        EdgeProblemCode.NOT_ACCEPTED,
        Text("clients do not accept the certificate: its key, signature or extensions"),
        Text(
            "issue a new certificate for web servers, with RSA of 2048 bits or more or ECDSA P-256"
        ),
    )


def without_valid_signer(signers: Sequence[Presented], now: datetime) -> Problem | None:
    """Return the problem if all `signers` have expired. Return `None` if one is valid, or without
    signers.

    `signers` are the presented certificates that signed the leaf.
    """
    if not signers or any(now <= signer.not_after for signer in signers):
        return None
    return _expired(signers[0], now)


def _expired(issuer: Presented, now: datetime) -> Problem:
    return Problem(
        EdgeProblemCode.ISSUER_EXPIRED,
        Text("the issuer {issuer} expired {ago} ago").filled(
            issuer=issuer.subject, ago=now - issuer.not_after
        ),
        Text("serve the chain that the CA delivers today; a new certificate includes it"),
    )


SKEW = timedelta(minutes=15)
"""The tolerated error of this machine's clock. With a larger error, services refuse requests as
wrongly dated (docs/facts/qiniu.md §2.3).
"""

_NAMED = 5
"""How many names a message lists at most. A certificate may have thousands of names."""

_NOT_KEPT = Text(
    "nothing was kept or deployed. Report it to the CA, or use another CA (`directory` under"
    " [acme]); check that no gateway intercepts the connection. Runs order again after a day,"
    " `certferry sync --renew {lineage}` at once",
    lineage=LINEAGE,
)

_CLOCK = Text(
    "first check this host's clock (`timedatectl`); if the clock is right, report it to the CA."
    " Nothing was kept or deployed; runs order again after a day"
)


def must_be_as_ordered(
    bundle: certificate.CertificateBundle, names: Iterable[str], now: datetime
) -> None:
    """Check a certificate from a CA against the order.

    The certificate must have the ordered `names` (`has_names`), belong to our key, be valid at
    `now`, and come with a complete chain. The leaf's issuer must not have expired. A clock wrong by
    up to `SKEW` is tolerated.

    Raises `CertificateRejected` with the first fault found.
    """
    for problem, hint in _faults(bundle, tuple(names), now):
        raise rejected(problem, hint)


def rejected(problem: Text, hint: Text = _NOT_KEPT) -> CertificateRejected:
    """Return the error for a certificate that differs from the order. `problem` names the
    difference.
    """
    return CertificateRejected(
        Text("the CA gave a certificate that was not ordered: {problem}", problem=problem),
        hint=hint,
    )


def _faults(
    bundle: certificate.CertificateBundle, wanted: tuple[str, ...], now: datetime
) -> Iterator[tuple[Text, Text]]:
    leaf, issuer_end = bundle.certificate, bundle.issuer_not_after
    if not certificate.has_names(leaf.names, wanted):
        message = Text("the certificate is for {had}; ordered: {wanted}")
        yield message.filled(had=_few(leaf.names), wanted=_few(wanted)), _NOT_KEPT
    if not bundle.key_matches:
        yield Text("the certificate does not belong to the private key of the order"), _NOT_KEPT
    # `SKEW` is compared with differences of moments, and never added to a moment: a certificate
    # without an end has the last second of the calendar (RFC 5280 §4.1.2.5), and adding `SKEW` to
    # that second would raise `OverflowError`.
    if leaf.not_before - now > SKEW or now - leaf.not_after >= SKEW:
        message = Text(
            "the certificate is valid from {begin} to {end}, but this host's time is {now}"
        )
        yield message.filled(begin=leaf.not_before, end=leaf.not_after, now=now), _CLOCK
    if not bundle.chain_complete:
        message = Text(
            "the issuer certificates are missing (if a private CA signs directly with its root,"
            " set `ca_bundle` under [acme] to the root)"
        )
        yield message, _NOT_KEPT
    if issuer_end is not None and now - issuer_end >= SKEW:
        yield Text("the issuer certificate expired at {moment}", moment=issuer_end), _NOT_KEPT


def _few(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if len(names) <= _NAMED else (*names[:_NAMED], "…")
