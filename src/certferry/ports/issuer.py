"""The port to a CA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from certferry.core.certificates.certificate import CertificateBundle, KeyType, RenewalInfo
from certferry.core.certificates.lineage import RevocationReason
from certferry.core.planning.limits import PlannedOrder
from certferry.core.redaction import Secret
from certferry.errors import OrderPostponed
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Progress
from certferry.ports.state import Lease


@dataclass(frozen=True, slots=True)
class IssueRequest:
    """What to order. The first name becomes the common name; at most 100 names.

    `replaced_pem` is the leaf that the new certificate is to replace, which the CA learns where it
    wants to know. `profiles` are in order of preference, none for the CA's own choice; `directory`
    is the URL of the CA that is asked, the usual one where it is empty; `reused_key` is to be the
    certificate's where it is of the type.

    `dns` is the label of the account that writes the records. `renews`: the lineage has had a
    certificate of this CA for exactly these names. `exempt`: the CA learns what is replaced, and
    most likely counts the order against none of its limits.
    """

    lineage: str
    names: tuple[str, ...]
    key_type: KeyType
    replaced_pem: str | None = None
    profiles: tuple[str, ...] = ()
    directory: str = ""
    reused_key: Secret | None = None
    dns: str = ""
    renews: bool = False
    exempt: bool = False

    @property
    def wanted(self) -> PlannedOrder:
        """As it counts against the CA's limits."""
        return PlannedOrder(self.names, self.renews, self.exempt)


class Issuer(Protocol):
    """Orders certificates."""

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> frozenset[str]:
        """Raise `DnsError` for what would surely stop an order: credentials that the provider
        refuses, a name that no zone of the account holds. A provider that cannot list its zones
        (`ports.survey.ZoneKeeper`) is not asked. Return the names, without `*.`, that a standing
        record proves, so that no account has to.

        Nothing is written, and the CA is asked nothing, or for its directory where such records
        are looked for: then this raises `IssuanceError` as well. `issue` asks this before it
        orders.
        """

    def rate_limit_hold(self, request: IssueRequest) -> OrderPostponed | None:
        """Return why the CA is not asked for this now, and until when, by what was ordered and
        what it said before: its limits, where they are known, and its Retry-After. An order that
        is continued spends nothing. The CA is asked nothing.
        """

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        """Order a certificate, or finish the order that an earlier run of the lineage began.

        Must keep what a later run needs to finish (account, order, key, challenge records) in the
        state before the CA or the provider is asked; must leave no challenge record behind, also
        after a failure or an interruption; must claim each new order from the budget before it is
        made (`StateStore.claim_order`), and keep what the CA says of the next ones
        (`save_failed_proofs`, `save_hold`); must not close the order in the state: saving the
        version does. Must give only what was ordered (`core.certificates.chain`):
        `CertificateRejected` for any other certificate. Raises `IssuanceError`, `OrderPostponed`
        among them, or `DnsError`; after `DnsAccessDenied` it must ask the account before it orders
        again.
        """

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        """Ask when a certificate should be renewed; no answer of the CA's is an empty one. The CA
        is that at `directory`, the usual one where it is empty.

        Costs one request, now and then another. Raises `IssuanceError` when the CA cannot be asked.
        """

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        """Remove the challenge records that an interrupted run of the lineage left, each at the
        first of the accounts that has its zone.

        Raises `DnsError` when one may still be there; those whose zone no account has had for days
        are forgotten.
        """


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """An account as its CA shows it: `status` as in RFC 8555 §7.1.2, `None` where unknown."""

    url: str | None
    status: str | None
    contacts: tuple[str, ...] = ()


class CaAccount(Protocol):
    """The account at one directory. All raise `IssuanceError` and `StateError`; all but `revoke`
    and `facts` raise `PlanRefused` where there is no account.
    """

    def facts(self) -> AccountFacts | None:
        """Ask the CA for the account; `None` if it has none. Changes nothing there."""

    def rollover(self) -> None:
        """Replace the account's key: both are kept until the CA has answered."""

    def deactivate(self) -> None:
        """Put the account out of use for ever, and forget it."""

    def revoke(self, bundle: CertificateBundle, reason: RevocationReason) -> None:
        """Revoke a certificate: as the account, or with the certificate's own key where the account
        may not. One that is revoked already is done. Raises `CertificateError` for a key that can
        sign no request.
        """


AccountAt = Callable[[str | None], CaAccount]
"""Returns the account at a directory; at the usual one where it is not known."""
