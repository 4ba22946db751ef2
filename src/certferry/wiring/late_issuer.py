"""An issuer for runs that may never need one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from certferry.core.certificate import CertificateBundle
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.ports.progress import Progress
from certferry.ports.state import Lease


class LateIssuer:
    """An issuer that is connected when a certificate is first needed."""

    def __init__(self, connect: Callable[[], Issuer]) -> None:
        self._connect = connect
        self._issuer: Issuer | None = None
        self._lock = threading.Lock()

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> None:
        """See `ports.issuer.Issuer.must_be_provable`."""
        self._connected().must_be_provable(names, dns)

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        """See `ports.issuer.Issuer.issue`."""
        return self._connected().issue(request, dns, lease, progress)

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        """See `ports.issuer.Issuer.sweep`."""
        self._connected().sweep(lineage, accounts, now)

    def _connected(self) -> Issuer:
        with self._lock:
            if self._issuer is None:
                self._issuer = self._connect()
            return self._issuer
