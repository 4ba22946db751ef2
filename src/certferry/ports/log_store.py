"""The port to the records of public logs: what was read, and which certificates are foreign."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from certferry.core.observed.public_logs import FoundCertificate, WatchedDomain


class LogStore(Protocol):
    """Watched domains, the certificates found in logs, and the digests of own certificates.

    Saving an order or a version stores the digests of `own_among`; no digest is ever deleted. All
    methods may raise `StateError`.
    """

    def own_among(self, digests: Collection[str]) -> frozenset[str]:
        """Return those of the digests that belong to a public key of an order or a version, or to a
        version's TBSCertificate without SCTs, on any host. Digests that another program wrote do
        not count.
        """

    def watched_domains(self) -> tuple[WatchedDomain, ...]:
        """Return the watched domains of every host, sorted by name."""

    def found_certificates(self, domain: str | None = None) -> tuple[FoundCertificate, ...]:
        """Return the stored certificates of a domain, or of every domain, sorted by domain and
        identity.
        """

    def save_look(
        self,
        before: WatchedDomain | None,
        after: WatchedDomain,
        found: Iterable[FoundCertificate] = (),
        gone: Collection[FoundCertificate] = (),
    ) -> bool:
        """Store a domain with newly found certificates, and delete the certificates `gone`, if the
        stored domain equals `before` (`None`: the domain is not stored). Return whether the domain
        was stored. A certificate that is stored already stays as before, so the first discovery
        counts.

        Also delete domains that no host has tried to read for `FORGOTTEN_AFTER`.
        """
