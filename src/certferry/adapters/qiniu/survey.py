"""Surveys of a whole Qiniu account for `discover`, `init` and `doctor`: the domains and
certificates, the rights of the keys, and the answers to calls that only read.

A domain's detail is requested from Qiniu only if neither the list nor an earlier run has given the
detail. Requests are sent in parallel, at the account's pace (docs/facts/qiniu.md §9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TypeVar

from msgspec import Struct

from certferry.adapters.cdn.answers import name_here
from certferry.adapters.cdn.copies import Certificates, StoredCertificate
from certferry.adapters.cdn.rights import failures_of, finding_of
from certferry.adapters.http.exchange import journal
from certferry.adapters.http.journal import judged, reported, shown_host
from certferry.adapters.qiniu.account import Details
from certferry.adapters.qiniu.cdn import KNOWN_STATES, failed_change, why_unusable
from certferry.adapters.qiniu.errors import NO_SUCH_DOMAIN, QiniuFailure
from certferry.adapters.qiniu.parts import LiveDomains, SourceDomains
from certferry.adapters.qiniu.qiniu_client import QiniuClient
from certferry.adapters.qiniu.records import DomainItem
from certferry.adapters.qiniu.wire import CallGroup, endpoints_of, request_id
from certferry.core.discovery.inventory import FoundCertificate, FoundDomain, Survey
from certferry.core.findings import Code, info, warning
from certferry.core.network import WANTED
from certferry.errors import Problem, Severity
from certferry.ports.examination import AccountReport
from certferry.ports.survey import Looked
from certferry.text import Text
from certferry.values import replace

AT_ONCE = 10  # parallel requests: answers of one second use up the rate (§9)

T = TypeVar("T")


class Surveyor(Struct, frozen=True):
    """Lists the domains and certificates of an account. Raises `QiniuFailure`."""

    details: Details
    certificates: Certificates
    sources: SourceDomains
    live: LiveDomains

    def survey(self, looked: Looked) -> Survey:
        """Read every domain, and the list of certificates; report progress to `looked`."""
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="survey")
        try:
            survey = self._survey(pool, looked)
        except BaseException:
            # Do not wait for the requests in progress, because each may take minutes.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        return survey

    def _survey(self, pool: ThreadPoolExecutor, looked: Looked) -> Survey:
        listing = pool.submit(self._listed_certificates)
        reading = [pool.submit(self._live_domains), pool.submit(self.sources.survey)]
        items = self.details.listed.get().values()
        at_cdn = list(_awaited([pool.submit(self._cdn, item) for item in items], looked))
        parts = [part.result() for part in reading]
        certificates, failures = listing.result()
        # A domain listed by several parts of Qiniu is a CDN domain (§6.5).
        by_name = {domain.domain: domain for domains, _ in parts for domain in domains}
        by_name |= {domain.domain: domain for domain in at_cdn}
        failures += [failure for _, unread in parts for failure in unread]
        return Survey(
            tuple(_with_end(domain, certificates) for domain in by_name.values()),
            tuple(dict.fromkeys(failure.error for failure in failures)),
            tuple(map(_certificate, certificates.values())),
        )

    def _listed_certificates(self) -> tuple[dict[str, StoredCertificate], list[QiniuFailure]]:
        """Return the certificates by id, and the failures (an empty list). If only the certificates
        cannot be listed, return an empty mapping and the failure, so that the domains can still be
        listed. Raises `QiniuFailure` for an outage.
        """
        try:
            return self.certificates.all(), []
        except QiniuFailure as failure:
            if failure.is_outage:
                raise
            return {}, [failure]

    def _live_domains(self) -> tuple[list[FoundDomain], list[QiniuFailure]]:
        """Read the live domains. The certificates are read first, because Pili may give only the
        name of a live domain's certificate.
        """
        return self.live.survey(self._listed_certificates()[0])

    def _cdn(self, item: DomainItem) -> FoundDomain | None:
        name = name_here(item.name)
        domain = FoundDomain(name, item.kind, by_itself=item.by_itself)
        try:
            record = self.details.survey(item)
        except QiniuFailure as failure:
            if failure.code in NO_SUCH_DOMAIN:  # removed a moment ago
                return None
            if failure.is_common or failure.silent:
                raise
            return replace(domain, problem=failure.error, binding_hidden=True)
        return replace(
            domain,
            kind=record.kind,
            has_https=record.has_https,
            problem=why_unusable(name, record),
            bound=record.bound,
            is_free=record.is_free,
            binding_hidden=record.hides_https,
            state=record.operating_state,
            https=record.settings,
            failure=failed_change(record),
        )


def _awaited(
    reading: Sequence[Future[FoundDomain | None]], looked: Looked
) -> Iterator[FoundDomain]:
    """Yield the domains in the order of the answers, and report the number of answers."""
    for count, future in enumerate(as_completed(reading), start=1):
        if (domain := future.result()) is not None:
            yield domain
        looked(count, len(reading))


def _with_end(domain: FoundDomain, certificates: Mapping[str, StoredCertificate]) -> FoundDomain:
    record = certificates.get(domain.bound or "")
    return domain if record is None else replace(domain, not_after=record.ends)


def _certificate(record: StoredCertificate) -> FoundCertificate:
    return FoundCertificate(record.remote_id, record.label, record.shown_names, record.ends)


_SEVERITIES = {
    CallGroup.DOMAINS: Severity.ERROR,
    CallGroup.CERTIFICATES: Severity.ERROR,
    CallGroup.BUCKETS: Severity.WARNING,  # without buckets, only source domains are missing
}


def examine(
    account: str, client: QiniuClient, details: Details, certificates: Certificates
) -> Iterator[Problem]:
    """List the CDN domains, the certificates and the buckets. Yield the findings: failed calls, a
    sub-account's key, the endpoints of the successful calls, and the number of certificates.

    Raises `QiniuFailure` if every call fails.
    """
    calls: Mapping[CallGroup, Callable[[], object]] = {
        CallGroup.DOMAINS: details.listed.get,
        CallGroup.CERTIFICATES: certificates.all,
        CallGroup.BUCKETS: client.list_buckets,
    }
    failures = failures_of(calls, QiniuFailure)
    for group, failure in failures.items():
        yield finding_of(account, failure, _SEVERITIES[group])
    if client.transport.with_iam_key:
        message = Text(
            "the access key belongs to a sub-account (IAM-…) and can read; only a change would"
            " show whether it can upload and bind, and this check changes nothing"
        )
        fix = Text(
            "allow the sub-account to change CDN domains and SSL certificates in Qiniu's console,"
            " or use a key pair of the main account (always required for source domains of Kodo)"
        )
        yield warning(Code.SUB_ACCOUNT_KEY, account, message, fix)
    proven = client.transport.proven
    # `proven` may have further groups, from calls of other threads. Report only the calls made
    # here.
    made = [group for group in calls if group in proven]
    ways = [Text("{calls} at {way}", calls=str(group), way=str(proven[group])) for group in made]
    yield info(Code.WAYS, account, Text("Qiniu accepts the keys: {ways}", ways=ways))
    if CallGroup.CERTIFICATES not in failures:
        # Qiniu refuses further certificates above an undocumented limit (§9).
        sentence = Text("certificates in the account: {count}; Qiniu does not publish the quota")
        count = len(certificates.all())
        yield info(Code.CERTIFICATES_KEPT, account, sentence.filled(count=count))


PUBLIC = frozenset(
    {"QBox", "Qiniu", "domain", "domains", "sslcert", "buckets", "cert", "bindings", "v2", "v3"}
    | {"hubs", "marker", "limit", "tbl", "bucket", "type", "api.qiniu.com", "api.qiniuapi.com"}
    | {f"{name}.qiniuapi.com" for name in ("fusion", "uc", "kodo-config", "pili")}
)
GATE = timedelta(days=30).total_seconds()  # users report shorter remaining lives as refused (§4.6)
FIRST_ENDPOINTS = (
    ("1.2", CallGroup.DOMAINS, "/domain"),
    ("1.2", CallGroup.CERTIFICATES, "/sslcert"),
    ("6.3", CallGroup.BINDINGS, "/cert/bindings"),
    ("7", CallGroup.LIVE, "/v2/hubs"),
)


def report_of(client: QiniuClient) -> AccountReport:
    """See `ports.examination.Reporting.report`. The report also says which of the guesses in
    docs/facts/qiniu.md §10 are right.
    """
    with journal() as made:
        shown = tuple(_asked(client))
    lines = (*shown, *reported(made, PUBLIC, request_id))
    return AccountReport("Qiniu", lines, credentials_work=bool(client.transport.proven))


def _asked(client: QiniuClient) -> Iterator[Text]:
    """Make the calls that only read, and yield whether guesses in docs/facts/qiniu.md §10 are
    right.

    Stop early if Qiniu is silent, or if no call succeeds with the keys.
    """
    try:
        ahead = client.transport.clock_ahead()
    except QiniuFailure:
        return
    # The answer's Date has whole seconds, so a second is added to the tolerance.
    right = None if ahead is None else abs(ahead) <= WANTED + timedelta(seconds=1)
    yield judged("2.3", Text("this host's clock is right, to 30 seconds"), right)
    domains = _unless_refused(client.list_domains) or []
    certificates = _unless_refused(client.list_certificates) or []
    buckets = _unless_refused(client.list_buckets) or []
    if not client.transport.proven:
        return
    served = sorted(
        (item for item in domains if item.by_itself), key=lambda item: item.protocol != "https"
    )
    details = [_unless_refused(partial(client.read_domain, item.name)) for item in served[:1]]
    for bucket in buckets[:1]:
        _unless_refused(partial(client.list_bucket_domains, bucket))
    _unless_refused(client.list_bindings)
    if client.has_pili:
        _unless_refused(client.list_hubs)
    yield from _first_endpoints(client)
    is_known = (
        all(str(item.operating_state) in KNOWN_STATES for item in domains) if domains else None
    )
    yield judged("5.1", Text("certferry knows the state of every domain"), is_known)
    https = [detail.https for detail in details if detail and detail.https and detail.https.cert_id]
    flags = [flag for record in https for flag in (record.force_https, record.http2_enable)]
    guess = Text("the details of a domain with HTTPS show its redirect and HTTP/2 settings")
    yield judged("5.3", guess, None not in flags if flags else None)
    lives = [c.not_after - c.create_time for c in certificates if c.not_after and c.create_time]
    guess = Text("Qiniu refuses a certificate with less than 30 days left")
    yield judged("4.6", guess, False if any(0 < life < GATE for life in lives) else None)


def _first_endpoints(client: QiniuClient) -> Iterator[Text]:
    """Yield a sentence for each group of calls in `FIRST_ENDPOINTS`: whether the group's first
    endpoint worked.
    """
    for section, group, call in FIRST_ENDPOINTS:
        proven = client.transport.proven.get(group)
        for endpoint in endpoints_of(client.transport.hosts)[group][:1]:
            host, scheme = shown_host(endpoint.url, PUBLIC), str(endpoint.scheme)
            guess = Text("{host} answers {call} under the {scheme} scheme")
            guess = guess.filled(host=host, call=call, scheme=scheme)
            yield judged(section, guess, None if proven is None else proven == endpoint)


def _unless_refused(call: Callable[[], T]) -> T | None:
    with suppress(QiniuFailure):
        return call()
    return None
