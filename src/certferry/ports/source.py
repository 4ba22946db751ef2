"""The port to certificates that were made elsewhere."""

from __future__ import annotations

from typing import Protocol

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import PemFiles


class CertificateSource(Protocol):
    """Reads what another client keeps."""

    def read(self, files: PemFiles) -> CertificateBundle:
        """Read a certificate with its chain and key, as one whole.

        Must refuse (`PlanRefused`) what does not belong together: a key of another certificate, a
        chain that is incomplete or in the wrong order, as is found while another client is just
        writing. Raises `CertificateError` for what cannot be read.
        """
