"""The certification path of a presented leaf: which certificate issued which, and where it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from certferry.core.certificate import fingerprint
from certferry.core.pem import common_name
from certferry.core.served_chain import End, Presented, Way

_MOST_READ = 16
"""Certificates of a chain that are looked at: a hostile edge could have us compare hundreds."""
_LONGEST_NAME = 200  # characters; a subject may hold anything

Roots = Mapping[x509.Name, Sequence[x509.Certificate]]
"""Trusted certificates by their subject."""


def way_up(chain: Sequence[x509.Certificate], roots: Roots) -> Way:
    """Follow the issuers of a leaf through what is presented, in any order, to a trusted one."""
    leaf, *others = chain[:_MOST_READ]
    if _issued_by(leaf, leaf):
        return _way([leaf], End.SELF_SIGNED_LEAF)
    paths = [[leaf]]
    seen = {leaf}
    for path in paths:  # it grows on the way
        last = path[-1]
        for root in roots.get(last.issuer, ()):
            if _issued_by(last, root):
                return _way([*path, root], End.TRUSTED)
        found = [other for other in others if other not in seen and _issued_by(last, other)]
        seen.update(found)
        paths += [[*path, other] for other in found]
    longest = max(paths, key=len)
    ends_in_a_root = _issued_by(longest[-1], longest[-1])
    return _way(longest, End.UNTRUSTED_ROOT if ends_in_a_root else End.MISSING_ISSUER)


def signers_of(chain: Sequence[x509.Certificate]) -> tuple[Presented, ...]:
    """Return what is presented of the leaf's issuers, in its order."""
    leaf, *others = chain[:_MOST_READ]
    return tuple(_facts(other) for other in others if _issued_by(leaf, other))


def facts_of(chain: Sequence[x509.Certificate]) -> tuple[Presented, ...]:
    """Read what a chain tells of itself, leaf first. Raises whatever the library does."""
    leaf, *issuers = chain[:_MOST_READ]
    return (_facts(leaf, _names(leaf)), *map(_facts, issuers))


def _way(path: Sequence[x509.Certificate], end: End) -> Way:
    return Way(facts_of(path), end)


def _facts(certificate: x509.Certificate, names: tuple[str, ...] = ()) -> Presented:
    return Presented(
        fingerprint=fingerprint(certificate.public_bytes(Encoding.DER)),
        subject=_spelled(certificate.subject),
        issuer=_spelled(certificate.issuer),
        names=names,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = [_on_one_line(name.lower()) for name in found.get_values_for_type(x509.DNSName)]
    return (*hosts, *map(str, found.get_values_for_type(x509.IPAddress)))


def _spelled(name: x509.Name) -> str:
    return _on_one_line(common_name(name) or name.rfc4514_string())


def _on_one_line(words: str) -> str:
    return " ".join(words.split())[:_LONGEST_NAME]


def _issued_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
