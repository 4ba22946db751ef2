"""CDN and DCDN domains at Qiniu, source domains of its Kodo buckets, and live domains of Pili.

API: docs/facts/qiniu.md §1 to §7, from https://developer.qiniu.com/fusion; what binds source
domains is in no document.
Permissions: a key pair that may read and change CDN domains and SSL certificates. Source domains
want a pair of the main account, which may list Kodo's buckets; live domains one that may use Pili.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from certferry.adapters.qiniu.account import QiniuAccount, Settler
from certferry.adapters.qiniu.cdn import (
    ENVIRONMENT,
    LEAST_LIFE,
    NEEDS_COMMON_NAME,
    ONE_ACCOUNT_A_DOMAIN,
    WHERE_KEYS_ARE,
    CdnDomains,
    DeploySettings,
    Details,
    Settings,
)
from certferry.adapters.qiniu.certificates import AccountQuota, Copies
from certferry.adapters.qiniu.client import QiniuClient
from certferry.adapters.qiniu.errors import CODES, NO_SUCH_DOMAIN, WRONG_DOMAIN_TYPE, QiniuFailure
from certferry.adapters.qiniu.kinds import (
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
from certferry.adapters.qiniu.kodo import SourceDomains
from certferry.adapters.qiniu.live import LiveDomains
from certferry.adapters.qiniu.report import report_of
from certferry.adapters.qiniu.survey import Examiner, Surveyor
from certferry.adapters.qiniu.transport import QiniuTransport
from certferry.adapters.qiniu.wire import QiniuKeys
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.discovery.survey import Survey
from certferry.core.observed.observation import (
    DomainState,
    ObservedDomain,
    ObservedTarget,
    TargetRules,
)
from certferry.core.planning.choice import choose, searches
from certferry.core.waiting import Usual
from certferry.errors import CertferryError, CopyGone, DeployError
from certferry.ports.adapter import Context
from certferry.ports.examination import AccountReport
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.ports.survey import Looked
from certferry.ports.target import DeployTarget, Scope
from certferry.problem import Problem

# What `ports.adapter.Adapter` wants of a module, and more that a target may have.
__all__ = (
    "CODES",
    "ENVIRONMENT",
    "LEAST_LIFE",
    "NEEDS_COMMON_NAME",
    "ONE_ACCOUNT_A_DOMAIN",
    "SERVICE",
    "WHERE_KEYS_ARE",
    "DeploySettings",
    "Qiniu",
    "Settings",
    "connect",
)

SERVICE = "Qiniu"

_ELSEWHERE = NO_SUCH_DOMAIN | {WRONG_DOMAIN_TYPE}
"""What either half of Qiniu says of a domain that belongs to the other (§6.5)."""

USUAL_CHANGE: Usual = (timedelta(minutes=8), timedelta(minutes=15))
"""What a change of a domain takes most times (Qiniu's console; §5.6)."""


def connect(settings: Settings, context: Context) -> DeployTarget:
    """Return the target for an account: one for all its deployments, which share a pace."""
    keys = QiniuKeys(settings.access_key, settings.secret_key)
    transport = QiniuTransport(
        keys,
        settings.hosts,
        context.memory,
        pause=context.pause,
        now=context.now,
        pace=context.pace,
    )
    rules = TargetRules(
        timedelta(days=settings.min_remaining_days),
        needs_common_name=not settings.accept_no_common_name,
        usual_change=USUAL_CHANGE,
    )
    client = QiniuClient(transport)
    return Qiniu(client, rules, context.memory, pause=context.pause, now=context.now)


@contextmanager
def _translating_errors() -> Iterator[None]:
    """Raise the error of each failure, which is the only one that passes the port."""
    try:
        yield
    except QiniuFailure as failure:
        raise failure.error from None


class Qiniu:
    """The CDN, DCDN, source and live domains of one account. Safe to share between threads.

    A domain is what its part of Qiniu says that it is, whatever the file says: one that the CDN
    knows as well is a CDN domain, since Kodo refuses to bind those (§6.5). Writes whose answer is
    lost are looked for before they are made again.
    """

    def __init__(
        self,
        client: QiniuClient,
        rules: TargetRules,
        memory: AccountMemory,
        *,
        pause: Pause,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        account, settler = QiniuAccount(client, clock, memory), Settler(pause)
        self._account = account
        self._quota = AccountQuota(account, memory, now)
        self._copies = Copies(client, account, self._quota, settler)
        details = Details(client, account, memory, clock=clock, now=now)
        self._cdn = CdnDomains(client, account, details, settler)
        self._sources = SourceDomains(client, account, settler)
        self._live = LiveDomains(client.pili, account, settler, clock)
        self._surveyor = Surveyor(details, account, self._live)
        self._examiner = Examiner(client, account)
        self._client = client

    def observe(self, scope: Scope) -> ObservedTarget:
        """Read the domains, and find our copies by mark, names and dates. What cannot be read
        beside them is part of the answer.
        """
        must_be_served_here(scope.kind)
        if scope.anew:
            self._account.forget_lists()
            self._live.forget()
        with _translating_errors():
            looked_at = ObservedDomains(scope, self._cdn, self._sources, self._live)
            unread = looked_at.unread
            found = ObservedTarget(
                rules=self._rules,
                domains=looked_at.domains,
                excluded=tuple(looked_at.excluded),
                left_out=tuple(looked_at.left_out),
                uncovered=() if looked_at.domains else tuple(dict.fromkeys(looked_at.uncovered)),
            )
            try:
                ours = tuple(self._copies.of(scope.lineage, scope.known))
                others = tuple(self._copies.others(ours)) if scope.others else ()
                unremembered = tuple(self._copies.unremembered(scope.lineage, scope.known))
                quota = self._quota.seen()
            except QiniuFailure as failure:
                if failure.is_common:
                    raise
                unread.append(failure.error)
                return replace(found, unread=_once(unread), remotes_hidden=True)
        return replace(
            found,
            remotes=ours,
            others=others,
            unremembered=unremembered,
            unread=_once(unread),
            quota=quota,
        )

    @_translating_errors()
    def survey(self, looked: Looked) -> Survey:
        """See `ports.survey.Surveyed.survey`."""
        return self._surveyor.survey(looked)

    @_translating_errors()
    def examine(self, account: str) -> tuple[Problem, ...]:
        """See `ports.examination.Examined.examine`."""
        return self._examiner.examine(account)

    @_translating_errors()
    def cnames(self) -> Mapping[str, str]:
        """See `ports.examination.PointedAt.cnames`."""
        return self._examiner.cnames()

    @_translating_errors()
    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        return self._examiner.clock_ahead()

    def report(self) -> AccountReport:
        """See `ports.examination.Reporting.report`."""
        return report_of(self._client)

    @_translating_errors()
    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Adopt the copy that is there, or upload one. One upload at a time for the account."""
        return self._copies.upload(lineage, bundle)

    def bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        """Switch HTTPS on, or change it, unless the domain is as desired already; return the
        X-Reqid of the change.
        """
        must_be_served_here(kind)
        try:
            with _translating_errors():
                return self._bind(domain, kind, remote_id, https)
        except CopyGone:
            self._copies.forget(remote_id)
            raise

    def _bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        if kind == PILI:
            return self._live.bind(domain, remote_id)
        halves = (self._cdn, self._sources)
        likely, other = reversed(halves) if kind == KODO else halves
        try:
            return likely.bind(domain, remote_id, https)
        except QiniuFailure as failure:
            if failure.code not in _ELSEWHERE or not other.has(domain):
                raise
            return other.bind(domain, remote_id, https)

    @_translating_errors()
    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """Remove a copy whose name is the label, and that no domain is bound to, as far as that is
        seen: of live domains Qiniu is not known to refuse it, as of others.
        """
        copy = self._copies.find(remote_id)
        if copy is None:
            return False
        self._live.must_not_use(remote_id, label, unmanaged=unmanaged)
        self._sources.must_not_use(remote_id, label)
        self._cdn.must_not_use(copy, label)
        return self._copies.retire(remote_id, label, unmanaged=unmanaged)


def _once(errors: list[CertferryError]) -> tuple[CertferryError, ...]:
    return tuple(dict.fromkeys(errors))


class ObservedDomains:
    """The `domains` of one observation. `unread`: why there may be more; `excluded` by the
    deployment; `left_out`, since they are switched off; `uncovered` by the certificate. Raises
    `QiniuFailure` and `DeployError`.
    """

    def __init__(
        self, scope: Scope, cdn: CdnDomains, sources: SourceDomains, live: LiveDomains
    ) -> None:
        self._cdn = cdn
        self._sources = sources
        self._live = live
        self.unread: list[CertferryError] = []
        self.excluded: list[str] = []
        self.left_out: list[ObservedDomain] = []
        self.uncovered: list[str] = []
        self._scope = scope
        seen = list(self._named())
        if searches(scope):
            self._find(seen)
        self.domains = tuple(seen)

    def _find(self, seen: list[ObservedDomain]) -> None:
        """Add the domains that are not named to those that were seen."""
        scope = self._scope
        if scope.kind in {Kind.AUTO, Kind.CDN}:
            chosen = self._chosen(self._cdn.served_by_themselves())
            seen += self._cdn.found(chosen, self.left_out, anew=scope.anew)
        if scope.kind in {Kind.AUTO, PILI}:
            seen += _new(seen, self._found_live(seen))
        if scope.kind in {Kind.AUTO, KODO}:
            seen += _new(seen, self._found_sources(seen))
        failure = self._live.failure if scope.kind == Kind.AUTO else None
        if failure is not None and not may_be_left_out(scope, seen, failure):
            raise failure

    def _chosen(self, names: Iterable[str]) -> Sequence[str]:
        chosen = choose(self._scope, names)
        self.excluded += chosen.excluded
        self.uncovered += chosen.uncovered
        return chosen.wanted

    def _found_live(self, seen: list[ObservedDomain]) -> list[ObservedDomain]:
        """Find live domains. Where none were asked for, keys that may not see Pili cost only
        these.
        """
        found = list(self._live.found(self._chosen(self._live.served_by_themselves())))
        is_asked_for = self._scope.kind == PILI
        failure = self._live.all().failure if is_asked_for else self._live.failure
        if failure is not None:
            if is_asked_for and not [*seen, *found]:
                raise failure
            self.unread.append(failure.error if is_asked_for else without_live(failure.error))
        return found

    def _found_sources(self, seen: list[ObservedDomain]) -> list[ObservedDomain]:
        """Find source domains. Where none were asked for, keys that may not see the buckets cost
        only these; those that are seen are reported, or their certificates would expire unnoticed.
        """
        scope, unread = self._scope, self.unread
        sources, at_cdn = self._sources.all(), self._names_at_cdn()
        names = self._chosen(name for name in sources.domains if name not in at_cdn)
        if sources.failure is not None:
            if not names and not may_be_left_out(scope, seen, sources.failure):
                raise sources.failure
            unread.append(without_sources(sources.failure.error, scope.kind))
        try:
            return [self._sources.named(name) for name in names]
        except QiniuFailure as failure:
            if failure.is_common and not failure.is_denied:
                raise
            if failure.is_passing:  # the edges show as well whether it is bound
                unread.append(failure.error)
                return [self._sources.named_without_bindings(name) for name in names]
            if scope.kind == KODO or not seen:
                raise
            error = with_way_out(with_names(failure))
            return [_problem(name, KODO, error) for name in names]

    def _names_at_cdn(self) -> frozenset[str]:
        """Return the domains of the CDN, none where they cannot be listed."""
        try:
            return self._cdn.names()
        except QiniuFailure as failure:
            if failure.is_common:
                raise
            self.unread.append(failure.error)
            return frozenset()

    def _named(self) -> Iterator[ObservedDomain]:
        was_silent, scope = False, self._scope
        for domain in scope.domains or ():
            if scope.kind in WITHOUT_SETTINGS:
                named = self._named_source if scope.kind == KODO else self._named_live
                yield named(domain)
                continue
            try:
                yield self._cdn.named(domain, anew=scope.anew)
            except QiniuFailure as failure:
                if failure.is_common or (was_silent and failure.silent):
                    raise
                was_silent = failure.silent
                yield self._not_at_the_cdn(domain, scope.kind, failure)
            else:
                was_silent = False

    def _not_at_the_cdn(self, domain: str, kind: Kind, failure: QiniuFailure) -> ObservedDomain:
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
        return self._source(domain)

    def _named_source(self, domain: str) -> ObservedDomain:
        if domain in self._names_at_cdn():
            return _problem(domain, Kind.CDN, is_cdn(domain))
        failure = self._sources.all().failure
        if not self._sources.has(domain):
            if failure is None:
                return _problem(domain, KODO, is_nothing(domain))
            if failure.is_common and not failure.is_denied:
                return _problem(domain, KODO, failure.error)
            # The file says that it is one; Kodo refuses to bind it if it is not.
            self.unread.append(failure.error)
        return self._source(domain)

    def _named_live(self, domain: str) -> ObservedDomain:
        found, failure = self._live.named(domain), self._live.all().failure
        if found is not None:
            return found
        if failure is not None:
            raise failure
        if domain in self._names_at_cdn():
            return _problem(domain, Kind.CDN, is_not_live(domain, at_cdn=True))
        return _problem(domain, PILI, is_not_live(domain, at_cdn=False))

    def _source(self, domain: str) -> ObservedDomain:
        try:
            return self._sources.named(domain)
        except QiniuFailure as failure:
            if failure.is_common and not failure.is_denied:
                raise
            self.unread.append(bound_all_the_same(failure.error))
            return self._sources.named_without_bindings(domain)


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
