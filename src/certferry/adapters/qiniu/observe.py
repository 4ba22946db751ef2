"""The domains that a deployment is for, each of the part of Qiniu that has it: those that the file
names, and those that are found.

A domain that the CDN knows as well as another part is a CDN domain, since Kodo refuses to bind
those (docs/facts/qiniu.md §6.5). What cannot be read beside the CDN's domains stops none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from certferry.adapters.qiniu.cdn import SWITCHED_OFF, CdnDomains, observe
from certferry.adapters.qiniu.errors import NO_SUCH_DOMAIN, QiniuFailure, rejected, with_hint
from certferry.adapters.qiniu.parts import LiveDomains, SourceDomains
from certferry.adapters.qiniu.records import KODO, PILI, WITHOUT_SETTINGS
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.core.planning.choice import choose, searches
from certferry.errors import CertferryError, DeployError, TargetUnavailable
from certferry.ports.target import Scope
from certferry.text import Text

_AS_CDN = Text('set kind = "cdn" for it, or leave `kind` out')
_CDN_ALONE = Text('set kind = "cdn" for this deployment to leave source domains out')
_WITHOUT_LIVE = Text('set kind = "cdn" or "kodo" for this deployment to leave live domains out')
_BY_NAME = Text("name it under `domains` to have it bound all the same")
_BOUND_ALL_THE_SAME = Text(
    "source domains that the file names are bound all the same; their edges are the proof"
)


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
        self._scope = scope
        self.unread: list[CertferryError] = []
        self.excluded: list[str] = []
        self.left_out: list[ObservedDomain] = []
        self.uncovered: list[str] = []
        if scope.kind == PILI:
            live.must_have_address()
        self.domains = list(self._named())
        if searches(scope):
            self._find()

    # --- those that are named

    def _named(self) -> Iterator[ObservedDomain]:
        domains, kind = self._scope.domains or (), self._scope.kind
        if kind in WITHOUT_SETTINGS:
            yield from map(self._named_source if kind == KODO else self._named_live, domains)
            return
        for domain, came in self._cdn.read(domains, anew=self._scope.anew):
            if isinstance(came, QiniuFailure):
                yield self._not_at_the_cdn(domain, came)
            else:
                yield observe(domain, came)

    def _not_at_the_cdn(self, domain: str, failure: QiniuFailure) -> ObservedDomain:
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
            hint = Text('set kind = "kodo" for it, or leave `kind` out')
            bucket = "—" if source is None else source.holder
            return _problem(domain, KODO, rejected(sentence, hint, domain=domain, bucket=bucket))
        live = self._live.named(domain)
        if live is None:
            error = _in_doubt(failure.error, sources.failure, self._live.all().failure)
            return _problem(domain, Kind.CDN, error)
        if not is_for_cdn:
            return live
        sentence = Text("{domain} is a live domain of the Pili hub {hub}, not a CDN domain")
        hint = Text('set kind = "pili" for it, or leave `kind` out')
        hub = self._live.all().domains[domain].holder
        return _problem(domain, PILI, rejected(sentence, hint, domain=domain, hub=hub))

    def _named_source(self, domain: str) -> ObservedDomain:
        if self._at_cdn([domain]):
            sentence = Text("{domain} is a CDN domain, not a source domain of Kodo")
            return _problem(domain, Kind.CDN, rejected(sentence, _AS_CDN, domain=domain))
        failure = self._sources.all().failure
        if not self._sources.has(domain):
            if failure is None:
                sentence = Text(
                    "{domain} is not a source domain of any Kodo bucket of this account"
                )
                hint = Text("add it to a bucket in Qiniu's console, or correct `domains`")
                return _problem(domain, KODO, rejected(sentence, hint, domain=domain))
            if failure.is_outage:
                return _problem(domain, KODO, failure.error)
            # The file says that it is one; Kodo refuses to bind it if it is not.
            self.unread.append(failure.error)
        return self._source(domain)

    def _source(self, domain: str) -> ObservedDomain:
        try:
            return self._sources.named(domain)
        except QiniuFailure as failure:
            if failure.is_outage:
                raise
            self.unread.append(with_hint(failure.error, _BOUND_ALL_THE_SAME, instead=False))
            return self._sources.named_without_bindings(domain)

    def _named_live(self, domain: str) -> ObservedDomain:
        found, failure = self._live.named(domain), self._live.all().failure
        if found is not None:
            return found
        if failure is not None:
            raise failure
        if self._at_cdn([domain]):
            sentence = Text("{domain} is a CDN domain, not a live domain of Pili")
            return _problem(domain, Kind.CDN, rejected(sentence, _AS_CDN, domain=domain))
        sentence = Text("{domain} is not a live domain of any Pili hub of this account")
        hint = Text("bind it to a hub in Qiniu's console (直播云), or correct `domains`")
        return _problem(domain, PILI, rejected(sentence, hint, domain=domain))

    def _at_cdn(self, names: Iterable[str]) -> frozenset[str]:
        """Return which of some domains the CDN has: none where its domains cannot be listed."""
        try:
            return frozenset(name for name in names if self._cdn.has(name))
        except QiniuFailure as failure:
            if failure.is_common:
                raise
            self.unread.append(failure.error)
            return frozenset()

    # --- those that are found

    def _find(self) -> None:
        """Add the domains that are not named, unless another part of Qiniu has them already."""
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

    def _add(self, found: Iterable[ObservedDomain]) -> None:
        known = {domain.domain for domain in self.domains}
        self.domains += [domain for domain in found if domain.domain not in known]

    def _chosen(self, names: Iterable[str]) -> Sequence[str]:
        chosen = choose(self._scope, names)
        self.excluded += chosen.excluded
        self.uncovered += chosen.uncovered
        return chosen.wanted

    def _may_go_on_without(self, failure: QiniuFailure) -> bool:
        """Return whether a run may go on without source or live domains: an outage of Kodo's or
        Pili's must not stop the CDN, nor pass for an empty account where there is nothing else.
        """
        return self._scope.kind == Kind.AUTO and (bool(self.domains) or not _is_silence(failure))

    def _found_at_cdn(self) -> Iterator[ObservedDomain]:
        """Find CDN domains. These were not named, so one that has just been removed is no trouble,
        nor is one that is switched off at Qiniu: that is left out.
        """
        listed = self._cdn.served_by_themselves()
        for domain, came in self._cdn.read(self._chosen(listed), anew=self._scope.anew):
            if isinstance(came, QiniuFailure):
                if came.code not in NO_SUCH_DOMAIN:
                    yield _problem(domain, listed[domain].kind, came.error)
            elif came.operating_state in SWITCHED_OFF:
                self.left_out.append(observe(domain, came))
            else:
                yield observe(domain, came)

    def _found_live(self) -> list[ObservedDomain]:
        """Find live domains. Where none were asked for, keys that may not see Pili cost only
        these.
        """
        names = self._chosen(self._live.served_by_themselves())
        found = [one for one in map(self._live.named, names) if one is not None]
        is_asked_for = self._scope.kind == PILI
        failure = self._live.all().failure
        if failure is not None:
            if is_asked_for and not [*self.domains, *found]:
                raise failure
            error = failure.error
            self.unread.append(error if is_asked_for else with_hint(error, _WITHOUT_LIVE))
        return found

    def _found_sources(self) -> list[ObservedDomain]:
        """Find source domains. Where none were asked for, keys that may not see the buckets cost
        only these; those that are seen are reported, or their certificates would expire unnoticed.
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
            if failure.is_passing:  # the edges show as well whether it is bound
                self.unread.append(failure.error)
                return [self._sources.named_without_bindings(name) for name in names]
            if is_asked_for or not self.domains:
                raise
            # Keys that may read no binding may not make one either.
            error = failure.error if failure.is_denied else with_hint(failure.error, _BY_NAME)
            return [_problem(name, KODO, with_hint(error, _CDN_ALONE)) for name in names]


def _problem(domain: str, kind: Kind, error: DeployError) -> ObservedDomain:
    has_settings = kind not in WITHOUT_SETTINGS
    return ObservedDomain(
        domain, kind, DomainState.UNAVAILABLE, problem=error, has_settings=has_settings
    )


def _is_silence(failure: QiniuFailure) -> bool:
    """Return whether no sensible answer came."""
    return isinstance(failure.error, TargetUnavailable)


def _in_doubt(
    error: DeployError, kodo: QiniuFailure | None, pili: QiniuFailure | None
) -> DeployError:
    """Add that what is not a CDN domain may be a source or a live domain, where these could not all
    be listed.
    """
    failure = kodo or pili
    if failure is None:
        return error
    if _is_silence(failure):
        return failure.error
    sentence = Text("{problem}; Kodo's domains cannot be seen with these keys")
    hint = Text('set kind = "kodo" if it is a source domain of Kodo')
    if kodo is None:
        sentence = Text("{problem}; Pili's domains cannot be seen with these keys")
        hint = failure.error.hint or Text('set kind = "pili" if it is a live domain of Pili')
    return with_hint(rejected(sentence, error.hint, problem=error.message), hint)
