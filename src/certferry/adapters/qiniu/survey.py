"""What `discover`, `init` and `doctor` ask of a Qiniu account, whatever is declared: all that it
serves, what its keys may do, and how its reading calls are answered.

A domain is asked for by itself only where neither the list nor an earlier run shows it. What does
not depend on one another is asked for side by side; the pace of the account holds
(docs/facts/qiniu.md §9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

from certferry.adapters.http.client import journal
from certferry.adapters.http.journal import judged, reported, shown_host
from certferry.adapters.qiniu.account import Certificates, Details
from certferry.adapters.qiniu.cdn import KNOWN_STATES, failed_change, why_unusable
from certferry.adapters.qiniu.client import QiniuClient
from certferry.adapters.qiniu.errors import NO_SUCH_DOMAIN, QiniuFailure, attempt
from certferry.adapters.qiniu.parts import LiveDomains, SourceDomains
from certferry.adapters.qiniu.records import CertificateRecord, DomainItem, name_here
from certferry.adapters.qiniu.wire import CallGroup, endpoints_of, request_id
from certferry.core.discovery.inventory import FoundCertificate, FoundDomain, Survey
from certferry.core.findings import Code, info, of_refusal, warning
from certferry.core.network import WANTED
from certferry.errors import Problem, Severity
from certferry.ports.examination import AccountReport
from certferry.ports.survey import Looked
from certferry.text import Text

AT_ONCE = 10  # requests on their way at a time: with answers of a second, what the rate allows (§9)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Surveyor:
    """Lists the domains and certificates of an account. Raises `QiniuFailure`."""

    details: Details
    certificates: Certificates
    sources: SourceDomains
    live: LiveDomains

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
        listing = pool.submit(self._listed_certificates)
        reading = [pool.submit(self._live_domains), pool.submit(self.sources.survey)]
        items = self.details.listed.get().values()
        at_cdn = list(_awaited([pool.submit(self._cdn, item) for item in items], looked))
        parts = [part.result() for part in reading]
        certificates, failures = listing.result()
        # What several parts of Qiniu know is a CDN domain (§6.5).
        found = {one.domain: one for domains, _ in parts for one in domains}
        found |= {one.domain: one for one in at_cdn}
        failures += [failure for _, unread in parts for failure in unread]
        return Survey(
            tuple(_with_end(domain, certificates) for domain in found.values()),
            tuple(dict.fromkeys(failure.error for failure in failures)),
            tuple(map(_certificate, certificates.values())),
        )

    def _listed_certificates(self) -> tuple[dict[str, CertificateRecord], list[QiniuFailure]]:
        """List the certificates; keys that may not do it see the domains all the same."""
        try:
            return self.certificates.all(), []
        except QiniuFailure as failure:
            if failure.is_outage:
                raise
            return {}, [failure]

    def _live_domains(self) -> tuple[list[FoundDomain], list[QiniuFailure]]:
        """Read the live domains, which refer to certificates by name."""
        return self.live.survey(self._listed_certificates()[0])

    def _cdn(self, item: DomainItem) -> FoundDomain | None:
        name = name_here(item.name)
        found = FoundDomain(name, item.kind, by_itself=item.by_itself)
        try:
            record = self.details.survey(item)
        except QiniuFailure as failure:
            if failure.code in NO_SUCH_DOMAIN:  # removed a moment ago
                return None
            if failure.is_common or failure.silent:
                raise
            return replace(found, problem=failure.error, binding_hidden=True)
        return replace(
            found,
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
    """Return the domains as they come, and report how many have come."""
    for count, read in enumerate(as_completed(reading), start=1):
        if (domain := read.result()) is not None:
            yield domain
        looked(count, len(reading))


def _with_end(domain: FoundDomain, certificates: Mapping[str, CertificateRecord]) -> FoundDomain:
    record = certificates.get(domain.bound or "")
    return domain if record is None else replace(domain, not_after=record.ends)


def _certificate(record: CertificateRecord) -> FoundCertificate:
    return FoundCertificate(record.certid, record.label, record.shown_names, record.ends)


_SEVERITIES = {
    CallGroup.DOMAINS: Severity.ERROR,
    CallGroup.CERTIFICATES: Severity.ERROR,
    CallGroup.BUCKETS: Severity.WARNING,  # without them only source domains are not found
}


def examine(
    account: str, client: QiniuClient, details: Details, certificates: Certificates
) -> Iterator[Problem]:
    """Make one reading call of each group; return what is refused, what answered, and how many
    certificates there are. Raises `QiniuFailure` where nothing can be asked.
    """
    calls: Mapping[CallGroup, Callable[[], object]] = {
        CallGroup.DOMAINS: details.listed.get,
        CallGroup.CERTIFICATES: certificates.all,
        CallGroup.BUCKETS: client.list_buckets,
    }
    came = {group: attempt(call) for group, call in calls.items()}
    failures = {group: one for group, one in came.items() if isinstance(one, QiniuFailure)}
    if len(failures) == len(calls):
        raise failures[CallGroup.DOMAINS]
    for group, failure in failures.items():
        if failure.is_denied:
            yield failure.error.problem(account, _SEVERITIES[group], Code.CALL_REFUSED)
        else:
            yield of_refusal(account, failure.error)
    if client.transport.with_iam_key:
        message = Text(
            "the access key is a sub-account's (it begins with IAM-); it may read; only a"
            " change would show whether it may upload and bind, and none is tried here"
        )
        fix = Text(
            "allow it to change CDN domains and SSL certificates in Qiniu's console, or use a pair"
            " of the main account; source domains of Kodo want that in any case"
        )
        yield warning(Code.SUB_ACCOUNT_KEY, account, message, fix)
    proven = client.transport.proven
    # Of the calls that were made here alone: others may run beside them.
    made = [group for group in calls if group in proven]
    ways = [Text("{calls} at {way}", calls=str(one), way=str(proven[one])) for one in made]
    yield info(Code.WAYS, account, Text("the keys are accepted: {ways}", ways=ways))
    if CallGroup.CERTIFICATES not in failures:
        # Beyond a limit that it does not name, Qiniu refuses more (§9).
        said = Text(
            "certificates in the account: {count}; Qiniu does not tell how many it may hold"
        )
        count = len(certificates.all())
        yield info(Code.CERTIFICATES_KEPT, account, said.filled(count=count))


PUBLIC = frozenset(
    {"QBox", "Qiniu", "domain", "domains", "sslcert", "buckets", "cert", "bindings", "v2", "v3"}
    | {"hubs", "marker", "limit", "tbl", "bucket", "type", "api.qiniu.com", "api.qiniuapi.com"}
    | {f"{name}.qiniuapi.com" for name in ("fusion", "uc", "kodo-config", "pili")}
)
GATE = timedelta(days=30).total_seconds()  # less than this is said to be refused (§4.6)
FIRST_ENDPOINTS = (
    ("1.2", CallGroup.DOMAINS, "/domain"),
    ("1.2", CallGroup.CERTIFICATES, "/sslcert"),
    ("6.3", CallGroup.BINDINGS, "/cert/bindings"),
    ("7", CallGroup.LIVE, "/v2/hubs"),
)


def report_of(client: QiniuClient) -> AccountReport:
    """See `ports.examination.Reporting.report`, and what the calls show of the guesses (§10)."""
    with journal() as made:
        shown = tuple(_asked(client))
    lines = (*shown, *reported(made, PUBLIC, request_id))
    return AccountReport("Qiniu", lines, credentials_work=bool(client.transport.proven))


def _asked(client: QiniuClient) -> Iterator[Text]:
    """Make one reading call of each group, as long as Qiniu answers and takes the keys."""
    try:
        ahead = client.transport.clock_ahead()
    except QiniuFailure:
        return
    # The answer's Date is cut to the second, so less than one says nothing.
    right = None if ahead is None else abs(ahead) <= WANTED + timedelta(seconds=1)
    yield judged("2.3", Text("this machine's clock is right, to 30 seconds"), right)
    domains = _unless_refused(client.list_domains) or []
    certificates = _unless_refused(client.list_certificates) or []
    buckets = _unless_refused(client.list_buckets) or []
    if not client.transport.proven:
        return
    served = sorted(
        (one for one in domains if one.by_itself), key=lambda one: one.protocol != "https"
    )
    details = [_unless_refused(partial(client.read_domain, one.name)) for one in served[:1]]
    for bucket in buckets[:1]:
        _unless_refused(partial(client.list_bucket_domains, bucket))
    _unless_refused(client.list_bindings)
    if client.has_pili:
        _unless_refused(client.list_hubs)
    yield from _first_endpoints(client)
    known = all(str(one.operating_state) in KNOWN_STATES for one in domains) if domains else None
    yield judged("5.1", Text("certferry knows the state of every domain"), known)
    https = [one.https for one in details if one and one.https and one.https.cert_id]
    flags = [flag for one in https for flag in (one.force_https, one.http2_enable)]
    said = Text("the detail of a domain with HTTPS shows its redirect and its HTTP/2")
    yield judged("5.3", said, None not in flags if flags else None)
    lives = [c.not_after - c.create_time for c in certificates if c.not_after and c.create_time]
    said = Text("a certificate with less than 30 days left is refused")
    yield judged("4.6", said, False if any(0 < life < GATE for life in lives) else None)


def _first_endpoints(client: QiniuClient) -> Iterator[Text]:
    """Judge whether the endpoint that is tried first is the one that worked."""
    for section, group, call in FIRST_ENDPOINTS:
        proven = client.transport.proven.get(group)
        for endpoint in endpoints_of(client.transport.hosts)[group][:1]:
            host, scheme = shown_host(endpoint.url, PUBLIC), str(endpoint.scheme)
            said = Text("{host} answers {call} under the {scheme} scheme")
            said = said.filled(host=host, call=call, scheme=scheme)
            yield judged(section, said, None if proven is None else proven == endpoint)


def _unless_refused(call: Callable[[], T]) -> T | None:
    with suppress(QiniuFailure):
        return call()
    return None
