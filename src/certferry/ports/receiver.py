"""The port to a receiver, which takes a certificate whole: a directory of files, a command."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.observed.observation import ObservedDomain


class Delivered(Struct, frozen=True):
    """The last delivery to a receiver, as stored. A field is `None` if unknown."""

    #: The leaf's fingerprint.
    fingerprint: str
    #: The digest of leaf and issuers.
    fullchain_digest: str | None = None
    #: The `Program.digest` of the program that was run.
    program_digest: str | None = None


class Receiver(Protocol):
    """Takes one certificate after the other; each new certificate replaces the last.

    A receiver serves no connections, so no handshake shows the installed certificate.
    """

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """Return the installed certificate, and every difference from the last delivery. Changes
        nothing.

        `delivered` is the last delivery, if the delivery succeeded and is still stored. A receiver
        unable to take a certificate is reported as `UNAVAILABLE` with the reason. Raises
        `DeployError` when the receiver cannot be observed.
        """

    def deliver(self, lineage: str, bundle: CertificateBundle) -> None:
        """Deliver the certificate, and return when the delivery is complete.

        An implementation keeps the previous certificate complete until the new certificate is
        complete. If the new certificate is already in place, an implementation carries out only the
        missing steps. Raises `DeployError`; the next observation then reports the missing steps.
        """
