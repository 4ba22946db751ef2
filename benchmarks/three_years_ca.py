"""The CAs of `three_years.py`: they follow the contract of `ports.issuer` with the real budget.

Their certificates are facts alone, the same in every run of the program.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certferry.adapters.acme.budget import Budget, limits_at
from certferry.core.certificates.certificate import (
    SHORT_LIVED,
    Certificate,
    CertificateBundle,
    RenewalInfo,
    RenewalWindow,
)
from certferry.core.certificates.chain import must_be_as_ordered
from certferry.core.certificates.names import challenge_name
from certferry.core.desired.certificate import Authority
from certferry.core.discovery.proposal import must_have_zone
from certferry.core.events import Activity
from certferry.core.planning.limits import Limits
from certferry.core.redaction import Secret
from certferry.errors import CaUnavailable, OrderPostponed
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import IssueRequest
from certferry.ports.progress import Progress
from certferry.ports.state import AcmeOrder, Lease, StateStore
from certferry.text import Text
from certferry_sandbox.testing.memory_dns import MemoryDns

USUAL = Authority("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory")
OTHER = Authority("other", "https://other-ca.example.com/directory")

BACKDATED = timedelta(hours=1)
"""Let's Encrypt's certificates begin an hour before their issue."""
REST = timedelta(hours=6)  # Retry-After of Let's Encrypt's renewal information
MARGIN = 100
"""The window of Let's Encrypt's renewal information is a fiftieth of the life: half before, half
after two thirds of the life, the middle below ten days (Boulder #8024).
"""

AWAY = CaUnavailable(Text("the CA is down"))


@dataclass(slots=True)
class SimulatedCas:
    """Both CAs, as an `Issuer`. `now` is the host's clock, `true_now` the world's; `lifetime` gives
    the life of a certificate by the moment of its issue. While `is_away`, the usual CA is silent.
    """

    state: StateStore
    now: Callable[[], datetime]
    true_now: Callable[[], datetime]
    lifetime: Callable[[datetime], timedelta]
    is_away: Callable[[], bool]
    calls: Counter[str] = field(default_factory=Counter)
    _issued: dict[str, CertificateBundle] = field(default_factory=dict)

    @property
    def issued(self) -> int:
        """The number of certificates."""
        return len(self._issued)

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> frozenset[str]:
        """See `ports.issuer.Issuer.must_be_provable`."""
        account: MemoryDns = dns  # type: ignore[assignment]  # a port with the same methods
        zones = account.zones()
        for name in names:
            must_have_zone(challenge_name(name), zones)
        return frozenset()

    def rate_limit_hold(self, request: IssueRequest) -> OrderPostponed | None:
        """See `ports.issuer.Issuer.rate_limit_hold`."""
        directory = request.directory or USUAL.directory
        return Budget(directory, limits_at(directory), self.state, self.now).rate_limit_hold(
            request
        )

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        """See `ports.issuer.Issuer.issue`."""
        progress(Activity(request.lineage, Text("ordering a certificate"), self.now()))
        directory = request.directory or USUAL.directory
        self.must_be_provable(request.names, dns)
        self._ask("orders", directory)
        self._order(request, directory, lease)
        for name in map(challenge_name, request.names):
            handle = dns.add_txt(name, request.lineage)
            dns.remove_txt(name, request.lineage, handle)
        bundle = self._certificate(request, directory)
        must_be_as_ordered(bundle, request.names, self.now())
        return bundle

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        """See `ports.issuer.Issuer.renewal_info`."""
        self._ask("questions", directory or USUAL.directory)
        certificate = self._issued[cert_pem].certificate
        left = certificate.lifetime / (2 if certificate.lifetime < SHORT_LIVED else 3)
        middle, margin = certificate.not_after - left, certificate.lifetime / MARGIN
        return RenewalInfo(RenewalWindow(middle - margin, middle + margin), REST)

    def bundle(self, lineage: str, number: int) -> CertificateBundle:
        """See `StateStore.bundle`: a state cannot parse a certificate of facts alone."""
        [version] = [
            candidate for candidate in self.state.versions(lineage) if candidate.number == number
        ]
        fingerprint = version.certificate.fingerprint
        return next(
            candidate
            for candidate in self._issued.values()
            if candidate.certificate.fingerprint == fingerprint
        )

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        """See `ports.issuer.Issuer.sweep`. Orders leave no record."""

    def _ask(self, kind_of_call: str, directory: str) -> None:
        self.calls[kind_of_call] += 1
        if directory == USUAL.directory and self.is_away():
            raise AWAY

    def _order(self, request: IssueRequest, directory: str, lease: Lease) -> None:
        limits: Limits | None = limits_at(directory)
        if limits is not None:
            self.state.claim_order(lease, directory, request.wanted, limits, self.now())
        number = self.calls["orders"]
        order = AcmeOrder(
            lineage=request.lineage,
            directory=directory,
            url=f"{directory}/order/{number}",
            names=request.names,
            key_pem=Secret("a key"),
            created_at=self.now(),
            key_type=request.key_type,
        )
        self.state.save_order(lease, order)

    def _certificate(self, request: IssueRequest, directory: str) -> CertificateBundle:
        begin = self.true_now() - BACKDATED
        pem = f"certificate {len(self._issued) + 1} of {directory}\n"
        certificate = Certificate(
            fingerprint=hashlib.sha256(pem.encode()).hexdigest(),
            names=request.names,
            common_name=request.names[0],
            serial=f"{len(self._issued) + 1:x}",
            issuer=directory,
            not_before=begin,
            not_after=begin + self.lifetime(self.true_now()),
            key_type=request.key_type,
        )
        self._issued[pem] = CertificateBundle(
            certificate, pem, ("issuer\n",), Secret("a key"), key_matches=True, chain_complete=True
        )
        return self._issued[pem]
