"""The issuer of certificates from one ACME directory, by DNS-01 or dns-persist-01."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from certferry import errors
from certferry.adapters.acme.account import AccountKeeper, account_key, thumbprint
from certferry.adapters.acme.acme_client import Client, ask_renewal_info, opened
from certferry.adapters.acme.budget import Budget
from certferry.adapters.acme.csr import certificate_id
from certferry.adapters.acme.dns01 import OrderContext, Sweep, known_to_be_taken
from certferry.adapters.acme.examination import NamesLook
from certferry.adapters.acme.network import IssuerSettings, opened_network
from certferry.adapters.acme.order import Ordering
from certferry.adapters.acme.persist import NOT_OFFERED, PersistProofs
from certferry.adapters.acme.propagation import Propagation, must_be_writable
from certferry.adapters.acme.resolvers import Resolvers
from certferry.core.certificates.certificate import CertificateBundle, RenewalInfo
from certferry.core.certificates.names import base_name
from certferry.core.dns_persist import Holder, Offer, PersistRecord, record_for
from certferry.core.network import Applicant, must_not_be_behind
from certferry.core.planning.limits import hold_of
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import IssueRequest
from certferry.ports.progress import Pause, Progress
from certferry.ports.state import Lease, StateStore
from certferry.text import Text

T = TypeVar("T")

MOST_ORDERS = 20
"""The most orders in progress at one directory, per process: Pebble 2.6 freezes above twenty
(docs/facts/libraries.md §1.2). Let's Encrypt limits only the number of new orders
(docs/facts/letsencrypt.md §2), and `claim_order` counts the new orders of all hosts."""

TURN_REST = 0.25  # seconds between two tries to take a turn


@dataclass(kw_only=True, eq=False)
class AcmeIssuer:
    """The `Issuer` of one directory, for several lineages at once.

    Raises `ConfigError` if the CA bundle is not a file.
    """

    #: The settings for the CA.
    settings: IssuerSettings
    #: The account, the orders, and the challenge records.
    state: StateStore
    #: Finds the names for challenges, and waits for the challenge records in DNS.
    propagation: Propagation
    #: Waits, and ends when the run is stopped.
    pause: Pause
    #: The clock of the run.
    now: Callable[[], datetime]
    #: Asked for CAA records before an order, and for dns-persist-01 records; `None` asks nothing.
    resolvers: Resolvers | None = None

    def __post_init__(self) -> None:
        settings, resolvers, bundle = self.settings, self.resolvers, self.settings.ca_bundle
        if bundle is not None and not bundle.is_file():
            hint = Text(
                "set `ca_bundle` under [acme] to a PEM file with one or more CA certificates"
            )
            raise errors.ConfigError(Text("there is no file {path}", path=bundle), hint=hint)
        self._directory = settings.directory
        self._silent: errors.CaUnavailable | None = None
        self._renewal_resources: list[str | None] = []
        self._reading = threading.Lock()
        self._turns = threading.BoundedSemaphore(MOST_ORDERS)
        self._accounts = AccountKeeper(settings, self.state, self.pause, self.now)
        self._persist: PersistProofs | None = None
        if settings.dns_persist and resolvers is not None:
            proofs = PersistProofs(self._directory, self.state, resolvers, self.now, self._offer)
            self._persist = proofs

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> frozenset[str]:
        if self._persist is not None:
            return self._persist.must_be_provable(names, dns, self.propagation)
        must_be_writable(names, dns, self.propagation)
        return frozenset()

    def rate_limit_hold(self, request: IssueRequest) -> errors.OrderPostponed | None:
        budget = Budget(self._directory, self.settings.limits, self.state, self.now)
        return budget.rate_limit_hold(request)

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        standing = self.must_be_provable(request.names, dns)
        context = OrderContext(
            lineage=request.lineage,
            dns=dns,
            state=self.state,
            propagation=self.propagation,
            pause=self.pause,
            now=self.now,
            progress=progress,
            standing=standing,
        )
        with (
            known_to_be_taken(request, dns, self.state),
            self._turn(),
            self._remembering_holds(request),
            self._client() as client,
        ):
            if client.ahead is not None:
                must_not_be_behind(urlsplit(self._directory).netloc, client.ahead)
            check = partial(self._must_be_allowed, request.names, standing, client.identities)
            ordering = Ordering(self.settings, client, request, lease, context, check)
            return self._accounts.for_account(client, lambda _: ordering.fulfil())

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        Sweep(self.state, accounts, self.pause).run(lineage, now)

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        """See `Issuer.renewal_info`. A run asks a silent CA only once."""
        del directory  # always this issuer's
        identifier = certificate_id(cert_pem)
        if identifier is None:
            return RenewalInfo()
        # One thread reads the directory at a time. If the CA is silent, that thread waits for the
        # time-out, and the other threads then raise its error without a time-out of their own.
        with self._reading:
            resource = self._noting_silence(self._renewal_resource)
        if resource is None:
            return RenewalInfo()
        return self._noting_silence(partial(self._ask_renewal_info, resource, identifier))

    def _ask_renewal_info(self, resource: str, identifier: str) -> RenewalInfo:
        with opened_network(self.settings, self.pause, self.now) as network:
            return ask_renewal_info(network, resource, identifier, self.now)

    def _noting_silence(self, ask: Callable[[], T]) -> T:
        if self._silent is not None:
            raise self._silent
        try:
            return ask()
        except errors.CaUnavailable as error:
            self._silent = error
            raise

    def _must_be_allowed(
        self, names: Sequence[str], standing: frozenset[str], identities: frozenset[str]
    ) -> None:
        """Raise `OrderFailed` if CAA records forbid the CA to issue for a name. Without resolvers,
        or if the CA publishes no names for CAA records, check nothing.
        """
        if self.resolvers is None or not identities:
            return
        account = self.state.account(self._directory)
        applicant = Applicant(identities, None if account is None else account.url)
        look = NamesLook(self.resolvers, applicant, standing)
        for finding in look.forbidden(names):
            raise errors.OrderFailed(
                Text("{name}: {problem}", name=finding.subject, problem=finding.message),
                hint=finding.hint,
            )

    @contextlib.contextmanager
    def _remembering_holds(self, request: IssueRequest) -> Iterator[None]:
        """If the CA refuses the order in the `with` block until a moment (Retry-After), store the
        moment for all later runs, and raise the refusal.
        """
        try:
            yield
        except errors.OrderPostponed:
            raise
        except (errors.RateLimited, errors.CaUnavailable, errors.OrderFailed) as refusal:
            if refusal.retry.after is not None:
                hold = hold_of(
                    str(refusal.message),
                    request.names,
                    refusal.retry.after,
                    self.now(),
                    by_name=not isinstance(refusal, errors.CaUnavailable),
                )
                with contextlib.suppress(errors.StateError):  # the refusal matters more
                    self.state.save_hold(self._directory, hold)
            raise

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        while not self._turns.acquire(blocking=False):
            self.pause(TURN_REST)
        try:
            yield
        finally:
            self._turns.release()

    def _offer(self) -> Offer | None:
        """Read the directory's offer of dns-persist-01. Raises `IssuanceError`."""
        with self._client() as client:
            return client.offer

    @contextlib.contextmanager
    def _client(self) -> Iterator[Client]:
        with opened_network(self.settings, self.pause, self.now) as network:
            yield Client.at(self._directory, network)

    def _renewal_resource(self) -> str | None:
        """Return the URL at which the CA gives renewal information; `None` if the CA has none. The
        directory is read once in a run.

        The URL is kept in memory only: a program that can write to the state could replace a stored
        URL.
        """
        if not self._renewal_resources:
            with self._client() as client:
                self._renewal_resources = [client.renewal_info]
        return self._renewal_resources[0]


def persist_record(
    name: str,
    settings: IssuerSettings,
    *,
    wildcard: bool,
    state: StateStore,
    pause: Pause,
    now: Callable[[], datetime],
) -> PersistRecord:
    """Return the dns-persist-01 record that proves a name to the CA.

    The record names the account, so the account is registered first if needed, and must be valid at
    the CA (draft-ietf-acme-dns-persist-02 §4.5). Raises `IssuanceError` and `StateError`.
    """
    accounts = AccountKeeper(settings, state, pause, now)
    with opened(settings, pause, now) as client:
        if client.offer is None:
            hint = Text(
                "until the CA does, set `dns` of the certificate to an account that writes "
                "challenges"
            )
            raise errors.OrderFailed(NOT_OFFERED, hint=hint)
        account, facts = accounts.for_account(
            client, lambda account: (account, client.account(account.url or ""))
        )
        if facts.status != "valid":
            raise errors.OrderFailed(
                Text("the account {url} is {status} at the CA", url=facts.url, status=facts.status),
                hint=Text("`certferry account deactivate` also removes the account from the state"),
            )
        holder = Holder(account.url or "", (thumbprint(account_key(account)),))
        return record_for(base_name(name), client.offer, holder, wildcard=wildcard)
