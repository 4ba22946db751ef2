"""The examination of an account at Alibaba Cloud for `doctor`: the rights of the AccessKey, and the
answers to reading calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from certferry.adapters.aliyun.aliyun_client import CDN, DCDN, AliyunClient
from certferry.adapters.aliyun.errors import AliyunFailure
from certferry.adapters.aliyun.records import DomainItem
from certferry.adapters.aliyun.rpc import action_of, code_of
from certferry.adapters.http.exchange import journal
from certferry.adapters.http.journal import judged, reported
from certferry.ports.examination import AccountReport
from certferry.text import Text

PUBLIC = frozenset(
    {
        "cdn.aliyuncs.com",
        "dcdn.aliyuncs.com",
        "cas.aliyuncs.com",
        "alidns.aliyuncs.com",
        "DescribeUserDomains",
        "DescribeCdnHttpsDomainList",
        "DescribeDomainCertificateInfo",
        "DescribeUserVipsByDomain",
        "DescribeDcdnUserDomains",
        "DescribeDcdnHttpsDomainList",
        "DescribeDcdnDomainCertificateInfo",
        "DescribeDcdnUserVipsByDomain",
        "ListUserCertificateOrder",
    }
)
"""The hosts and actions that a report may show."""


def _code_of(body: Mapping[str, Any]) -> str:
    return AliyunFailure.shown_code(code_of(body))


def report_of(client: AliyunClient) -> AccountReport:
    """See `ports.examination.Reporting.report`. The report also judges guesses of the facts."""
    accepted: list[str] = []
    with journal() as made:
        shown = tuple(_asked(client, accepted))
    lines = (*shown, *reported(made, PUBLIC, action_of=action_of, code_of=_code_of))
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
