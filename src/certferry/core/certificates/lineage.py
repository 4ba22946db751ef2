"""The succession of certificates under one name, and the label by which we know our own uploads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from certferry.core.certificates.certificate import Certificate, CertificateBundle, RenewalWindow
from certferry.core.reasons import Reason, ReasonCode
from certferry.text import Text


class RevocationReason(StrEnum):
    """Why a certificate is revoked, as CAs take it from a subscriber (RFC 5280 §5.3.1)."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"

    @property
    def code(self) -> int:
        """The number that stands for it (RFC 5280 §5.3.1)."""
        return _CODES[self]


_CODES = dict(zip(RevocationReason, (0, 1, 3, 4, 5), strict=True))


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revocation, stored before the CA is asked; `is_answered` once the CA has taken it."""

    at: datetime
    reason: RevocationReason
    is_answered: bool = True

    @property
    def why(self) -> Reason:
        """Why another certificate is issued, and this one deployed nowhere."""
        sentence = Text("the certificate was revoked at {moment}", moment=self.at)
        if not self.is_answered:
            sentence = Text(
                "its revocation was begun at {moment}, and the CA may have carried it out",
                moment=self.at,
            )
        return Reason(ReasonCode.REVOKED, sentence)

    @property
    def spoils_key(self) -> bool:
        """Whether the certificate's key is not to be used again."""
        return self.reason is RevocationReason.KEY_COMPROMISE


def is_in_progress(revocation: Revocation | None, not_after: datetime, now: datetime) -> bool:
    """Return whether a revocation was begun, its end is not known, and still matters."""
    return revocation is not None and not revocation.is_answered and not_after > now


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A certificate that is not bound to a domain again, since when, and by an operator or not."""

    lineage: str
    target: str
    domain: str
    fingerprint: str
    at: datetime
    by_hand: bool = False


MARK = "certferry"
SHORT = "cf"
_SLUG = 24
"""Characters of the lineage's name: labels have a limit (docs/facts/qiniu.md §4.1)."""
_PREFIX = 20
"""Hex digits of the fingerprint in a label: 80 bits, more than an account can hold by chance."""
_TAG, _SHORT_PREFIX = 7, 12
"""Hex digits in a label of 23 characters, which Qiniu surely takes (docs/facts/qiniu.md §4.1)."""


@dataclass(frozen=True, slots=True)
class Version:
    """One certificate of a lineage as the store knows it; numbers grow by one. `window` is what the
    CA last said, `ask_after` when it may be asked again; `directory` is where it was ordered,
    `None` for one that was made elsewhere; `issuer_not_after` is the end of what signed it, where
    known.
    """

    number: int
    certificate: Certificate
    saved_at: datetime
    key_matches: bool = True
    chain_complete: bool = True
    window: RenewalWindow | None = None
    fullchain_digest: str | None = None
    ask_after: datetime | None = None
    directory: str | None = None
    revocation: Revocation | None = None
    issuer_not_after: datetime | None = None

    @property
    def fingerprint(self) -> str:
        """Of its certificate."""
        return self.certificate.fingerprint

    def has_expired_issuer(self, now: datetime) -> bool:
        """Return whether what signed the leaf, as it stands in its chain, is not valid any more."""
        return self.issuer_not_after is not None and self.issuer_not_after <= now

    def should_replace(self, bundle: CertificateBundle) -> bool:
        """Return whether a bundle of the same leaf has its key or chain now, or other issuers."""
        had = (self.key_matches, self.chain_complete)
        has = (bundle.key_matches, bundle.chain_complete)
        return has > had or (has == had and bundle.fullchain_digest != self.fullchain_digest)

    def with_pem_of(self, bundle: CertificateBundle) -> Version:
        """Return the version as it is once the bundle has taken the place of what was kept."""
        return replace(
            self,
            key_matches=bundle.key_matches,
            chain_complete=bundle.chain_complete,
            fullchain_digest=bundle.fullchain_digest,
            issuer_not_after=bundle.issuer_not_after,
        )


Versions = Sequence[Version]
"""Those of a lineage, newest first."""


def version_for(withdrawn: Collection[str], versions: Versions, now: datetime) -> Version | None:
    """Return what a domain is to serve: the newest, or the newest good one not `withdrawn`."""
    for place, version in enumerate(versions):
        is_good = version.certificate.not_after > now and version.revocation is None
        if version.fingerprint not in withdrawn and (place == 0 or is_good):
            return version
    return None


_MARK = re.compile(rf"{MARK}-(?P<owner>[a-z0-9.-]{{0,{_SLUG}}})-[0-9a-f]{{{_PREFIX}}}")
_SHORT_MARK = re.compile(rf"(?P<owner>{SHORT}-[0-9a-f]{{{_TAG}}})-[0-9a-f]{{{_SHORT_PREFIX}}}")


def label_of(lineage: str, fingerprint: str) -> str:
    """Return the label of an upload: who made it, for which lineage, which certificate."""
    return f"{MARK}-{_slug(lineage)}-{fingerprint[:_PREFIX]}"


def short_label_of(lineage: str, fingerprint: str) -> str:
    """Return the label, of 23 characters, for a target that refuses the usual one."""
    return f"{_tag(lineage)}-{fingerprint[:_SHORT_PREFIX]}"


def labels_of(lineage: str, fingerprint: str) -> tuple[str, ...]:
    """Return every label that an upload of ours may have."""
    return label_of(lineage, fingerprint), short_label_of(lineage, fingerprint)


def owner_of(label: str) -> str | None:
    """Return the part of a label that stands for a lineage; `None` if the label is not ours."""
    found = _MARK.fullmatch(label) or _SHORT_MARK.fullmatch(label)
    return None if found is None else found["owner"]


def prefixes(lineage: str) -> tuple[str, ...]:
    """Return what the labels of a lineage begin with; those of others may as well."""
    return f"{MARK}-{_slug(lineage)}-", f"{_tag(lineage)}-"


def owners(lineage: str) -> frozenset[str]:
    """Return what stands for a lineage in its labels. Several lineages may have the same."""
    return frozenset((_slug(lineage), _tag(lineage)))


def is_owner(lineage: str, label: str) -> bool:
    """Return whether a label is surely this lineage's: its name is there whole, or its tag."""
    owner = owner_of(label)
    is_whole = len(_spelt(lineage)) <= _SLUG and owner == _slug(lineage)
    return is_whole or owner == _tag(lineage)


def _slug(lineage: str) -> str:
    return _spelt(lineage)[:_SLUG]


def _spelt(lineage: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", lineage.lower()).strip("-.")


def _tag(lineage: str) -> str:
    return f"{SHORT}-{hashlib.sha256(lineage.encode()).hexdigest()[:_TAG]}"
