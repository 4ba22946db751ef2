"""CDN and DCDN domains at Qiniu, and the source domains of its Kodo buckets.

API: the Qiniu fact sheet, from https://developer.qiniu.com/fusion; what binds source domains is in
no document.
Permissions: a key pair that may read and change CDN domains and SSL certificates. Source domains
want a pair of the main account, which may list Kodo's buckets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.adapters.clients.qiniu import Hosts, QiniuClient
from certferry.adapters.clients.qiniu_account import QiniuAccount
from certferry.adapters.clients.qiniu_cdn import CdnDomains
from certferry.adapters.clients.qiniu_codes import NO_SUCH_DOMAIN, WRONG_DOMAIN_TYPE
from certferry.adapters.clients.qiniu_copies import Copies
from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_settling import Settler
from certferry.adapters.clients.qiniu_signing import Keys
from certferry.adapters.clients.qiniu_sources import SourceDomains
from certferry.adapters.clients.qiniu_survey import Surveyor
from certferry.core.certificate import CertificateBundle
from certferry.core.desired import HttpsWish, Kind
from certferry.core.observed import DomainState, ObservedDomain, ObservedTarget, TargetRules
from certferry.core.secret import Secret
from certferry.core.survey import Survey
from certferry.errors import DeployError, TargetRejected, TargetUnavailable
from certferry.ports.progress import Pause
from certferry.ports.survey import Looked
from certferry.ports.target import DeployTarget, Look
from certferry.text import Text

MIN_REMAINING_DAYS = 30  # what users report; Qiniu gives no number (Qiniu fact sheet §4.1)

_KINDS = frozenset({Kind.AUTO, Kind.CDN, Kind.KODO})
_ELSEWHERE = NO_SUCH_DOMAIN | {WRONG_DOMAIN_TYPE}
"""What either half of Qiniu says of a domain that belongs to the other (§6)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """An account at Qiniu. The addresses are others only in tests and for mirrors."""

    access_key: Secret
    secret_key: Secret
    api: str = "https://api.qiniu.com"
    fusion: str = "https://fusion.qiniuapi.com"
    uc: str = "https://uc.qiniuapi.com"
    min_remaining_days: int = MIN_REMAINING_DAYS


def connect(settings: Settings, *, pause: Pause, now: Callable[[], datetime]) -> DeployTarget:
    """Give the target for an account: one for all deployments to it, since it holds their pace."""
    hosts = Hosts(*(url.rstrip("/") for url in (settings.api, settings.fusion, settings.uc)))
    keys = Keys(settings.access_key, settings.secret_key)
    client = QiniuClient(keys, hosts, pause=pause, now=now)
    return Qiniu(client, timedelta(days=settings.min_remaining_days), pause=pause)


class Qiniu:
    """The CDN, DCDN and source domains of one account. Safe to share between threads.

    A domain is what its half of Qiniu says that it is, whatever it was taken for: one that both
    know is a CDN domain, since Kodo refuses to bind those (§6). Writes whose answer is lost are
    looked for before they are made again.
    """

    def __init__(
        self,
        client: QiniuClient,
        min_remaining: timedelta,
        *,
        pause: Pause,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = TargetRules(min_remaining)
        account, settler = QiniuAccount(client, clock), Settler(pause)
        self._copies = Copies(client, account, settler)
        self._cdn = CdnDomains(client, account, settler)
        self._sources = SourceDomains(client, account, settler)
        self._surveyor = Surveyor(client, account)

    def observe(self, look: Look) -> ObservedTarget:
        """Read the domains, and find our copies by mark, names and dates."""
        _must_be_served_here(look.kind)
        with _door():
            found = self._covered(look) if look.domains is None else self._named(look)
            ours = tuple(self._copies.of(look.lineage, look.known))
            others = tuple(self._copies.others(ours)) if look.others else ()
            return ObservedTarget(
                rules=self._rules, domains=tuple(found), remotes=ours, others=others
            )

    def survey(self, looked: Looked) -> Survey:
        """See `ports.survey.Surveyed.survey`."""
        with _door():
            return self._surveyor.survey(looked)

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Adopt the copy that is there, or upload one. One upload at a time for the account."""
        with _door():
            return self._copies.upload(lineage, bundle)

    def bind(self, domain: str, kind: Kind, remote_id: str, https: HttpsWish) -> None:
        """Switch HTTPS on, or change it, unless the domain is as wished already."""
        _must_be_served_here(kind)
        halves = (self._cdn, self._sources)
        likely, other = reversed(halves) if kind is Kind.KODO else halves
        with _door():
            try:
                likely.bind(domain, remote_id, https)
            except QiniuFailure as failure:
                if failure.code not in _ELSEWHERE or not other.has(domain):
                    raise
                other.bind(domain, remote_id, https)

    def retire(self, remote_id: str, label: str, *, anybodys: bool = False) -> bool:
        """Remove a copy whose name is the label."""
        with _door():
            return self._copies.retire(remote_id, label, anybodys=anybodys)

    # --- domains that are found

    def _covered(self, look: Look) -> list[ObservedDomain]:
        found = [] if look.kind is Kind.KODO else list(self._cdn.covered(look.names))
        return found if look.kind is Kind.CDN else found + self._covered_sources(look, found)

    def _covered_sources(self, look: Look, found: list[ObservedDomain]) -> list[ObservedDomain]:
        """Where nobody asked for source domains, keys that may not see the buckets cost only
        these. Those that are seen are told of, or their certificates would run out unnoticed.
        """
        sources, at_cdn = self._sources.all(), self._cdn.names()
        names = [name for name in self._sources.covered(look.names) if name not in at_cdn]
        if not names:
            if sources.failure is not None and not _may_be_left_out(look, found, sources.failure):
                raise sources.failure
            return []
        try:
            return [self._sources.named(name) for name in names]
        except QiniuFailure as failure:
            # Kodo knows these domains, so that silence will end: it is waited for.
            if look.kind is Kind.KODO or not found or _is_silence(failure):
                raise
            error = _with_way_out(failure.error)
            return [_problem(name, Kind.KODO, error) for name in names]

    # --- domains that are named

    def _named(self, look: Look) -> Iterator[ObservedDomain]:
        was_silent = False
        for domain in look.domains or ():
            if look.kind is Kind.KODO:
                yield self._named_source(domain)
                continue
            try:
                yield self._cdn.named(domain)
            except QiniuFailure as failure:
                if failure.is_common or (was_silent and failure.silent):
                    raise
                was_silent = failure.silent
                yield self._not_at_the_cdn(domain, look.kind, failure)
            else:
                was_silent = False

    def _not_at_the_cdn(self, domain: str, kind: Kind, failure: QiniuFailure) -> ObservedDomain:
        if failure.code not in NO_SUCH_DOMAIN:
            return _problem(domain, Kind.CDN, failure.error)
        source = self._sources.all().domains.get(domain)
        if source is None:
            return _problem(domain, Kind.CDN, self._with_doubt(failure.error))
        if kind is Kind.CDN:
            return _problem(domain, Kind.KODO, _is_source(domain, source.tbl or "—"))
        return self._source(domain)

    def _with_doubt(self, error: DeployError) -> DeployError:
        """Say so when it could be a source domain all the same."""
        failure = self._sources.all().failure
        if failure is None:
            return error
        if _is_silence(failure):
            return failure.error
        return TargetRejected(
            Text("{problem}; Kodo's domains cannot be seen with these keys", problem=error.message),
            hint=error.hint,
        )

    def _named_source(self, domain: str) -> ObservedDomain:
        if self._cdn.has(domain):
            return _problem(domain, Kind.CDN, _is_cdn(domain))
        if self._sources.has(domain):
            return self._source(domain)
        failure = self._sources.all().failure
        error = _is_nothing(domain) if failure is None else failure.error
        return _problem(domain, Kind.KODO, error)

    def _source(self, domain: str) -> ObservedDomain:
        try:
            return self._sources.named(domain)
        except QiniuFailure as failure:
            if _is_silence(failure):
                raise
            return _problem(domain, Kind.KODO, failure.error)


@contextmanager
def _door() -> Iterator[None]:
    """Let nothing of the client's pass but the error it made for the door."""
    try:
        yield
    except QiniuFailure as failure:
        raise failure.error from None


def _may_be_left_out(look: Look, found: list[ObservedDomain], failure: QiniuFailure) -> bool:
    """Tell whether it does no harm that source domains cannot be listed: an outage of Kodo's must
    not stop the CDN, and where there is nothing else, it must not pass for an empty account.
    """
    return look.kind is not Kind.KODO and (bool(found) or not _is_silence(failure))


def _is_silence(failure: QiniuFailure) -> bool:
    return isinstance(failure.error, TargetUnavailable)


def _must_be_served_here(kind: Kind) -> None:
    if kind not in _KINDS:
        raise TargetRejected(
            Text('certferry does not deploy to domains of kind "{kind}" yet', kind=kind.value),
            hint=Text('set kind = "cdn" or "kodo", or leave it out'),
        )


def _problem(domain: str, kind: Kind, error: DeployError) -> ObservedDomain:
    return ObservedDomain(domain, kind, DomainState.UNAVAILABLE, problem=error)


def _with_way_out(error: DeployError) -> DeployError:
    """Say how to have the CDN's domains alone."""
    way_out = Text('set kind = "cdn" for this deployment to leave source domains out')
    hint = (
        way_out if error.hint is None else Text("{one}; or {other}", one=error.hint, other=way_out)
    )
    return type(error)(error.message, hint=hint, retry=error.retry)


def _is_source(domain: str, bucket: str) -> DeployError:
    return TargetRejected(
        Text(
            "{domain} is a source domain of the Kodo bucket {bucket}, not a CDN domain",
            domain=domain,
            bucket=bucket,
        ),
        hint=Text('set kind = "kodo" for it, or leave `kind` out'),
    )


def _is_cdn(domain: str) -> DeployError:
    return TargetRejected(
        Text("{domain} is a CDN domain, not a source domain of Kodo", domain=domain),
        hint=Text('set kind = "cdn" for it, or leave `kind` out'),
    )


def _is_nothing(domain: str) -> DeployError:
    return TargetRejected(
        Text("{domain} is no source domain of any Kodo bucket of this account", domain=domain),
        hint=Text("add it to a bucket in Qiniu's console, or correct `domains`"),
    )
