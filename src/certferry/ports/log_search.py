"""The port to a service that searches the public logs of certificates."""

from __future__ import annotations

from typing import Protocol

from certferry.core.observed.issuances import Issuance


class LogSearch(Protocol):
    """Lists the issuances for names at or below a domain, in the order of discovery."""

    def page_after(self, domain: str, cursor: str) -> tuple[Issuance, ...]:
        """Return the next issuances that the service discovered after the issuance with the id
        `cursor`; with an empty `cursor`, the first. An empty page is the end of the list.

        The page is bounded. The service may list an issuance twice, and may list issuances of other
        domains. Raises `LogSearchFailed`, whose `retry` has the moment until which the service
        asked certferry to wait, and `Interrupted`.
        """
