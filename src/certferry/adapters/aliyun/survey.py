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
from certferry.adapters.cdn.failure import attempt, unless_refused
from certferry.adapters.cdn.rights import certificates_kept, failures_of, finding_of, findings_of
from certferry.adapters.http.exchange import journal
from certferry.adapters.http.journal import judged, reported
from certferry.core.discovery.inventory import FoundCertificate, FoundDomain, Survey
from certferry.errors import Problem
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
        listed = unless_refused(product.listed, AliyunFailure, failures) or {}
        places = {**{name: (product, item) for name, item in listed.items()}, **places}
    if len(failures) == len(products):
        raise failures[0]
    stored = unless_refused(certificates.all, AliyunFailure, failures) or {}
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
    failures = failures_of(calls, AliyunFailure)
    for product in products:
        if str(product.product.called) not in failures:
            yield from _reading_a_binding(account, product)
    sentence = Text(
        "Alibaba Cloud accepts the AccessKey for reading: {ways}; only a change would show whether"
        " the AccessKey can upload and bind"
    )
    # Without the store, certferry sends certificate and key with each binding.
    yield from findings_of(account, calls, failures, {"CAS"}, sentence)
    if "CAS" not in failures:
        yield certificates_kept(account, certificates)


def _reading_a_binding(account: str, product: Domains) -> Iterator[Problem]:
    """Read the binding of the first domain with HTTPS; yield the refusal, if any."""
    with_https = [pair for pair in product.listed().items() if pair[1].has_https]
    for name, item in with_https[:1]:
        result = attempt(partial(product.bound, name, item), AliyunFailure)
        if isinstance(result, AliyunFailure):
            yield finding_of(account, result)


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
