"""An issuer and a CA in memory, with real certificates. The issuer writes TXT values through the
provider, and continues orders from the state. The CA looks up proofs, and finishes an order once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from secrets import token_urlsafe
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from certferry.core.certificates.certificate import (
    Certificate,
    CertificateBundle,
    KeyType,
    RenewalInfo,
)
from certferry.core.certificates.names import challenge_name
from certferry.core.certificates.pem import (
    certificate_pem,
    parse_bundle,
    parse_chain,
    pkcs8_pem,
    read_certificate,
)
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import must_have_zone
from certferry.core.events import Activity
from certferry.core.planning.limits import Limits, hold_of, rate_limit_hold
from certferry.core.redaction import Secret
from certferry.errors import (
    AuthorizationFailed,
    DnsError,
    IssuanceError,
    OrderFailed,
    OrderPostponed,
    StateError,
    ZoneNotFound,
)
from certferry.ports.dns import DnsProvider, SharedOut
from certferry.ports.issuer import IssueRequest
from certferry.ports.progress import Progress
from certferry.ports.state import AcmeOrder, ChallengeRecord, Edit, Lease, StateStore
from certferry.ports.survey import ZoneKeeper
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.interruptions import Fate, Port


class MemoryAccount:
    """An `AccountMemory` in memory, which ends with the process."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.now = now
        self._notes: dict[str, str] = {}
        self._lock = threading.Lock()

    def note(self, name: str) -> str | None:
        return self._notes.get(name)

    def update(self, name: str, change: Edit) -> str | None:
        with self._lock:
            after = change(self._notes.pop(name, None))
            if after is not None:
                self._notes[name] = after
            return after


LONGEST_COMMON_NAME = 64  # characters (RFC 5280 appendix A.1, ub-common-name)
CENTURY = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, tzinfo=UTC))

Lookup = Callable[[str], Collection[str]]
"""Maps a challenge name to the present TXT values."""

Proof = tuple[str, str]
"""The name for a TXT value, and the value."""


@dataclass(slots=True)
class _Order:
    names: tuple[str, ...]
    proofs: tuple[Proof, ...]
    fullchain_pem: str | None = None


@dataclass(slots=True)
class MemoryCa:
    """Orders and their certificates, which are valid for `lifetime`. Safe to use from any thread.

    With a `lookup`, the CA checks proofs by the `lookup`; without, every proof is valid. While
    `failure` is set, every proof ends with this failure. `issued` counts certificates; `asked`
    counts the questions about renewal, which `answer` answers; `replaced` lists the `replaces`
    of orders.
    """

    now: Callable[[], datetime]
    lifetime: timedelta
    lookup: Lookup | None = None
    failure: IssuanceError | None = None
    issued: int = 0
    answer: Callable[[Certificate], RenewalInfo] = lambda _: RenewalInfo()
    asked: int = 0
    replaced: list[str | None] = field(default_factory=list)
    _orders: dict[str, _Order] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def renewal_info(self, cert_pem: str) -> RenewalInfo:
        """Return when a certificate should be renewed."""
        with self._lock:
            self.asked += 1
        (leaf,) = parse_chain(cert_pem)
        return self.answer(read_certificate(leaf))

    def begin_order(self, names: tuple[str, ...], replaced_pem: str | None) -> str:
        """Take an order; return the order's URL."""
        proofs = tuple((challenge_name(name), token_urlsafe(32)) for name in names)
        with self._lock:
            self.replaced.append(replaced_pem)
            url = f"memory:order/{len(self._orders) + 1}"
            self._orders[url] = _Order(names, proofs)
        return url

    def proofs(self, url: str) -> tuple[Proof, ...] | None:
        """Return the proofs missing in DNS for an order; `None` for an order that has ended."""
        order = self._orders.get(url)
        return None if order is None else order.proofs

    def validate(self, url: str) -> None:
        """Look the proofs up. Raises `IssuanceError` for an order that has ended."""
        order = self._orders[url]
        try:
            for name, value in order.proofs:
                self._must_be_seen(name, value)
        except IssuanceError:
            del self._orders[url]
            raise
        order.proofs = ()

    def _must_be_seen(self, name: str, value: str) -> None:
        if self.failure is not None:
            raise self.failure
        if self.lookup is not None and value not in self.lookup(name):
            raise AuthorizationFailed(
                Text("the CA does not see the value at {name}", name=name),
                hint=Text("check that the zone is delegated to the provider"),
            )

    def finalize(self, url: str, public_key: CertificatePublicKeyTypes) -> str:
        """Issue once for a proven order; return leaf and issuer as PEM, also in later calls."""
        order = self._orders[url]
        with self._lock:
            if order.proofs:
                raise OrderFailed(Text("the order is not ready"))
            if order.fullchain_pem is None:
                self.issued += 1
                order.fullchain_pem = self._issue(order.names, public_key)
            return order.fullchain_pem

    def _issue(self, names: Sequence[str], public_key: CertificatePublicKeyTypes) -> str:
        key, issuer = _issuer()
        now = self.now()
        sans = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        leaf = (
            _builder(_subject(names[0]), issuer.subject, public_key, (now, now + self.lifetime))
            .add_extension(sans, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        return certificate_pem(leaf) + certificate_pem(issuer)


@cache
def _issuer() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Make the issuer's key and certificate. The root above the issuer is not needed."""
    key, root_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    builder = _builder(
        _subject("Memory Intermediate"), _subject("Memory Root"), key.public_key(), CENTURY
    )
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    return key, builder.add_extension(constraints, critical=True).sign(root_key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: CertificatePublicKeyTypes,
    validity: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )


def _subject(name: str) -> x509.Name:
    if len(name) > LONGEST_COMMON_NAME:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


DIRECTORY = "memory:directory"
LIFETIME = timedelta(days=90)

_CURVES = {KeyType.EC256: ec.SECP256R1(), KeyType.EC384: ec.SECP384R1()}
_SIZES = {KeyType.RSA2048: 2048, KeyType.RSA3072: 3072, KeyType.RSA4096: 4096}

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class MemoryIssuer:
    """An `Issuer` of a process; `seen_by` returns an issuer of another process with the same CA.

    `lifetime` is the certificates' lifetime. `lookup` finds the proofs; without a `lookup`, every
    proof is valid. `directory` is stored with orders, instead of the requested directory. `limits`
    are the CA's limits. `issued` counts certificates.
    """

    def __init__(
        self,
        state: StateStore,
        now: Callable[[], datetime],
        *,
        lifetime: timedelta = LIFETIME,
        lookup: Lookup | None = None,
        directory: str = DIRECTORY,
        limits: Limits | None = None,
    ) -> None:
        self._state = state
        self._now = now
        self._directory = directory
        self._limits = limits
        self._ca = MemoryCa(now, lifetime, lookup)

    def seen_by(self, state: StateStore, fate: Fate | None = None) -> MemoryIssuer:
        """Return an issuer with the same CA for a process with this state; `fate` decides each call
        to the CA.
        """
        other = MemoryIssuer(state, self._now, directory=self._directory, limits=self._limits)
        ca: Any = self._ca if fate is None else Port(self._ca, fate)
        other._ca = ca
        return other

    def fail_with(self, failure: IssuanceError | None) -> None:
        """Make every proof end with the failure; `None` ends the failures."""
        self._ca.failure = failure

    def answer_with(self, answer: Callable[[Certificate], RenewalInfo]) -> None:
        """Set the answer about renewal; without an answer, the CA offers no renewal information."""
        self._ca.answer = answer

    @property
    def asked(self) -> int:
        """The number of questions about renewal."""
        return self._ca.asked

    @property
    def replaced(self) -> tuple[str | None, ...]:
        """The replaced leaf of each order, in the sequence of the orders."""
        return tuple(self._ca.replaced)

    @property
    def issued(self) -> int:
        """The certificates that the CA has issued."""
        return self._ca.issued

    def must_be_provable(self, names: Sequence[str], dns: DnsProvider) -> frozenset[str]:
        known: dict[DnsProvider, Sequence[FoundZone] | None] = {}
        for name in dict.fromkeys(map(challenge_name, names)):
            account = dns.at(name) if isinstance(dns, SharedOut) else dns
            if account not in known:
                known[account] = account.zones() if isinstance(account, ZoneKeeper) else None
            zones = known[account]
            if zones is not None:
                must_have_zone(name, zones)
        return frozenset()

    def rate_limit_hold(self, request: IssueRequest) -> OrderPostponed | None:
        kept, now = self._state.order(request.lineage), self._now()
        going_on = kept is not None and self._leads_to(request, kept)
        spent = self._state.spent(self._directory, request.wanted)
        return rate_limit_hold(self._limits, spent, request.wanted, now, going_on=going_on)

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        self.must_be_provable(request.names, dns)
        progress(Activity(request.lineage, Text("ordering a certificate"), self._now()))
        try:
            return self._issued(request, dns, lease)
        except OrderPostponed:
            raise
        except IssuanceError as refusal:
            until = refusal.retry.after
            if until is not None:
                hold = hold_of(str(refusal.message), request.names, until, self._now())
                self._state.save_hold(self._directory, hold)
            raise

    def _issued(self, request: IssueRequest, dns: DnsProvider, lease: Lease) -> CertificateBundle:
        order = self._left_over(request, lease) or self._begin(request, lease)
        proofs = self._ca.proofs(order.url)
        if proofs:
            self._prove(order, proofs, dns, lease)
        key = _load(order.key_pem)
        return parse_bundle(self._ca.finalize(order.url, key.public_key()), order.key_pem)

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        return self._ca.renewal_info(cert_pem)

    def sweep(self, lineage: str, accounts: Sequence[DnsProvider], now: datetime) -> None:
        """See `ports.issuer.Issuer.sweep`. Providers in memory show a record at once."""
        failures: list[DnsError] = []
        for record in self._state.challenge_records(lineage):
            try:
                _remove_at_first(accounts, record)
            except DnsError as failure:
                failures.append(failure)
            else:
                self._state.drop_challenge_record(record)
        if failures:
            raise failures[0]

    def _left_over(self, request: IssueRequest, lease: Lease) -> AcmeOrder | None:
        order = self._state.order(request.lineage)
        if order is None:
            return None
        if self._leads_to(request, order):
            return order
        self._state.drop_order(lease)
        return None

    def _leads_to(self, request: IssueRequest, order: AcmeOrder) -> bool:
        return (
            order.directory == self._directory
            and set(order.names) == set(request.names)
            and _type_of(_load(order.key_pem)) == request.key_type
            and self._ca.proofs(order.url) is not None
        )

    def _begin(self, request: IssueRequest, lease: Lease) -> AcmeOrder:
        if self._limits is not None:
            wanted, now = request.wanted, self._now()
            self._state.claim_order(lease, self._directory, wanted, self._limits, now)
        order = AcmeOrder(
            lineage=request.lineage,
            directory=self._directory,
            url=self._ca.begin_order(request.names, request.replaced_pem),
            names=request.names,
            key_pem=_key_for(request),
            created_at=self._now(),
            key_type=request.key_type,
        )
        self._state.save_order(lease, order)
        return order

    def _prove(
        self, order: AcmeOrder, proofs: tuple[Proof, ...], dns: DnsProvider, lease: Lease
    ) -> None:
        put: list[ChallengeRecord] = []
        try:
            for name, value in proofs:
                self._put(ChallengeRecord(order.lineage, name, value, self._now()), dns, put)
            self._ca.validate(order.url)
        except IssuanceError as failure:
            if isinstance(failure, AuthorizationFailed):
                self._state.save_failed_proofs(self._directory, order.names, self._now())
            self._state.drop_order(lease)
            raise
        finally:
            for record in put:
                # A record whose removal fails stays in the state, for the next sweep.
                with contextlib.suppress(DnsError, StateError):
                    dns.remove_txt(record.name, record.value, record.handle)
                    self._state.drop_challenge_record(record)

    def _put(self, record: ChallengeRecord, dns: DnsProvider, put: list[ChallengeRecord]) -> None:
        self._state.save_challenge_record(record)
        put.append(record)
        put[-1] = replace(record, handle=dns.add_txt(record.name, record.value))
        self._state.save_challenge_record(put[-1])


def _key_for(request: IssueRequest) -> Secret:
    before = request.reused_key
    if before is not None and _type_of(_load(before)) == request.key_type:
        return before
    return _new_key(request.key_type)


def _new_key(key_type: KeyType) -> Secret:
    if key_type in _CURVES:
        return pkcs8_pem(ec.generate_private_key(_CURVES[key_type]))
    return pkcs8_pem(rsa.generate_private_key(65537, _SIZES[key_type]))


def _load(key_pem: Secret) -> _Key:
    key = serialization.load_pem_private_key(key_pem.reveal().encode(), password=None)
    if not isinstance(key, _Key):
        raise TypeError(type(key))
    return key


def _type_of(key: _Key) -> str:
    return f"rsa{key.key_size}" if isinstance(key, rsa.RSAPrivateKey) else f"ec{key.key_size}"


def _remove_at_first(accounts: Sequence[DnsProvider], record: ChallengeRecord) -> None:
    """Remove a record at the first account that has its zone."""
    *others, last = accounts
    for dns in others:
        with contextlib.suppress(ZoneNotFound):
            dns.remove_txt(record.name, record.value, record.handle)
            return
    last.remove_txt(record.name, record.value, record.handle)
