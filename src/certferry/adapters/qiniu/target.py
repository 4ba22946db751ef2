"""The target for a Qiniu account: CDN and DCDN domains, source domains of Kodo buckets, and live
domains of Pili (docs/facts/qiniu.md §1 to §7).

Permissions: the key pair may read and change CDN domains and SSL certificates. Source domains need
a pair of the main account with the right to list Kodo's buckets; live domains need the right to use
Pili.

A domain listed both by the CDN and by Kodo or Pili counts as a CDN domain, because Kodo refuses to
bind CDN domains (§6.5). If Kodo or Pili cannot be read, the CDN domains are still observed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Annotated, Literal

from certferry.adapters.cdn.failure import rejected, translating_errors, with_hint
from certferry.adapters.cdn.settling import Settler
from certferry.adapters.cdn.target import CopiesTarget
from certferry.adapters.http.http_client import HttpClient, Pacer
from certferry.adapters.qiniu.account import Details, Store
from certferry.adapters.qiniu.bucket import KodoObjects
from certferry.adapters.qiniu.cdn import SWITCHED_OFF, CdnDomains, observe
from certferry.adapters.qiniu.errors import (
    CALLED,
    CODES,
    NO_SUCH_DOMAIN,
    WRONG_DOMAIN_TYPE,
    QiniuFailure,
)
from certferry.adapters.qiniu.parts import LiveDomains, SourceDomains
from certferry.adapters.qiniu.qiniu_client import RATE, QiniuClient, QiniuTransport
from certferry.adapters.qiniu.records import KODO, PILI, WITHOUT_SETTINGS
from certferry.adapters.qiniu.survey import Surveyor, examine, report_of
from certferry.adapters.qiniu.wire import Hosts, QiniuKeys
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.discovery.inventory import Survey
from certferry.core.observed import observation
from certferry.core.planning.choice import choose, searches
from certferry.core.reasons import Usual
from certferry.core.redaction import Secret, speech
from certferry.errors import CertferryError, DeployError, Problem, TargetUnavailable
from certferry.ports.adapter import CommonNameRule, Context, Variable
from certferry.ports.examination import AccountReport
from certferry.ports.objects import LONGEST_OBJECT
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.ports.survey import Looked
from certferry.ports.target import DeployTarget, Scope
from certferry.text import Text
from certferry.values import replace

__all__ = (
    "CALLED",
    "CODES",
)  # read from this module by `ports.adapter.Adapter`, with the names below

SERVICE = "Qiniu"
WHERE_KEYS_ARE = Text("portal.qiniu.com → avatar → Key management (AK and SK of one pair)")
ENVIRONMENT = (
    Variable(
        "access_key",
        ("QINIU_ACCESS_KEY", "QINIU_AK"),
        Text("the access key (AK) of the Qiniu account"),
        is_public=True,
        acme_sh="QINIU_AK",
    ),
    Variable(
        "secret_key",
        ("QINIU_SECRET_KEY", "QINIU_SK"),
        Text("the secret key (SK) of the Qiniu account"),
        acme_sh="QINIU_SK",
    ),
)
ONE_ACCOUNT_A_DOMAIN = True  # adding an existing domain: 400062, "domain exists" (§5)
NEEDS_COMMON_NAME = CommonNameRule(  # without a common name: 400348 (§4.6)
    "accept_no_common_name",
    Text(
        "if Qiniu accepts such certificates now, set `accept_no_common_name = true` on the account"
    ),
)
LEAST_LIFE = "min_remaining_days"
MIN_REMAINING_DAYS = 30  # what users report; Qiniu gives no number (§4.6)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a Qiniu account. Only tests and mirrors change the addresses."""

    access_key: Secret
    secret_key: Secret
    api: Annotated[str, Text("the address of the API of CDN domains")] = "https://api.qiniu.com"
    fusion: Annotated[str, Text("the address of the API of certificates")] = (
        "https://fusion.qiniuapi.com"
    )
    uc: Annotated[str, Text("the address of the API of Kodo's buckets and source domains")] = (
        "https://uc.qiniuapi.com"
    )
    api_backup: Annotated[str, Text("used when `api` does not answer")] = "https://api.qiniuapi.com"
    uc_backup: Annotated[str, Text("used when `uc` does not answer")] = (
        "https://kodo-config.qiniuapi.com"
    )
    pili: Annotated[str, Text("the address of the API of Pili's hubs and live domains")] = (
        "https://pili.qiniuapi.com"
    )
    min_remaining_days: Annotated[
        int,
        Text("certferry uploads no certificate with fewer days left: Qiniu would refuse it"),
    ] = MIN_REMAINING_DAYS
    accept_no_common_name: Annotated[
        bool, Text("upload certificates without a common name too; Qiniu has refused them")
    ] = False

    @property
    def hosts(self) -> Hosts:
        """Qiniu's addresses. Backups and Pili of a mirror are empty unless set in the file."""
        usual = {field.name: field.default for field in fields(self)}
        others = {
            name: ""
            if getattr(self, name) == usual[name] and getattr(self, main) != usual[main]
            else getattr(self, name).rstrip("/")
            for main, name in (("api", "api_backup"), ("uc", "uc_backup"), ("api", "pili"))
        }
        mains = {name: getattr(self, name).rstrip("/") for name in ("api", "fusion", "uc")}
        return Hosts(**mains, **others)


@dataclass(frozen=True, slots=True)
class DeploySettings:
    """The settings of a deployment, besides the domains.

    Binding a certificate also sets the declared settings, and keeps the other settings.
    """

    #: The part of Qiniu with the deployment's domains.
    kind: Annotated[
        Literal["auto", "cdn", "kodo", "pili"],
        Text(
            "the kind of the domains: `cdn` for CDN and DCDN, `kodo` for source domains of"
            " buckets, `pili` for live domains of hubs; with `auto` certferry finds the kind"
        ),
    ] = "auto"
    force_https: Annotated[bool | None, Text("whether HTTP is redirected to HTTPS")] = None
    http2: Annotated[bool | None, Text("whether HTTP/2 is on")] = None
    tls_versions: Annotated[
        tuple[Literal["TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"], ...] | None,
        Text("the enabled versions of TLS"),
    ] = None

    def wrong(self, written: Iterable[str]) -> Mapping[str, Text]:
        """Return a message for each key that does not fit `kind`: Kodo (§6.1) and Pili (§7) have
        no settings.
        """
        message = {
            "kodo": Text('not with kind = "kodo": a source domain lacks the setting'),
            "pili": Text('not with kind = "pili": a live domain lacks the setting'),
        }.get(self.kind)
        return {} if message is None else {key: message for key in written if key != "kind"}


_ELSEWHERE = NO_SUCH_DOMAIN | {WRONG_DOMAIN_TYPE}
"""Codes by which the CDN refuses a domain of Kodo, and Kodo a domain of the CDN (§6.5)."""

_KINDS = frozenset({Kind.AUTO, Kind.CDN, Kind.DCDN, KODO, PILI})

USUAL_CHANGE: Usual = (timedelta(minutes=8), timedelta(minutes=15))
"""How long a domain's change usually takes, at least and at most (Qiniu's console; §5.6)."""


def open_bucket(settings: Settings, context: Context, bucket: str, prefix: str) -> KodoObjects:
    """Open a bucket of an account, for the state (`ports.objects`)."""
    keys = QiniuKeys(settings.access_key, settings.secret_key)
    pace = Pacer(RATE, pause=context.pause)
    http = HttpClient(pace=pace, pause=context.pause, longest=LONGEST_OBJECT)
    uc = settings.hosts.uc
    return KodoObjects(bucket, prefix, keys, uc=uc, http=http, now=context.now)


def connect(settings: Settings, context: Context) -> DeployTarget:
    """Return the target of an account. All deployments to the account share the target's pace."""
    keys = QiniuKeys(settings.access_key, settings.secret_key)
    pause, now, memory = context.pause, context.now, context.memory
    client = QiniuClient(
        QiniuTransport(keys, settings.hosts, memory, pause=pause, now=now, pace=context.pace)
    )
    least = timedelta(days=settings.min_remaining_days)
    needs = not settings.accept_no_common_name
    rules = observation.TargetRules(least, needs_common_name=needs, usual_change=USUAL_CHANGE)
    return Qiniu(client, rules, memory, pause=pause, now=now)


class Qiniu(CopiesTarget):
    """The CDN, DCDN, source and live domains of one account. Safe to share between threads.

    Qiniu's answers decide the kind of a domain if the file does not name the kind. If the answer to
    a write is lost, the write is repeated only if a search finds no trace of the write.
    """

    def __init__(
        self,
        client: QiniuClient,
        rules: observation.TargetRules,
        memory: AccountMemory,
        *,
        pause: Pause,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settler = Settler(pause)
        self._client = client
        self._rules = rules
        store = Store(client, memory)
        super().__init__(CALLED, client.transport, store, settler, memory, now, clock)
        self._details = Details(client, memory, clock, now)
        self._cdn = CdnDomains(client, self._details, settler)
        self._sources = SourceDomains(client, settler, clock)
        self._live = LiveDomains(client, self._certificates, settler, clock)

    @translating_errors()
    def observe(self, scope: Scope) -> observation.ObservedTarget:
        """Read the domains and our copies; the result names the unreadable parts.

        Raises `DeployError` for a failure that any other call would share, or that hides the
        domains of the scope.
        """
        _must_be_served_here(scope.kind)
        if scope.anew:  # another run may have changed domains and bindings
            self._certificates.forget()
            self._details.listed.forget()
            self._sources.bindings.forget()
            self._live.forget()
        for domain in scope.doubted:
            self._details.doubt(domain)
        observed = ObservedDomains(scope, self._cdn, self._sources, self._live)
        target = observation.ObservedTarget(
            rules=self._rules,
            domains=tuple(observed.domains),
            excluded=tuple(observed.excluded),
            left_out=tuple(observed.left_out),
            uncovered=() if observed.domains else tuple(dict.fromkeys(observed.uncovered)),
            unread=tuple(dict.fromkeys(observed.unread)),
        )
        try:
            full = self._copies.added_to(target, scope)
            domains = tuple(self._with_end(domain, full.remotes) for domain in full.domains)
            return replace(full, domains=domains)
        except QiniuFailure as failure:
            if failure.is_common:
                raise
            unread = tuple(dict.fromkeys([*target.unread, failure.error]))
            return replace(target, unread=unread, remotes_hidden=True)

    def _with_end(
        self, domain: observation.ObservedDomain, ours: Sequence[observation.RemoteCertificate]
    ) -> observation.ObservedDomain:
        bound = self._certificates.all().get(domain.bound or "")
        if bound is None or any(domain.bound == copy.remote_id for copy in ours):
            return domain
        return replace(domain, bound_until=bound.ends)

    @translating_errors()
    def survey(self, looked: Looked) -> Survey:
        """See `ports.survey.Surveyed.survey`."""
        surveyor = Surveyor(self._details, self._certificates, self._sources, self._live)
        return surveyor.survey(looked)

    @translating_errors()
    def examine(self, account: str) -> tuple[Problem, ...]:
        """See `ports.examination.Examined.examine`."""
        return tuple(examine(account, self._client, self._details, self._certificates))

    @translating_errors()
    def cnames(self) -> Mapping[str, str]:
        """See `ports.examination.PointedAt.cnames`."""
        items = self._cdn.served_by_themselves().items()
        return {name: item.cname.rstrip(".").lower() for name, item in items if item.cname}

    def report(self) -> AccountReport:
        """See `ports.examination.Reporting.report`."""
        return report_of(self._client)

    def _bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        """Bind at the part of the account that `kind` names, or at the part that has the domain."""
        _must_be_served_here(kind)
        if kind == PILI:
            return self._live.bind(domain, remote_id)
        expected: CdnDomains | SourceDomains = self._sources if kind == KODO else self._cdn
        other: CdnDomains | SourceDomains = self._cdn if kind == KODO else self._sources
        try:
            return expected.bind(domain, remote_id, https)
        except QiniuFailure as failure:
            if failure.code not in _ELSEWHERE or not other.has(domain):
                raise
            return other.bind(domain, remote_id, https)

    @translating_errors()
    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """See `ports.target.DeployTarget.retire`. First look for a domain bound to the copy.

        Qiniu refuses to remove a certificate that a CDN or source domain uses, but perhaps removes
        a certificate that a live domain uses. Therefore `TargetInUse` is raised even for a copy
        that is only perhaps bound to a live domain.
        """
        copy = self._certificates.find(remote_id)
        if copy is None:
            return False
        self._live.must_not_use(copy, label, unmanaged=unmanaged)
        self._sources.must_not_use(remote_id, label)
        self._cdn.must_not_use(copy, label)
        return self._copies.retire(copy, label, unmanaged=unmanaged)


def _must_be_served_here(kind: Kind) -> None:
    """Raise `TargetRejected` for an unsupported kind of domain."""
    if kind not in _KINDS:
        sentence = Text('certferry does not support domains of kind "{kind}"')
        hint = Text('set kind = "cdn", "kodo" or "pili", or remove `kind`')
        raise rejected(sentence, hint, kind=kind.value)


_AS_CDN = Text('set kind = "cdn", or remove `kind`')
_CDN_ALONE = Text('set kind = "cdn" for this deployment to leave source domains out')
_WITHOUT_LIVE = Text('set kind = "cdn" or "kodo" for this deployment to leave live domains out')
_BY_NAME = Text("to bind the domain nevertheless, list it under `domains`")
_BOUND_ALL_THE_SAME = Text(
    "source domains named in the configuration are bound all the same; certferry then checks what "
    "their edges serve"
)


class ObservedDomains:
    """The domains of one observation, sorted into lists by the constructor.

    The named domains are read first. If the deployment searches for domains, the CDN's, Pili's and
    Kodo's domains follow, in this order. Raises `QiniuFailure` and `DeployError`.
    """

    def __init__(
        self, scope: Scope, cdn: CdnDomains, sources: SourceDomains, live: LiveDomains
    ) -> None:
        self._cdn = cdn
        self._sources = sources
        self._live = live
        self._scope = scope
        #: Errors of unreadable parts, where further domains may exist.
        self.unread: list[CertferryError] = []
        #: Domains excluded by the deployment.
        self.excluded: list[str] = []
        #: Domains switched off at Qiniu.
        self.left_out: list[observation.ObservedDomain] = []
        #: Domains outside the certificate's names.
        self.uncovered: list[str] = []
        if scope.kind == PILI:
            live.must_have_address()
        self.domains = list(self._named())
        if searches(scope):
            self._find()

    def _named(self) -> Iterator[observation.ObservedDomain]:
        domains, kind = self._scope.domains or (), self._scope.kind
        if kind in WITHOUT_SETTINGS:
            yield from map(self._named_source if kind == KODO else self._named_live, domains)
            return
        for domain, came in self._cdn.read(domains, anew=self._scope.anew):
            if isinstance(came, QiniuFailure):
                yield self._not_at_the_cdn(domain, came)
            else:
                yield observe(domain, came)

    def _not_at_the_cdn(self, domain: str, failure: QiniuFailure) -> observation.ObservedDomain:
        if failure.code not in NO_SUCH_DOMAIN:
            return _problem(domain, Kind.CDN, failure.error)
        sources, is_for_cdn = self._sources.all(), self._scope.kind == Kind.CDN
        source = sources.domains.get(domain)
        if source is not None or (sources.failure and self._sources.is_bound_at_all(domain)):
            if not is_for_cdn:
                return self._source(domain)
            sentence = Text(
                "{domain} is a source domain of the Kodo bucket {bucket}, not a CDN domain"
            )
            hint = Text('set kind = "kodo", or remove `kind`')
            bucket = "—" if source is None else speech(source.holder)
            return _problem(domain, KODO, rejected(sentence, hint, domain=domain, bucket=bucket))
        live = self._live.named(domain)
        if live is None:
            error = _in_doubt(failure.error, sources.failure, self._live.all().failure)
            return _problem(domain, Kind.CDN, error)
        if not is_for_cdn:
            return live
        sentence = Text("{domain} is a live domain of the Pili hub {hub}, not a CDN domain")
        hint = Text('set kind = "pili", or remove `kind`')
        hub = speech(self._live.all().domains[domain].holder)
        return _problem(domain, PILI, rejected(sentence, hint, domain=domain, hub=hub))

    def _named_source(self, domain: str) -> observation.ObservedDomain:
        if self._at_cdn([domain]):
            sentence = Text("{domain} is a CDN domain, not a source domain of Kodo")
            return _problem(domain, Kind.CDN, rejected(sentence, _AS_CDN, domain=domain))
        failure = self._sources.all().failure
        if not self._sources.has(domain):
            if failure is None:
                sentence = Text("{domain} is not a source domain of any Kodo bucket of the account")
                hint = Text("add the domain to a bucket in Qiniu's console, or correct `domains`")
                return _problem(domain, KODO, rejected(sentence, hint, domain=domain))
            if failure.is_outage:
                return _problem(domain, KODO, failure.error)
            # Trust the file's `kind`: Kodo refuses to bind a domain that is not a source domain.
            self.unread.append(failure.error)
        return self._source(domain)

    def _source(self, domain: str) -> observation.ObservedDomain:
        try:
            return self._sources.named(domain)
        except QiniuFailure as failure:
            if failure.is_outage:
                raise
            self.unread.append(with_hint(failure.error, _BOUND_ALL_THE_SAME, instead=False))
            return self._sources.named_without_bindings(domain)

    def _named_live(self, domain: str) -> observation.ObservedDomain:
        observed, failure = self._live.named(domain), self._live.all().failure
        if observed is not None:
            return observed
        if failure is not None:
            raise failure
        if self._at_cdn([domain]):
            sentence = Text("{domain} is a CDN domain, not a live domain of Pili")
            return _problem(domain, Kind.CDN, rejected(sentence, _AS_CDN, domain=domain))
        sentence = Text("{domain} is not a live domain of any Pili hub of the account")
        hint = Text("bind the domain to a hub in Qiniu's console (直播云), or correct `domains`")
        return _problem(domain, PILI, rejected(sentence, hint, domain=domain))

    def _at_cdn(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names listed by the CDN; an empty set if the CDN's list is unreadable."""
        try:
            return frozenset(name for name in names if self._cdn.has(name))
        except QiniuFailure as failure:
            if failure.is_common:
                raise
            self.unread.append(failure.error)
            return frozenset()

    def _find(self) -> None:
        """Add the domains that a search finds at each part, except domains already added."""
        scope = self._scope
        if scope.kind in {Kind.AUTO, Kind.CDN}:
            self.domains += self._found_at_cdn()
        if scope.kind in {Kind.AUTO, PILI}:
            self._add(self._found_live())
        if scope.kind in {Kind.AUTO, KODO}:
            self._add(self._found_sources())
        failure = self._live.all().failure if scope.kind == Kind.AUTO else None
        if failure is not None and not self._may_go_on_without(failure):
            raise failure

    def _add(self, found: Iterable[observation.ObservedDomain]) -> None:
        names = {domain.domain for domain in self.domains}
        self.domains += [domain for domain in found if domain.domain not in names]

    def _chosen(self, names: Iterable[str]) -> Sequence[str]:
        chosen = choose(self._scope, names)
        self.excluded += chosen.excluded
        self.uncovered += chosen.uncovered
        return chosen.wanted

    def _may_go_on_without(self, failure: QiniuFailure) -> bool:
        """Return whether a run may go on without source or live domains.

        If Kodo or Pili is down, the CDN's domains must go on. If no domain is known at all, an
        account that is down must not look like an empty account.
        """
        return self._scope.kind == Kind.AUTO and (bool(self.domains) or not _is_silence(failure))

    def _found_at_cdn(self) -> Iterator[observation.ObservedDomain]:
        """Yield the chosen CDN domains; add domains switched off at Qiniu to `left_out` instead."""
        listed = self._cdn.served_by_themselves()
        for domain, came in self._cdn.read(self._chosen(listed), anew=self._scope.anew):
            if isinstance(came, QiniuFailure):
                if came.code not in NO_SUCH_DOMAIN:
                    yield _problem(domain, listed[domain].kind, came.error)
            elif came.operating_state in SWITCHED_OFF:
                self.left_out.append(observe(domain, came))
            else:
                yield observe(domain, came)

    def _found_live(self) -> list[observation.ObservedDomain]:
        """Return the chosen live domains.

        A failure to list live domains is added to `unread`. The failure is raised only if `kind`
        asks for Pili and no domain is known.
        """
        names = self._chosen(self._live.served_by_themselves())
        domains = [domain for domain in map(self._live.named, names) if domain is not None]
        is_asked_for = self._scope.kind == PILI
        failure = self._live.all().failure
        if failure is not None:
            if is_asked_for and not [*self.domains, *domains]:
                raise failure
            error = failure.error
            self.unread.append(error if is_asked_for else with_hint(error, _WITHOUT_LIVE))
        return domains

    def _found_sources(self) -> list[observation.ObservedDomain]:
        """Return the chosen source domains.

        - Unreadable buckets: add the failure to `unread`. Raise the failure if no source domain is
          chosen and `_may_go_on_without` says no.
        - Unreadable bindings: raise an outage. If the failure may pass, return the domains without
          bindings. If the failure may last, return the domains with a problem, because domains left
          out would expire unnoticed; but raise if `kind` is Kodo or no other domain is known.
        """
        part, is_asked_for = self._sources.all(), self._scope.kind == KODO
        at_cdn = self._at_cdn(part.domains)
        names = self._chosen(name for name in part.domains if name not in at_cdn)
        if part.failure is not None:
            if not names and not self._may_go_on_without(part.failure):
                raise part.failure
            error = part.failure.error
            self.unread.append(error if is_asked_for else with_hint(error, _CDN_ALONE))
        try:
            return [self._sources.named(name) for name in names]
        except QiniuFailure as failure:
            if failure.is_outage:
                raise
            if failure.is_passing:  # the edges also show the bound certificate
                self.unread.append(failure.error)
                return [self._sources.named_without_bindings(name) for name in names]
            if is_asked_for or not self.domains:
                raise
            # Keys refused for reading bindings are refused for binding as well.
            error = failure.error if failure.is_denied else with_hint(failure.error, _BY_NAME)
            return [_problem(name, KODO, with_hint(error, _CDN_ALONE)) for name in names]


def _problem(domain: str, kind: Kind, error: DeployError) -> observation.ObservedDomain:
    state, has_settings = observation.DomainState.UNAVAILABLE, kind not in WITHOUT_SETTINGS
    return observation.ObservedDomain(domain, kind, state, problem=error, has_settings=has_settings)


def _is_silence(failure: QiniuFailure) -> bool:
    """Return whether Qiniu was unavailable: no answer, an unreadable answer, a server error, or too
    many requests.
    """
    return isinstance(failure.error, TargetUnavailable)


def _in_doubt(
    error: DeployError, kodo: QiniuFailure | None, pili: QiniuFailure | None
) -> DeployError:
    """Return the error of a domain that the CDN lacks. If Kodo's domains, or else Pili's, could not
    all be listed, the error says that the domain may be one of these. If Kodo, or else Pili, did
    not answer, return the error of that failure.
    """
    failure = kodo or pili
    if failure is None:
        return error
    if _is_silence(failure):
        return failure.error
    sentence = Text("{problem}; these keys cannot see Kodo's domains")
    hint = Text('if the domain is a source domain of Kodo, set kind = "kodo"')
    if kodo is None:
        sentence = Text("{problem}; these keys cannot see Pili's domains")
        hint = failure.error.hint or Text(
            'if the domain is a live domain of Pili, set kind = "pili"'
        )
    return with_hint(rejected(sentence, error.hint, problem=error.message), hint)
