"""The port to a CA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from certferry.core.certificates.certificate import CertificateBundle, KeyType, RenewalInfo
from certferry.core.certificates.lineage import RevocationReason
from certferry.core.planning.limits import PlannedOrder
from certferry.core.redaction import Secret
from certferry.errors import OrderPostponed
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Progress
from certferry.ports.state import Lease


class IssueRequest(Struct, frozen=True):
    """The certificate to order."""

    lineage: str  #: The lineage's name.
    #: The names to order, at most 100; the first name becomes the common name.
    names: tuple[str, ...]
    key_type: KeyType  #: The kind of key of the certificate.
    #: The leaf to be replaced. The order names the leaf if the CA supports ARI (RFC 9773).
    replaced_pem: str | None = None
    #: Profiles in order of preference; empty leaves the choice to the CA.
    profiles: tuple[str, ...] = ()
    #: The URL of the CA's directory; empty for the default CA.
    directory: str = ""
    #: The key for the new certificate, used if the key has the type `key_type`.
    reused_key: Secret | None = None
    #: The label of the account that writes the challenge records.
    dns: str = ""
    #: Whether the lineage has had a certificate of this CA for exactly these names.
    renews: bool = False
    #: Whether the order names the replaced certificate, so the CA most likely counts the order
    #: against no limit.
    exempt: bool = False

    @property
    def wanted(self) -> PlannedOrder:
        """The order as counted against the CA's limits."""
        return PlannedOrder(self.names, self.renews, self.exempt)


class Issuer(Protocol):
    """Orders certificates from a CA."""

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> frozenset[str]:
        """Raise `DnsError` for an obstacle that would certainly stop an order: refused credentials,
        or a name outside every zone of the account. Zones are compared only if the provider can
        list or find zones (`ports.survey`). Return the names, without `*.`, that a permanent record
        proves already. These names need no account.

        Only reads. The lookup of permanent records asks the CA for the directory, and may raise
        `IssuanceError`. `issue` calls this method before ordering.
        """

    def rate_limit_hold(self, request: IssueRequest) -> OrderPostponed | None:
        """Return why this order must wait, and until when; `None` if the order may be made now.

        Limits are checked against stored orders, Retry-After against stored answers of the CA.
        Continuing an order does not count against a limit. Sends no request.
        """

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        """Order a certificate, or finish the order that an earlier run of the lineage began.

        An implementation must

        1. claim each new order before making the order (`StateStore.claim_order`);
        2. store everything a later run needs to finish (account, order, key, challenge records)
           before asking the CA or the provider;
        3. store the CA's refusals and requests to wait (`save_failed_proofs`, `save_hold`);
        4. remove every challenge record, also after a failure or an interruption;
        5. return only the certificate that was ordered (`core.certificates.chain`), and raise
           `CertificateRejected` for any other certificate;
        6. leave the order open in the state: saving the version closes the order;
        7. after `DnsAccessDenied`, ask the account before ordering again.

        Raises `IssuanceError` (`OrderPostponed` among them) or `DnsError`.
        """

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        """Ask the CA at `directory` (empty: the default CA) when a certificate should be renewed.
        A CA without the service gives an empty `RenewalInfo`.

        Costs one request, sometimes two. Raises `IssuanceError` when the CA cannot be asked.
        """

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        """Remove the challenge records left by an interrupted run of the lineage, each through the
        first account with the record's zone.

        Raises `DnsError` when a record may still exist. A record older than a week is forgotten if
        every account lacks the zone.
        """


class AccountFacts(Struct, frozen=True):
    """An account as shown by the CA."""

    url: str | None  #: The account's URL; `None` if unknown.
    #: As in RFC 8555 §7.1.2; `None` if unknown.
    status: str | None
    contacts: tuple[str, ...] = ()  #: The contact URLs, such as `mailto:` addresses.


class CaAccount(Protocol):
    """certferry's account at the CA of one directory.

    Every method may raise `IssuanceError` and `StateError`. `rollover` and `deactivate` raise
    `PlanRefused` if the CA has no account for the key in the state.
    """

    def facts(self) -> AccountFacts | None:
        """Return the account as the CA shows it, or `None` without an account. Only reads."""

    def rollover(self) -> None:
        """Replace the account's key. Both keys stay stored until the CA has answered."""

    def deactivate(self) -> None:
        """Deactivate the account at the CA for good, and delete the account from the state."""

    def revoke(self, bundle: CertificateBundle, reason: RevocationReason) -> None:
        """Revoke a certificate. The account signs the request. The certificate's own key signs if
        there is no account, or if the CA does not let the account revoke the certificate.

        Nothing is raised if the certificate was already revoked. Raises `CertificateError` if the
        certificate's key is needed, but cannot be read or cannot sign requests.
        """


AccountAt = Callable[[str | None], CaAccount]
"""Return the account at a directory; `None` means the default CA's directory."""
