"""The CAs named in the settings: issuers, accounts, and a rehearsal at staging."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, cast

from certferry.adapters.acme.budget import Budget, limits_at
from certferry.config.model import CaSettings, Settings
from certferry.config.tables import called
from certferry.core.certificates.certificate import CertificateBundle, RenewalInfo
from certferry.core.desired.certificate import ExternalAccount
from certferry.errors import ConfigError, OrderPostponed, StateError
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import CaAccount, Issuer, IssueRequest
from certferry.ports.progress import Clock, Pause, Progress
from certferry.ports.state import Lease, StateStore
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.clock import clock_of
from certferry.wiring.network import propagation_for, resolvers_for

if TYPE_CHECKING:
    from certferry.adapters.acme.network import IssuerSettings
    from certferry.core.dns_persist import PersistRecord
    from certferry.reconcile.by_hand import Revocations
    from certferry.reconcile.run import Ports, Run


def issuer_for(settings: Settings, state: StateStore, pause: Pause, now: Clock) -> Issuer:
    """Return the issuer of a run. Wrong settings of the issuer are reported at the issuer's first
    call.
    """

    def budget(asked: str) -> Budget:
        directory = asked or settings.acme.directory
        return Budget(directory, limits_at(directory), state, now)

    return LateIssuer(partial(_connect, settings, state, pause, now), budget)


@dataclass(eq=False)
class LateIssuer:
    """An `Issuer` for several directories. Each directory is connected at first use."""

    #: Connects the directory at a URL. An empty URL means the usual directory.
    connect: Callable[[str], Issuer]
    #: Returns the CA's limits at a directory without connecting.
    budget: Callable[[str], Budget]
    _issuers: dict[str, Issuer] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> frozenset[str]:
        return self._at("").must_be_provable(names, dns)

    def rate_limit_hold(self, request: IssueRequest) -> OrderPostponed | None:
        """See `ports.issuer.Issuer.rate_limit_hold`. Connects nothing."""
        return self.budget(request.directory).rate_limit_hold(request)

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        return self._at(request.directory).issue(request, dns, lease, progress)

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        return self._at(directory).renewal_info(cert_pem)

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        self._at("").sweep(lineage, accounts, now)

    def _at(self, directory: str) -> Issuer:
        with self._lock:
            if directory not in self._issuers:
                self._issuers[directory] = self.connect(directory)
            return self._issuers[directory]


def _authority_at(settings: Settings, directory: str) -> CaSettings:
    """Return the settings of the CA at a directory. A directory absent from the settings is reached
    with the CA bundle and the proxy of the usual CA.
    """
    acme = settings.acme
    matching = (ca for ca in acme.authorities if ca.directory == directory)
    return next(matching, CaSettings(directory, directory, acme.usual.ca_bundle, acme.usual.proxy))


def issuer_settings(settings: Settings, directory: str) -> IssuerSettings:
    """Return an issuer's settings for the CA at a directory. Raises `ConfigError`."""
    from certferry.adapters.acme import network

    acme, ca = settings.acme, _authority_at(settings, directory)
    external = None
    if ca.eab_kid is not None and ca.eab_hmac_key is not None:
        external = ExternalAccount(ca.eab_kid, settings.secrets.resolve(ca.eab_hmac_key))
    return network.IssuerSettings(
        directory=ca.directory,
        email=acme.email,
        ca_bundle=ca.ca_bundle,
        proxy=ca.proxy,
        preferred_chain=acme.preferred_chain,
        # A fallback CA may lack the profile. A certificate without the profile is better than no
        # certificate.
        must_have_profile=ca is acme.usual,
        external=external,
        limits=limits_at(ca.directory),
        dns_persist=acme.dns_persist and ca is acme.usual,
    )


def _connect(
    settings: Settings, state: StateStore, pause: Pause, now: Clock, directory: str
) -> Issuer:
    from certferry.adapters.acme.issuer import AcmeIssuer

    return AcmeIssuer(
        settings=issuer_settings(settings, directory or settings.acme.directory),
        state=state,
        propagation=propagation_for(settings, pause, now),
        pause=pause,
        now=now,
        resolvers=resolvers_for(settings, pause),
    )


def acme_account_at(
    directory: str | None, settings: Settings, state: StateStore, run: Run
) -> CaAccount:
    """Return certferry's account at a CA's directory; if `directory` is None, at the directory of
    the usual CA.
    """
    from certferry.adapters.acme.account import AcmeCaAccount
    from certferry.adapters.acme.network import IssuerSettings

    ca = _authority_at(settings, directory or settings.acme.directory)
    reached = IssuerSettings(ca.directory, ca_bundle=ca.ca_bundle, proxy=ca.proxy)
    return AcmeCaAccount(reached, state, run.pause, clock_of(run, state))


def directory_of(name: str | None, settings: Settings) -> str:
    """Return the directory's URL of the CA called `name`, or of the usual CA if `name` is None.
    Raises `ConfigError`.
    """
    from certferry.config.values import directory_url

    directories = {ca.name: ca.directory for ca in settings.acme.authorities}
    if name is None:
        return settings.acme.directory
    return directories.get(name) or directory_url(name)


def persist_record_of(
    name: str, settings: Settings, state: StateStore, pause: Pause
) -> PersistRecord:
    """Return the dns-persist-01 record for a name. If `name` is a wildcard, or the file declares
    the wildcard of the name, the record also covers the wildcard.
    """
    from certferry.adapters.acme.issuer import persist_record
    from certferry.core.certificates.names import base_name
    from certferry.core.dns_persist import with_wildcards

    declared = [name for desired in settings.certificates for name in desired.names]
    return persist_record(
        name,
        issuer_settings(settings, settings.acme.directory),
        wildcard=with_wildcards([name, *declared])[base_name(name)],
        state=state,
        pause=pause,
        now=state.now,
    )


def revocations(settings: Settings, state: StateStore, run: Run) -> Revocations:
    """Return the object that revokes at the CAs of the settings."""
    from certferry.reconcile.by_hand import Revocations
    from certferry.reconcile.run import history_keeper

    now = clock_of(run, state)
    return Revocations(
        state,
        lambda directory: acme_account_at(directory, settings, state, run),
        now,
        history_keeper(state, now, run.who),
    )


def finish_revocations(settings: Settings, ports: Ports) -> None:
    """Finish the revocations that a killed `certferry revoke` left unfinished. An error of the
    state is ignored, because the run itself reports the error.
    """
    names = {desired.lineage for desired in settings.certificates}
    with suppress(StateError):  # the run itself reports a broken state
        revocations(settings, ports.state, ports.run).finish(names)


def rehearsing(settings: Settings) -> Settings:
    """Return the settings of a rehearsal, with the staging directory as the only CA. Raises
    `ConfigError` if no staging directory is known.
    """
    acme = settings.acme
    if acme.staging is None:
        raise ConfigError(
            Text("certferry knows no staging directory for {directory}", directory=acme.directory),
            hint=Text(
                "write `staging` under [acme]: the URL of a directory of the same CA for test"
                " certificates"
            ),
        )
    usual = replace(acme.usual, name=called(acme.staging), directory=acme.staging)
    # A dns-persist-01 record names the account at the usual directory, so staging refuses the
    # record.
    at_staging = replace(acme, usual=usual, fallback=(), dns_persist=False)
    return replace(settings, acme=at_staging)


def rehearsal_issuer(settings: Settings, ports: Ports) -> Issuer:
    """Return the issuer of a rehearsal. `settings` come from `rehearsing`."""
    from certferry.reconcile.reads import WithoutOrders

    state = cast("StateStore", WithoutOrders(ports.state))
    return issuer_for(settings, state, ports.run.pause, ports.now)
