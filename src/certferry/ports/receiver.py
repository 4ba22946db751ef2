"""The port to what takes a certificate whole: a directory of files, a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.observed.observation import ObservedDomain


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the state remembers of the last delivery: the leaf's fingerprint, the digest of leaf and
    issuers, and that of the arguments of the program that was run; `None` where that is unknown.
    """

    fingerprint: str
    fullchain_digest: str | None = None
    program_digest: str | None = None


class Receiver(Protocol):
    """Takes one certificate after the other; the new one takes the old one's place.

    It serves no connections, so nothing outside shows what it holds: it looks by itself.
    """

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """Return what it holds, and what of that is not as it was delivered. Changes nothing.

        `delivered` is the last delivery, when it ended well and the state still knows of it. A
        receiver that cannot take anything is reported as `UNAVAILABLE` with the
        reason. Raises `DeployError` when it cannot be looked at.
        """

    def deliver(self, lineage: str, bundle: CertificateBundle) -> None:
        """Hand the certificate over, and return when nothing is left to do.

        Must leave what was there before whole until the new one is complete; must do what is
        missing, and no more, when the certificate is there already. Raises `DeployError`: then a
        later look finds what is still to be done.
        """
