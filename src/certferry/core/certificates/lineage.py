"""The versions of a lineage (the certificates that succeed one another under one name), and the
labels that mark our uploads at targets.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from certferry.core.certificates.certificate import Certificate, CertificateBundle, RenewalWindow
from certferry.core.reasons import Reason, ReasonCode
from certferry.text import Text
from certferry.values import replace


class RevocationReason(StrEnum):
    """A reason for a revocation that CAs accept from a subscriber (RFC 5280 §5.3.1)."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"

    @property
    def code(self) -> int:
        """The reason's number (RFC 5280 §5.3.1)."""
        return _CODES[self]


_CODES = dict(zip(RevocationReason, (0, 1, 3, 4, 5), strict=True))


class Revocation(Struct, frozen=True):
    """A revocation, stored before the request to the CA."""

    at: datetime  #: When the revocation was begun.
    reason: RevocationReason  #: The reason for the CA.
    #: Whether the CA has accepted the request.
    is_answered: bool = True

    @property
    def why(self) -> Reason:
        """The reason to issue another certificate, and to deploy this certificate no more."""
        sentence = Text("the certificate was revoked at {moment}", moment=self.at)
        if not self.is_answered:
            sentence = Text(
                "the revocation was started at {moment}, and the CA may have carried it out",
                moment=self.at,
            )
        return Reason(ReasonCode.REVOKED, sentence)

    @property
    def spoils_key(self) -> bool:
        """Whether the reason is a compromised key, so the next certificate needs a new key."""
        return self.reason is RevocationReason.KEY_COMPROMISE


def is_in_progress(revocation: Revocation | None, not_after: datetime, now: datetime) -> bool:
    """Return whether a revocation was begun, and the CA has not accepted the request yet.
    `not_after` is the certificate's end; for an expired certificate, return false.
    """
    return revocation is not None and not revocation.is_answered and not_after > now


class Withdrawal(Struct, frozen=True):
    """A certificate withdrawn from a domain. While the withdrawal is stored, no run binds the
    certificate there.
    """

    lineage: str  #: The lineage's name.
    target: str  #: The account's name.
    domain: str  #: The domain's name.
    fingerprint: str  #: The withdrawn certificate.
    #: When the certificate was withdrawn.
    at: datetime
    #: Whether an operator withdrew the certificate.
    by_hand: bool = False


MARK = "certferry"
SHORT = "cf"
_SLUG = 24
"""The most characters of the lineage's name in a label (docs/facts/qiniu.md §4.1)."""
_PREFIX = 20
"""How many hex digits of the fingerprint a label has. 80 bits exclude equal labels by chance."""
_TAG, _SHORT_PREFIX = 7, 12
"""How many hex digits of a short label stand for the lineage's name, and how many for the
fingerprint. Every service accepts the 23 characters of a short label (docs/facts/qiniu.md §4.1).
"""


class Version(Struct, frozen=True):
    """A certificate of a lineage as stored, without PEM and key."""

    #: The version's number; numbers grow by one.
    number: int
    certificate: Certificate  #: The leaf's facts.
    saved_at: datetime  #: When certferry first stored the certificate.
    key_matches: bool = True  #: See `CertificateBundle.key_matches`.
    chain_complete: bool = True  #: See `CertificateBundle.chain_complete`.
    #: The renewal window of the CA's last answer, if any.
    window: RenewalWindow | None = None
    #: See `CertificateBundle.fullchain_digest`; `None` if unknown.
    fullchain_digest: str | None = None
    #: When the CA may be asked for renewal information again; `None` before the first answer.
    ask_after: datetime | None = None
    #: The URL of the CA's directory; `None` for a certificate made elsewhere.
    directory: str | None = None
    revocation: Revocation | None = None  #: The revocation, once begun.
    #: The end of validity of the certificate that signed the leaf, if known.
    issuer_not_after: datetime | None = None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the version's certificate."""
        return self.certificate.fingerprint

    def has_expired_issuer(self, now: datetime) -> bool:
        """Return whether the leaf's signer is known to have expired."""
        return self.issuer_not_after is not None and self.issuer_not_after <= now

    def should_replace(self, bundle: CertificateBundle) -> bool:
        """Return whether a bundle of the same leaf should replace the stored files.

        A bundle with the leaf's key replaces files without the key, not the reverse. If both or
        neither have the key, a complete chain replaces an incomplete chain, not the reverse. If the
        chains are equally complete, a chain with another digest replaces the stored chain.
        """
        had = (self.key_matches, self.chain_complete)
        has = (bundle.key_matches, bundle.chain_complete)
        return has > had or (has == had and bundle.fullchain_digest != self.fullchain_digest)

    def with_pem_of(self, bundle: CertificateBundle) -> Version:
        """Return the version with the bundle's files in place of the stored files."""
        return replace(
            self,
            key_matches=bundle.key_matches,
            chain_complete=bundle.chain_complete,
            fullchain_digest=bundle.fullchain_digest,
            issuer_not_after=bundle.issuer_not_after,
        )


Versions = Sequence[Version]
"""The versions of a lineage, newest first."""


def version_for(withdrawn: Collection[str], versions: Versions, now: datetime) -> Version | None:
    """Return the version that a domain should serve; `None` without a suitable version.

    This is the newest version, even if expired or revoked. If the newest version is among the
    `withdrawn` fingerprints, this is the newest version that is neither expired, revoked nor
    withdrawn.
    """
    for place, version in enumerate(versions):
        is_good = version.certificate.not_after > now and version.revocation is None
        if version.fingerprint not in withdrawn and (place == 0 or is_good):
            return version
    return None


_MARK = re.compile(rf"{MARK}-(?P<owner>[a-z0-9.-]{{0,{_SLUG}}})-[0-9a-f]{{{_PREFIX}}}")
_SHORT_MARK = re.compile(rf"(?P<owner>{SHORT}-[0-9a-f]{{{_TAG}}})-[0-9a-f]{{{_SHORT_PREFIX}}}")


def label_of(lineage: str, fingerprint: str) -> str:
    """Return the label of an upload: `certferry`, the beginning of the lineage's name, and the
    beginning of the fingerprint, joined by hyphens.
    """
    return f"{MARK}-{_slug(lineage)}-{fingerprint[:_PREFIX]}"


def short_label_of(lineage: str, fingerprint: str) -> str:
    """Return the label of 23 characters for a target that refuses `label_of`."""
    return f"{_tag(lineage)}-{fingerprint[:_SHORT_PREFIX]}"


def labels_of(lineage: str, fingerprint: str) -> tuple[str, ...]:
    """Return every label that an upload of ours may have."""
    return label_of(lineage, fingerprint), short_label_of(lineage, fingerprint)


def owner_of(label: str) -> str | None:
    """Return the part of a label that stands for the lineage; `None` if the label is not ours."""
    match = _MARK.fullmatch(label) or _SHORT_MARK.fullmatch(label)
    return None if match is None else match["owner"]


def prefixes(lineage: str) -> tuple[str, ...]:
    """Return how a lineage's labels begin. Another lineage's labels may begin alike."""
    return f"{MARK}-{_slug(lineage)}-", f"{_tag(lineage)}-"


def owners(lineage: str) -> frozenset[str]:
    """Return the owners in labels of a lineage (`owner_of`). Two lineages may share an owner."""
    return frozenset((_slug(lineage), _tag(lineage)))


def is_owner(lineage: str, label: str) -> bool:
    """Return whether a label contains the lineage's whole name, or the hash of the name. Return
    false for a label with only the beginning of the name, which may belong to another lineage.
    """
    owner = owner_of(label)
    is_whole = len(_spelt(lineage)) <= _SLUG and owner == _slug(lineage)
    return is_whole or owner == _tag(lineage)


def _slug(lineage: str) -> str:
    return _spelt(lineage)[:_SLUG]


def _spelt(lineage: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", lineage.lower()).strip("-.")


def _tag(lineage: str) -> str:
    return f"{SHORT}-{hashlib.sha256(lineage.encode()).hexdigest()[:_TAG]}"
