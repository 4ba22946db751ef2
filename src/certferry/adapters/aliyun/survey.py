"""Surveys of an account at Alibaba Cloud for `discover`, `init` and `doctor`: the domains and
certificates, the rights of the AccessKey, and the answers to reading calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from certferry.adapters.aliyun.aliyun_client import CDN, DCDN, AliyunClient
from certferry.adapters.aliyun.domains import FAILED, Bound, Domains, problem_of
from certferry.adapters.aliyun.errors import AliyunFailure
from certferry.adapters.aliyun.records import DomainItem
from certferry.adapters.cdn.copies import Certificates, StoredCertificate
from certferry.adapters.cdn.failure import attempt
from certferry.adapters.http.exchange import journal
from certferry.adapters.http.journal import judged, reported
from certferry.core.discovery.inventory import FoundCertificate, FoundDomain, Survey
from certferry.core.findings import Code, info, of_refusal
from certferry.errors import Problem, Severity
from certferry.ports.examination import AccountReport
from certferry.ports.survey import Looked
from certferry.text import Text
from certferry.values import replace

T = TypeVar("T")
BoundId = Callable[[Bound, Mapping[str, StoredCertificate]], str | None]


def survey(
    products: Sequence[Domains], certificates: Certificates, bound_id: BoundId, looked: Looked
) -> Survey:
    """Read every domain, and the list of certificates; report progress to `looked`.

    The result names the products and the store that cannot be listed. Raises `AliyunFailure` if no
    product can be listed, or for a failure that any other call would share.
    """
    failures: list[AliyunFailure] = []
    places: dict[str, tuple[Domains, DomainItem]] = {}
    for product in products:
        listed = _unless_refused(product.listed, failures) or {}
        places = {**{name: (product, item) for name, item in listed.items()}, **places}
    if len(failures) == len(products):
        raise failures[0]
    stored = _unless_refused(certificates.all, failures) or {}
    domains: list[FoundDomain] = []
    for count, (domain, (product, item)) in enumerate(places.items(), start=1):
        domains.append(_found(domain, item, product, stored, bound_id))
        looked(count, len(places))
    listed_certificates = (
        FoundCertificate(record.remote_id, record.label, record.shown_names, record.ends)
        for record in stored.values()
    )
    unread = tuple(dict.fromkeys(failure.error for failure in failures))
    return Survey(tuple(domains), unread, tuple(listed_certificates))


def _unless_refused(call: Callable[[], T], failures: list[AliyunFailure]) -> T | None:
    result = attempt(call, AliyunFailure)
    if not isinstance(result, AliyunFailure):
        return result
    if result.is_common:
        raise result
    failures.append(result)
    return None


def _found(
    domain: str,
    item: DomainItem,
    product: Domains,
    stored: Mapping[str, StoredCertificate],
    bound_id: BoundId,
) -> FoundDomain:
    problem = problem_of(domain, item, product.product)
    place = FoundDomain(domain, product.product.kind, problem=problem, state=item.state or None)
    if item.state == FAILED:
        place = replace(place, problem=None, failure=problem)
    try:
        bound = product.bound(domain, item)
    except AliyunFailure as failure:
        if failure.is_common or failure.silent:
            raise
        return replace(place, problem=failure.error, binding_hidden=True)
    return replace(
        place,
        has_https=bound.is_on,
        not_after=bound.ends,
        bound=bound_id(bound, stored),
        binding_hidden=bound.is_hidden,
    )


def examine(
    account: str, products: Sequence[Domains], certificates: Certificates
) -> Iterator[Problem]:
    """Make a reading call for each right. Yield the findings: refused calls, each with the policy
    to paste, the accepted calls, and the number of certificates.

    Raises `AliyunFailure` if every call fails.
    """
    calls: dict[str, Callable[[], object]] = {
        **{str(part.product.called): part.listed for part in products},
        "CAS": certificates.all,
    }
    results = {name: attempt(call, AliyunFailure) for name, call in calls.items()}
    failures = {name: r for name, r in results.items() if isinstance(r, AliyunFailure)}
    if len(failures) == len(calls):
        raise next(iter(failures.values()))
    for product in products:
        if str(product.product.called) not in failures:
            yield from _reading_a_binding(account, product)
    for name, failure in failures.items():
        if failure.is_denied:
            # Without the store, certferry sends certificate and key with each binding.
            severity = Severity.WARNING if name == "CAS" else Severity.ERROR
            yield failure.error.problem(account, severity, Code.CALL_REFUSED)
        else:
            yield of_refusal(account, failure.error)
    accepted = [name for name in calls if name not in failures]
    sentence = Text(
        "Alibaba Cloud accepts the AccessKey for reading: {ways}; only a change would show whether"
        " the AccessKey can upload and bind"
    )
    yield info(Code.WAYS, account, sentence.filled(ways=accepted))
    if "CAS" not in failures:
        counted = Text("certificates in the account's store: {count}")
        yield info(Code.CERTIFICATES_KEPT, account, counted.filled(count=len(certificates.all())))


def _reading_a_binding(account: str, product: Domains) -> Iterator[Problem]:
    """Read the binding of the first domain with HTTPS; yield the refusal, if any."""
    with_https = [pair for pair in product.listed().items() if pair[1].has_https]
    for name, item in with_https[:1]:
        result = attempt(partial(product.bound, name, item), AliyunFailure)
        if isinstance(result, AliyunFailure):
            if result.is_denied:
                yield result.error.problem(account, Severity.ERROR, Code.CALL_REFUSED)
            else:
                yield of_refusal(account, result.error)


PUBLIC = frozenset(
    {"cdn.aliyuncs.com", "dcdn.aliyuncs.com", "cas.aliyuncs.com", "alidns.aliyuncs.com"}
)


def report_of(client: AliyunClient) -> AccountReport:
    """See `ports.examination.Reporting.report`. The report also judges guesses of the facts."""
    accepted: list[str] = []
    with journal() as made:
        shown = tuple(_asked(client, accepted))
    lines = (*shown, *reported(made, PUBLIC))
    return AccountReport("Alibaba Cloud", lines, credentials_work=bool(accepted))


def _asked(client: AliyunClient, accepted: list[str]) -> Iterator[Text]:
    """Make the reading calls, and yield judgements on guesses (docs/facts/aliyun.md §3, §5)."""
    listed: list[DomainItem] = []
    for product in (CDN, DCDN):
        with suppress(AliyunFailure):
            domains = client.list_domains(product)
            accepted.append(str(product.called))
            listed += domains
            client.list_https(product)
            with_https = [item for item in domains if item.has_https]
            for item in with_https[:1]:
                binding = client.certificate_of(product, item.domain_name)
                guess = Text("{product} names the bound certificate", product=product.called)
                is_named = binding is not None and bool(binding.remote_id or binding.leaf)
                yield judged("3.3", guess, is_named)
                client.edges_of(product, item.domain_name)
    with suppress(AliyunFailure):
        stored = client.list_certificates()
        accepted.append("CAS")
        guess = Text("the store of certificates lists SHA-256 fingerprints")
        has_prints = all(record.stored.fingerprint for record in stored) if stored else None
        yield judged("5.2", guess, has_prints)
    guess = Text("the list of domains says whether HTTPS is on")
    is_said = all(item.has_https is not None for item in listed) if listed else None
    yield judged("3.1", guess, is_said)
