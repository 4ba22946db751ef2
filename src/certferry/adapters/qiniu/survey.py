"""Everything that a Qiniu account serves, with any certificates, and the certificates themselves.
A domain is asked for by itself only where neither the list nor an earlier run shows it.

What does not depend on one another is asked for side by side; the pace of the account holds
(docs/facts/qiniu.md §9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import timedelta

from certferry.adapters.qiniu.account import QiniuAccount
from certferry.adapters.qiniu.cdn import Details
from certferry.adapters.qiniu.client import QiniuClient
from certferry.adapters.qiniu.errors import NO_SUCH_DOMAIN, QiniuFailure
from certferry.adapters.qiniu.kinds import KODO
from certferry.adapters.qiniu.kodo import why_frozen
from certferry.adapters.qiniu.live import LiveDomains
from certferry.adapters.qiniu.records import (
    NOT_SERVED_BY_ITSELF,
    BucketDomain,
    CertificateRecord,
    DomainItem,
    DomainRecord,
    failed_change,
    kind_of,
    name_here,
    settings_of,
    why_unusable,
)
from certferry.adapters.qiniu.wire import CallGroup
from certferry.core.discovery.survey import FoundCertificate, FoundDomain, Survey
from certferry.core.findings import Code, info, of_refusal, warning
from certferry.core.redaction import quoted
from certferry.ports.survey import Looked
from certferry.problem import Problem, Severity
from certferry.text import Text

AT_ONCE = 10
"""Requests on their way at a time: with answers of a second, what the rate allows (§9)."""


@dataclass(frozen=True, slots=True)
class Part:
    """The domains of a part of the account that is not in the CDN's list, as far as it could be
    read; `failures` say why there may be more of them.
    """

    domains: Sequence[FoundDomain] = ()
    failures: Sequence[QiniuFailure] = ()


class Surveyor:
    """Lists the domains and certificates of an account. Raises `QiniuFailure`."""

    def __init__(self, details: Details, account: QiniuAccount, live: LiveDomains) -> None:
        self._details = details
        self._account = account
        self._live = live
        self._parts: tuple[Callable[[], Part], ...] = (self._live_domains, self._sources)

    def survey(self, looked: Looked) -> Survey:
        """Read every domain, and the list of certificates."""
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="survey")
        try:
            survey = self._survey(pool, looked)
        except BaseException:
            # certferry does not wait for requests that are on their way: each may take minutes.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        return survey

    def _survey(self, pool: ThreadPoolExecutor, looked: Looked) -> Survey:
        listing = pool.submit(self._certificates)
        reading = [pool.submit(part) for part in self._parts]
        items = self._account.domains.get().by_name.values()
        at_cdn = list(_awaited([pool.submit(self._cdn, item) for item in items], looked))
        parts = [part.result() for part in reading]
        certificates, unlisted = listing.result()
        # What several parts of Qiniu know is a CDN domain (§6.5).
        found = {one.domain: one for part in parts for one in part.domains}
        found |= {one.domain: one for one in at_cdn}
        failures = [*unlisted, *(one for part in parts for one in part.failures)]
        return Survey(
            tuple(_with_end(domain, certificates) for domain in found.values()),
            tuple(dict.fromkeys(failure.error for failure in failures)),
            tuple(map(_certificate, certificates.values())),
        )

    def _certificates(self) -> tuple[Mapping[str, CertificateRecord], list[QiniuFailure]]:
        """List the certificates; keys that may not do it see the domains all the same."""
        try:
            return self._account.certificates(), []
        except QiniuFailure as failure:
            if failure.is_common and not failure.is_denied:
                raise
            return {}, [failure]

    def _cdn(self, item: DomainItem) -> FoundDomain | None:
        name, by_itself = name_here(item.name), item.type not in NOT_SERVED_BY_ITSELF
        try:
            record = self._details.survey(item)
        except QiniuFailure as failure:
            if failure.code in NO_SUCH_DOMAIN:  # removed a moment ago
                return None
            if failure.is_common or failure.silent:
                raise
            problem = failure.error
            return FoundDomain(
                name, kind_of(item), problem=problem, by_itself=by_itself, binding_hidden=True
            )
        return _of_cdn(name, record, by_itself=by_itself)

    def _live_domains(self) -> Part:
        """Read the live domains, which name their certificates by what these are called."""
        certificates, _ = self._certificates()
        found = tuple(self._live.survey(certificates))
        failure = self._live.failure
        return Part(found, [] if failure is None else [failure])

    def _sources(self) -> Part:
        """Read the source domains, as far as the keys may see them."""
        sources = self._account.sources.get()
        failures = [] if sources.failure is None else [sources.failure]
        try:
            bindings = self._account.bindings.get() if sources.domains else {}
        except QiniuFailure as failure:
            unbound = [_of_kodo(name, one, None) for name, one in sources.domains.items()]
            unknown = [replace(domain, binding_hidden=True) for domain in unbound]
            return Part(unknown, [failure, *failures])
        found = [_of_kodo(name, one, bindings.get(name)) for name, one in sources.domains.items()]
        return Part(found, failures)


def _awaited(
    reading: Sequence[Future[FoundDomain | None]], looked: Looked
) -> Iterator[FoundDomain]:
    """Return the domains as they come, and report how many have come."""
    for count, read in enumerate(as_completed(reading), start=1):
        if (domain := read.result()) is not None:
            yield domain
        looked(count, len(reading))


def _of_cdn(name: str, record: DomainRecord, *, by_itself: bool) -> FoundDomain:
    return FoundDomain(
        domain=name,
        kind=kind_of(record),
        has_https=record.has_https,
        problem=why_unusable(name, record),
        by_itself=by_itself,
        bound=record.bound,
        is_free=record.is_free,
        binding_hidden=record.hides_https,
        state=quoted(record.operating_state or "") or None,
        https=settings_of(record),
        failure=failed_change(record),
    )


def _of_kodo(name: str, source: BucketDomain, bound: str | None) -> FoundDomain:
    return FoundDomain(
        domain=name,
        kind=KODO,
        has_https=bound is not None,
        problem=why_frozen(name, source),
        bound=bound,
        state="frozen" if source.freeze_types else None,
    )


def _with_end(domain: FoundDomain, certificates: Mapping[str, CertificateRecord]) -> FoundDomain:
    record = certificates.get(domain.bound or "")
    return domain if record is None else replace(domain, not_after=record.ends)


def _certificate(record: CertificateRecord) -> FoundCertificate:
    names = None if record.dnsnames is None else tuple(n.lower() for n in record.dnsnames)
    return FoundCertificate(record.certid, record.name or "", names, record.ends)


_SEVERITIES = {
    CallGroup.DOMAINS: Severity.ERROR,
    CallGroup.CERTIFICATES: Severity.ERROR,
    CallGroup.BUCKETS: Severity.WARNING,  # without them only source domains are not found
}


class Examiner:
    """Examines one account. Raises `QiniuFailure` where nothing can be asked."""

    def __init__(self, client: QiniuClient, account: QiniuAccount) -> None:
        self._client = client
        self._account = account

    def examine(self, account: str) -> tuple[Problem, ...]:
        """Make one reading call of each group; return which are refused, and where the others were
        answered.
        """
        calls: Mapping[CallGroup, Callable[[], object]] = {
            CallGroup.DOMAINS: self._account.domains.get,
            CallGroup.CERTIFICATES: self._account.certificates,
            CallGroup.BUCKETS: self._client.list_buckets,
        }
        failures: dict[CallGroup, QiniuFailure] = {}
        for group, call in calls.items():
            try:
                call()
            except QiniuFailure as failure:
                failures[group] = failure
        if len(failures) == len(calls):
            raise failures[CallGroup.DOMAINS]
        refused = [_refusal(account, group, failure) for group, failure in failures.items()]
        kept = () if CallGroup.CERTIFICATES in failures else (self._kept(account),)
        return (*refused, *self._sub_account(account), self._accepted(account, calls), *kept)

    def cnames(self) -> Mapping[str, str]:
        """See `ports.examination.PointedAt.cnames`."""
        return {
            name_here(item.name): item.cname.rstrip(".").lower()
            for item in self._account.domains.get().by_name.values()
            if item.cname and item.type not in NOT_SERVED_BY_ITSELF
        }

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        return self._client.transport.clock_ahead()

    def _sub_account(self, account: str) -> tuple[Problem, ...]:
        """Report what reading cannot show: whether changes are allowed."""
        if not self._client.transport.with_iam_key:
            return ()
        message = Text(
            "the access key is a sub-account's (it begins with IAM-); it may read; only a"
            " change would show whether it may upload and bind, and none is tried here"
        )
        fix = Text(
            "allow it to change CDN domains and SSL certificates in Qiniu's console, or use a pair"
            " of the main account; source domains of Kodo want that in any case"
        )
        return (warning(Code.SUB_ACCOUNT_KEY, account, message, fix),)

    def _accepted(self, account: str, asked: Iterable[CallGroup]) -> Problem:
        """Report the calls that are `asked` here alone: others may run beside them."""
        proven = self._client.transport.proven
        ways = [
            Text("{calls} at {way}", calls=str(group), way=str(proven[group]))
            for group in asked
            if group in proven
        ]
        return info(Code.WAYS, account, Text("the keys are accepted: {ways}", ways=ways))

    def _kept(self, account: str) -> Problem:
        """Count the certificates: beyond a limit that it does not name, Qiniu refuses more (§9)."""
        count = len(self._account.certificates())
        message = Text(
            "certificates in the account: {count}; Qiniu does not tell how many it may hold",
            count=count,
        )
        return info(Code.CERTIFICATES_KEPT, account, message)


def _refusal(account: str, group: CallGroup, failure: QiniuFailure) -> Problem:
    if failure.is_denied:
        return failure.error.problem(account, _SEVERITIES[group], Code.CALL_REFUSED)
    return of_refusal(account, failure.error)
