"""The target for an account at Alibaba Cloud: domains of CDN and of DCDN (docs/facts/aliyun.md §3).

Permissions: an AccessKey of a RAM user with the policy `errors.POLICY`. Without the rights for the
store of certificates (CAS), each binding sends certificate and key; the plan says so once.

A binding is one call with the certificate alone: redirect, HTTP/2 and TLS versions are other
functions of the domain (§4.1). The paid deployment through CAS is never used (§5.4).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from certferry.adapters.aliyun import account
from certferry.adapters.aliyun.account import (
    CALLED,
    ENVIRONMENT,
    SERVICE,
    WHERE_KEYS_ARE,
    Settings,
)
from certferry.adapters.aliyun.aliyun_client import CDN, DCDN, AliyunClient, Params
from certferry.adapters.aliyun.cas import PAIR, CasStore, Pairs, bound_pair
from certferry.adapters.aliyun.domains import Bound, Domains
from certferry.adapters.aliyun.errors import CODES, GRANT, AliyunFailure
from certferry.adapters.aliyun.examination import report_of
from certferry.adapters.cdn.copies import StoredCertificate
from certferry.adapters.cdn.failure import attempt, rejected, translating_errors
from certferry.adapters.cdn.parts import Entry, ObservedParts, Stored, Wording
from certferry.adapters.cdn.rights import finding_of
from certferry.adapters.cdn.settling import Settler
from certferry.adapters.cdn.target import PartsTarget, must_cover
from certferry.core.certificates.certificate import CertificateBundle, short
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed import observation
from certferry.errors import CopyGone, DeployError, Problem, TargetInUse, TargetRightMissing
from certferry.ports.adapter import Context
from certferry.ports.examination import AccountReport
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


def _no_such_domain(domain: str) -> DeployError:
    sentence = Text("{domain} is not a CDN or DCDN domain of the account")
    hint = Text(
        "add the domain in the CDN or DCDN console, or correct `domains`; a wildcard domain is"
        " written .example.com, and a bucket is not a domain"
    )
    return rejected(sentence, hint, domain=domain)


_WORDING = Wording(
    CALLED,
    AliyunFailure,
    Text('set kind = "cdn" or "dcdn", or remove `kind`'),
    _no_such_domain,
    store="CAS",
    # Without the store, certferry sends certificate and key with each binding.
    optional=frozenset({"CAS"}),
    accepted=Text(
        "Alibaba Cloud accepts the AccessKey for reading: {ways}; only a change would show whether"
        " the AccessKey can upload and bind"
    ),
)


class Aliyun(PartsTarget[Domains]):
    """The CDN and DCDN domains of one account. Safe to share between threads."""

    lasting = True

    def __init__(
        self,
        client: AliyunClient,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settler, memory, now = Settler(context.pause), context.memory, context.now
        self._client = client
        self._now = now
        parts = {
            product.kind: Domains(product, client, settler, memory, clock, now)
            for product in (CDN, DCDN)
        }
        self._store = CasStore(client, now, self._why_in_use)
        self._pairs = Pairs()
        super().__init__(_WORDING, client, parts, self._store, context, clock)

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
        observed = ObservedParts(scope, products, _WORDING, stored)
        # The lineage's certificates that domains are bound to without a copy in the store.
        bound = {remote_id for entry in observed.domains for remote_id in entry.bound}
        unstored = (bound_pair(scope.lineage, certificate) for certificate in scope.known)
        pairs = tuple(pair for pair in unstored if pair.remote_id in bound)
        target = observation.ObservedTarget(remotes=pairs)
        if unlisted is None:
            target = self._copies.added_to(target, scope, pairs)
        else:
            is_hidden = not isinstance(unlisted, TargetRightMissing)
            target = replace(target, unread=(unlisted,), remotes_hidden=is_hidden)
        return observed.added_to(target, stored)

    def _list_expired(self) -> None:
        """Have the store list expired copies too."""
        if not self._store.with_expired:
            self._store.with_expired = True
            self._certificates.forget()

    def _stored(self) -> tuple[Stored, DeployError | None]:
        """Return the copies in the store by id; none, with the reason, if the store is unreadable.

        Raises `AliyunFailure` for a failure that any other call would share.
        """
        try:
            return self._certificates.all(), None
        except AliyunFailure as failure:
            if failure.is_common:
                raise
            if not failure.lacks_right:
                return {}, failure.error
            sentence = Text(
                "{problem}; certferry sends certificate and key with each binding instead, and the"
                " store of certificates stays empty"
            )
            words = {"problem": failure.error.message}
            return {}, rejected(sentence, GRANT, TargetRightMissing, **words)

    @translating_errors()
    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """See `ports.target.DeployTarget.upload`: an existing copy is adopted. Without rights for
        the store, keep the pair for the binding.
        """
        try:
            return self._copies.upload(lineage, bundle)
        except AliyunFailure as failure:
            if not failure.lacks_right:
                raise
        return self._pairs.keep(lineage, bundle)

    def _bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        """Bind at the first product that has the domain. `https` is empty: `DeploySettings` has no
        such setting.
        """
        del https
        places = ((part, part.listed().get(domain)) for part in self._of(kind))
        place = next(((part, entry) for part, entry in places if entry is not None), None)
        if place is None:
            raise _no_such_domain(domain)
        part, entry = place
        if remote_id.startswith(PAIR):
            copy, params = self._pair(remote_id)
        else:
            copy, region = self._copy(remote_id), self._client.region
            params = {"CertType": "cas", "CertId": remote_id, "CertRegion": region}
        must_cover(copy.names or (), domain, remote_id)

        def is_bound(bound: Bound) -> bool:
            is_same = copy.fingerprint is not None and bound.fingerprint == copy.fingerprint
            return is_same or bound.remote_id == remote_id

        return part.bind(entry, params, is_bound)

    def _pair(self, remote_id: str) -> tuple[StoredCertificate, Params]:
        """Return a pair as a copy, and the parameters of the pair's binding. Raises `CopyGone` if
        another process kept the pair.
        """
        kept = self._pairs.find(remote_id)
        if kept is None:
            sentence = Text("certificate and key of {id} were kept by an earlier process only")
            raise rejected(sentence, None, CopyGone, id=short(remote_id))
        label, bundle = kept
        pem, key = bundle.fullchain_pem, bundle.privkey_pem.reveal()
        params = {"CertType": "upload", "CertName": label, "SSLPub": pem, "SSLPri": key}
        return StoredCertificate.of(remote_id, label, bundle.certificate), params

    @translating_errors()
    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """See `ports.target.DeployTarget.retire` and `CasStore.remove`. A pair leaves no copy."""
        if remote_id.startswith(PAIR):
            return False
        self._list_expired()
        copy = self._certificates.find(remote_id)
        return copy is not None and self._copies.retire(copy, label, unmanaged=unmanaged)

    def _why_in_use(self, copy: StoredCertificate) -> DeployError | None:
        """Return the error for a copy bound to a domain; `None` if no domain uses the copy."""

        def uses(product: Domains, entry: Entry) -> bool:
            stored = {copy.remote_id: copy}
            return copy.may_cover(entry.name) and product.bound(entry).id_in(stored) in stored

        if (domain := self._user_of(copy, uses)) is None:
            return None
        sentence = Text("{domain} is still bound to {label}")
        hint = Text("normal until the domain is bound to another certificate")
        return rejected(sentence, hint, TargetInUse, domain=domain, label=copy.label)

    def _complete(self, part: Domains, entry: Entry, stored: Stored) -> Entry:
        return part.with_binding(entry, stored)

    def _read_further(self, account: str, part: Domains) -> Iterator[Problem]:
        """Read the binding of the first domain with HTTPS."""
        with_https = [entry for entry in part.listed().values() if entry.has_https]
        for entry in with_https[:1]:
            result = attempt(partial(part.bound, entry), AliyunFailure)
            if isinstance(result, AliyunFailure):
                yield finding_of(account, result)

    def report(self) -> AccountReport:
        """See `ports.examination.Reporting.report`."""
        return report_of(self._client)
