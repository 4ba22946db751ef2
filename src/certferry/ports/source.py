"""The port to certificates made by another client."""

from __future__ import annotations

from typing import Protocol

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import PemFiles


class CertificateSource(Protocol):
    """Reads the certificate files of another client."""

    def read(self, files: PemFiles) -> CertificateBundle:
        """Read a certificate with chain and key from the files.

        Must refuse (`PlanRefused`) parts that do not belong together: a key of another certificate,
        or a chain that is incomplete or in the wrong order. Files may be in this state while the
        other client is writing. Raises `CertificateError` for unreadable files.
        """
