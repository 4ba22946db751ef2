"""Which domains of a Qiniu account a look is about, and what each part of Qiniu says of them: those
that are named, and those that are found.
"""

from __future__ import annotations

from collections.abc import Iterator

from certferry.adapters.clients.qiniu_cdn import CdnDomains
from certferry.adapters.clients.qiniu_codes import NO_SUCH_DOMAIN
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
    with_doubt,
    with_names,
    with_way_out,
    without_live,
    without_sources,
)
from certferry.adapters.clients.qiniu_live import LiveDomains
from certferry.adapters.clients.qiniu_sources import SourceDomains
from certferry.core.choice import choose, searches
from certferry.core.desired import Kind
from certferry.core.observed import DomainState, ObservedDomain
from certferry.errors import CertferryError, DeployError
from certferry.ports.target import Look


class LookedAtDomains:
    """The domains that one look is about; `unread` is what could not be read beside them,
    `excluded` what a deployment excludes, `left_out` what is found switched off, `uncovered` what
    the certificate is not for. Raises `QiniuFailure` and `DeployError`.
    """

    def __init__(
        self, look: Look, cdn: CdnDomains, sources: SourceDomains, live: LiveDomains
    ) -> None:
        self._cdn = cdn
        self._sources = sources
        self._live = live
        self.unread: list[CertferryError] = []
        self.excluded: list[str] = []
        self.left_out: list[ObservedDomain] = []
        self.uncovered: list[str] = []
        seen = list(self._named(look, self.unread))
        if searches(look):
            self._find(look, seen, self.unread, self.excluded)
        self.domains = tuple(seen)

    # --- domains that are found

    def _find(
        self,
        look: Look,
        seen: list[ObservedDomain],
        unread: list[CertferryError],
        excluded: list[str],
    ) -> None:
        """Add the domains that are not named to those that were seen."""
        if look.kind in {Kind.AUTO, Kind.CDN}:
            chosen = choose(look, self._cdn.served_by_themselves())
            excluded += chosen.excluded
            self.uncovered += chosen.uncovered
            seen += self._cdn.found(chosen.wanted, self.left_out, anew=look.anew)
        if look.kind in {Kind.AUTO, PILI}:
            seen += _new(seen, self._found_live(look, seen, unread, excluded))
        if look.kind in {Kind.AUTO, KODO}:
            seen += _new(seen, self._found_sources(look, seen, unread, excluded))
        failure = self._live.failure if look.kind == Kind.AUTO else None
        if failure is not None and not may_be_left_out(look, seen, failure):
            raise failure

    def _found_live(
        self,
        look: Look,
        seen: list[ObservedDomain],
        unread: list[CertferryError],
        excluded: list[str],
    ) -> list[ObservedDomain]:
        """Where no live domains were asked for, keys that may not see Pili cost only these."""
        chosen = choose(look, self._live.served_by_themselves())
        excluded += chosen.excluded
        self.uncovered += chosen.uncovered
        found = list(self._live.found(chosen.wanted))
        failure = self._live.failure if look.kind == Kind.AUTO else self._live.all().failure
        if failure is not None:
            if look.kind == PILI and not [*seen, *found]:
                raise failure
            unread.append(failure.error if look.kind == PILI else without_live(failure.error))
        return found

    def _found_sources(
        self,
        look: Look,
        seen: list[ObservedDomain],
        unread: list[CertferryError],
        excluded: list[str],
    ) -> list[ObservedDomain]:
        """Where no source domains were asked for, keys that may not see the buckets cost only
        these. Those that are seen are told of, or their certificates would run out unnoticed.
        """
        sources, at_cdn = self._sources.all(), self._names_at_cdn(unread)
        chosen = choose(look, (name for name in sources.domains if name not in at_cdn))
        excluded += chosen.excluded
        self.uncovered += chosen.uncovered
        names = chosen.wanted
        if sources.failure is not None:
            if not names and not may_be_left_out(look, seen, sources.failure):
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
            if look.kind == KODO or not seen:
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
                yield self._cdn.named(domain, anew=look.anew)
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
