"""The port to a receiver, which takes a certificate whole: a directory of files, a command; and the
port to a server with such directories.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, runtime_checkable

from msgspec import Struct

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import FileDelivery
from certferry.core.observed.observation import ObservedDomain
from certferry.core.redaction import Secret


class Delivered(Struct, frozen=True):
    """The last delivery to a receiver, as stored. A field is `None` if unknown."""

    #: The leaf's fingerprint.
    fingerprint: str
    #: The digest of leaf and issuers.
    fullchain_digest: str | None = None
    #: The `Program.digest` of the program that was run.
    program_digest: str | None = None


@runtime_checkable
class Receiver(Protocol):
    """Takes one certificate after the other; each new certificate replaces the last.

    A receiver serves no connections. `observe` reads the files; handshakes with the hosts declared
    in `serves` are the engine's work.
    """

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """Return the installed certificate, and every difference from the last delivery. Changes
        nothing.

        `delivered` is the last delivery, if the delivery succeeded and is still stored. A receiver
        unable to take a certificate is reported as `UNAVAILABLE` with the reason. Raises
        `DeployError` when the receiver cannot be observed.
        """

    def deliver(self, lineage: str, bundle: CertificateBundle, *, again: bool = False) -> None:
        """Deliver the certificate, and return when the delivery is complete.

        An implementation keeps the previous certificate complete until the new certificate is
        complete. If the new certificate is already in place, an implementation carries out only the
        missing steps; with `again`, also every step that makes a server read the certificate.
        Raises `DeployError`; the next observation then reports the missing steps.
        """


class FileServer(Protocol):
    """An account of a server that takes files into directories."""

    def receiver(
        self, delivery: FileDelivery, *, withheld: Collection[str], hidden: Collection[Secret]
    ) -> Receiver:
        """Return the receiver of a directory on the server. Sends nothing.

        Programs that the receiver starts here lack the environment variables `withheld`, and
        `hidden` is masked in the words of programs.
        """
