"""The target for an account at Alibaba Cloud: domains of CDN and of DCDN (docs/facts/aliyun.md §3).

Permissions: an AccessKey of a RAM user with the policy `errors.POLICY`. Without the rights for the
store of certificates (CAS), each binding sends certificate and key; the plan says so once.

A binding is one call with the certificate alone: redirect, HTTP/2 and TLS versions are other
functions of the domain (§4.1). The paid deployment through CAS is never used (§5.4).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from certferry.adapters.aliyun import account
from certferry.adapters.aliyun.account import (
    CALLED,
    ENVIRONMENT,
    SERVICE,
    WHERE_KEYS_ARE,
    Settings,
)
from certferry.adapters.aliyun.aliyun_client import CDN, DCDN, AliyunClient
from certferry.adapters.aliyun.cas import PAIR, CasStore, Pairs, bound_pair, pair_id
from certferry.adapters.aliyun.domains import (
    SWITCHED_OFF,
    Bound,
    Domains,
    problem_of,
    state_of,
    task_of,
)
from certferry.adapters.aliyun.errors import CODES, GRANT, AliyunFailure
from certferry.adapters.aliyun.records import DomainItem
from certferry.adapters.aliyun.survey import examine, report_of, survey
from certferry.adapters.cdn.copies import Certificates, Copies, StoredCertificate
from certferry.adapters.cdn.failure import attempt, rejected, translating_errors, with_hint
from certferry.adapters.cdn.settling import Settler
from certferry.core.certificates.certificate import CertificateBundle, covered_by, short
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.discovery.inventory import Survey
from certferry.core.observed import observation
from certferry.core.observed.records import OtherCertificate
from certferry.core.planning.choice import choose, searches
from certferry.errors import (
    CertferryError,
    CopyGone,
    DeployError,
    Problem,
    TargetAccessDenied,
    TargetInUse,
)
from certferry.ports.adapter import Context
from certferry.ports.examination import AccountReport
from certferry.ports.survey import Looked
from certferry.ports.target import DeployTarget, Scope
from certferry.text import Text
from certferry.values import replace

__all__ = (
    "CALLED",
    "CODES",
    "ENVIRONMENT",
    "SERVICE",
    "WHERE_KEYS_ARE",
    "Settings",
)  # read from this module by `ports.adapter.Adapter`, with the names below

RANK = 20
COMMAND_WORDS = ("aliyun", "ali_cdn", "ali_dcdn")


@dataclass(frozen=True, slots=True)
class DeploySettings:
    """The settings of a deployment, besides the domains. A binding has no other setting."""

    kind: Annotated[
        Literal["auto", "cdn", "dcdn"],
        Text("the product of the domains; with `auto` certferry finds the product"),
    ] = "auto"


def connect(settings: Settings, context: Context) -> DeployTarget:
    """Return the target of an account, without sending a request. Raises `ConfigError`."""
    key = account.access_key(settings.access_key_id, settings.access_key_secret)
    return Aliyun(AliyunClient(key, settings, context), context)


class Aliyun:
    """The CDN and DCDN domains of one account. Safe to share between threads."""

    def __init__(
        self,
        client: AliyunClient,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settler, memory, now = Settler(context.pause), context.memory, context.now
        self._client = client
        self._now = now
        self._products = {
            product.kind: Domains(product, client, settler, memory, clock, now)
            for product in (CDN, DCDN)
        }
        self._store = CasStore(client, now, self._why_in_use)
        self._certificates = Certificates(self._store, clock)
        self._copies = Copies(self._store, CALLED, self._certificates, settler, memory, now)
        self._pairs = Pairs()

    @translating_errors()
    def observe(self, scope: Scope) -> observation.ObservedTarget:
        """Read the domains and our copies; the result names the unreadable parts.

        Raises `DeployError` for a failure that any other call would share, or that hides the
        domains of the scope.
        """
        products = self._of(scope.kind)
        if scope.anew:  # another run may have changed domains and bindings
            self._certificates.forget()
        for product in products:
            if scope.anew:
                product.forget()
            for domain in scope.doubted:
                product.doubt(domain)
        now = self._now()
        if scope.others or any(certificate.not_after < now for certificate in scope.known):
            self._list_expired()
        stored, unlisted = self._stored()
        observed = ObservedDomains(scope, products, stored)
        target = observation.ObservedTarget(
            domains=tuple(observed.domains),
            excluded=tuple(observed.excluded),
            left_out=tuple(observed.left_out),
            uncovered=() if observed.domains else tuple(dict.fromkeys(observed.uncovered)),
            unread=tuple(dict.fromkeys(observed.unread)),
            remotes=tuple(_pairs_bound(scope, observed.domains)),
        )
        if unlisted is not None:
            is_hidden = not isinstance(unlisted, TargetAccessDenied)
            return replace(target, unread=(*target.unread, unlisted), remotes_hidden=is_hidden)
        ours = tuple(self._copies.of(scope.lineage, scope.known))
        return replace(
            target,
            remotes=(
                *(replace(copy, in_use_until=copy.not_after) for copy in ours),
                *target.remotes,
            ),
            others=tuple(self._others(ours)) if scope.others else (),
            unremembered=tuple(self._copies.unremembered(scope.lineage, scope.known)),
            quota=self._copies.quota(),
        )

    def _of(self, kind: Kind) -> Sequence[Domains]:
        """Return the products of a kind. Raises `TargetRejected` for an unsupported kind."""
        if kind == Kind.AUTO:
            return tuple(self._products.values())
        if kind not in self._products:
            sentence = Text('certferry does not support domains of kind "{kind}"')
            hint = Text('set kind = "cdn" or "dcdn", or remove `kind`')
            raise rejected(sentence, hint, kind=kind.value)
        return (self._products[kind],)

    def _list_expired(self) -> None:
        """Have the store list expired copies too."""
        if not self._store.with_expired:
            self._store.with_expired = True
            self._certificates.forget()

    def _stored(self) -> tuple[Mapping[str, StoredCertificate], DeployError | None]:
        """Return the copies in the store by id; none, with the reason, if the store is unreadable.

        Raises `AliyunFailure` for a failure that any other call would share.
        """
        try:
            return self._certificates.all(), None
        except AliyunFailure as failure:
            if failure.is_common:
                raise
            if not failure.is_denied:
                return {}, failure.error
            sentence = Text(
                "{problem}; certferry sends certificate and key with each binding instead, and the"
                " store of certificates stays empty"
            )
            words = {"problem": failure.error.message}
            return {}, rejected(sentence, GRANT, TargetAccessDenied, **words)

    def _others(self, ours: Sequence[observation.RemoteCertificate]) -> Iterator[OtherCertificate]:
        """Yield the other copies. Each counts as in use until the end: see `CasStore.remove`."""
        for other in self._copies.others(ours):
            yield replace(other, in_use_until=other.not_after)

    @translating_errors()
    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """See `ports.target.DeployTarget.upload`: an existing copy is adopted. Without rights for
        the store, keep the pair for the binding.
        """
        try:
            return self._copies.upload(lineage, bundle)
        except AliyunFailure as failure:
            if failure.is_common or not failure.is_denied:
                raise
        return self._pairs.keep(lineage, bundle)

    def bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        """See `ports.target.DeployTarget.bind`: also switch HTTPS on; return the RequestId.

        `https` is empty: `DeploySettings` has no such setting.
        """
        del https
        try:
            with translating_errors():
                return self._bind(domain, kind, remote_id)
        except CopyGone:
            self._copies.forget(remote_id)
            raise

    def _bind(self, domain: str, kind: Kind, remote_id: str) -> str | None:
        places = ((product, product.listed().get(domain)) for product in self._of(kind))
        place = next(((product, item) for product, item in places if item is not None), None)
        if place is None:
            raise _no_such_domain(domain)
        product, item = place
        if remote_id.startswith(PAIR):
            names, proof, params = self._pair(remote_id)
        else:
            names, proof, params = self._copy(remote_id)
        if not covered_by(names, domain):
            sentence = Text("the certificate {id} does not cover {domain}")
            hint = Text(
                "add the domain to `names`; the wildcard domain *.example.com needs *.example.com"
                " itself"
            )
            raise rejected(sentence, hint, id=short(remote_id), domain=domain)

        def is_bound(bound: Bound) -> bool:
            is_same = proof is not None and bound.fingerprint == proof
            return is_same or bound.remote_id == remote_id

        return product.bind(domain, item, params, is_bound)

    def _copy(self, remote_id: str) -> tuple[Iterable[str], str | None, Mapping[str, str]]:
        """Return the names and the fingerprint of a copy, and the parameters of its binding. Raises
        `CopyGone` if the store lacks the copy.
        """
        copy = self._certificates.find(remote_id)
        if copy is None:
            sentence = Text("the store of {service} lacks certificate {id}")
            hint = Text("another program removed the certificate; the next run uploads it again")
            raise rejected(sentence, hint, CopyGone, service=CALLED, id=short(remote_id))
        region = self._client.region
        params = {"CertType": "cas", "CertId": remote_id, "CertRegion": region}
        return copy.names or (), copy.fingerprint, params

    def _pair(self, remote_id: str) -> tuple[Iterable[str], str | None, Mapping[str, str]]:
        """Do as `_copy`, for a pair. Raises `CopyGone` if another process kept the pair."""
        kept = self._pairs.find(remote_id)
        if kept is None:
            sentence = Text("certificate and key of {id} were kept by an earlier process only")
            raise rejected(sentence, None, CopyGone, id=short(remote_id))
        label, bundle = kept
        pem, key = bundle.fullchain_pem, bundle.privkey_pem.reveal()
        params = {"CertType": "upload", "CertName": label, "SSLPub": pem, "SSLPri": key}
        return bundle.certificate.names, bundle.certificate.fingerprint, params

    @translating_errors()
    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """See `ports.target.DeployTarget.retire` and `CasStore.remove`. A pair leaves no copy."""
        if remote_id.startswith(PAIR):
            return False
        self._list_expired()
        copy = self._certificates.find(remote_id)
        return copy is not None and self._copies.retire(copy, label, unmanaged=unmanaged)

    def _why_in_use(self, copy: StoredCertificate) -> DeployError | None:
        """Return the error for a copy bound to a domain; `None` if no domain uses the copy.

        A product closed to the AccessKey is passed over.
        """
        for product in self._products.values():
            listed = attempt(product.listed, AliyunFailure)
            if isinstance(listed, AliyunFailure):
                if not listed.is_denied:
                    raise listed
                continue
            for domain, item in listed.items():
                if copy.names is not None and not covered_by(copy.names, domain):
                    continue
                bound = product.bound(domain, item)
                if bound_id(bound, {copy.remote_id: copy}) == copy.remote_id:
                    sentence = Text("{domain} is still bound to {label}")
                    hint = Text("normal until the domain is bound to another certificate")
                    return rejected(sentence, hint, TargetInUse, domain=domain, label=copy.label)
        return None

    @translating_errors()
    def survey(self, looked: Looked) -> Survey:
        """See `ports.survey.Surveyed.survey`."""
        return survey(tuple(self._products.values()), self._certificates, bound_id, looked)

    @translating_errors()
    def examine(self, account: str) -> tuple[Problem, ...]:
        """See `ports.examination.Examined.examine`."""
        return tuple(examine(account, tuple(self._products.values()), self._certificates))

    @translating_errors()
    def cnames(self) -> Mapping[str, str]:
        """See `ports.examination.PointedAt.cnames`. A product closed to the AccessKey is left out:
        `examine` reports the product.
        """
        cnames: dict[str, str] = {}
        for product in self._products.values():
            listed = attempt(product.listed, AliyunFailure)
            if not isinstance(listed, AliyunFailure):
                cnames |= {name: item.target for name, item in listed.items() if item.target}
        return cnames

    @translating_errors()
    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        return self._client.clock_ahead()

    def report(self) -> AccountReport:
        """See `ports.examination.Reporting.report`."""
        return report_of(self._client)

    def forget_refusal(self) -> None:
        """See `ports.target.LimitedTarget`."""
        self._copies.forget_refusal()


def bound_id(bound: Bound, stored: Mapping[str, StoredCertificate]) -> str | None:
    """Return the remote id of a bound certificate: a copy in the store, recognised by id,
    fingerprint or serial, or else the id of a pair. Return `None` without HTTPS, and for a hidden
    certificate.
    """
    if not bound.is_on or bound.remote_id in stored:
        return bound.remote_id
    if bound.fingerprint is None:
        return bound.remote_id
    copies = (
        copy
        for copy in sorted(stored.values(), key=lambda copy: copy.age_order)
        if bound.fingerprint == copy.fingerprint
        or (copy.fingerprint is None and copy.serial == bound.serial_number)
    )
    copy = next(copies, None)
    return pair_id(bound.fingerprint) if copy is None else copy.remote_id


def _pairs_bound(
    scope: Scope, domains: Iterable[observation.ObservedDomain]
) -> Iterator[observation.RemoteCertificate]:
    """Yield the lineage's certificates that domains are bound to without a copy in the store."""
    bound = {domain.bound for domain in domains}
    for certificate in scope.known:
        if pair_id(certificate.fingerprint) in bound:
            yield bound_pair(scope.lineage, certificate)


def _no_such_domain(domain: str) -> DeployError:
    sentence = Text("{domain} is not a CDN or DCDN domain of the account")
    hint = Text(
        "add the domain in the CDN or DCDN console, or correct `domains`; a wildcard domain is"
        " written .example.com, and a bucket is not a domain"
    )
    return rejected(sentence, hint, domain=domain)


_ONE_PRODUCT = Text('set kind = "cdn" or "dcdn" for this deployment to leave the other product out')


class ObservedDomains:
    """The domains of one observation, sorted into lists by the constructor.

    The named domains are read first, then the domains that a search finds, CDN's before DCDN's. A
    domain listed by both products is CDN's. Raises `AliyunFailure` if no product can be listed, or
    for a failure that any other call would share.
    """

    def __init__(
        self,
        scope: Scope,
        products: Sequence[Domains],
        stored: Mapping[str, StoredCertificate],
    ) -> None:
        self._scope = scope
        self._stored = stored
        #: Errors of products that cannot be listed, where further domains may exist.
        self.unread: list[CertferryError] = []
        #: Domains excluded by the deployment.
        self.excluded: list[str] = []
        #: Domains switched off at the product.
        self.left_out: list[observation.ObservedDomain] = []
        #: Domains outside the certificate's names.
        self.uncovered: list[str] = []
        self._places = dict[str, tuple[Domains, DomainItem]]()
        self._list(products)
        self.domains = [self._named(domain) for domain in scope.domains or ()]
        if searches(scope):
            self._find()
        self.domains = list(self._with_edges())

    def _list(self, products: Sequence[Domains]) -> None:
        failures: list[AliyunFailure] = []
        for product in products:
            listed = attempt(product.listed, AliyunFailure)
            if not isinstance(listed, AliyunFailure):
                there = {domain: (product, item) for domain, item in listed.items()}
                self._places = {**there, **self._places}
            elif listed.is_common:
                raise listed
            else:
                failures.append(listed)
        if failures and (len(failures) == len(products) or not self._has_wanted()):
            raise failures[0]
        self.unread += (with_hint(failure.error, _ONE_PRODUCT) for failure in failures)

    def _has_wanted(self) -> bool:
        """Return whether every named domain is listed, and a search would find a domain."""
        scope = self._scope
        is_listed = all(domain in self._places for domain in scope.domains or ())
        return is_listed and (not searches(scope) or bool(choose(scope, self._places).wanted))

    def _named(self, domain: str) -> observation.ObservedDomain:
        if domain not in self._places:
            kind = Kind.CDN if self._scope.kind == Kind.AUTO else self._scope.kind
            state = observation.DomainState.UNAVAILABLE
            problem = _no_such_domain(domain)
            return observation.ObservedDomain(
                domain, kind, state, problem=problem, has_settings=False
            )
        return self._observe(domain)

    def _find(self) -> None:
        chosen = choose(self._scope, self._places)
        self.excluded += chosen.excluded
        self.uncovered += chosen.uncovered
        for domain in chosen.wanted:
            observed = self._observe(domain)
            is_off = self._places[domain][1].state in SWITCHED_OFF
            (self.left_out if is_off else self.domains).append(observed)

    def _observe(self, domain: str) -> observation.ObservedDomain:
        product, item = self._places[domain]
        state, problem = state_of(item), problem_of(domain, item, product.product)
        bound = Bound(is_on=False)
        if state is not observation.DomainState.UNAVAILABLE:
            answer = attempt(lambda: product.bound(domain, item), AliyunFailure)
            if isinstance(answer, AliyunFailure):
                if answer.is_common or answer.silent:
                    raise answer
                state, problem = observation.DomainState.UNAVAILABLE, answer.error
            else:
                bound = answer
        remote_id = bound_id(bound, self._stored)
        is_ours = any(remote_id == pair_id(c.fingerprint) for c in self._scope.known)
        return observation.ObservedDomain(
            domain=domain,
            kind=product.product.kind,
            state=state,
            bound=remote_id,
            problem=problem,
            binding_hidden=bound.is_hidden and remote_id is None,
            has_settings=False,
            task=task_of(item),
            bound_until=None if is_ours else bound.ends,
        )

    def _with_edges(self) -> Iterator[observation.ObservedDomain]:
        """Yield the domains, with the addresses that the product names for domains with HTTPS."""
        edges: dict[str, Sequence[str]] = {}
        by_product: dict[Domains, list[str]] = {}
        for domain in self.domains:
            if domain.bound is not None or domain.binding_hidden:
                by_product.setdefault(self._places[domain.domain][0], []).append(domain.domain)
        for product, names in by_product.items():
            edges |= product.edges(names)
        for domain in self.domains:
            yield replace(domain, edges=tuple(edges.get(domain.domain, ())))
