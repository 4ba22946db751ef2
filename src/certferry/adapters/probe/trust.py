"""The trusted roots, and the check whether a served chain leads to a trusted root."""

from __future__ import annotations

import logging
import re
import ssl
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from certferry.core.certificates import chain as chains
from certferry.core.certificates.certificate import fingerprint
from certferry.core.certificates.names import is_address
from certferry.core.certificates.pem import common_name
from certferry.errors import ConfigError, Problem, system_words
from certferry.text import Text

_log = logging.getLogger(__name__)

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Trust:
    """Trusted roots from a PEM bundle: from `ca_bundle`, or else from the system's bundle, or else
    from the bundle that comes with `requests`. Raises `ConfigError` for an unreadable bundle.
    """

    def __init__(self, ca_bundle: Path | None = None) -> None:
        self._trusted = _read(ca_bundle or _system_bundle())
        self._store = Store(self._trusted)

    def problem(
        self, chain: Sequence[x509.Certificate], host: str, now: datetime
    ) -> Problem | None:
        """Return why a client would refuse the chain (leaf first) for the host. Return `None` if a
        client accepts the chain.

        The check follows RFC 5280 for the chain, and RFC 6125 for the name.
        """
        policy = PolicyBuilder().store(self._store).time(now)
        verifier = policy.build_server_verifier(_subject(host))
        try:
            verifier.verify(chain[0], list(chain[1:]))
        except VerificationError as error:
            _log.debug("%s: %s", host, error)
            return chains.what_is_wrong(way_up(chain, self._roots), host, now)
        return chains.without_valid_signer(signers_of(chain), now)

    @cached_property
    def _roots(self) -> Roots:
        roots = defaultdict[x509.Name, list[x509.Certificate]](list)
        for root in self._trusted:
            roots[root.subject].append(root)
        return dict(roots)


def _subject(host: str) -> x509.DNSName | x509.IPAddress:
    return x509.IPAddress(ip_address(host)) if is_address(host) else x509.DNSName(host)


def _system_bundle() -> Path:
    """Return the path of the system's bundle, or else of the bundle that comes with `requests`."""
    cafile = ssl.get_default_verify_paths().cafile
    debian = Path("/etc/ssl/certs/ca-certificates.crt")
    places = [Path(cafile)] if cafile else []
    for path in (*places, debian):
        if path.is_file():
            return path
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    return Path(DEFAULT_CA_BUNDLE_PATH)


def _read(bundle: Path) -> list[x509.Certificate]:
    """Read a bundle, certificate by certificate. Raises `ConfigError` if no certificate can be
    read.

    A certificate that the library refuses as malformed is skipped: a system's bundle may hold one
    (RFC 5280 §4.1.2.2).
    """
    try:
        blocks = _BLOCK.findall(bundle.read_bytes())
    except OSError as error:
        raise _unreadable(bundle, system_words(error)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        roots = [root for block in blocks if (root := _root(block)) is not None]
    if not roots:
        raise _unreadable(bundle, Text("the file contains no certificate"))
    return roots


def _root(block: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(block)
    except (ValueError, x509.InvalidVersion):
        return None


def _unreadable(bundle: Path, problem: Text) -> ConfigError:
    return ConfigError(
        Text("{path} is not a bundle of certificates: {problem}", path=bundle, problem=problem),
        hint=Text("set `ca_bundle` under [verify] to a PEM file of trusted roots"),
    )


_MOST_READ = 16
"""Maximum number of certificates read of a chain, because a hostile edge could send hundreds to
compare.
"""
_LONGEST_NAME = 200  # characters; a subject may hold anything

Roots = Mapping[x509.Name, Sequence[x509.Certificate]]  # trusted certificates by subject


def way_up(chain: Sequence[x509.Certificate], roots: Roots) -> chains.Way:
    """Return the path from the leaf through the presented issuers to a trusted root. If no path
    reaches a trusted root, return the longest path, and why the path ends. The issuers may be
    presented in any order.
    """
    leaf, *others = chain[:_MOST_READ]
    if _issued_by(leaf, leaf):
        return chains.Way(presented_in([leaf]), chains.End.SELF_SIGNED_LEAF)
    paths = [[leaf]]
    seen = {leaf}
    for path in paths:  # the loop appends to `paths`
        last = path[-1]
        for root in roots.get(last.issuer, ()):
            if _issued_by(last, root):
                return chains.Way(presented_in([*path, root]), chains.End.TRUSTED)
        issuers = [other for other in others if other not in seen and _issued_by(last, other)]
        seen.update(issuers)
        paths += [[*path, other] for other in issuers]
    longest = max(paths, key=len)
    ends_in_a_root = _issued_by(longest[-1], longest[-1])
    end = chains.End.UNTRUSTED_ROOT if ends_in_a_root else chains.End.MISSING_ISSUER
    return chains.Way(presented_in(longest), end)


def signers_of(chain: Sequence[x509.Certificate]) -> tuple[chains.Presented, ...]:
    """Return the presented certificates that signed the leaf, in the presented order."""
    leaf, *others = chain[:_MOST_READ]
    return tuple(_facts(other) for other in others if _issued_by(leaf, other))


def presented_in(chain: Sequence[x509.Certificate]) -> tuple[chains.Presented, ...]:
    """Return the facts of a chain's certificates, leaf first. Raises any error of the library."""
    leaf, *issuers = chain[:_MOST_READ]
    return (_facts(leaf, _names(leaf)), *map(_facts, issuers))


def _facts(certificate: x509.Certificate, names: tuple[str, ...] = ()) -> chains.Presented:
    return chains.Presented(
        fingerprint=fingerprint(certificate.public_bytes(Encoding.DER)),
        subject=_spelled(certificate.subject),
        issuer=_spelled(certificate.issuer),
        names=names,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = [_on_one_line(name.lower()) for name in alternatives.get_values_for_type(x509.DNSName)]
    return (*hosts, *map(str, alternatives.get_values_for_type(x509.IPAddress)))


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
