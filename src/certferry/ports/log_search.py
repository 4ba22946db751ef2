"""The port to a service that searches the public logs of certificates."""

from __future__ import annotations

from typing import Protocol

from certferry.core.observed.public_logs import LoggedCertificate


class LogSearch(Protocol):
    """Lists the certificates for names at or below a domain, in the order of discovery."""

    def page_after(self, domain: str, cursor: str) -> tuple[LoggedCertificate, ...]:
        """Return the next certificates that the service discovered after the certificate with the
        id `cursor`; with an empty `cursor`, the first. An empty page is the end of the list.

        The page is bounded. The service may list a certificate twice, and may list certificates of
        other domains. Raises `LogSearchFailed`, whose `retry` has the moment until which the
        service asked certferry to wait, and `Interrupted`.
        """
