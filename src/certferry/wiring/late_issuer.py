"""The CAs that the settings name, for runs that may never need one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from certferry.adapters.acme.budget import Budget, limits_at
from certferry.config.model import CaSettings, Settings
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.renewal import RenewalInfo
from certferry.core.desired.certificate import ExternalAccount
from certferry.errors import OrderHeldBack
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.ports.progress import Pause, Progress
from certferry.ports.state import Lease, StateStore
from certferry.wiring.clock import now
from certferry.wiring.public_dns import propagation_for, resolvers_for

if TYPE_CHECKING:
    from certferry.adapters.acme.client import IssuerSettings


def issuer_for(settings: Settings, state: StateStore, pause: Pause) -> Issuer:
    """Return the issuer of a run. What is wrong with it is told when it is first asked."""

    def budget(asked: str) -> Budget:
        directory = asked or settings.acme.directory
        return Budget(directory, limits_at(directory), state, now)

    return LateIssuer(partial(_connect, settings, state, pause), budget)


class LateIssuer:
    """An issuer at several directories, each of which is connected when a certificate is first
    needed from it: `connect` takes the directory's URL, empty for the usual one. What may be
    ordered there is known before, from its `budget`.
    """

    def __init__(self, connect: Callable[[str], Issuer], budget: Callable[[str], Budget]) -> None:
        self._budget = budget
        self._connect = connect
        self._issuers: dict[str, Issuer] = {}
        self._lock = threading.Lock()

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> frozenset[str]:
        """See `ports.issuer.Issuer.must_be_provable`."""
        return self._at("").must_be_provable(names, dns)

    def rate_limit_hold(self, request: IssueRequest) -> OrderHeldBack | None:
        """See `ports.issuer.Issuer.rate_limit_hold`. Nothing is connected."""
        return self._budget(request.directory).rate_limit_hold(request)

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        """See `ports.issuer.Issuer.issue`."""
        return self._at(request.directory).issue(request, dns, lease, progress)

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        """See `ports.issuer.Issuer.renewal_info`."""
        return self._at(directory).renewal_info(cert_pem)

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        """See `ports.issuer.Issuer.sweep`."""
        self._at("").sweep(lineage, accounts, now)

    def _at(self, directory: str) -> Issuer:
        with self._lock:
            if directory not in self._issuers:
                self._issuers[directory] = self._connect(directory)
            return self._issuers[directory]


def authority_at(settings: Settings, directory: str) -> CaSettings:
    """Return what the settings say of a directory; of one that they do not name, that it is reached
    as the usual one.
    """
    acme = settings.acme
    known = (ca for ca in acme.authorities if ca.directory == directory)
    return next(known, CaSettings(directory, directory, acme.ca_bundle, acme.proxy))


def external_account(ca: CaSettings, settings: Settings) -> ExternalAccount | None:
    """Return the operator's account at a CA. Raises `ConfigError`."""
    if ca.eab_kid is None or ca.eab_hmac_key is None:
        return None
    return ExternalAccount(ca.eab_kid, settings.secrets.resolve(ca.eab_hmac_key))


def issuer_settings(settings: Settings, directory: str) -> IssuerSettings:
    """Return what the settings say of the CA at a directory. Raises `ConfigError`."""
    from certferry.adapters.acme.client import IssuerSettings

    acme = settings.acme
    ca = authority_at(settings, directory)
    return IssuerSettings(
        directory=ca.directory,
        email=acme.email,
        ca_bundle=ca.ca_bundle,
        proxy=ca.proxy,
        preferred_chain=acme.preferred_chain,
        # Profiles are the usual CA's; near the deadline, any certificate is better than none.
        must_have_profile=ca is acme.usual,
        external=external_account(ca, settings),
        limits=limits_at(ca.directory),
        dns_persist=acme.dns_persist and ca is acme.usual,
    )


def _connect(settings: Settings, state: StateStore, pause: Pause, directory: str) -> Issuer:
    from certferry.adapters.acme import issuer

    return issuer.connect(
        issuer_settings(settings, directory or settings.acme.directory),
        state=state,
        propagation=propagation_for(settings, pause),
        pause=pause,
        now=now,
        resolvers=resolvers_for(settings, pause),
    )
