"""Certificates from one ACME directory, proven by DNS-01."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from certferry.adapters.acme.account import Accounts
from certferry.adapters.acme.budget import Budget
from certferry.adapters.acme.client import Client
from certferry.adapters.acme.dns_keys import known_to_be_taken
from certferry.adapters.acme.examination import NamesLook, must_be_writable
from certferry.adapters.acme.network import Network
from certferry.adapters.acme.order import Ordering
from certferry.adapters.acme.order_context import OrderContext, Propagation, proven_by_none
from certferry.adapters.acme.persist import PersistProofs
from certferry.adapters.acme.problems import Refused, in_our_words
from certferry.adapters.acme.renewal_info import ask, certificate_id
from certferry.adapters.acme.resolvers import Resolvers
from certferry.adapters.acme.sweep import SETTLING, Sweep
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.renewal import RenewalInfo
from certferry.core.desired.certificate import ExternalAccount
from certferry.core.dns_persist import Offer
from certferry.core.events import Activity
from certferry.core.network import Applicant, must_not_be_behind
from certferry.core.planning.limits import Limits, hold_of
from certferry.core.waiting import Counted
from certferry.errors import (
    CaUnavailable,
    ConfigError,
    OrderFailed,
    OrderHeldBack,
    RateLimited,
    StateError,
)
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import IssueRequest
from certferry.ports.progress import Pause, Progress
from certferry.ports.state import Lease, StateStore
from certferry.text import Text

MOST_ORDERS = 20
"""In flight at one directory. Pebble 2.6 has frozen above that (docs/facts/libraries.md §1.2), and
a public CA limits requests.
"""

_RENEWAL_INFO = "renewal-info"
"""The note, by the directory's address, of where it has renewal information."""

TURN_REST = 0.25  # seconds between looks whether one of them is finished


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator writes under `[acme]` of one CA.

    `directory` is a URL; `ca_bundle` the PEM file of the CA that signed its TLS certificate, and of
    a private CA that signs with its root; `proxy` the URL of the proxy to it, for one that is not
    the environment's.
    `preferred_chain` is the common name of the root that chains are to lead to. A CA that
    `must_have_profile` issues nothing without one of those that are wished for.
    `settling` is how long a DNS provider may take to list a record that it was sent, `limits` what
    the CA allows, where it is known. With `dns_persist`, names may be proven by standing records.
    """

    directory: str
    email: str | None = None
    ca_bundle: Path | None = None
    proxy: str | None = None
    preferred_chain: str | None = None
    must_have_profile: bool = True
    external: ExternalAccount | None = None
    settling: timedelta = SETTLING
    limits: Limits | None = None
    dns_persist: bool = False


def connect(
    settings: Settings,
    *,
    state: StateStore,
    propagation: Propagation,
    pause: Pause,
    now: Callable[[], datetime],
    resolvers: Resolvers | None = None,
) -> AcmeIssuer:
    """Give the issuer for a directory; nothing is sent yet. Where there are `resolvers`, they are
    asked for CAA records before an order, and for the records of `dns_persist`.

    Raises `ConfigError` when the CA bundle is not a file.
    """
    if settings.ca_bundle is not None and not settings.ca_bundle.is_file():
        raise ConfigError(
            Text("there is no file {path}", path=settings.ca_bundle),
            hint=Text("`ca_bundle` under [acme] is a PEM file with one or more CA certificates"),
        )
    return AcmeIssuer(settings, state, propagation, pause, now, resolvers)


class AcmeIssuer:
    """Orders certificates at one directory, for several lineages at once."""

    def __init__(
        self,
        settings: Settings,
        state: StateStore,
        propagation: Propagation,
        pause: Pause,
        now: Callable[[], datetime],
        resolvers: Resolvers | None,
    ) -> None:
        self._settings = settings
        self._resolvers = resolvers
        self._state = state
        self._propagation = propagation
        self._pause = pause
        self._now = now
        self._silent: CaUnavailable | None = None
        self._turns = threading.BoundedSemaphore(MOST_ORDERS)
        self._accounts = Accounts(
            settings.directory, state, email=settings.email, external=settings.external
        )
        self._persist = (
            PersistProofs(settings.directory, state, resolvers, now, self._offer)
            if settings.dns_persist and resolvers is not None
            else None
        )

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> frozenset[str]:
        """Look for the record, or else the zone, of each name (`Issuer.must_be_provable`)."""
        if self._persist is not None:
            return self._persist.must_be_provable(names, dns, self._propagation)
        must_be_writable(names, dns, self._propagation)
        return frozenset()

    def rate_limit_hold(self, request: IssueRequest) -> OrderHeldBack | None:
        """See `Issuer.rate_limit_hold`."""
        settings = self._settings
        budget = Budget(settings.directory, settings.limits, self._state, self._now)
        return budget.rate_limit_hold(request)

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        """Order a certificate, or finish the order that an earlier run began (`Issuer.issue`)."""

        def report(what: Text, since: datetime, deadline: datetime | None) -> None:
            progress(Activity(request.lineage, what, since, deadline))

        def count(done: int, names: int) -> None:
            if names > 1:
                progress(Counted(request.lineage, done, names))

        standing = self.must_be_provable(request.names, dns)
        context = OrderContext(
            dns=dns,
            state=self._state,
            propagation=self._propagation,
            pause=self._pause,
            now=self._now,
            report=report,
            proven=proven_by_none if self._persist is None else self._persist.proven,
            count=count,
        )
        with (
            known_to_be_taken(request, dns, self._state),
            self._turn(),
            self._remembering(request),
            in_our_words(self._now),
            self._client() as client,
        ):
            settings = self._settings
            if client.ahead is not None:
                must_not_be_behind(urlsplit(settings.directory).netloc, client.ahead)
            ordering = Ordering(
                directory=settings.directory,
                client=client,
                request=request,
                lease=lease,
                context=context,
                ca_bundle=settings.ca_bundle,
                preferred_chain=settings.preferred_chain,
                must_have_profile=settings.must_have_profile,
                must_be_allowed=partial(
                    self._must_be_allowed, request.names, standing, client.identities
                ),
                limits=settings.limits,
            )
            return self._with_account(client, ordering)

    def _must_be_allowed(
        self, names: Sequence[str], standing: frozenset[str], identities: frozenset[str]
    ) -> None:
        """Raise `OrderFailed` where CAA records keep the CA from issuing by the proof that each
        name has. What cannot be known is left to the CA.
        """
        if self._resolvers is None or not identities:
            return
        account = self._state.account(self._settings.directory)
        applicant = Applicant(identities, None if account is None else account.url)
        look = NamesLook(self._resolvers, applicant, standing)
        for finding in look.forbidden(names):
            raise OrderFailed(
                Text("{name}: {problem}", name=finding.subject, problem=finding.message),
                hint=finding.hint,
            )

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        """Remove what an interrupted run of the lineage left in DNS (`Issuer.sweep`)."""
        Sweep(self._state, accounts, self._pause, self._settings.settling).run(lineage, now)

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        """See `Issuer.renewal_info`. Where to ask is remembered from the last directory that was
        read. A CA that did not answer is not asked for the next certificate.
        """
        del directory  # it is this one's
        identifier = certificate_id(cert_pem)
        if identifier is None:
            return RenewalInfo()
        if self._silent is not None:
            raise self._silent
        try:
            with in_our_words(self._now), self._network() as network:
                resource = self._state.account_note(self._settings.directory, _RENEWAL_INFO)
                if resource is None:
                    resource = self._directory(network).renewal_info
                return (
                    RenewalInfo()
                    if resource is None
                    else ask(network, resource, identifier, self._now)
                )
        except CaUnavailable as error:
            self._silent = error
            raise

    def _with_account(self, client: Client, ordering: Ordering) -> CertificateBundle:
        """Fulfil the order, once more with a new account when the CA has forgotten ours."""
        account = self._accounts.sign_in(client)
        try:
            return ordering.fulfil()
        except Refused as refused:
            if not self._accounts.is_unknown(client, account, refused):
                raise
        self._accounts.forget(client, account)
        self._accounts.sign_in(client)
        return ordering.fulfil()

    @contextlib.contextmanager
    def _remembering(self, request: IssueRequest) -> Iterator[None]:
        """Keep until when the CA asks to be left alone, so that no later run asks before."""
        try:
            yield
        except OrderHeldBack:
            raise
        except (RateLimited, CaUnavailable, OrderFailed) as refusal:
            if refusal.retry.after is not None:
                hold = hold_of(
                    str(refusal.message),
                    request.names,
                    refusal.retry.after,
                    self._now(),
                    by_name=not isinstance(refusal, CaUnavailable),
                )
                with contextlib.suppress(StateError):  # why it failed is the news
                    self._state.save_hold(self._settings.directory, hold)
            raise

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        while not self._turns.acquire(blocking=False):
            self._pause(TURN_REST)
        try:
            yield
        finally:
            self._turns.release()

    @contextlib.contextmanager
    def _client(self) -> Iterator[Client]:
        with self._network() as network:
            yield self._directory(network)

    def _offer(self) -> Offer | None:
        """Read what the directory says of dns-persist-01. Raises `IssuanceError`."""
        with in_our_words(self._now), self._client() as client:
            return client.offer

    @contextlib.contextmanager
    def _network(self) -> Iterator[Network]:
        settings = self._settings
        network = Network(
            ca_bundle=settings.ca_bundle, proxy=settings.proxy, pause=self._pause, now=self._now
        )
        with contextlib.closing(network):
            yield network

    def _directory(self, network: Network) -> Client:
        """Read the directory, and remember where it has renewal information."""
        url = self._settings.directory
        client = Client.at(url, network)
        resource = client.renewal_info
        if resource != self._state.account_note(url, _RENEWAL_INFO):
            self._state.update_account_note(url, _RENEWAL_INFO, lambda _: resource)
        return client
