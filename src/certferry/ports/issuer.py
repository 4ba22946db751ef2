"""The door to a CA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from certferry.core.certificate import CertificateBundle, KeyType
from certferry.core.renewal import RenewalInfo
from certferry.core.secret import Secret
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Progress
from certferry.ports.state import Lease


@dataclass(frozen=True, slots=True)
class IssueRequest:
    """What to order. The first name becomes the common name; at most 100 names.

    `replaced_pem` is the leaf that the new certificate is to replace, which the CA is told where it
    wants to know. `profiles` are in order of preference, none for the CA's own choice; `directory`
    is the URL of the CA that is asked, the usual one where it is empty; `reused_key` is to be the
    certificate's where it is of the type.
    """

    lineage: str
    names: tuple[str, ...]
    key_type: KeyType
    replaced_pem: str | None = None
    profiles: tuple[str, ...] = ()
    directory: str = ""
    reused_key: Secret | None = None


class Issuer(Protocol):
    """Orders certificates."""

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> None:
        """Raise `DnsError` for what would surely stop an order: credentials that the provider
        refuses, a name that no zone of the account holds. A provider that cannot list its zones
        (`ports.survey.ZoneKeeper`) is not asked.

        The CA is asked nothing, and nothing is written. `issue` asks this before it orders.
        """
        ...

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        """Order a certificate, or finish the order that an earlier run of the lineage began.

        Must keep what a later run needs to finish (account, order, key, challenge records) in the
        state before the CA or the provider is asked; must leave no challenge record behind, also
        after a failure or an interruption; must not close the order in the state: saving the
        version does. Must give only what was ordered (`core.believable`): `CertificateRejected` for
        any other certificate. Raises `IssuanceError` or `DnsError`.
        """
        ...

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        """Ask when a certificate should be renewed; no answer of the CA's is an empty one. The CA
        is that at `directory`, the usual one where it is empty.

        Costs one request, now and then another. Raises `IssuanceError` when the CA cannot be asked.
        """
        ...

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        """Remove the challenge records that an interrupted run of the lineage left, each at the
        first of the accounts that has its zone.

        Raises `DnsError` when one may still be there; those whose zone no account has had for days
        are forgotten.
        """
        ...
