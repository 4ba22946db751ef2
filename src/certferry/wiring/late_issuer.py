"""The issuer that the settings name, for runs that may never need one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from certferry.config.model import Settings
from certferry.core.certificate import CertificateBundle
from certferry.core.renewal import RenewalInfo
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.ports.progress import Pause, Progress
from certferry.ports.state import Lease, StateStore
from certferry.wiring.clock import now
from certferry.wiring.public_dns import propagation_for


def issuer_for(settings: Settings, state: StateStore, pause: Pause) -> Issuer:
    """Return the issuer of a run. What is wrong with it is told when it is first asked."""
    return LateIssuer(partial(_connect, settings, state, pause))


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

    def renewal_info(self, cert_pem: str) -> RenewalInfo:
        """See `ports.issuer.Issuer.renewal_info`."""
        return self._connected().renewal_info(cert_pem)

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        """See `ports.issuer.Issuer.sweep`."""
        self._connected().sweep(lineage, accounts, now)

    def _connected(self) -> Issuer:
        with self._lock:
            if self._issuer is None:
                self._issuer = self._connect()
            return self._issuer


def _connect(settings: Settings, state: StateStore, pause: Pause) -> Issuer:
    from certferry.adapters.acme import issuer
    from certferry.adapters.acme.account import ExternalAccount

    acme = settings.acme
    external = None
    if acme.eab_kid is not None and acme.eab_hmac_key is not None:
        key = settings.secrets.resolve(acme.eab_hmac_key)
        external = ExternalAccount(acme.eab_kid, key)
    return issuer.connect(
        issuer.Settings(
            directory=acme.directory,
            email=acme.email,
            ca_bundle=acme.ca_bundle,
            profile=acme.profile,
            external=external,
        ),
        state=state,
        propagation=propagation_for(settings, pause),
        pause=pause,
        now=now,
    )
