"""Certificates in public logs (Certificate Transparency), as a service reports them.

A CA logs each certificate before or after signing, as a precertificate, as a certificate, or as
both. A service lists these entries as a single certificate (RFC 6962 §3.1).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from certferry.core.certificates.names import base_name, is_within
from certferry.text import Text

MOST_NAMES = 250
"""The most names of a certificate that certferry keeps. CAs allow 100 to 250 names, and a longer
list would only fill the state.
"""

LOOK_AGAIN = timedelta(hours=11)
"""The least time between two looks at a domain. Two runs a day are about twelve hours apart, and a
run may begin some minutes early.
"""


class LoggedCertificate(Struct, frozen=True):
    """A certificate in public logs. An empty text or `None` stands for an unreadable fact."""

    #: The service's id of the certificate. A later list begins after an id.
    id: str
    #: The DNS names in lower case.
    names: tuple[str, ...] = ()
    #: The issuer's organisation, or the common name if there is no organisation.
    issuer: str = ""
    #: The issuer's whole name, as in RFC 4514.
    issuer_name: str = ""
    not_before: datetime | None = None  #: The beginning of validity.
    not_after: datetime | None = None  #: The end of validity.
    #: SHA-256 of the SubjectPublicKeyInfo, in lower-case hex.
    key_digest: str = ""
    #: SHA-256 of the TBSCertificate without SCTs, in lower-case hex (RFC 6962 §3.2). A certificate
    #: and the precertificate have the same digest.
    tbs_digest: str = ""
    #: A page about the certificate.
    link: str = ""
    #: Whether the CA has revoked the certificate.
    is_revoked: bool = False
    #: Whether the certificate has names that cannot be read, besides `names`.
    is_partial: bool = False

    @property
    def identity(self) -> str:
        """The digest by which certferry recognises the certificate; without a digest, the id."""
        return self.tbs_digest or f"id:{self.id}"

    @property
    def ca(self) -> str:
        """The issuer in sentences: the organisation, or else the whole name."""
        return self.issuer or self.issuer_name

    @property
    def digests(self) -> frozenset[str]:
        """The known digests of key and TBSCertificate."""
        return frozenset(filter(None, (self.key_digest, self.tbs_digest)))

    def names_within(self, domain: str) -> tuple[str, ...]:
        """Return the names at or below a domain, sorted, each name once."""
        return tuple(sorted({name for name in self.names if is_within(base_name(name), domain)}))


class FoundCertificate(Struct, frozen=True):
    """A stored certificate that certferry did not order."""

    domain: str  #: The watched domain.
    #: The certificate, with only the names at or below `domain`, at most `MOST_NAMES`.
    logged: LoggedCertificate
    found_at: datetime  #: When certferry first read the certificate.
    #: Whether the certificate belongs to the first look, which raises no alarm.
    is_baseline: bool = False
    #: How many names of the certificate are left out: names of other owners, or too many names.
    other_names: int = 0
    #: Whether names that may be at or below `domain` are left out.
    is_cut: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """The identity in the state: at most one certificate is stored for a key."""
        return (self.domain, self.logged.identity)


class WatchedDomain(Struct, frozen=True):
    """How far the list of a registered domain's certificates has been read."""

    domain: str  #: The registered domain.
    since: datetime  #: When certferry first tried to read the list.
    #: The id of the last certificate read; empty before the first.
    cursor: str = ""
    #: When the first look reached the end of the list; `None`: the first look goes on.
    baseline_at: datetime | None = None
    #: When a look last reached the end of the list.
    looked_at: datetime | None = None
    #: When certferry last tried to read the list.
    tried_at: datetime | None = None
    #: Until when the service asked certferry to wait.
    again_at: datetime | None = None
    #: Why the last look failed; `None` after a look without a failure.
    problem: Text | None = None
    #: How many certificates are not stored, because too many are stored already.
    left_out: int = 0

    @property
    def unread_since(self) -> datetime:
        """When a look last reached the end of the list; before the first such look, `since`."""
        return self.looked_at or self.since

    def is_due(self, now: datetime) -> bool:
        """Return whether the list may be read again: `LOOK_AGAIN` after the last look that reached
        the end, and not while the service asked certferry to wait.

        A moment in the future comes from a wrong clock, and does not count.
        """
        if self.again_at is not None and now < self.again_at <= now + LOOK_AGAIN:
            return False
        return self.looked_at is None or not now - LOOK_AGAIN < self.looked_at <= now


FORGOTTEN_AFTER = timedelta(days=30)
"""A domain that no run has tried to read for this time is watched no more: the file may have lost
the domain's names.
"""
