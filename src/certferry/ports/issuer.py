"""The ports to a CA: orders of certificates, and certferry's account."""

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
    #: The certificate to be replaced, in PEM. The order names the certificate if the CA supports
    #: renewal information (RFC 9773).
    replaced_pem: str | None = None
    #: Profiles in order of preference; empty leaves the choice to the CA.
    profiles: tuple[str, ...] = ()
    #: The URL of the CA's directory; empty for the default CA.
    directory: str = ""
    #: A key to use again for the new certificate, if the key has the type `key_type`.
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
        """The order in the form that is counted against the CA's limits."""
        return PlannedOrder(self.names, self.renews, self.exempt)


class Issuer(Protocol):
    """Orders certificates from a CA."""

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> frozenset[str]:
        """Raise `DnsError` for an obstacle that would certainly stop an order: refused credentials,
        or a name outside every zone of the account. Zones are compared only if the provider can
        list or find zones (`ports.survey`). Return the names, without `*.`, that a permanent record
        (`core.dns_persist`) already proves. These names need no DNS account.

        Changes nothing. If permanent records are allowed, the method also asks the CA for the
        directory, and may raise `IssuanceError`. `issue` calls this method before ordering.
        """

    def rate_limit_hold(self, request: IssueRequest) -> OrderPostponed | None:
        """Return why this order must wait, and until when; `None` if the order may be made now.

        The answer comes from stored orders, refusals and requests of the CA to wait. Continuing an
        order does not count against a limit. Sends no request.
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

        Raises `IssuanceError` (`OrderPostponed` among them), `DnsError`, and `ClockWrong` if this
        machine's clock is too far behind the CA's clock. Raises `StateError` if the state cannot be
        used.
        """

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        """Ask the CA at `directory` (empty: the default CA) when a certificate should be renewed.
        Return an empty `RenewalInfo` if the CA does not offer the service, or if the certificate
        lacks the facts for the query.

        Usually sends one request; the first query of a run also reads the CA's directory. Raises
        `IssuanceError` when the CA cannot be asked.
        """

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        """Remove the challenge records that an interrupted run of the lineage left. For each
        record, the first account with the record's zone removes the record.

        If every account lacks the zone, a record older than a week is deleted from the state only.
        Raises `DnsError` when any other record may still exist.
        """


class AccountFacts(Struct, frozen=True):
    """An account as shown by the CA."""

    url: str | None  #: The account's URL; `None` if unknown.
    status: str | None  #: The account's status (RFC 8555 §7.1.2); `None` if unknown.
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
        """Revoke a certificate. The account signs the request. If there is no account, or if the CA
        does not let the account revoke the certificate, the certificate's own key signs.

        A certificate that was already revoked counts as success. Raises `CertificateError` if the
        certificate's key has to sign, and cannot be read or cannot sign requests.
        """


AccountAt = Callable[[str | None], CaAccount]
"""Return the account at a directory; `None` means the default CA's directory."""
