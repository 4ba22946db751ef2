"""CDN and DCDN domains at Qiniu, source domains of its Kodo buckets, and live domains of Pili.

API: the Qiniu fact sheet, from https://developer.qiniu.com/fusion; what binds source domains is in
no document.
Permissions: a key pair that may read and change CDN domains and SSL certificates. Source domains
want a pair of the main account, which may list Kodo's buckets; live domains one that may use Pili.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from certferry.adapters.clients.qiniu import QiniuClient
from certferry.adapters.clients.qiniu_account import QiniuAccount
from certferry.adapters.clients.qiniu_cdn import CdnDomains
from certferry.adapters.clients.qiniu_codes import NO_SUCH_DOMAIN, WRONG_DOMAIN_TYPE
from certferry.adapters.clients.qiniu_copies import Copies
from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_kinds import (
    KODO,
    PILI,
    WITHOUT_SETTINGS,
    bound_all_the_same,
    is_cdn,
    is_live,
    is_not_live,
    is_nothing,
    is_source,
    may_be_left_out,
    must_be_served_here,
    with_doubt,
    with_names,
    with_way_out,
    without_live,
    without_sources,
)
from certferry.adapters.clients.qiniu_live import LiveDomains
from certferry.adapters.clients.qiniu_settings import (
    ENVIRONMENT,
    LEAST_LIFE,
    NEEDS_COMMON_NAME,
    DeploySettings,
    Settings,
)
from certferry.adapters.clients.qiniu_settling import Settler
from certferry.adapters.clients.qiniu_signing import Keys
from certferry.adapters.clients.qiniu_sources import SourceDomains
from certferry.adapters.clients.qiniu_survey import Surveyor
from certferry.adapters.clients.qiniu_transport import QiniuTransport
from certferry.core.certificate import CertificateBundle
from certferry.core.desired import HttpsWish, Kind
from certferry.core.observed import DomainState, ObservedDomain, ObservedTarget, TargetRules
from certferry.core.survey import Survey
from certferry.errors import CertferryError, DeployError
from certferry.ports.account_memory import AccountMemory
from certferry.ports.adapter import Context
from certferry.ports.progress import Pause
from certferry.ports.survey import Looked
from certferry.ports.target import DeployTarget, Look

# What `ports.adapter.Adapter` wants of a module, and more that a target may have.
__all__ = (
    "ENVIRONMENT",
    "LEAST_LIFE",
    "NEEDS_COMMON_NAME",
    "SERVICE",
    "DeploySettings",
    "Qiniu",
    "Settings",
    "connect",
)

SERVICE = "Qiniu"

_ELSEWHERE = NO_SUCH_DOMAIN | {WRONG_DOMAIN_TYPE}
"""What either half of Qiniu says of a domain that belongs to the other (§6)."""


def connect(settings: Settings, context: Context) -> DeployTarget:
    """Give the target for an account: one for all deployments to it, since it holds their pace."""
    keys = Keys(settings.access_key, settings.secret_key)
    transport = QiniuTransport(
        keys, settings.hosts, context.memory, pause=context.pause, now=context.now
    )
    rules = TargetRules(
        timedelta(days=settings.min_remaining_days),
        needs_common_name=not settings.accept_no_common_name,
    )
    return Qiniu(QiniuClient(transport), rules, context.memory, pause=context.pause)


class Qiniu:
    """The CDN, DCDN, source and live domains of one account. Safe to share between threads.

    A domain is what its part of Qiniu says that it is, whatever it was taken for: one that the CDN
    knows as well is a CDN domain, since Kodo refuses to bind those (§6). Writes whose answer is
    lost are looked for before they are made again.
    """

    def __init__(
        self,
        client: QiniuClient,
        rules: TargetRules,
        memory: AccountMemory,
        *,
        pause: Pause,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        account, settler = QiniuAccount(client, clock, memory), Settler(pause)
        self._copies = Copies(client, account, settler)
        self._cdn = CdnDomains(client, account, settler)
        self._sources = SourceDomains(client, account, settler)
        self._live = LiveDomains(client.pili, account, settler, clock)
        self._surveyor = Surveyor(client, account, self._live)

    def observe(self, look: Look) -> ObservedTarget:
        """Read the domains, and find our copies by mark, names and dates. What cannot be read
        beside them is told with what was found.
        """
        must_be_served_here(look.kind)
        unread: list[CertferryError] = []
        with _door():
            found = (
                self._covered(look, unread) if look.domains is None else self._named(look, unread)
            )
            domains = tuple(found)
            try:
                ours = tuple(self._copies.of(look.lineage, look.known))
                others = tuple(self._copies.others(ours)) if look.others else ()
                unremembered = tuple(self._copies.unremembered(look.lineage, look.known))
            except QiniuFailure as failure:
                if failure.is_common:
                    raise
                unread.append(failure.error)
                return ObservedTarget(
                    rules=self._rules, domains=domains, unread=_once(unread), remotes_hidden=True
                )
        return ObservedTarget(
            rules=self._rules,
            domains=domains,
            remotes=ours,
            others=others,
            unremembered=unremembered,
            unread=_once(unread),
        )

    def survey(self, looked: Looked) -> Survey:
        """See `ports.survey.Surveyed.survey`."""
        with _door():
            return self._surveyor.survey(looked)

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Adopt the copy that is there, or upload one. One upload at a time for the account."""
        with _door():
            return self._copies.upload(lineage, bundle)

    def bind(self, domain: str, kind: Kind, remote_id: str, https: HttpsWish) -> str | None:
        """Switch HTTPS on, or change it, unless the domain is as wished already; return the
        X-Reqid of the change.
        """
        must_be_served_here(kind)
        if kind == PILI:
            with _door():
                return self._live.bind(domain, remote_id)
        halves = (self._cdn, self._sources)
        likely, other = reversed(halves) if kind == KODO else halves
        with _door():
            try:
                return likely.bind(domain, remote_id, https)
            except QiniuFailure as failure:
                if failure.code not in _ELSEWHERE or not other.has(domain):
                    raise
                return other.bind(domain, remote_id, https)

    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """Remove a copy whose name is the label, and that no live domain is bound to: of these
        Qiniu is not known to refuse it, as of others.
        """
        with _door():
            self._live.must_not_use(remote_id, label, unmanaged=unmanaged)
            return self._copies.retire(remote_id, label, unmanaged=unmanaged)

    # --- domains that are found

    def _covered(self, look: Look, unread: list[CertferryError]) -> list[ObservedDomain]:
        found = list(self._cdn.covered(look.names)) if look.kind in {Kind.AUTO, Kind.CDN} else []
        if look.kind in {Kind.AUTO, PILI}:
            found += _new(found, self._covered_live(look, unread))
        if look.kind in {Kind.AUTO, KODO}:
            found += _new(found, self._covered_sources(look, found, unread))
        failure = self._live.failure if look.kind == Kind.AUTO else None
        if failure is not None and not may_be_left_out(look, found, failure):
            raise failure
        return found

    def _covered_live(self, look: Look, unread: list[CertferryError]) -> list[ObservedDomain]:
        """Where no live domains were asked for, keys that may not see Pili cost only these."""
        found = list(self._live.covered(look.names))
        failure = self._live.failure if look.kind == Kind.AUTO else self._live.all().failure
        if failure is not None:
            if look.kind == PILI and not found:
                raise failure
            unread.append(failure.error if look.kind == PILI else without_live(failure.error))
        return found

    def _covered_sources(
        self, look: Look, found: list[ObservedDomain], unread: list[CertferryError]
    ) -> list[ObservedDomain]:
        """Where no source domains were asked for, keys that may not see the buckets cost only
        these. Those that are seen are told of, or their certificates would run out unnoticed.
        """
        sources, at_cdn = self._sources.all(), self._names_at_cdn(unread)
        names = [name for name in self._sources.covered(look.names) if name not in at_cdn]
        if sources.failure is not None:
            if not names and not may_be_left_out(look, found, sources.failure):
                raise sources.failure
            unread.append(without_sources(sources.failure.error, look.kind))
        try:
            return [self._sources.named(name) for name in names]
        except QiniuFailure as failure:
            if failure.is_common and not failure.is_denied:
                raise
            if failure.is_passing:  # whether it is bound, the edges tell as well
                unread.append(failure.error)
                return [self._sources.named_without_bindings(name) for name in names]
            if look.kind == KODO or not found:
                raise
            error = with_way_out(with_names(failure))
            return [_problem(name, KODO, error) for name in names]

    def _names_at_cdn(self, unread: list[CertferryError]) -> frozenset[str]:
        """Give the domains of the CDN, none where they cannot be listed."""
        try:
            return self._cdn.names()
        except QiniuFailure as failure:
            if failure.is_common:
                raise
            unread.append(failure.error)
            return frozenset()

    # --- domains that are named

    def _named(self, look: Look, unread: list[CertferryError]) -> Iterator[ObservedDomain]:
        was_silent = False
        for domain in look.domains or ():
            if look.kind in WITHOUT_SETTINGS:
                named = self._named_source if look.kind == KODO else self._named_live
                yield named(domain, unread)
                continue
            try:
                yield self._cdn.named(domain)
            except QiniuFailure as failure:
                if failure.is_common or (was_silent and failure.silent):
                    raise
                was_silent = failure.silent
                yield self._not_at_the_cdn(domain, look.kind, failure, unread)
            else:
                was_silent = False

    def _not_at_the_cdn(
        self, domain: str, kind: Kind, failure: QiniuFailure, unread: list[CertferryError]
    ) -> ObservedDomain:
        if failure.code not in NO_SUCH_DOMAIN:
            return _problem(domain, Kind.CDN, failure.error)
        sources = self._sources.all()
        source = sources.domains.get(domain)
        if source is None and not (sources.failure and self._sources.is_bound_at_all(domain)):
            live, hub = self._live.named(domain), self._live.hub_of(domain)
            if live is None or hub is None:
                return _problem(
                    domain, Kind.CDN, with_doubt(failure.error, sources.failure, self._live.failure)
                )
            return _problem(domain, PILI, is_live(domain, hub)) if kind == Kind.CDN else live
        if kind == Kind.CDN:
            bucket = source.tbl if source is not None and source.tbl else "—"
            return _problem(domain, KODO, is_source(domain, bucket))
        return self._source(domain, unread)

    def _named_source(self, domain: str, unread: list[CertferryError]) -> ObservedDomain:
        if domain in self._names_at_cdn(unread):
            return _problem(domain, Kind.CDN, is_cdn(domain))
        failure = self._sources.all().failure
        if not self._sources.has(domain):
            if failure is None:
                return _problem(domain, KODO, is_nothing(domain))
            if failure.is_common and not failure.is_denied:
                return _problem(domain, KODO, failure.error)
            # The file says that it is one; Kodo refuses to bind it if it is not.
            unread.append(failure.error)
        return self._source(domain, unread)

    def _named_live(self, domain: str, unread: list[CertferryError]) -> ObservedDomain:
        found, failure = self._live.named(domain), self._live.all().failure
        if found is not None:
            return found
        if failure is not None:
            raise failure
        if domain in self._names_at_cdn(unread):
            return _problem(domain, Kind.CDN, is_not_live(domain, at_cdn=True))
        return _problem(domain, PILI, is_not_live(domain, at_cdn=False))

    def _source(self, domain: str, unread: list[CertferryError]) -> ObservedDomain:
        try:
            return self._sources.named(domain)
        except QiniuFailure as failure:
            if failure.is_common and not failure.is_denied:
                raise
            unread.append(bound_all_the_same(failure.error))
            return self._sources.named_without_bindings(domain)


@contextmanager
def _door() -> Iterator[None]:
    """Let nothing of the client's pass but the error it made for the door."""
    try:
        yield
    except QiniuFailure as failure:
        raise failure.error from None


def _problem(domain: str, kind: Kind, error: DeployError) -> ObservedDomain:
    return ObservedDomain(
        domain,
        kind,
        DomainState.UNAVAILABLE,
        problem=error,
        has_settings=kind not in WITHOUT_SETTINGS,
    )


def _new(found: list[ObservedDomain], more: list[ObservedDomain]) -> list[ObservedDomain]:
    """Leave out what another part of Qiniu has already."""
    known = {domain.domain for domain in found}
    return [domain for domain in more if domain.domain not in known]


def _once(errors: list[CertferryError]) -> tuple[CertferryError, ...]:
    return tuple(dict.fromkeys(errors))
